//! One discovery stream, with the books a well-behaved client keeps.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::{sync::mpsc::UnboundedSender, task::JoinHandle, time::timeout};
use tonic::{Status, Streaming};

use super::request::owned;
use crate::{Path, Protocol, RUNTIME, Request, Response, Variant, fence};

/// How long an expected event may take. Far above what it takes on a busy machine: reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How a stream ended: `Ok` when the server closed it without an error.
pub type Ended = Result<(), Status>;

/// What the client knows about one type.
#[derive(Debug, Default)]
struct Subscription {
    /// Whether the first request had no names, which means "everything" for types with wildcard.
    legacy_wildcard: bool,
    names: BTreeSet<String>,
    nonce: String,
    version: String,
}

/// A discovery stream. Sending never waits; receiving waits at most [`DEADLINE`].
#[derive(Debug)]
pub struct Stream {
    variant: Variant,
    type_url: String,
    node: Option<Node>,
    requests: Option<UnboundedSender<Bytes>>,
    responses: Responses,
    nonces: BTreeSet<String>,
    subscriptions: BTreeMap<String, Subscription>,
    fences: u32,
}

#[derive(Debug)]
enum Responses {
    Opening(JoinHandle<Result<Streaming<Bytes>, Status>>),
    Open(Box<Streaming<Bytes>>),
    Ended,
}

impl Stream {
    pub(super) fn new(
        variant: Variant,
        type_url: &str,
        node: &str,
        requests: UnboundedSender<Bytes>,
        opening: JoinHandle<Result<Streaming<Bytes>, Status>>,
    ) -> Self {
        let node = Node { id: node.into(), cluster: "test".into(), ..Node::default() };
        Self {
            variant,
            type_url: type_url.into(),
            node: Some(node),
            requests: Some(requests),
            responses: Responses::Opening(opening),
            nonces: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            fences: 0,
        }
    }

    /// The variant this stream speaks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    // ---- Sending -----------------------------------------------------------------------------------------------

    /// Sends a request as it is, except that the first one on a stream is given the node.
    pub fn send(&mut self, mut request: Request) {
        if request.node.is_none() {
            request.node = self.node.take();
        }
        self.send_bytes(request.encode(self.variant.protocol));
    }

    /// Sends a request as it is: no node is added, now or later.
    pub fn send_without_node(&mut self, request: &Request) {
        self.node = None;
        self.send_bytes(request.encode(self.variant.protocol));
    }

    /// Sends any bytes as a message.
    pub fn send_bytes(&mut self, message: Bytes) {
        if let Some(requests) = &self.requests {
            // A stream the server has ended takes no more; the test learns it where it receives.
            let _ = requests.send(message);
        }
    }

    /// Asks for everything of a type in the old way: a first request without names.
    pub fn watch_all(&mut self, type_url: &str) {
        self.watch_all_with(Request::of(type_url, &[]));
    }

    /// Like [`watch_all`](Self::watch_all), with a request that says more, such as what the client holds already.
    pub fn watch_all_with(&mut self, request: Request) {
        let subscription = self.subscriptions.entry(request.type_url.clone()).or_default();
        subscription.legacy_wildcard = true;
        subscription.version.clone_from(&request.version);
        self.send(request);
    }

    /// Adds names to the subscription of a type.
    pub fn subscribe(&mut self, type_url: &str, names: &[&str]) {
        self.change(type_url, names, &[]);
    }

    /// Takes names out of the subscription of a type.
    pub fn unsubscribe(&mut self, type_url: &str, names: &[&str]) {
        self.change(type_url, &[], names);
    }

    fn change(&mut self, type_url: &str, add: &[&str], remove: &[&str]) {
        let is_delta = self.variant.is_delta();
        let subscription = self.subscriptions.entry(type_url.into()).or_default();
        if std::mem::take(&mut subscription.legacy_wildcard) && !is_delta {
            // A list with names replaces the wildcard unless it says that the wildcard stays.
            subscription.names.insert("*".into());
        }
        subscription.names.extend(owned(add));
        for name in remove {
            subscription.names.remove(*name);
        }
        let request = match self.variant.protocol {
            Protocol::StateOfTheWorld => self.repeat(type_url),
            // A change of subscription is no ACK, so it carries no nonce.
            Protocol::Delta => Request::of(type_url, add).unsubscribe(remove),
        };
        self.send(request);
    }

    /// State of the world: what the client would say now about a type, that is its list, version and nonce.
    pub fn repeat(&mut self, type_url: &str) -> Request {
        let subscription = self.subscriptions.entry(type_url.into()).or_default();
        Request {
            type_url: type_url.into(),
            names: subscription.names.iter().cloned().collect(),
            nonce: subscription.nonce.clone(),
            version: subscription.version.clone(),
            ..Request::default()
        }
    }

    /// Accepts a response.
    pub fn ack(&mut self, response: &Response) {
        let subscription = self.subscriptions.entry(response.type_url.clone()).or_default();
        subscription.version.clone_from(&response.version);
        let request = self.answer(response);
        self.send(request);
    }

    /// State of the world: accepts a response and says a whole new list of names in the same request.
    pub fn ack_with_list(&mut self, response: &Response, names: &[&str]) {
        let subscription = self.subscriptions.entry(response.type_url.clone()).or_default();
        subscription.version.clone_from(&response.version);
        subscription.legacy_wildcard = false;
        subscription.names = owned(names).into_iter().collect();
        let request = self.answer(response);
        self.send(request);
    }

    /// Accepts a response and takes names out of the subscription in the same request.
    pub fn ack_and_unsubscribe(&mut self, response: &Response, names: &[&str]) {
        let subscription = self.subscriptions.entry(response.type_url.clone()).or_default();
        subscription.version.clone_from(&response.version);
        for name in names {
            subscription.names.remove(*name);
        }
        let mut request = self.answer(response);
        if self.variant.is_delta() {
            request = request.unsubscribe(names);
        }
        self.send(request);
    }

