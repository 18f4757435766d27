//! Requests: answers to responses, and changes of what is subscribed to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::Stream;
use super::mention::mentioned;
use super::request::{Request, RequestError, RequestNames};
use super::sub_stream::{LastRejection, SubStream, parse_nonce};
use super::subscription::{WILDCARD, Wildcard};
use crate::cache::{Interest, InterestChange};
use crate::policy::{CloseReason, Event, Rejection, Service};
use crate::settings::Isolation;
use crate::type_url::TypeUrl;
use crate::version::Version;

impl Stream {
    /// Takes a request.
    ///
    /// # Errors
    ///
    /// The request breaks the protocol or a limit; the stream must be closed.
    pub fn on_request(&mut self, request: Request, now: Instant) -> Result<(), CloseReason> {
        let type_url = self.type_of(&request)?;
        self.check_limits(&request.names)?;
        let first = !self.types.contains_key(&type_url);
        if first && self.types.len() >= self.settings.types_limit {
            return Err(CloseReason::Protocol(format!("more than {} types on one stream", self.settings.types_limit)));
        }
        let mut sub_stream = self.types.remove(&type_url).unwrap_or_else(|| Box::new(SubStream::new(type_url.clone())));
        match request.names {
            RequestNames::StateOfTheWorld { names, version } => {
                if self.answer_state_of_the_world(&mut sub_stream, &request.nonce, request.error, &names, now) {
                    self.set_names(&mut sub_stream, &names, first, &version);
                }
            }
            RequestNames::Delta { subscribe, unsubscribe, initial_versions } => {
                if let Some(nonce) = parse_nonce(&request.nonce) {
                    self.answer(&mut sub_stream, nonce, request.error, now);
                }
                self.unsubscribe(&mut sub_stream, &unsubscribe);
                self.subscribe(&mut sub_stream, &subscribe, first, &initial_versions);
            }
        }
        let names = sub_stream.subscription.names().len();
        self.types.insert(type_url, sub_stream);
        if names > self.settings.names_limit {
            return Err(CloseReason::Protocol(format!(
                "more than {} names subscribed to for one type",
                self.settings.names_limit
            )));
        }
        Ok(())
    }

    fn type_of(&self, request: &Request) -> Result<TypeUrl, CloseReason> {
        match &self.service {
            Service::Aggregated if request.type_url.is_empty() => {
                Err(CloseReason::Protocol("a request on an aggregated stream has no type_url".to_owned()))
            }
            Service::Aggregated => Ok(TypeUrl::parse(&request.type_url)),
            Service::Single(type_url) if request.type_url.is_empty() || request.type_url == type_url.as_str() => {
                Ok(type_url.clone())
            }
            Service::Single(type_url) => Err(CloseReason::Protocol(format!(
                "type_url {:?} does not belong to the service of {type_url}",
                request.type_url
            ))),
        }
    }

    fn check_limits(&self, names: &RequestNames) -> Result<(), CloseReason> {
        let lists: [&[String]; 2] = match names {
            RequestNames::StateOfTheWorld { names, .. } => [names, &[]],
            RequestNames::Delta { subscribe, unsubscribe, initial_versions } => {
                if initial_versions.len() > self.settings.names_limit {
                    return Err(self.too_many_names());
                }
                [subscribe, unsubscribe]
            }
        };
        if lists.iter().map(|list| list.len()).sum::<usize>() > self.settings.names_limit {
            return Err(self.too_many_names());
        }
        let longest = self.settings.name_bytes_limit;
        if lists.into_iter().flatten().any(|name| name.len() > longest) {
            return Err(CloseReason::Protocol(format!("a name is longer than {longest} bytes")));
        }
        Ok(())
    }

    fn too_many_names(&self) -> CloseReason {
        CloseReason::Protocol(format!("more than {} names in one request", self.settings.names_limit))
    }

