//! A client as pure as the state machine, with a network between the two that delays messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::fixture::*;
use crate::policy::Variant;
use crate::stream::{Request, RequestError};
use crate::type_url::TypeUrl;
use crate::version::Version;

/// What a client holds of one type.
#[derive(Debug, Default)]
pub(super) struct Holding {
    pub(super) wildcard: bool,
    pub(super) names: BTreeSet<String>,
    pub(super) resources: BTreeMap<String, Version>,
    nonce: String,
    has_named: bool,
}

/// A well-behaved client. Requests and responses wait in queues until they are let through.
#[derive(Debug)]
pub(super) struct Client {
    variant: Variant,
    pub(super) types: BTreeMap<TypeUrl, Holding>,
    to_server: VecDeque<Request>,
    to_client: VecDeque<Answer>,
    pub(super) responses: usize,
}

impl Client {
    pub(super) fn new(variant: Variant) -> Self {
        Self { variant, types: BTreeMap::new(), to_server: VecDeque::new(), to_client: VecDeque::new(), responses: 0 }
    }

    /// Subscribes to everything of a type, before anything else of it.
    pub(super) fn subscribe_wildcard(&mut self, type_url: &TypeUrl) {
        self.types.entry(type_url.clone()).or_default().wildcard = true;
        self.send(type_url, None, &[], &[]);
    }

    pub(super) fn subscribe(&mut self, type_url: &TypeUrl, name: &str) {
        let holding = self.types.entry(type_url.clone()).or_default();
        holding.names.insert(name.to_owned());
        holding.has_named = true;
        self.send(type_url, None, &[name], &[]);
    }

    pub(super) fn unsubscribe(&mut self, type_url: &TypeUrl, name: &str) {
        let holding = self.types.entry(type_url.clone()).or_default();
        if holding.names.remove(name) {
            // With a wildcard the server says what becomes of it.
            if !holding.wildcard {
                holding.resources.remove(name);
            }
            self.send(type_url, None, &[], &[name]);
        }
    }

    /// Queues a request as it is written now: later state does not change it.
    fn send(&mut self, type_url: &TypeUrl, error: Option<RequestError>, subscribe: &[&str], unsubscribe: &[&str]) {
        let holding = &self.types[type_url];
        self.to_server.push_back(match self.variant {
            Variant::Delta => delta_request(type_url, "", error, subscribe, unsubscribe),
            Variant::StateOfTheWorld => sotw_request(type_url, &holding.nonce, error, &holding.list()),
        });
    }

    /// Lets the oldest request through.
    pub(super) fn deliver_request(&mut self, server: &mut Fixture) -> bool {
        let Some(request) = self.to_server.pop_front() else {
            return false;
        };
        server.request(request).unwrap();
        true
    }

    /// Lets the server say one thing.
    pub(super) fn take_response(&mut self, server: &mut Fixture) -> bool {
        let Some(answer) = server.next() else {
            return false;
        };
        self.responses += 1;
        self.to_client.push_back(answer);
        true
    }

    /// Lets the oldest response through; accepts it unless told to refuse.
    pub(super) fn deliver_response(&mut self, refuse: bool) -> bool {
        let Some(answer) = self.to_client.pop_front() else {
            return false;
        };
        // A refused removal is never tried again unless something changes; that is another test's subject.
        let refuse = refuse && !answer.resources.is_empty();
        let type_url = answer.type_url.clone();
        let holding = self.types.get_mut(&type_url).expect("subscribed to");
        let full_state = self.variant == Variant::StateOfTheWorld && type_url.is_wildcard_capable();
        if self.variant == Variant::StateOfTheWorld {
            if !holding.wildcard && holding.names.is_empty() && !answer.resources.is_empty() {
                // As Envoy does for a type it does not watch any more.
                return true;
            }
            holding.nonce.clone_from(&answer.nonce);
        }
        if !refuse {
            if full_state {
                holding.resources.clear();
            }
            for (name, version) in &answer.resources {
                if holding.wildcard || holding.names.contains(name) {
                    holding.resources.insert(name.clone(), *version);
                }
            }
            for name in &answer.removed {
                holding.resources.remove(name);
            }
        }
        let error = refuse.then(|| RequestError { code: 13, message: "refused".to_owned() });
        let request = match self.variant {
            Variant::Delta => delta_request(&type_url, &answer.nonce, error, &[], &[]),
            Variant::StateOfTheWorld => sotw_request(&type_url, &answer.nonce, error, &holding.list()),
        };
        self.to_server.push_back(request);
        true
    }

    /// Lets everything through until nothing moves.
    pub(super) fn settle(&mut self, server: &mut Fixture) {
        for _ in 0..10_000 {
            let moved = self.deliver_request(server) | self.take_response(server) | self.deliver_response(false);
            if !moved {
                return;
            }
        }
        panic!("client and server talk without end");
    }
}

impl Holding {
    fn list(&self) -> Vec<&str> {
        // No names means everything only until the first one.
        let star = (self.wildcard && self.has_named).then_some("*");
        star.into_iter().chain(self.names.iter().map(String::as_str)).collect()
    }
}
