//! One synthetic proxy without its socket: from a response to the requests that answer it.

use std::collections::HashSet;

use bytes::Bytes;

use super::Subscription;
use super::ledger::{KINDS, Ledger, VersionId, kind_of, type_url};
use super::wire::{RequestFrame, WireResponse};
use crate::control::ResourceKind;

/// What a proxy does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Applies and acknowledges it.
    Accept,
    /// Refuses it and keeps what it has.
    Refuse,
}

/// The resources of one kind that a proxy holds.
#[derive(Debug, Default)]
struct Held {
    /// By service.
    versions: Vec<Option<VersionId>>,
}

impl Held {
    fn set(&mut self, service: u32, version: Option<VersionId>) -> Option<VersionId> {
        let service = service as usize;
        if self.versions.len() <= service {
            self.versions.resize(service + 1, None);
        }
        std::mem::replace(&mut self.versions[service], version)
    }

    fn get(&self, service: u32) -> Option<VersionId> {
        self.versions.get(service as usize).copied().flatten()
    }
}

/// State of one proxy; it outlives its streams, as Envoy's does.
#[derive(Debug)]
pub(super) struct Proxy {
    number: u32,
    subscription: Subscription,
    pub(super) verdict: Verdict,
    held: [Held; KINDS.len()],
    /// Nonces seen on the present stream, hashed.
    nonces: HashSet<u64>,
    /// Resources that are not what the ledger expects.
    pub(super) wrong: u64,
}

impl Proxy {
    pub(super) fn new(number: u32, subscription: Subscription) -> Self {
        Self {
            number,
            subscription,
            verdict: Verdict::Accept,
            held: Default::default(),
            nonces: HashSet::new(),
            wrong: 0,
        }
    }

    pub(super) fn subscribes_to(&self, kind: ResourceKind) -> bool {
        match (self.subscription, kind) {
            (Subscription::Clusters | Subscription::ClustersAndEndpoints, ResourceKind::Cluster)
            | (Subscription::ClustersAndEndpoints, ResourceKind::Endpoints) => true,
            (Subscription::Clusters, ResourceKind::Endpoints) => false,
        }
    }

    /// Counts again what is not as the ledger expects.
    pub(super) fn compare(&mut self, ledger: &Ledger) {
        let mut wrong = 0;
        for kind in KINDS.into_iter().filter(|kind| self.subscribes_to(*kind)) {
            let expected = ledger.expected(kind);
            let held = &self.held[kind as usize];
            for service in 0..expected.len().max(held.versions.len()) {
                let revision = held.versions.get(service).copied().flatten().map(|id| ledger.version(id).revision);
                wrong += u64::from(revision != expected.get(service).copied());
            }
        }
        self.wrong = wrong;
    }

    /// Counts again for one service's resource after the ledger expects another revision of it.
    pub(super) fn expectation_changed(
        &mut self,
        ledger: &Ledger,
        kind: ResourceKind,
        service: u32,
        earlier: Option<u32>,
    ) {
        if self.subscribes_to(kind) {
            let revision = self.held[kind as usize].get(service).map(|id| ledger.version(id).revision);
            let expected = ledger.expected(kind).get(service as usize).copied();
            self.wrong = self.wrong + u64::from(revision != expected) - u64::from(revision != earlier);
        }
    }

    /// The first requests of a new stream: the wildcard, then what is named; with the versions held, if any.
    pub(super) fn first_requests(&mut self, ledger: &Ledger) -> Vec<Bytes> {
        self.nonces.clear();
        let mut requests = Vec::new();
        for kind in KINDS.into_iter().filter(|kind| self.subscribes_to(*kind)) {
            let mut request = RequestFrame::new(type_url(kind));
            if kind == ResourceKind::Cluster {
                request = request.node(&format!("proxy-{}", self.number));
            }
            let mut held = self.held[kind as usize].versions.iter().flatten().peekable();
            if kind == ResourceKind::Endpoints && held.peek().is_none() {
                // Nothing is known by name yet.
                continue;
            }
            for id in held {
                let version = ledger.version(*id);
                let name = crate::world::service_name(version.service);
                if kind == ResourceKind::Endpoints {
                    request = request.subscribe(&name);
                }
                request = request.initial_version(&name, &version.text);
            }
            requests.push(request.finish());
        }
        requests
    }

