//! Resources, snapshots and a stream to try.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, ScopedRouteConfiguration};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use envoy_types::pb::google::protobuf::UInt32Value;
use prost::Message;

use crate::cache::{Epoch, HoldBacks, Published};
use crate::layer::{Delivery, Layer};
use crate::policy::{CloseReason, Event, Service, UnknownName, Variant};
use crate::resource::Resource;
use crate::settings::StreamSettings;
use crate::snapshot::Snapshot;
use crate::stream::{Request, RequestError, RequestNames, Response, Stream, UnknownNames};
use crate::type_url::TypeUrl;

/// A cluster whose content differs by `content`; of EDS type.
pub(super) fn cluster(name: &str, content: u32) -> Arc<Resource> {
    let message = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        alt_stat_name: content.to_string(),
        ..Cluster::default()
    };
    Arc::new(Resource::new(name, &message).unwrap())
}

pub(super) fn endpoints(name: &str, content: u32) -> Arc<Resource> {
    let message = ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        policy: Some(Policy { overprovisioning_factor: Some(UInt32Value { value: content + 1 }), ..Policy::default() }),
        ..ClusterLoadAssignment::default()
    };
    Arc::new(Resource::new(name, &message).unwrap())
}

pub(super) fn listener(name: &str, content: u32) -> Arc<Resource> {
    let message = Listener { name: name.to_owned(), stat_prefix: content.to_string(), ..Listener::default() };
    Arc::new(Resource::new(name, &message).unwrap())
}

pub(super) fn routes(name: &str, content: u32) -> Arc<Resource> {
    let message = RouteConfiguration {
        name: name.to_owned(),
        internal_only_headers: vec![content.to_string()],
        ..RouteConfiguration::default()
    };
    Arc::new(Resource::new(name, &message).unwrap())
}

pub(super) fn scope(name: &str, content: u32) -> Arc<Resource> {
    let message = ScopedRouteConfiguration {
        name: name.to_owned(),
        route_configuration_name: content.to_string(),
        ..ScopedRouteConfiguration::default()
    };
    Arc::new(Resource::new(name, &message).unwrap())
}