    /// Takes the answer to a response, if that is what the nonce says.
    fn answer(&mut self, sub_stream: &mut SubStream, nonce: u64, error: Option<RequestError>, now: Instant) {
        let Some(epoch) = sub_stream.base.as_ref().map(|base| base.epoch) else {
            return;
        };
        let full_state = sub_stream.is_full_state(self.variant);
        match error {
            None => {
                if sub_stream.acknowledge(nonce) == Some(true) && sub_stream.rejected.is_none() {
                    // Noted at once: by the next step newer inputs may have brought new work.
                    let removals = self.removal_gate(sub_stream, now);
                    sub_stream.settle_if_done(&self.context(now), &removals);
                    self.events.push(Event::Acknowledged { type_url: sub_stream.type_url.clone(), epoch });
                }
            }
            Some(error) => {
                let isolation = self.settings.isolation;
                let part = sub_stream.reject(nonce, full_state, |part| {
                    isolation == Isolation::OneAtATime
                        && mentioned(part.items.iter().map(|item| &item.name), &error.message).is_empty()
                });
                let Some(part) = part else { return };
                let (mut resources, mut removed) = (BTreeMap::new(), Vec::new());
                for item in &part.items {
                    let name = Arc::clone(&item.name);
                    match &item.resource {
                        Some(resource) => {
                            resources.insert(name, resource.version());
                        }
                        None => removed.push(name),
                    }
                }
                sub_stream.last_rejection = Some(LastRejection {
                    message: error.message.clone(),
                    code: error.code,
                    resources: resources.clone(),
                    at: now,
                });
                self.events.push(Event::Rejected(Rejection {
                    type_url: sub_stream.type_url.clone(),
                    epoch,
                    mentioned: mentioned(resources.keys().chain(&removed), &error.message),
                    resources,
                    removed,
                    message: error.message,
                    code: error.code,
                }));
            }
        }
    }

    /// Takes the answer in a state-of-the-world request; whether its list counts, which it does not when the request
    /// was sent before the client saw the newest response.
    fn answer_state_of_the_world(
        &mut self,
        sub_stream: &mut SubStream,
        nonce: &str,
        error: Option<RequestError>,
        names: &[String],
        now: Instant,
    ) -> bool {
        let Some(last) = sub_stream.last_nonce else {
            // Nothing was sent: a nonce is another stream's.
            return true;
        };
        let nonce = parse_nonce(nonce);
        if nonce == Some(last) {
            self.answer(sub_stream, last, error, now);
            sub_stream.answered_nonce = Some(last);
            sub_stream.older_nonce = None;
            return true;
        }
        let unsubscribes = names.is_empty() && sub_stream.subscription.has_named;
        if sub_stream.older_nonce == Some(nonce) {
            return true;
        }
        if unsubscribes && nonce == sub_stream.answered_nonce {
            // The client will ignore what is on its way, and go on with this nonce.
            sub_stream.flight = None;
            sub_stream.older_nonce = Some(nonce);
            return true;
        }
        false
    }

    /// Takes the list of a state-of-the-world request, which replaces the one before.
    fn set_names(&mut self, sub_stream: &mut SubStream, names: &[String], first: bool, version: &str) {
        let type_url = sub_stream.type_url.clone();
        if !names.is_empty() {
            sub_stream.subscription.has_named = true;
        }
        let legacy = type_url.is_wildcard_capable() && !sub_stream.subscription.has_named;
        if first && legacy {
            sub_stream.claimed_set = Version::parse(version);
        }
        let wildcard = if legacy {
            Wildcard::Legacy
        } else if names.iter().any(|name| name == WILDCARD) {
            Wildcard::Explicit
        } else {
            Wildcard::No
        };
        if first && wildcard == Wildcard::Explicit {
            sub_stream.claimed_set = Version::parse(version);
        }
        let named: BTreeSet<&str> =
            names.iter().map(String::as_str).filter(|name| !name.is_empty() && *name != WILDCARD).collect();
        let dropped: Vec<Arc<str>> =
            sub_stream.subscription.names().iter().filter(|name| !named.contains(name.as_ref())).cloned().collect();
        self.set_wildcard(sub_stream, wildcard);
        for name in &dropped {
            sub_stream.drop_name(name);
        }
        self.note_names(&type_url, dropped, false);
        let names: Vec<Arc<str>> = named.into_iter().map(|name| self.shared_name(&type_url, name)).collect();
        let fresh = sub_stream.subscription.insert_all(&names);
        for name in &fresh {
            sub_stream.must_answer(name);
        }
        self.note_names(&type_url, fresh, true);
    }