    /// Takes one response message and returns the requests that answer it.
    pub(super) fn respond(&mut self, ledger: &mut Ledger, message: &[u8]) -> Vec<Bytes> {
        let number = self.number;
        let response = match WireResponse::decode(message) {
            Ok(response) => response,
            Err(malformed) => {
                ledger.violate(|| format!("proxy {number}: unreadable response: {}", malformed.0));
                return Vec::new();
            }
        };
        let Some(kind) = kind_of(response.type_url).filter(|kind| self.subscribes_to(*kind)) else {
            ledger.violate(|| format!("proxy {number}: response of type {:?}, not asked for", response.type_url));
            return Vec::new();
        };
        let counters = ledger.counters.of(kind);
        counters.responses += 1;
        counters.resources += response.resources.len() as u64;
        counters.removed += response.removed.len() as u64;
        counters.bytes += message.len() as u64;
        self.check(ledger, &response);
        match self.verdict {
            Verdict::Accept => {
                ledger.counters.of(kind).acknowledged += 1;
                let mut requests = self.apply(ledger, kind, &response);
                requests.push(RequestFrame::new(response.type_url).answering(response.nonce).finish());
                requests
            }
            Verdict::Refuse => {
                ledger.counters.of(kind).refused += 1;
                let refusal = RequestFrame::new(response.type_url).answering(response.nonce);
                vec![refusal.rejecting("refused by the benchmark").finish()]
            }
        }
    }

    /// What must hold of any response, whatever it carries.
    fn check(&mut self, ledger: &mut Ledger, response: &WireResponse<'_>) {
        let number = self.number;
        if response.nonce.is_empty() {
            ledger.violate(|| format!("proxy {number}: a response without a nonce"));
        } else if !self.nonces.insert(xxhash_rust::xxh3::xxh3_64(response.nonce.as_bytes())) {
            ledger.violate(|| format!("proxy {number}: nonce {:?} came twice", response.nonce));
        }
        if response.resources.len() + response.removed.len() > 1 {
            let mut names = HashSet::new();
            let delivered = response.resources.iter().map(|resource| resource.name);
            for name in delivered.chain(response.removed.iter().copied()) {
                if !names.insert(name) {
                    ledger.violate(|| format!("proxy {number}: {name:?} is twice in one response"));
                }
            }
        }
    }

    /// Takes over the content of a response; the requests are subscriptions that follow from it.
    fn apply(&mut self, ledger: &mut Ledger, kind: ResourceKind, response: &WireResponse<'_>) -> Vec<Bytes> {
        let mut learnt = Vec::new();
        for resource in &response.resources {
            let Some(id) = ledger.identify(kind, resource) else { continue };
            let service = ledger.version(id).service;
            let before = self.replace(ledger, kind, service, Some(id));
            if before == Some(id) {
                ledger.counters.of(kind).unchanged += 1;
            } else if before.is_none() {
                learnt.push(resource.name);
            }
        }
        let mut forgotten = Vec::new();
        for name in &response.removed {
            match ledger.service(name) {
                Some(service) => {
                    if self.replace(ledger, kind, service, None).is_some() {
                        forgotten.push(*name);
                    }
                }
                None => ledger.violate(|| format!("proxy {}: removal of the unknown {name:?}", self.number)),
            }
        }
        let names_endpoints = kind == ResourceKind::Cluster && self.subscribes_to(ResourceKind::Endpoints);
        if !names_endpoints || (learnt.is_empty() && forgotten.is_empty()) {
            return Vec::new();
        }
        let mut request = RequestFrame::new(type_url(ResourceKind::Endpoints));
        for name in learnt {
            request = request.subscribe(name);
        }
        for name in forgotten {
            request = request.unsubscribe(name);
            if let Some(service) = ledger.service(name) {
                // A proxy drops a cluster's endpoints with the cluster.
                self.replace(ledger, ResourceKind::Endpoints, service, None);
            }
        }
        vec![request.finish()]
    }

    fn replace(
        &mut self,
        ledger: &Ledger,
        kind: ResourceKind,
        service: u32,
        version: Option<VersionId>,
    ) -> Option<VersionId> {
        let before = self.held[kind as usize].set(service, version);
        let expected = ledger.expected(kind).get(service as usize).copied();
        let is_wrong = |held: Option<VersionId>| held.map(|id| ledger.version(id).revision) != expected;
        self.wrong = self.wrong + u64::from(is_wrong(version)) - u64::from(is_wrong(before));
        before
    }
}