pub(super) fn secret(name: &str, content: u32) -> Arc<Resource> {
    // An unknown field makes the content differ without inventing key material.
    let mut bytes = Secret { name: name.to_owned(), r#type: None }.encode_to_vec();
    bytes.extend_from_slice(&[0x9a, 0x06, 1, u8::try_from(content).unwrap()]);
    Arc::new(Resource::from_any(TypeUrl::Secret, name, &Bytes::from(bytes)).unwrap())
}

/// A resource of a type by its URL.
pub(super) fn resource(type_url: &TypeUrl, name: &str, content: u32) -> Arc<Resource> {
    match type_url {
        TypeUrl::Cluster => cluster(name, content),
        TypeUrl::ClusterLoadAssignment => endpoints(name, content),
        TypeUrl::Listener => listener(name, content),
        TypeUrl::RouteConfiguration => routes(name, content),
        TypeUrl::ScopedRouteConfiguration => scope(name, content),
        TypeUrl::Secret => secret(name, content),
        other => panic!("no such resource in these tests: {other}"),
    }
}

/// A stream, the snapshots published to it, and a clock.
pub(super) struct Fixture {
    pub(super) stream: Stream,
    pub(super) layer: Layer,
    pub(super) now: Instant,
    epoch: u64,
    published: Option<Arc<Published>>,
    hold_backs: HoldBacks,
}

impl Fixture {
    pub(super) fn new(variant: Variant) -> Self {
        Self::with(variant, Service::Aggregated, StreamSettings::default())
    }

    pub(super) fn with(variant: Variant, service: Service, settings: StreamSettings) -> Self {
        let removed = Box::new(|_: &TypeUrl, _: &str| UnknownName::Removed);
        Self::with_unknown(variant, service, settings, removed)
    }

    pub(super) fn with_unknown(
        variant: Variant,
        service: Service,
        settings: StreamSettings,
        unknown: UnknownNames,
    ) -> Self {
        let now = Instant::now();
        Self {
            stream: Stream::new(variant, service, Arc::new(settings), unknown, now),
            layer: Layer::new(),
            now,
            epoch: 0,
            published: None,
            hold_backs: HoldBacks::new(),
        }
    }

    /// Puts resources in the layer and publishes it.
    pub(super) fn publish(&mut self, resources: impl IntoIterator<Item = Arc<Resource>>) {
        for resource in resources {
            self.layer.insert(resource, Delivery::Wildcard);
        }
        self.publish_layer();
    }

    pub(super) fn remove(&mut self, names: &[(TypeUrl, &str)]) {
        for (type_url, name) in names {
            assert!(self.layer.remove(type_url, name).is_some());
        }
        self.publish_layer();
    }

    pub(super) fn publish_layer(&mut self) {
        self.epoch += 1;
        let snapshot = Arc::new(Snapshot::new([self.layer.clone()]));
        let epoch = Epoch(self.epoch);
        let published = Arc::new(match &self.published {
            Some(older) => {
                let differences = Snapshot::diff(&older.snapshot, &snapshot);
                Published::following(older, epoch, snapshot, differences)
            }
            None => Published::new(epoch, snapshot),
        });
        self.published = Some(Arc::clone(&published));
        self.stream.on_snapshot(published);
    }

    pub(super) fn hold_back(&mut self, resource: &Resource) {
        self.hold_backs.insert((resource.type_url().clone(), Arc::clone(resource.name())), resource.version());
        self.stream.on_hold_backs(Arc::new(self.hold_backs.clone()));
    }

    pub(super) fn request(&mut self, request: Request) -> Result<(), CloseReason> {
        self.stream.on_request(request, self.now)
    }

    /// Sends a delta request.
    pub(super) fn delta(&mut self, type_url: &TypeUrl, subscribe: &[&str], unsubscribe: &[&str]) {
        self.request(delta_request(type_url, "", None, subscribe, unsubscribe)).unwrap();
    }

    /// Sends a state-of-the-world request.
    pub(super) fn sotw(&mut self, type_url: &TypeUrl, nonce: &str, names: &[&str]) {
        self.request(sotw_request(type_url, nonce, None, names)).unwrap();
    }

    pub(super) fn next(&mut self) -> Option<Answer> {
        let response = self.stream.next_response(self.now)?;
        Some(Answer::decode(&self.stream, &response))
    }

    /// The next response, which there must be.
    pub(super) fn expect(&mut self) -> Answer {
        self.next().expect("a response is due")
    }

    pub(super) fn expect_silence(&mut self) {
        if let Some(message) = self.next() {
            panic!("nothing is due, but there is {message:?}");
        }
    }

    pub(super) fn ack(&mut self, message: &Answer) {
        self.answer(message, None);
    }

    pub(super) fn nack(&mut self, message: &Answer, text: &str) {
        self.answer(message, Some(RequestError { code: 13, message: text.to_owned() }));
    }

    fn answer(&mut self, message: &Answer, error: Option<RequestError>) {
        let request = match self.stream.variant {
            Variant::Delta => delta_request(&message.type_url, &message.nonce, error, &[], &[]),
            Variant::StateOfTheWorld => {
                let sub_stream = &self.stream.types[&message.type_url];
                let names: Vec<String> = sub_stream.subscription.names().iter().map(ToString::to_string).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                sotw_request(&message.type_url, &message.nonce, error, &names)
            }
        };
        self.request(request).unwrap();
    }

    /// Acknowledges everything until nothing is due; what came, in order.
    pub(super) fn drain(&mut self) -> Vec<Answer> {
        let mut messages = Vec::new();
        while let Some(message) = self.next() {
            self.ack(&message);
            messages.push(message);
        }
        messages
    }

    pub(super) fn advance(&mut self, duration: Duration) {
        self.now += duration;
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        self.stream.take_events()
    }
}

pub(super) fn delta_request(
    type_url: &TypeUrl,
    nonce: &str,
    error: Option<RequestError>,
    subscribe: &[&str],
    unsubscribe: &[&str],
) -> Request {
    let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    Request {
        node: None,
        type_url: type_url.as_str().to_owned(),
        nonce: nonce.to_owned(),
        error,
        names: RequestNames::Delta {
            subscribe: owned(subscribe),
            unsubscribe: owned(unsubscribe),
            initial_versions: std::collections::HashMap::new(),
        },
    }
}

pub(super) fn sotw_request(type_url: &TypeUrl, nonce: &str, error: Option<RequestError>, names: &[&str]) -> Request {
    Request {
        node: None,
        type_url: type_url.as_str().to_owned(),
        nonce: nonce.to_owned(),
        error,
        names: RequestNames::StateOfTheWorld {
            names: names.iter().map(ToString::to_string).collect(),
            version: String::new(),
        },
    }
}

/// A response as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) type_url: TypeUrl,
    pub(super) nonce: String,
    pub(super) version: String,
    /// Name and content hash.
    pub(super) resources: Vec<(String, crate::version::Version)>,
    pub(super) removed: Vec<String>,
    pub(super) bytes: usize,
}

