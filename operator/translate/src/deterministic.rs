//! Messages that hold maps, with ordered ones.
//!
//! The generated types keep maps in hash maps, whose order of encoding changes from one process to the next. Versions are
//! hashes of bytes, so equal configuration must encode equally: maps that can hold more than one entry are written through
//! the types here, which encode to what the generated types decode. Maps of one entry may use the generated types.

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::rbac::v3::Policy;
use prost::{Message, Name};

/// `envoy.config.rbac.v3.RBAC` with the action ALLOW (which is 0 and so not written).
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AllowRules {
    /// Policies by name. None admits nobody.
    #[prost(btree_map = "string, message", tag = "2")]
    pub(crate) policies: BTreeMap<String, Policy>,
}

/// `envoy.extensions.filters.http.rbac.v3.RBAC`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpRbac {
    /// What is enforced; `None` enforces nothing.
    #[prost(message, optional, tag = "1")]
    pub(crate) rules: Option<AllowRules>,
}

impl Name for HttpRbac {
    const NAME: &'static str = "RBAC";
    const PACKAGE: &'static str = "envoy.extensions.filters.http.rbac.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// `envoy.extensions.filters.http.rbac.v3.RBACPerRoute`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpRbacPerRoute {
    /// What replaces the filter's own configuration where a route matched.
    #[prost(message, optional, tag = "2")]
    pub(crate) rbac: Option<HttpRbac>,
}

impl Name for HttpRbacPerRoute {
    const NAME: &'static str = "RBACPerRoute";
    const PACKAGE: &'static str = "envoy.extensions.filters.http.rbac.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// `envoy.extensions.filters.network.rbac.v3.RBAC`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct NetworkRbac {
    /// What is enforced.
    #[prost(message, optional, tag = "1")]
    pub(crate) rules: Option<AllowRules>,
    /// Prefix of the filter's statistics.
    #[prost(string, tag = "3")]
    pub(crate) stat_prefix: String,
}

impl Name for NetworkRbac {
    const NAME: &'static str = "RBAC";
    const PACKAGE: &'static str = "envoy.extensions.filters.network.rbac.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

/// `google.protobuf.Struct` of strings.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TextFields {
    /// Field name to value.
    #[prost(btree_map = "string, message", tag = "1")]
    pub(crate) fields: BTreeMap<String, TextValue>,
}

/// `google.protobuf.Value` holding a string, which must not be empty.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TextValue {
    /// The string.
    #[prost(string, tag = "3")]
    pub(crate) string_value: String,
}

/// `envoy.config.core.v3.SubstitutionFormatString` with a JSON format.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct JsonFormat {
    /// JSON key to command operator.
    #[prost(message, optional, tag = "2")]
    pub(crate) json_format: Option<TextFields>,
}

/// `envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct StdoutAccessLog {
    /// The format of a line.
    #[prost(message, optional, tag = "1")]
    pub(crate) log_format: Option<JsonFormat>,
}

impl Name for StdoutAccessLog {
    const NAME: &'static str = "StdoutAccessLog";
    const PACKAGE: &'static str = "envoy.extensions.access_loggers.stream.v3";

    fn type_url() -> String {
        format!("type.googleapis.com/{}", Self::full_name())
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::config::rbac::v3::{Permission, Principal, permission, principal};
    use envoy_types::pb::envoy::extensions::access_loggers::stream::v3 as generated_log;
    use envoy_types::pb::envoy::extensions::filters::{
        http::rbac::v3 as generated_http, network::rbac::v3 as generated,
    };
    use envoy_types::pb::google::protobuf::value::Kind;

    use super::*;

    fn rules() -> AllowRules {
        let policy = Policy {
            permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
            principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
            ..Default::default()
        };
        AllowRules { policies: (0..9).map(|n| (format!("policy-{n}"), policy.clone())).collect() }
    }

    #[test]
    fn what_is_encoded_here_decodes_as_the_generated_types() {
        let per_route = HttpRbacPerRoute { rbac: Some(HttpRbac { rules: Some(rules()) }) };
        let decoded = generated_http::RbacPerRoute::decode(per_route.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded.rbac.unwrap().rules.unwrap().policies.len(), 9);
        assert_eq!(HttpRbacPerRoute::type_url(), generated_http::RbacPerRoute::type_url());
        assert_eq!(HttpRbac::type_url(), generated_http::Rbac::type_url());

        let network = NetworkRbac { rules: Some(rules()), stat_prefix: "network-".to_owned() };
        let decoded = generated::Rbac::decode(network.encode_to_vec().as_slice()).unwrap();
        assert_eq!(decoded.stat_prefix, "network-");
        assert!(decoded.rules.unwrap().policies.contains_key("policy-8"));
        assert_eq!(NetworkRbac::type_url(), generated::Rbac::type_url());

        let fields = [("b".to_owned(), TextValue { string_value: "%B%".to_owned() })].into();
        let log = StdoutAccessLog { log_format: Some(JsonFormat { json_format: Some(TextFields { fields }) }) };
        let decoded = generated_log::StdoutAccessLog::decode(log.encode_to_vec().as_slice()).unwrap();
        let Some(generated_log::stdout_access_log::AccessLogFormat::LogFormat(format)) = decoded.access_log_format
        else {
            panic!("no format")
        };
        let Some(Format::JsonFormat(json)) = format.format else { panic!("not JSON") };
        assert_eq!(json.fields["b"].kind, Some(Kind::StringValue("%B%".to_owned())));
        assert_eq!(StdoutAccessLog::type_url(), generated_log::StdoutAccessLog::type_url());
    }
}
