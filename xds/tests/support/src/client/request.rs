//! A discovery request in words that fit both protocols.

use std::collections::BTreeMap;

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::core::v3::Node,
        service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest},
    },
    google::rpc::Status,
};
use prost::Message;

use crate::Protocol;

/// A discovery request, before it is put into one of the two protocols.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Type URL; may be empty to break the rules.
    pub type_url: String,
    /// Node of the client; real clients send it once, in the first message of a stream.
    pub node: Option<Node>,
    /// State of the world: the whole list of names. Delta: the names added.
    pub names: Vec<String>,
    /// Delta only: the names removed.
    pub unsubscribe: Vec<String>,
    /// Nonce of the response that is answered, empty if none.
    pub nonce: String,
    /// State of the world only: the last accepted version.
    pub version: String,
    /// Delta only: what the client already holds, by name.
    pub initial_versions: BTreeMap<String, String>,
    /// Present in a NACK: the client's words.
    pub error: Option<String>,
}

impl Request {
    /// A request that asks for `names` of a type.
    pub fn of(type_url: &str, names: &[&str]) -> Self {
        Self { type_url: type_url.into(), names: owned(names), ..Self::default() }
    }

    /// Adds the nonce of the response that is answered.
    #[must_use]
    pub fn nonce(mut self, nonce: &str) -> Self {
        self.nonce = nonce.into();
        self
    }

    /// Adds the last accepted version (state of the world).
    #[must_use]
    pub fn version(mut self, version: &str) -> Self {
        self.version = version.into();
        self
    }

    /// Makes the request a rejection.
    #[must_use]
    pub fn error(mut self, text: &str) -> Self {
        self.error = Some(text.into());
        self
    }

    /// Adds names to unsubscribe from (delta).
    #[must_use]
    pub fn unsubscribe(mut self, names: &[&str]) -> Self {
        self.unsubscribe = owned(names);
        self
    }

    /// Adds a claim to hold `name` at `version` already (delta).
    #[must_use]
    pub fn holding(mut self, name: &str, version: &str) -> Self {
        self.initial_versions.insert(name.into(), version.into());
        self
    }

    /// The message on the wire.
    pub fn encode(&self, protocol: Protocol) -> Bytes {
        let error_detail =
            self.error.as_ref().map(|text| Status { code: 3, message: text.clone(), details: Vec::new() });
        let encoded = match protocol {
            Protocol::StateOfTheWorld => DiscoveryRequest {
                version_info: self.version.clone(),
                node: self.node.clone(),
                resource_names: self.names.clone(),
                type_url: self.type_url.clone(),
                response_nonce: self.nonce.clone(),
                error_detail,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec(),
            Protocol::Delta => DeltaDiscoveryRequest {
                node: self.node.clone(),
                type_url: self.type_url.clone(),
                resource_names_subscribe: self.names.clone(),
                resource_names_unsubscribe: self.unsubscribe.clone(),
                initial_resource_versions: self.initial_versions.clone().into_iter().collect(),
                response_nonce: self.nonce.clone(),
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec(),
        };
        encoded.into()
    }
}

pub(super) fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
