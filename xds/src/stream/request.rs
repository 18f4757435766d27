//! What a client asks, in one shape for both forms of the protocol.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::Node as NodeMessage;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;

/// A request of either form.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// `node`; only the first request of a stream must have it.
    pub node: Option<NodeMessage>,
    /// `type_url`; may be empty on a service of one type.
    pub type_url: String,
    /// `response_nonce`: which response this answers, if any.
    pub nonce: String,
    /// `error_detail`: present when that response is refused.
    pub error: Option<RequestError>,
    /// What is subscribed to.
    pub names: RequestNames,
}

/// Why a client refused a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// gRPC status code.
    pub code: i32,
    /// The client's words.
    pub message: String,
}

/// The part of a request that differs between the two forms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestNames {
    /// Of a `DiscoveryRequest`.
    StateOfTheWorld {
        /// `resource_names`: the whole subscription.
        names: Vec<String>,
        /// `version_info`: the version acknowledged last.
        version: String,
    },
    /// Of a `DeltaDiscoveryRequest`.
    Delta {
        /// `resource_names_subscribe`
        subscribe: Vec<String>,
        /// `resource_names_unsubscribe`
        unsubscribe: Vec<String>,
        /// `initial_resource_versions`
        initial_versions: HashMap<String, String>,
    },
}

impl From<DiscoveryRequest> for Request {
    fn from(message: DiscoveryRequest) -> Self {
        Self {
            node: message.node,
            type_url: message.type_url,
            nonce: message.response_nonce,
            error: message.error_detail.map(RequestError::from),
            names: RequestNames::StateOfTheWorld { names: message.resource_names, version: message.version_info },
        }
    }
}

impl From<DeltaDiscoveryRequest> for Request {
    fn from(message: DeltaDiscoveryRequest) -> Self {
        Self {
            node: message.node,
            type_url: message.type_url,
            nonce: message.response_nonce,
            error: message.error_detail.map(RequestError::from),
            names: RequestNames::Delta {
                subscribe: message.resource_names_subscribe,
                unsubscribe: message.resource_names_unsubscribe,
                initial_versions: message.initial_resource_versions,
            },
        }
    }
}

impl From<Status> for RequestError {
    fn from(status: Status) -> Self {
        Self { code: status.code, message: status.message }
    }
}
