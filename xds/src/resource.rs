//! One resource, encoded once into the bytes every proxy that receives it shares.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{BufMut, Bytes, BytesMut};
use prost::{Message, Name};
use thiserror::Error;

use crate::type_url::TypeUrl;
use crate::version::Version;
use crate::wire::{Field, Fields, field_len, put_bytes, put_header};

/// Field numbers of `envoy.service.discovery.v3.Resource` and of the responses' `resources`.
const RESOURCE_VERSION: u8 = 1;
const RESOURCE_BODY: u8 = 2;
const RESOURCE_NAME: u8 = 3;
const RESPONSE_RESOURCES: u8 = 2;

static ENCODES: AtomicU64 = AtomicU64::new(0);

/// How many times this process has encoded a message into a [`Resource`]. Exact, so that a benchmark can assert that
/// work follows the number of distinct contents that changed.
#[must_use]
pub fn encodes() -> u64 {
    ENCODES.load(Ordering::Relaxed)
}

/// Why bytes or a message cannot be a resource.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ResourceError {
    /// A resource must have a name.
    #[error("a resource of type {type_url} has an empty name; give it one")]
    NoName {
        /// The resource's type.
        type_url: TypeUrl,
    },
    /// The name given differs from the name inside the message: a client would reject the whole response.
    #[error("resource {name:?} of type {type_url} carries the name {inner:?} inside; the two must be equal")]
    NameMismatch {
        /// The resource's type.
        type_url: TypeUrl,
        /// The name it was given.
        name: String,
        /// The name inside the message.
        inner: String,
    },
    /// The bytes are not a message of the type.
    #[error("resource {name:?} is not a valid {type_url}: {reason}")]
    Malformed {
        /// The resource's type.
        type_url: TypeUrl,
        /// The name it was given.
        name: String,
        /// What the decoder said.
        reason: String,
    },
}

/// A resource in its finished form.
///
/// The bytes are those of field 2 of a delta response, `Resource{name, version, resource}`. The `Any` comes last in
/// it, under the same field number as in a state-of-the-world response, so the latter's bytes are a suffix of the
/// former's and nothing is stored twice.
#[derive(Clone)]
pub struct Resource {
    type_url: TypeUrl,
    name: Arc<str>,
    version: Version,
    frame: Bytes,
    /// Where the state-of-the-world frame begins.
    any_frame: u32,
    /// Where the `Any`'s value begins.
    value: u32,
    endpoints_name: Option<Arc<str>>,
}

impl Resource {
    /// Encodes a message.
    ///
    /// Messages with protobuf maps (`google.protobuf.Struct`, metadata, RBAC policies) have no fixed encoding in
    /// `envoy-types`, whose maps are unordered: encode such a part deterministically before it is put in an `Any`, else
    /// its version changes without a change of content.
    ///
    /// # Errors
    ///
    /// The name is empty or differs from the name inside the message.
    pub fn new<M: Message + Name>(name: impl Into<Arc<str>>, message: &M) -> Result<Self, ResourceError> {
        ENCODES.fetch_add(1, Ordering::Relaxed);
        Self::assemble(TypeUrl::parse(&M::type_url()), name.into(), &message.encode_to_vec())
    }

    /// Takes a message that is already encoded: the value of an `Any`.
    ///
    /// # Errors
    ///
    /// The name is empty or differs from the name inside, or the bytes of a known type do not decode.
    pub fn from_any(type_url: TypeUrl, name: impl Into<Arc<str>>, value: &Bytes) -> Result<Self, ResourceError> {
        let name = name.into();
        if let Err(reason) = check_decodes(&type_url, value) {
            return Err(ResourceError::Malformed { type_url, name: name.to_string(), reason: reason.to_string() });
        }
        Self::assemble(type_url, name, value)
    }

