//! One request to the API server: within a time, and with its answer parsed here.
//!
//! `kube` logs the body of an answer that it cannot parse. Answers may hold a Secret or a token, so it never parses any for us.

use std::error::Error;
use std::future::Future;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::Value;

use crate::error::RequestError;

/// How long an answer may take. The API server itself gives up after 60 s, and what takes longer than this is overloaded.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Longest time that a server may ask us to wait.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The server has asked us to come back later (429, or 503 with `Retry-After`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the API server asks to wait {} s", after.as_secs())]
pub struct Throttled {
    /// How long to wait.
    pub after: Duration,
}

/// Runs a request within a time.
pub(crate) async fn within<T>(
    limit: Duration,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, RequestError> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(RequestError::TimedOut(limit)),
    }
}

/// Sends a request and parses its answer.
pub(crate) async fn send(client: &Client, request: Request<Vec<u8>>) -> Result<Value, RequestError> {
    let text = within(ANSWER_WITHIN, client.request_text(request)).await?;
    serde_json::from_str(&text).map_err(|error| not_json(&error))
}

/// A request could not be made: a name that does not fit into a URL.
#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
pub(crate) fn unusable(error: kube::core::request::Error) -> RequestError {
    RequestError::Invalid(error.to_string())
}

/// The answer is not JSON. Its text is not told, it may hold secrets.
pub(crate) fn not_json(error: &serde_json::Error) -> RequestError {
    RequestError::Unavailable(format!("its answer is not JSON (line {}, column {})", error.line(), error.column()))
}

/// The client, with `Retry-After` of an answer kept as an error of its own: `kube` drops the header.
pub(crate) fn with_retry_after(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Throttling { client }, namespace)
}

#[derive(Clone)]
struct Throttling {
    client: Client,
}

impl tower_service::Service<Request<Body>> for Throttling {
    type Response = Response<Body>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.client.clone();
        async move { client.send(request).await }
            .map(|answer| {
                let answer = answer?;
                match retry_after(&answer) {
                    Some(after) => Err(Throttled { after }.into()),
                    None => Ok(answer),
                }
            })
            .boxed()
    }
}

fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let header = answer.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = header.and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
    let after = match (answer.status(), seconds) {
        (StatusCode::TOO_MANY_REQUESTS, seconds) => seconds.unwrap_or(Duration::from_secs(1)),
        (StatusCode::SERVICE_UNAVAILABLE, Some(seconds)) => seconds,
        _ => return None,
    };
    Some(after.min(LONGEST_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_says_when_to_come_back() {
        let answer = |code: u16, header: Option<&str>| {
            let mut builder = Response::builder().status(code);
            if let Some(header) = header {
                builder = builder.header("Retry-After", header);
            }
            retry_after(&builder.body(()).unwrap())
        };
        assert_eq!(answer(429, Some("7")), Some(Duration::from_secs(7)));
        assert_eq!(answer(429, None), Some(Duration::from_secs(1)));
        assert_eq!(answer(429, Some("tomorrow")), Some(Duration::from_secs(1)));
        assert_eq!(answer(503, Some("2")), Some(Duration::from_secs(2)));
        assert_eq!(answer(503, None), None);
        assert_eq!(answer(200, Some("2")), None);
        assert_eq!(answer(429, Some("100000")), Some(LONGEST_RETRY_AFTER));
    }
}
