//! Whatever a client sends, the state machine neither panics nor talks without end.
//!
//! Two kinds of input: arbitrary bytes in place of a request, and arbitrary sequences of well-formed requests, changes
//! and passing time. After every step everything there is to say is taken: that must end, and every response must be
//! well formed.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use osm_xds::{
    CloseReason, Delivery, Epoch, Layer, Published, Request, RequestError, RequestNames, Resource, Service, Snapshot,
    Stream, StreamSettings, TypeUrl, UnknownName, Variant,
};
use osm_xds_test_support::{CLUSTER, ENDPOINTS, Protocol, Response, TEST_TYPES, eds_cluster, endpoints, test_resource};
use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::Message;

const NAMES: [&str; 8] = ["a", "b", "c", "*", "", "missing", "ünïcödé/…", "a/b|80"];
const TYPES: [&str; 9] = [
    TEST_TYPES[0],
    TEST_TYPES[1],
    TEST_TYPES[2],
    TEST_TYPES[3],
    TEST_TYPES[4],
    TEST_TYPES[5],
    "type.googleapis.com/example.Unheard",
    "not a type at all",
    "",
];

/// One thing that happens to a stream.
#[derive(Debug, Clone)]
enum Step {
    Request {
        type_url: &'static str,
        lists: [Vec<&'static str>; 2],
        nonce: Nonce,
        error: bool,
        claims: Vec<Claim>,
    },
    /// Publishes a snapshot in which the resources named have the revision given.
    Publish {
        resources: Vec<(&'static str, &'static str, u32)>,
    },
    /// Lets time pass.
    Wait(Duration),
}

#[derive(Debug, Clone)]
enum Nonce {
    None,
    Foreign(String),
    /// The nonce of an earlier response, counted from the newest.
    Earlier(usize),
}

/// A version claimed at connection: nonsense, or one of a real resource.
type Claim = (&'static str, String);

fn names() -> impl Strategy<Value = Vec<&'static str>> {
    vec(select(&NAMES[..]), 0..6)
}

fn nonce() -> impl Strategy<Value = Nonce> {
    prop_oneof![
        2 => Just(Nonce::None),
        1 => "[0-9a-fA-F+-]{0,20}".prop_map(Nonce::Foreign),
        6 => (0_usize..6).prop_map(Nonce::Earlier),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    let current = osm_xds::Version::of(&test_resource(CLUSTER, "a", 1).value).to_string();
    (select(&NAMES[..]), prop_oneof![Just(current), "[0-9a-f]{32}", ".{0,8}"])
}

fn step() -> impl Strategy<Value = Step> {
    let request =
        (select(&TYPES[..]), names(), names(), nonce(), any::<bool>(), option::weighted(0.2, vec(claim(), 0..4)))
            .prop_map(|(type_url, add, remove, nonce, error, claims)| Step::Request {
                type_url,
                lists: [add, remove],
                nonce,
                error,
                claims: claims.unwrap_or_default(),
            });
    let resource = (select(&TEST_TYPES[..]), select(&["a", "b", "c", "a/b|80"][..]), 1_u32..4);
    prop_oneof![
        8 => request,
        3 => vec(resource, 0..8).prop_map(|resources| Step::Publish { resources }),
        1 => (0_u64..120).prop_map(|seconds| Step::Wait(Duration::from_secs(seconds))),
    ]
}

fn service() -> impl Strategy<Value = Service> {
    prop_oneof![
        3 => Just(Service::Aggregated),
        1 => select(&TEST_TYPES[..]).prop_map(|type_url| Service::Single(TypeUrl::parse(type_url))),
    ]
}

fn snapshot(resources: &[(&str, &str, u32)]) -> Snapshot {
    let layer: Layer = resources
        .iter()
        .map(|(type_url, name, revision)| {
            let resource = match *type_url {
                CLUSTER => eds_cluster(name, *revision),
                ENDPOINTS => endpoints(name, 1000),
                other => test_resource(other, name, *revision),
            };
            let made = Resource::from_any(TypeUrl::parse(type_url), *name, &resource.value).expect("well formed");
            let delivery = if *revision == 3 { Delivery::Named } else { Delivery::Wildcard };
            (Arc::new(made), delivery)
        })
        .collect();
    Snapshot::new([layer])
}

/// A stream with what the test knows of it.
struct Driver {
    stream: Stream,
    variant: Variant,
    now: Instant,
    epoch: u64,
    nonces: Vec<String>,
    types: usize,
}

impl Driver {
    fn new(variant: Variant, service: Service, settings: StreamSettings) -> Self {
        let now = Instant::now();
        let unknown = Box::new(|_: &TypeUrl, name: &str| match name {
            "missing" => UnknownName::Hold,
            _ => UnknownName::Removed,
        });
        let mut driver = Self {
            stream: Stream::new(variant, service, Arc::new(settings), unknown, now),
            variant,
            now,
            epoch: 0,
            nonces: Vec::new(),
            types: 0,
        };
        driver.publish(&[(CLUSTER, "a", 1)]);
        driver
    }

    fn publish(&mut self, resources: &[(&str, &str, u32)]) {
        self.epoch += 1;
        let published = Published::new(Epoch(self.epoch), Arc::new(snapshot(resources)));
        self.stream.on_snapshot(Arc::new(published));
    }

    /// Takes a step and everything the stream says to it; `Err` when the stream must be closed.
    fn take(&mut self, step: Step) -> Result<(), CloseReason> {
        match step {
            Step::Request { type_url, lists: [add, remove], nonce, error, claims } => {
                let nonce = match nonce {
                    Nonce::None => String::new(),
                    Nonce::Foreign(text) => text,
                    Nonce::Earlier(age) => self.nonces.iter().rev().nth(age).cloned().unwrap_or_default(),
                };
                let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
                let names = match self.variant {
                    Variant::StateOfTheWorld => RequestNames::StateOfTheWorld {
                        names: owned(add),
                        version: claims.first().map(|(_, version)| version.clone()).unwrap_or_default(),
                    },
                    Variant::Delta => RequestNames::Delta {
                        subscribe: owned(add),
                        unsubscribe: owned(remove),
                        initial_versions: claims.into_iter().map(|(name, text)| (name.into(), text)).collect(),
                    },
                };
                let error = error.then(|| RequestError { code: 3, message: "a and b are bad".into() });
                self.request(Request { node: None, type_url: type_url.into(), nonce, error, names })?;
            }
            Step::Publish { resources } => self.publish(&resources),
            Step::Wait(time) => {
                self.now += time;
                self.stream.on_timer(self.now)?;
            }
        }
        self.drain();
        Ok(())
    }

    fn request(&mut self, request: Request) -> Result<(), CloseReason> {
        self.types += 1;
        self.stream.on_request(request, self.now)
    }

    /// Everything there is to say. Nothing is answered meanwhile, so each type may speak once at most (the resources
    /// of these tests fit in one response).
    fn drain(&mut self) {
        let mut responses = 0;
        while let Some(response) = self.stream.next_response(self.now) {
            responses += 1;
            assert!(responses <= self.types, "more responses than types that were asked for");
            let protocol = match self.variant {
                Variant::StateOfTheWorld => Protocol::StateOfTheWorld,
                Variant::Delta => Protocol::Delta,
            };
            let read = Response::read(protocol, &response.to_message());
            assert_eq!(read.nonce, response.nonce);
            assert!(!self.nonces.contains(&read.nonce), "a nonce is used once");
            assert!(read.size < 64 * 1024, "{} bytes", read.size);
            self.nonces.push(read.nonce);
        }
        assert!(self.stream.next_response(self.now).is_none(), "silence lasts until something happens");
        let _ = (self.stream.take_events(), self.stream.status(self.now), format!("{:?}", self.stream));
        assert!(
            self.stream.next_deadline(self.now).is_none_or(|deadline| deadline + Duration::from_secs(3600) > self.now)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_requests_ends_in_silence(
        service in service(),
        delta in any::<bool>(),
        steps in vec(step(), 0..60),
    ) {
        let variant = if delta { Variant::Delta } else { Variant::StateOfTheWorld };
        let mut driver = Driver::new(variant, service, StreamSettings::default());
        for step in steps {
            if driver.take(step).is_err() {
                break;
            }
        }
    }

    #[test]
    fn tight_limits_refuse_and_never_panic(delta in any::<bool>(), steps in vec(step(), 0..40)) {
        let variant = if delta { Variant::Delta } else { Variant::StateOfTheWorld };
        let settings = StreamSettings {
            delta_part_bytes: 1,
            state_of_the_world_part_bytes: 1,
            names_limit: 2,
            name_bytes_limit: 4,
            types_limit: 2,
            ..StreamSettings::default()
        };
        let mut driver = Driver::new(variant, Service::Aggregated, settings);
        // Every resource is a part of its own.
        driver.types = NAMES.len() * TYPES.len();
        for step in steps {
            if driver.take(step).is_err() {
                break;
            }
        }
    }

    #[test]
    fn any_bytes_are_a_request_or_are_refused(delta in any::<bool>(), messages in vec(vec(any::<u8>(), 0..200), 1..8)) {
        let variant = if delta { Variant::Delta } else { Variant::StateOfTheWorld };
        let mut driver = Driver::new(variant, Service::Aggregated, StreamSettings::default());
        for message in messages {
            let request = match variant {
                Variant::StateOfTheWorld => DiscoveryRequest::decode(message.as_slice()).map(Request::from),
                Variant::Delta => DeltaDiscoveryRequest::decode(message.as_slice()).map(Request::from),
            };
            let Ok(request) = request else { continue };
            if driver.request(request).is_err() {
                break;
            }
            driver.drain();
        }
    }

    #[test]
    fn damaged_requests_are_a_request_or_are_refused(
        position in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        names in names(),
    ) {
        // A good request with one byte changed reaches deeper than arbitrary bytes do.
        let good = DeltaDiscoveryRequest {
            type_url: CLUSTER.into(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            initial_resource_versions: HashMap::from([("a".to_owned(), "1".to_owned())]),
            ..DeltaDiscoveryRequest::default()
        };
        let mut bytes = good.encode_to_vec();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        if let Ok(request) = DeltaDiscoveryRequest::decode(bytes.as_slice()) {
            let mut driver = Driver::new(Variant::Delta, Service::Aggregated, StreamSettings::default());
            if driver.request(request.into()).is_ok() {
                driver.drain();
            }
        }
    }
}