    /// Rejects a response.
    pub fn nack(&mut self, response: &Response, text: &str) {
        let request = self.answer(response).error(text);
        self.send(request);
    }

    /// The request that answers `response`: an ACK unless an error is added.
    pub fn answer(&mut self, response: &Response) -> Request {
        let subscription = self.subscriptions.entry(response.type_url.clone()).or_default();
        subscription.nonce.clone_from(&response.nonce);
        match self.variant.protocol {
            Protocol::StateOfTheWorld => self.repeat(&response.type_url),
            Protocol::Delta => Request::of(&response.type_url, &[]).nonce(&response.nonce),
        }
    }

    // ---- Receiving ---------------------------------------------------------------------------------------------

    /// The next response.
    ///
    /// # Panics
    ///
    /// When none comes in time, the stream ends, or the response is malformed.
    pub async fn expect(&mut self) -> Response {
        match self.next().await {
            Ok(response) => response,
            Err(ended) => panic!("expected a response, but the stream ended: {ended:?}"),
        }
    }

    /// The next response, which must be of type `type_url`.
    ///
    /// # Panics
    ///
    /// Like [`expect`](Self::expect), and when it is of another type.
    pub async fn expect_type(&mut self, type_url: &str) -> Response {
        let response = self.expect().await;
        assert_eq!(response.type_url, type_url, "{response:?}");
        response
    }

    /// The next response, which must be of type `type_url` and is accepted.
    ///
    /// # Panics
    ///
    /// Like [`expect_type`](Self::expect_type).
    pub async fn expect_and_ack(&mut self, type_url: &str) -> Response {
        let response = self.expect_type(type_url).await;
        self.ack(&response);
        response
    }

    /// The end of the stream, which must come without another response.
    ///
    /// # Panics
    ///
    /// When a response comes, or neither.
    pub async fn expect_end(&mut self) -> Ended {
        match self.next().await {
            Ok(response) => panic!("expected the end of the stream, got {response:?}"),
            Err(ended) => ended,
        }
    }

    /// The next response or the end of the stream.
    ///
    /// # Errors
    ///
    /// The way in which the stream ended.
    ///
    /// # Panics
    ///
    /// When nothing comes within [`DEADLINE`], or the response is malformed.
    pub async fn next(&mut self) -> Result<Response, Ended> {
        let message = timeout(DEADLINE, self.next_message())
            .await
            .unwrap_or_else(|_| panic!("nothing came within {DEADLINE:?} on {self:?}"))?;
        let response = Response::read(self.variant.protocol, &message);
        assert!(self.nonces.insert(response.nonce.clone()), "V1: nonce used twice: {response:?}");
        if self.variant.path == Path::Single {
            assert_eq!(response.type_url, self.type_url, "foreign type on a single-type stream");
        }
        Ok(response)
    }

    /// A response that has already arrived, if there is one; lets the server and the connection work once.
    ///
    /// # Panics
    ///
    /// When the stream has ended or the response is malformed.
    pub async fn try_next(&mut self) -> Option<Response> {
        for _ in 0..8 {
            tokio::task::yield_now().await;
        }
        match futures::FutureExt::now_or_never(self.next()) {
            None => None,
            Some(Ok(response)) => Some(response),
            Some(Err(ended)) => panic!("the stream ended: {ended:?}"),
        }
    }

    async fn next_message(&mut self) -> Result<Bytes, Ended> {
        if let Responses::Opening(opening) = &mut self.responses {
            let opened = opening.await.expect("the opening task does not panic");
            self.responses = match opened {
                Ok(streaming) => Responses::Open(Box::new(streaming)),
                Err(status) => {
                    self.responses = Responses::Ended;
                    return Err(Err(status));
                }
            };
        }
        let Responses::Open(streaming) = &mut self.responses else { return Err(Ok(())) };
        let ended = match streaming.message().await {
            Ok(Some(message)) => return Ok(message),
            Ok(None) => Ok(()),
            Err(status) => Err(status),
        };
        self.responses = Responses::Ended;
        Err(ended)
    }

    /// Proves that the server has nothing to say: asks for something that must be answered (a resource prepared for
    /// this, see [`fence`]) and checks that the answer comes first. No time has to pass.
    ///
    /// On an aggregated stream a runtime layer is asked for: nothing waits for it, and it goes after every other type.
    /// On a single-type stream it is a resource of `type_url`, so every response must have been accepted or rejected
    /// before.
    ///
    /// Returns the answer, which in state of the world may carry the rest of the subscription as well.
    ///
    /// # Panics
    ///
    /// When another response comes first.
    pub async fn expect_silence(&mut self, type_url: &str) -> Response {
        let fence_type = match self.variant.path {
            Path::Single => type_url,
            Path::Aggregated => RUNTIME,
        };
        let name = fence(self.fences);
        self.fences += 1;
        self.subscribe(fence_type, &[&name]);
        let response = self.expect().await;
        let is_fence = response.type_url == fence_type && response.get(&name).is_some();
        assert!(is_fence, "expected silence, got {response:?}");
        self.ack(&response);
        response
    }

    /// Ends the client's side of the stream and returns what still comes until the server ends its own.
    ///
    /// # Panics
    ///
    /// When the stream does not end in time.
    pub async fn finish(&mut self) -> (Vec<Response>, Ended) {
        self.requests = None;
        let mut responses = Vec::new();
        loop {
            match self.next().await {
                Ok(response) => responses.push(response),
                Err(ended) => return (responses, ended),
            }
        }
    }
}
