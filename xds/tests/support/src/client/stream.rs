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
use crate::{Path, Protocol, Request, Response, Variant};

/// How long an expected event may take. Far above what it takes on a busy machine: reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// How a stream ended: `Ok` when the server closed it without an error.
pub type Ended = Result<(), Status>;

/// What the client knows about one type.
#[derive(Debug, Default)]
struct Subscription {
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
        self.subscriptions.entry(type_url.into()).or_default();
        self.send(Request::of(type_url, &[]));
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
        let subscription = self.subscriptions.entry(type_url.into()).or_default();
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

    /// Closes the sending side and returns everything the server still says, and how it ended.
    ///
    /// This proves silence without waiting for a time to pass: the server has read every request before it sees the
    /// end, so what it would have answered has been answered.
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
