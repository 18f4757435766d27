//! A server under test with what it serves.

mod policy;

pub use self::policy::Running;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use osm_xds::{
    Admission, Cache, ClientIdentity, Delivery, Event, Layer, Node, Peer, Publication, Refusal, Resource, Settings,
    Snapshot, SnapshotKey, TypeUrl, UnknownName,
};
use tokio::{sync::watch, time::timeout};

use self::policy::TestPolicy;
use crate::{
    Authority, Client, Connection, DEADLINE, EXTENSION, FENCES, RUNTIME, Stream, TEST_TYPES, TestResource, Variant,
    fence, test_resource,
};

/// The key whose snapshot most tests use. A node `KEY/NAME` is served the snapshot of `KEY`.
pub const FLEET: &str = "fleet";

/// The node most tests use.
pub const NODE: &str = "fleet/1";

/// Decides who a client is.
pub type Authenticate = Arc<dyn Fn(&Peer, &Node) -> Result<Admission, Refusal> + Send + Sync>;

/// Decides what an unknown name means.
pub type Unknown = Arc<dyn Fn(&TypeUrl, &str) -> UnknownName + Send + Sync>;

/// What happened on the server, in order.
pub type Events = Vec<(ClientIdentity, Event)>;

type Content = BTreeMap<(TypeUrl, String), (Arc<Resource>, Delivery)>;

/// A server on loopback, and the state it serves.
#[derive(Debug)]
pub struct World {
    /// The cache behind the server.
    pub cache: Cache,
    /// Where the server listens.
    pub address: SocketAddr,
    fences: Layer,
    content: Mutex<BTreeMap<SnapshotKey, Content>>,
    events: watch::Receiver<Events>,
    server: Running,
}

/// How a world differs from the ordinary one.
#[derive(Clone, Default)]
pub struct WorldBuilder {
    settings: Settings,
    tls: Option<(crate::Identity, String)>,
    authenticate: Option<Authenticate>,
    unknown: Option<Unknown>,
    starting: bool,
}

impl std::fmt::Debug for WorldBuilder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WorldBuilder").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl WorldBuilder {
    /// Changes the server's settings.
    #[must_use]
    pub fn settings(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Serves with TLS as `localhost` and wants client certificates, all of `authority`.
    #[must_use]
    pub fn tls(mut self, authority: &Authority) -> Self {
        self.tls = Some((authority.issue(&["localhost"]), authority.certificate().to_owned()));
        self
    }

    /// Decides who a client is; without this everyone is who he says.
    #[must_use]
    pub fn authenticate(
        mut self,
        authenticate: impl Fn(&Peer, &Node) -> Result<Admission, Refusal> + Send + Sync + 'static,
    ) -> Self {
        self.authenticate = Some(Arc::new(authenticate));
        self
    }

    /// Decides what an unknown name means; without this it is reported as removed.
    #[must_use]
    pub fn unknown(mut self, unknown: impl Fn(&TypeUrl, &str) -> UnknownName + Send + Sync + 'static) -> Self {
        self.unknown = Some(Arc::new(unknown));
        self
    }

    /// Starts the server while its inputs are incomplete: nothing is published and the cache is not ready.
    #[must_use]
    pub fn starting(mut self) -> Self {
        self.starting = true;
        self
    }

    /// Starts the server.
    ///
    /// # Panics
    ///
    /// When it cannot listen on loopback.
    pub async fn start(self) -> World {
        let cache = Cache::new();
        let (sender, events) = watch::channel(Events::new());
        let policy = TestPolicy {
            authenticate: self.authenticate.unwrap_or_else(|| Arc::new(|_, node| Ok(admit(&node.id)))),
            unknown: self.unknown.unwrap_or_else(|| Arc::new(|_, _| UnknownName::Removed)),
            events: sender,
        };
        let (address, server) = policy::serve(cache.clone(), policy, self.settings, self.tls).await;
        let world = World { cache, address, fences: fences(), content: Mutex::default(), events, server };
        if !self.starting {
            world.publish();
            world.cache.set_ready();
        }
        world
    }
}

/// Who a node `KEY/NAME` is.
pub fn admit(node: &str) -> Admission {
    let key = node.split('/').next().unwrap_or_default();
    Admission { key: SnapshotKey::new(key), proxy: osm_xds::ProxyName::new(node) }
}

impl World {
    /// A server without TLS that trusts every node id and serves an empty world to the fleet.
    pub async fn start() -> Self {
        WorldBuilder::default().start().await
    }

    // ---- What is served ----------------------------------------------------------------------------------------

    /// Adds or replaces a resource for the fleet, delivered by wildcard, with the next [`publish`](Self::publish).
    pub fn put(&self, resource: TestResource) {
        self.put_for(FLEET, resource, Delivery::Wildcard);
    }

    /// Adds or replaces a resource for a key, with the next [`publish`](Self::publish).
    ///
    /// # Panics
    ///
    /// When it is malformed.
    pub fn put_for(&self, key: &str, resource: TestResource, delivery: Delivery) {
        let type_url = TypeUrl::parse(resource.type_url);
        let made = Resource::from_any(type_url.clone(), resource.name.as_str(), &resource.value)
            .expect("test resources are well formed");
        let mut content = self.content.lock().expect("not poisoned");
        let of_key = content.entry(SnapshotKey::new(key)).or_default();
        of_key.insert((type_url, resource.name), (Arc::new(made), delivery));
    }