    fn assemble(type_url: TypeUrl, name: Arc<str>, value: &[u8]) -> Result<Self, ResourceError> {
        if name.is_empty() {
            return Err(ResourceError::NoName { type_url });
        }
        let inner = InnerFields::read(&type_url, value).ok_or_else(|| ResourceError::Malformed {
            type_url: type_url.clone(),
            name: name.to_string(),
            reason: "malformed field".to_owned(),
        })?;
        if inner.name.is_some_and(|inner| inner != name.as_bytes()) {
            return Err(ResourceError::NameMismatch {
                type_url,
                name: name.to_string(),
                inner: String::from_utf8_lossy(inner.name.unwrap_or_default()).into_owned(),
            });
        }
        let endpoints_name = inner.is_eds.then(|| {
            inner
                .eds_service_name
                .filter(|service| !service.is_empty())
                .and_then(|service| std::str::from_utf8(service).ok())
                .map_or_else(|| Arc::clone(&name), Arc::from)
        });

        let version = Version::of(value);
        let version_text = version.to_string();
        let url = type_url.as_str();
        let any_len = field_len(url.len()) + value_field_len(value);
        let resource_len = field_len(name.len()) + field_len(version_text.len()) + field_len(any_len);
        let mut frame = BytesMut::with_capacity(field_len(resource_len));
        put_header(&mut frame, RESPONSE_RESOURCES, resource_len);
        put_bytes(&mut frame, RESOURCE_NAME, name.as_bytes());
        put_bytes(&mut frame, RESOURCE_VERSION, version_text.as_bytes());
        let any_frame = offset(&frame);
        put_header(&mut frame, RESOURCE_BODY, any_len);
        put_bytes(&mut frame, 1, url.as_bytes());
        if !value.is_empty() {
            put_header(&mut frame, 2, value.len());
        }
        let value_offset = offset(&frame);
        frame.put_slice(value);
        Ok(Self { type_url, name, version, frame: frame.freeze(), any_frame, value: value_offset, endpoints_name })
    }

    /// The resource's type.
    #[must_use]
    pub const fn type_url(&self) -> &TypeUrl {
        &self.type_url
    }

    /// The resource's name, unique within its type.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The hash of the encoded message.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The encoded message: the value of the `Any`. For a Secret these are private keys.
    #[must_use]
    pub fn any_bytes(&self) -> Bytes {
        self.frame.slice(self.value as usize..)
    }

    /// For a cluster whose endpoints come by EDS, the name of its `ClusterLoadAssignment`: `eds_cluster_config.service_name`,
    /// else the cluster's own name. `None` for everything else.
    #[must_use]
    pub const fn endpoints_name(&self) -> Option<&Arc<str>> {
        self.endpoints_name.as_ref()
    }

    /// Field 2 of a `DeltaDiscoveryResponse`, tag included.
    pub(crate) const fn delta_frame(&self) -> &Bytes {
        &self.frame
    }

    /// Field 2 of a `DiscoveryResponse`, tag included.
    pub(crate) fn any_frame(&self) -> &[u8] {
        &self.frame[self.any_frame as usize..]
    }

    /// The same bytes as [`Resource::any_frame`], shared.
    pub(crate) fn shared_any_frame(&self) -> Bytes {
        self.frame.slice(self.any_frame as usize..)
    }
}

impl PartialEq for Resource {
    /// Equal type, name and content.
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version && self.name == other.name && self.type_url == other.type_url
    }
}

impl Eq for Resource {}

impl fmt::Debug for Resource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the bytes: a Secret holds private keys.
        formatter
            .debug_struct("Resource")
            .field("type", &self.type_url.short_name())
            .field("name", &self.name)
            .field("version", &self.version)
            .field("bytes", &self.frame.len())
            .finish()
    }
}

fn value_field_len(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { field_len(value.len()) }
}

fn offset(frame: &BytesMut) -> u32 {
    u32::try_from(frame.len()).expect("only the name, the version and the type precede the value")
}

/// The fields of a message that this library must know, read without decoding the rest.
#[derive(Default)]
struct InnerFields<'a> {
    name: Option<&'a [u8]>,
    is_eds: bool,
    eds_service_name: Option<&'a [u8]>,
}

impl<'a> InnerFields<'a> {
    /// `None` when the bytes are not a protobuf message.
    fn read(type_url: &TypeUrl, value: &'a [u8]) -> Option<Self> {
        /// `envoy.config.cluster.v3.Cluster.DiscoveryType.EDS`
        const EDS: u64 = 3;
        let mut inner = Self::default();
        match type_url {
            TypeUrl::Other(_) => return Some(inner),
            // Its resource name is `<route table>/<host>`, not the name inside.
            TypeUrl::VirtualHost => {}
            TypeUrl::Cluster
            | TypeUrl::ClusterLoadAssignment
            | TypeUrl::Secret
            | TypeUrl::ExtensionConfig
            | TypeUrl::Listener
            | TypeUrl::ScopedRouteConfiguration
            | TypeUrl::RouteConfiguration
            | TypeUrl::Runtime => inner.name = Some(&[]),
        }
        let is_cluster = *type_url == TypeUrl::Cluster;
        for field in Fields(value) {
            match field.ok()? {
                (1, Field::Bytes(name)) if inner.name.is_some() => inner.name = Some(name),
                (2, Field::Varint(discovery)) if is_cluster => inner.is_eds = discovery == EDS,
                (3, Field::Bytes(config)) if is_cluster => {
                    for field in Fields(config) {
                        if let (2, Field::Bytes(service)) = field.ok()? {
                            inner.eds_service_name = Some(service);
                        }
                    }
                }
                _ => {}
            }
        }
        Some(inner)
    }
}

