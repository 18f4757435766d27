//! A discovery response in words that fit both protocols, checked while it is read.

use std::collections::BTreeSet;

use envoy_types::pb::{
    envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse},
    google::protobuf::Any,
};
use prost::Message;

use crate::Protocol;

/// One resource of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Name by which it is asked for.
    pub name: String,
    /// Version of this resource; empty in state of the world, which has none.
    pub version: String,
    /// The encoded message.
    pub value: Vec<u8>,
}

/// A discovery response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Type of the resources.
    pub type_url: String,
    /// To be repeated in the ACK or NACK.
    pub nonce: String,
    /// Version of the whole response.
    pub version: String,
    /// The resources, in the order they came.
    pub resources: Vec<Received>,
    /// Names of resources that do not exist (any more); delta only.
    pub removed: Vec<String>,
    /// Names in `resource_errors`.
    pub resource_errors: Vec<String>,
    /// Bytes of the message on the wire, without the gRPC prefix.
    pub size: usize,
}

impl Response {
    /// Reads a message and checks what holds for every response, whatever a test looks for.
    ///
    /// # Panics
    ///
    /// When the message breaks one of rules V1 (nonce present), R4 (no name twice) and R5 (types and names agree,
    /// versions present).
    pub fn read(protocol: Protocol, message: &[u8]) -> Self {
        let response = match protocol {
            Protocol::StateOfTheWorld => read_state_of_the_world(message),
            Protocol::Delta => read_delta(message),
        };
        assert!(!response.type_url.is_empty(), "R5: response without a type");
        assert!(!response.nonce.is_empty(), "V1: response without a nonce: {response:?}");
        let mut seen = BTreeSet::new();
        for name in response.names().into_iter().chain(response.removed.iter().map(String::as_str)) {
            assert!(seen.insert(name), "R4: `{name}` is twice in {response:?}");
        }
        response
    }

    /// Names of the resources, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.resources.iter().map(|resource| resource.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The resource called `name`, if it is in the response.
    pub fn get(&self, name: &str) -> Option<&Received> {
        self.resources.iter().find(|resource| resource.name == name)
    }

    /// Decodes the resource called `name`.
    ///
    /// # Panics
    ///
    /// When it is not there or is not an `M`.
    pub fn decode<M: Message + Default>(&self, name: &str) -> M {
        let resource = self.get(name).unwrap_or_else(|| panic!("`{name}` is not in {self:?}"));
        M::decode(resource.value.as_slice()).expect("a resource of the expected type")
    }
}

fn read_state_of_the_world(message: &[u8]) -> Response {
    let response = DiscoveryResponse::decode(message).expect("a DiscoveryResponse");
    assert!(!response.version_info.is_empty(), "R5: state-of-the-world response without a version");
    Response {
        resources: response
            .resources
            .into_iter()
            .map(|any| {
                let value = unwrap_any(any, &response.type_url);
                Received { name: name_of(&value), version: String::new(), value }
            })
            .collect(),
        type_url: response.type_url,
        nonce: response.nonce,
        version: response.version_info,
        removed: Vec::new(),
        resource_errors: error_names(response.resource_errors),
        size: message.len(),
    }
}

fn read_delta(message: &[u8]) -> Response {
    let response = DeltaDiscoveryResponse::decode(message).expect("a DeltaDiscoveryResponse");
    Response {
        resources: response
            .resources
            .into_iter()
            .map(|resource| {
                assert!(!resource.version.is_empty(), "R5: `{}` has no version", resource.name);
                let any = resource.resource.unwrap_or_else(|| panic!("R5: `{}` has no body", resource.name));
                let value = unwrap_any(any, &response.type_url);
                assert_eq!(name_of(&value), resource.name, "R5: inner and outer name differ");
                Received { name: resource.name, version: resource.version, value }
            })
            .collect(),
        type_url: response.type_url,
        nonce: response.nonce,
        version: response.system_version_info,
        removed: response.removed_resources,
        resource_errors: error_names(response.resource_errors),
        size: message.len(),
    }
}

fn error_names(errors: Vec<envoy_types::pb::envoy::service::discovery::v3::ResourceError>) -> Vec<String> {
    errors.into_iter().filter_map(|error| error.resource_name).map(|name| name.name).collect()
}

fn unwrap_any(any: Any, type_url: &str) -> Vec<u8> {
    assert_eq!(any.type_url, type_url, "R5: type of a resource and of its response differ");
    any.value
}

/// Every resource type of Envoy carries its name in field 1.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

fn name_of(value: &[u8]) -> String {
    Named::decode(value).expect("a resource with its name in field 1").name
}