    /// Removes a resource of the fleet with the next [`publish`](Self::publish).
    ///
    /// # Panics
    ///
    /// When it is not there.
    pub fn remove(&self, type_url: &str, name: &str) {
        let mut content = self.content.lock().expect("not poisoned");
        let of_key = content.entry(SnapshotKey::new(FLEET)).or_default();
        let removed = of_key.remove(&(TypeUrl::parse(type_url), name.to_owned()));
        assert!(removed.is_some(), "the test removes `{name}`, which is not there");
    }

    /// Makes everything put and removed so far current, in one step.
    ///
    /// # Panics
    ///
    /// When another thread of the test has panicked.
    pub fn publish(&self) -> Publication {
        let mut content = self.content.lock().expect("not poisoned");
        content.entry(SnapshotKey::new(FLEET)).or_default();
        let snapshots: Vec<_> = content
            .iter()
            .map(|(key, resources)| {
                let layer: Layer = resources.values().cloned().collect();
                (key.clone(), Some(Arc::new(Snapshot::new([self.fences.clone(), layer]))))
            })
            .collect();
        self.cache.publish(snapshots)
    }

    /// Puts one resource and publishes.
    pub fn set(&self, resource: TestResource) -> Publication {
        self.put(resource);
        self.publish()
    }

    /// Puts a test resource of each `(type, name, revision)` and publishes all in one step.
    pub fn set_all(&self, resources: &[(&str, &str, u32)]) -> Publication {
        for (type_url, name, revision) in resources {
            self.put(test_resource(type_url, name, *revision));
        }
        self.publish()
    }

    // ---- Clients -----------------------------------------------------------------------------------------------

    /// A connection without TLS.
    pub async fn connect(&self) -> Connection {
        Connection::plaintext(self.address).await
    }

    /// A client of the fleet.
    pub async fn client(&self, variant: Variant) -> Client {
        self.client_of(variant, NODE).await
    }

    /// A client with the given node id.
    pub async fn client_of(&self, variant: Variant, node: &str) -> Client {
        Client::new(self.connect().await, variant, node)
    }

    /// A stream of the fleet on a connection of its own.
    pub async fn stream(&self, variant: Variant, type_url: &str) -> Stream {
        self.connect().await.open(variant, type_url, NODE)
    }

    // ---- What the server did -----------------------------------------------------------------------------------

    /// Everything observed so far.
    pub fn events(&self) -> Events {
        self.events.borrow().clone()
    }

    /// Waits until an event is observed that `wanted` accepts, and returns what it made of it.
    ///
    /// # Panics
    ///
    /// When none is within [`DEADLINE`].
    pub async fn wait_event<T>(&self, wanted: impl Fn(&ClientIdentity, &Event) -> Option<T>) -> T {
        self.wait_events(|events| events.iter().find_map(|(client, event)| wanted(client, event))).await
    }

    /// Waits until the events so far are what `wanted` accepts.
    ///
    /// # Panics
    ///
    /// When they are not within [`DEADLINE`].
    pub async fn wait_events<T>(&self, wanted: impl Fn(&Events) -> Option<T>) -> T {
        let mut events = self.events.clone();
        let found = timeout(DEADLINE, async {
            loop {
                let found = wanted(&events.borrow_and_update());
                match found {
                    Some(found) => return found,
                    None => events.changed().await.expect("the server lives as long as its world"),
                }
            }
        })
        .await;
        found.unwrap_or_else(|_| {
            let events: Vec<_> = self.events().into_iter().map(|(client, event)| (client.node, event)).collect();
            panic!("not observed within {DEADLINE:?}; observed:\n{}", lines(&events))
        })
    }

    /// Waits until the fleet's first proxy has acknowledged everything of a publication.
    ///
    /// # Panics
    ///
    /// When it has not within [`DEADLINE`].
    pub async fn synced(&self, publication: Publication) {
        self.wait_event(|client, event| match event {
            Event::Synced { epoch } if *client.node == *NODE && *epoch >= publication.epoch => Some(()),
            _ => None,
        })
        .await;
    }

    /// How many resources of a type the server has sent so far.
    pub fn resources_sent(&self, type_url: &str) -> usize {
        let events = self.events();
        let sent = events.iter().filter_map(|(_, event)| match event {
            Event::Sent { type_url: sent, resources, .. } if sent.as_str() == type_url => Some(*resources),
            _ => None,
        });
        sent.sum()
    }

    /// Stops the server as at the end of the process: streams are ended, the port is free afterwards.
    pub async fn stop(self) {
        self.server.stop().await;
    }

    /// The running server.
    pub fn server(&self) -> &Running {
        &self.server
    }
}

/// One line for each item.
fn lines(items: &[impl std::fmt::Debug]) -> String {
    items.iter().map(|item| format!("{item:?}")).collect::<Vec<_>>().join("\n")
}

/// Resources of every type that only those receive who name them: see [`Stream::expect_silence`].
fn fences() -> Layer {
    TEST_TYPES
        .iter()
        .chain([&RUNTIME, &EXTENSION])
        .flat_map(|type_url| (0..FENCES).map(move |number| test_resource(type_url, &fence(number), 1)))
        .map(|resource| {
            let made = Resource::from_any(TypeUrl::parse(resource.type_url), resource.name.as_str(), &resource.value)
                .expect("test resources are well formed");
            (Arc::new(made), Delivery::Named)
        })
        .collect()
}