impl Answer {
    /// Decodes a response and checks what must be true of every one (R4, R5, V1).
    pub(super) fn decode(stream: &Stream, response: &Response) -> Self {
        use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
        let bytes = response.to_message();
        assert_eq!(bytes.len(), response.message_bytes());
        let framed = response.clone().into_frames().concat();
        assert_eq!(framed[0], 0);
        let length = u32::from_be_bytes(framed[1..5].try_into().unwrap()) as usize;
        assert_eq!((length, &framed[5..]), (bytes.len(), bytes.as_ref()));

        let (type_url, nonce, version, anys, removed) = match stream.variant {
            Variant::Delta => {
                let message = DeltaDiscoveryResponse::decode(bytes.clone()).unwrap();
                let anys: Vec<_> = message
                    .resources
                    .into_iter()
                    .map(|resource| {
                        let any = resource.resource.unwrap();
                        let hash = crate::version::Version::of(&any.value);
                        assert_eq!(resource.version, hash.to_string());
                        (Some(resource.name), any)
                    })
                    .collect();
                (message.type_url, message.nonce, message.system_version_info, anys, message.removed_resources)
            }
            Variant::StateOfTheWorld => {
                let message = DiscoveryResponse::decode(bytes.clone()).unwrap();
                let anys = message.resources.into_iter().map(|any| (None, any));
                (message.type_url, message.nonce, message.version_info, anys.collect(), Vec::new())
            }
        };
        assert!(!nonce.is_empty() && !version.is_empty());
        let mut resources = Vec::new();
        let mut seen: std::collections::BTreeSet<String> = removed.iter().cloned().collect();
        assert_eq!(seen.len(), removed.len());
        for (name, any) in anys {
            assert_eq!(any.type_url, type_url);
            let inner = inner_name(&any.value);
            if let Some(name) = name {
                assert_eq!(name, inner);
            }
            assert!(seen.insert(inner.clone()), "{inner} twice in one response");
            resources.push((inner, crate::version::Version::of(&any.value)));
        }
        Self { type_url: TypeUrl::parse(&type_url), nonce, version, resources, removed, bytes: bytes.len() }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.resources.iter().map(|(name, _)| name.as_str()).collect()
    }
}

/// Field 1, the name, of the messages used here.
fn inner_name(value: &[u8]) -> String {
    for field in crate::wire::Fields(value) {
        if let (1, crate::wire::Field::Bytes(name)) = field.unwrap() {
            return String::from_utf8(name.to_vec()).unwrap();
        }
    }
    panic!("no name");
}