fn check_decodes(type_url: &TypeUrl, value: &[u8]) -> Result<(), prost::DecodeError> {
    use envoy_types::pb::envoy::config::{cluster, core, endpoint, listener, route};
    use envoy_types::pb::envoy::extensions::transport_sockets::tls;
    use envoy_types::pb::envoy::service::runtime;
    match type_url {
        TypeUrl::Cluster => cluster::v3::Cluster::decode(value).map(drop),
        TypeUrl::ClusterLoadAssignment => endpoint::v3::ClusterLoadAssignment::decode(value).map(drop),
        TypeUrl::Secret => tls::v3::Secret::decode(value).map(drop),
        TypeUrl::ExtensionConfig => core::v3::TypedExtensionConfig::decode(value).map(drop),
        TypeUrl::Listener => listener::v3::Listener::decode(value).map(drop),
        TypeUrl::ScopedRouteConfiguration => route::v3::ScopedRouteConfiguration::decode(value).map(drop),
        TypeUrl::RouteConfiguration => route::v3::RouteConfiguration::decode(value).map(drop),
        TypeUrl::VirtualHost => route::v3::VirtualHost::decode(value).map(drop),
        TypeUrl::Runtime => runtime::v3::Runtime::decode(value).map(drop),
        TypeUrl::Other(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};

    fn eds_cluster(name: &str, service_name: &str) -> Cluster {
        Cluster {
            name: name.to_owned(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
            eds_cluster_config: Some(EdsClusterConfig {
                service_name: service_name.to_owned(),
                ..EdsClusterConfig::default()
            }),
            ..Cluster::default()
        }
    }

    #[test]
    fn both_frames_decode_to_the_message_that_was_given() {
        let cluster = eds_cluster("c", "s");
        let resource = Resource::new("c", &cluster).unwrap();
        let delta = DeltaDiscoveryResponse::decode(resource.delta_frame().clone()).unwrap();
        assert_eq!(delta.resources.len(), 1);
        let inner = &delta.resources[0];
        assert_eq!((inner.name.as_str(), inner.version.len()), ("c", 32));
        let any = inner.resource.as_ref().unwrap();
        assert_eq!(any.type_url, Cluster::type_url());
        assert_eq!(Cluster::decode(any.value.as_slice()).unwrap(), cluster);
        assert_eq!(inner.version, Version::of(&any.value).to_string());

        let sotw = DiscoveryResponse::decode(resource.any_frame()).unwrap();
        assert_eq!(sotw.resources, vec![any.clone()]);
        assert_eq!(resource.shared_any_frame(), resource.any_frame());
        assert_eq!(resource.any_bytes(), any.value);
    }

    #[test]
    fn a_cluster_knows_its_endpoints_name() {
        let name_of = |cluster: &Cluster| {
            let resource = Resource::new("c", cluster).unwrap();
            resource.endpoints_name().map(ToString::to_string)
        };
        assert_eq!(name_of(&eds_cluster("c", "s")).as_deref(), Some("s"));
        assert_eq!(name_of(&eds_cluster("c", "")).as_deref(), Some("c"));
        let fixed = Cluster { name: "c".to_owned(), ..Cluster::default() };
        assert_eq!(name_of(&fixed), None);
    }

    #[test]
    fn names_must_be_there_and_agree() {
        let cluster = eds_cluster("c", "");
        assert!(matches!(Resource::new("", &cluster), Err(ResourceError::NoName { .. })));
        let error = Resource::new("d", &cluster).unwrap_err();
        assert!(error.to_string().contains("\"d\"") && error.to_string().contains("\"c\""));
        let error = Resource::from_any(TypeUrl::Cluster, "c", &Bytes::from_static(b"\x0a\xff"));
        assert!(matches!(error, Err(ResourceError::Malformed { .. })));
    }

    #[test]
    fn a_message_and_its_bytes_make_equal_resources() {
        let cluster = eds_cluster("c", "s");
        let bytes = Bytes::from(cluster.encode_to_vec());
        assert_eq!(Resource::new("c", &cluster).unwrap(), Resource::from_any(TypeUrl::Cluster, "c", &bytes).unwrap());
    }

    #[test]
    fn debug_output_holds_no_bytes_of_a_secret() {
        let secret = Secret { name: "SENTINEL-NAME".to_owned(), r#type: None };
        let text = format!("{:?}", Resource::new("SENTINEL-NAME", &secret).unwrap());
        assert!(text.contains("SENTINEL-NAME") && !text.contains("frame"));
    }
}