    fn unsubscribe(&mut self, sub_stream: &mut SubStream, names: &[String]) {
        let type_url = sub_stream.type_url.clone();
        for name in names {
            if name == WILDCARD {
                self.set_wildcard(sub_stream, Wildcard::No);
            } else if sub_stream.subscription.remove(name) {
                let name: Arc<str> = self.shared_name(&type_url, name);
                if sub_stream.subscription.is_wildcard() {
                    sub_stream.must_answer(&name);
                } else {
                    sub_stream.forget(&name);
                }
                self.note_interest(&type_url, Interest::Names(vec![name]), false);
            }
        }
    }

    fn subscribe(
        &mut self,
        sub_stream: &mut SubStream,
        names: &[String],
        first: bool,
        initial_versions: &HashMap<String, String>,
    ) {
        let type_url = sub_stream.type_url.clone();
        if first {
            // Counts only in the first request of a type.
            for (name, version) in initial_versions {
                let name = self.shared_name(&type_url, name);
                sub_stream.claim(name, version);
            }
            if names.is_empty() && type_url.is_wildcard_capable() {
                self.set_wildcard(sub_stream, Wildcard::Legacy);
            }
        }
        if names.iter().any(|name| name == WILDCARD) {
            self.set_wildcard(sub_stream, Wildcard::Explicit);
        }
        let named: Vec<Arc<str>> = names
            .iter()
            .filter(|name| !name.is_empty() && *name != WILDCARD)
            .map(|name| self.shared_name(&type_url, name))
            .collect();
        sub_stream.subscription.has_named |= !names.is_empty();
        for name in &named {
            // A reconnecting Envoy names everything it holds. Clusters, listeners and routes it does hold need not be
            // sent; endpoints and secrets are, because it may be waiting for them.
            let trusted = first
                && initial_versions.contains_key(name.as_ref())
                && (type_url.is_wildcard_capable() || type_url == TypeUrl::RouteConfiguration);
            if !trusted {
                sub_stream.must_answer(name);
            }
        }
        let fresh = sub_stream.subscription.insert_all(&named);
        self.note_names(&type_url, fresh, true);
        if first && !sub_stream.subscription.is_wildcard() {
            sub_stream.forget_uncovered();
        }
    }

    fn set_wildcard(&mut self, sub_stream: &mut SubStream, wildcard: Wildcard) {
        let before = sub_stream.subscription.is_wildcard();
        if wildcard != Wildcard::No {
            sub_stream.subscribe_wildcard(wildcard);
        } else if before {
            sub_stream.unsubscribe_wildcard();
        }
        let after = sub_stream.subscription.is_wildcard();
        if before != after {
            self.note_interest(&sub_stream.type_url.clone(), Interest::Wildcard, after);
        }
    }

    fn note_names(&mut self, type_url: &TypeUrl, names: Vec<Arc<str>>, held: bool) {
        if !names.is_empty() {
            self.note_interest(type_url, Interest::Names(names), held);
        }
    }

    fn note_interest(&mut self, type_url: &TypeUrl, what: Interest, held: bool) {
        self.interest.push(InterestChange { type_url: type_url.clone(), what, held });
    }

    /// The text of a name, shared with the snapshot where it is known there.
    fn shared_name(&self, type_url: &TypeUrl, name: &str) -> Arc<str> {
        self.latest
            .as_ref()
            .and_then(|latest| latest.snapshot.get(type_url, name))
            .map_or_else(|| Arc::from(name), |entry| Arc::clone(entry.resource.name()))
    }
}
