//! Short constructors for the Envoy messages that every other message contains.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, SocketAddress, address,
    config_source::ConfigSourceSpecifier, socket_address::PortSpecifier,
};
use envoy_types::pb::envoy::config::listener::v3::{AdditionalAddress, Filter, filter};
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern};
use envoy_types::pb::google::protobuf::{self, Any};
use ipnet::IpNet;
use prost::{Message, Name};

/// How long a request or connection waits for a cluster that it is the first to use.
const ON_DEMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// `message` as an `Any`. Must not be given a message that holds a map of more than one entry: its encoding would depend
/// on the process (see `deterministic`).
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// "Ask the control plane over the one aggregated stream."
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// [`ON_DEMAND_TIMEOUT`] as a message.
pub(crate) fn on_demand_timeout() -> protobuf::Duration {
    duration(ON_DEMAND_TIMEOUT)
}

/// A duration as a message. Zero usually means "disabled" to Envoy.
pub(crate) fn duration(value: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or(0),
    }
}

/// A boxed boolean.
pub(crate) fn boolean(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

/// A boxed number.
pub(crate) fn number(value: impl Into<u32>) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value: value.into() })
}

/// A TCP address. Host names are legal only in DNS clusters.
pub(crate) fn tcp_address(host: &impl ToString, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_string(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// The unspecified addresses of both families, `0.0.0.0` first.
pub(crate) fn every_address() -> [IpAddr; 2] {
    [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
}

/// An address beyond a listener's first.
pub(crate) fn additional_address(address: IpAddr, port: u16) -> AdditionalAddress {
    AdditionalAddress { address: Some(tcp_address(&address, port)), ..Default::default() }
}

/// An address range.
pub(crate) fn cidr_range(range: &IpNet) -> CidrRange {
    CidrRange { address_prefix: range.network().to_string(), prefix_len: number(range.prefix_len()) }
}

/// A network filter.
pub(crate) fn network_filter(name: &str, typed_config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(typed_config)) }
}

/// Matches exactly `value`.
pub(crate) fn exact(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Exact(value.into())), ..Default::default() }
}

/// Matches what starts with `value`.
pub(crate) fn prefix(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::Prefix(value.into())), ..Default::default() }
}

/// Matches what the RE2 expression `value` matches as a whole.
pub(crate) fn regex(value: impl Into<String>) -> StringMatcher {
    StringMatcher { match_pattern: Some(MatchPattern::SafeRegex(expression(value))), ..Default::default() }
}

/// An RE2 expression.
pub(crate) fn expression(value: impl Into<String>) -> RegexMatcher {
    RegexMatcher { regex: value.into(), ..Default::default() }
}
