//! A client of either path: one aggregated stream, or one stream for each type.

use std::collections::BTreeMap;

use crate::{Connection, Path, Request, Response, Stream, Variant};

/// Lets a test speak of types and not of streams, so that it reads the same in all four variants.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
    variant: Variant,
    node: String,
    streams: BTreeMap<String, Stream>,
}

impl Client {
    /// A client that opens its streams when it first needs them.
    pub fn new(connection: Connection, variant: Variant, node: &str) -> Self {
        Self { connection, variant, node: node.into(), streams: BTreeMap::new() }
    }

    /// The variant this client speaks.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    /// The stream on which resources of `type_url` travel.
    pub fn on(&mut self, type_url: &str) -> &mut Stream {
        let stream = match self.variant.path {
            Path::Aggregated => "",
            Path::Single => type_url,
        };
        self.streams.entry(stream.into()).or_insert_with(|| self.connection.open(self.variant, type_url, &self.node))
    }

    /// Sends a request as it is.
    pub fn send(&mut self, request: Request) {
        self.on(&request.type_url.clone()).send(request);
    }

    /// Asks for everything of a type.
    pub fn watch_all(&mut self, type_url: &str) {
        self.on(type_url).watch_all(type_url);
    }

    /// Adds names to a subscription.
    pub fn subscribe(&mut self, type_url: &str, names: &[&str]) {
        self.on(type_url).subscribe(type_url, names);
    }

    /// Takes names out of a subscription.
    pub fn unsubscribe(&mut self, type_url: &str, names: &[&str]) {
        self.on(type_url).unsubscribe(type_url, names);
    }

    /// The next response on the type's stream, which must be of that type.
    ///
    /// # Panics
    ///
    /// Like [`Stream::expect_type`].
    pub async fn expect(&mut self, type_url: &str) -> Response {
        self.on(type_url).expect_type(type_url).await
    }

    /// Like [`expect`](Self::expect), and accepts it.
    ///
    /// # Panics
    ///
    /// Like [`Stream::expect_type`].
    pub async fn expect_and_ack(&mut self, type_url: &str) -> Response {
        self.on(type_url).expect_and_ack(type_url).await
    }

    /// Accepts a response.
    pub fn ack(&mut self, response: &Response) {
        self.on(&response.type_url).ack(response);
    }

    /// Rejects a response.
    pub fn nack(&mut self, response: &Response, text: &str) {
        self.on(&response.type_url).nack(response, text);
    }

    /// Proves that the server has nothing to say on the type's stream.
    ///
    /// # Panics
    ///
    /// Like [`Stream::expect_silence`].
    pub async fn expect_silence(&mut self, type_url: &str) -> Response {
        self.on(type_url).expect_silence(type_url).await
    }
}
