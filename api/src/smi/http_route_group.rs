//! HTTPRouteGroup: named sets of HTTP requests.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;

/// Named sets of HTTP requests, to which TrafficTargets and TrafficSplits refer.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "specs.smi-spec.io",
    version = "v1alpha4",
    kind = "HTTPRouteGroup",
    root = "HttpRouteGroup",
    plural = "httproutegroups",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    shortname = "htr",
    category = "mesh",
    doc = "Named sets of HTTP requests, to which TrafficTargets and TrafficSplits refer."
)]
#[serde(rename_all = "camelCase")]
pub struct HttpRouteGroupSpec {
    /// The sets. Their names must differ.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub matches: Vec<HttpMatch>,
}

/// A set of HTTP requests: those that meet all of path, methods and headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpMatch {
    /// Name of the set, by which others refer to it.
    pub name: String,
    /// Regular expression (RE2) that the whole path must match. Default is any path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Methods, of which the request must have one. Default is any method.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<HttpMethod>,
    /// Headers, all of which the request must have: name to a regular expression (RE2) that the whole value must match. The
    /// name host stands for the authority.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "headers_schema")]
    pub headers: Vec<BTreeMap<String, String>>,
}

fn headers_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "array",
        "items": {
            "type": "object",
            "description": "Name of a header to a regular expression that the whole value must match.",
            "additionalProperties": {
                "type": "string",
                "description": "Regular expression that the whole value must match.",
            },
        },
    })
}

impl HttpMatch {
    /// `pathRegex`, default `.*`. The text may be no regular expression.
    pub fn path_regex(&self) -> &str {
        crate::value::non_empty(self.path_regex.as_deref()).unwrap_or(".*")
    }

    /// The methods to match; `None` is any. One `*` among them means any.
    pub fn methods(&self) -> Option<&[HttpMethod]> {
        let any = self.methods.is_empty() || self.methods.contains(&HttpMethod::Any);
        (!any).then_some(&self.methods)
    }

    /// All headers in one map; of two entries with the same name the later counts.
    pub fn headers(&self) -> BTreeMap<&str, &str> {
        self.headers.iter().flatten().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// HTTP methods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are HTTP's and say it all")]
#[schemars(transform = crate::value::plain_enum)]
pub enum HttpMethod {
    /// Any method, written `*`.
    #[serde(rename = "*")]
    Any,
    Get,
    Head,
    Put,
    Post,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
}

impl HttpMethod {
    /// The method as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "*",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Put => "PUT",
            Self::Post => "POST",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
        }
    }
}
