//! The HTTP side of a stream: a tower service whose response body is the stream.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use tonic::Status;

use super::Server;
use super::accept::Connection;
use super::codec::Requests;
use super::limit::Place;
use super::routes::route;
use super::session::{Session, Step};
use crate::policy::Peer;

/// Answers the requests of one connection. A tower service, so that it can be used behind any HTTP/2 server; the
/// `serve_*` calls of [`Server`] do so with hyper.
#[derive(Clone, Debug)]
pub struct XdsService {
    server: Server,
    connection: Arc<Connection>,
}

impl XdsService {
    pub(super) fn new(server: Server, connection: Arc<Connection>) -> Self {
        Self { server, connection }
    }

    fn answer<B>(&self, request: Request<B>) -> Response<ServiceBody<B>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let is_grpc = request
            .headers()
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
        if !is_grpc {
            let mut response = Response::new(ServiceBody::empty());
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let Some((service, variant)) = route(request.uri().path()) else {
            return refusal(&Status::unimplemented(format!("no such method: {}", request.uri().path())));
        };
        let inner = &self.server.inner;
        if let Some(limit) = &inner.new_streams
            && !limit.lock().take(Instant::now())
        {
            return refusal(&Status::resource_exhausted("too many new streams; try again later"));
        }
        if !inner.cache.is_ready() {
            return refusal(&Status::unavailable("the inputs are not complete yet"));
        }
        let place = match inner.open_streams.take() {
            Ok(place) => place,
            Err(most) => {
                let text = format!("{most} streams are open, the most that are allowed; try again later");
                return refusal(&Status::resource_exhausted(text));
            }
        };
        let (parts, body) = request.into_parts();
        let peer = Peer {
            certificates: Arc::clone(&self.connection.certificates),
            headers: parts.headers,
            address: self.connection.address,
        };
        let requests = Requests::new(body, variant, inner.settings.request_bytes_limit);
        let session = Session::new(self.server.clone(), Arc::clone(&self.connection), peer, service, variant, requests);
        let mut response = Response::new(ServiceBody { open: Some((Box::new(session), place)) });
        set_grpc(response.headers_mut());
        response
    }
}

impl<B> tower_service::Service<Request<B>> for XdsService
where
    B: Body<Data = Bytes> + Unpin,
{
    type Response = Response<ServiceBody<B>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        ready(Ok(self.answer(request)))
    }
}

fn set_grpc(headers: &mut HeaderMap) {
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
}

/// A response that is only a status.
fn refusal<B>(status: &Status) -> Response<ServiceBody<B>> {
    let mut response = Response::new(ServiceBody::empty());
    set_grpc(response.headers_mut());
    response.headers_mut().extend(status_headers(status));
    response
}

fn status_headers(status: &Status) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Fails only for a message that no header can carry, and percent-encoding leaves none such.
    if status.add_header(&mut headers).is_err() {
        headers.insert(Status::GRPC_STATUS, HeaderValue::from_static("13"));
    }
    headers
}

/// The body of a response: the stream itself. It does its work when it is polled, in the task that writes it.
pub struct ServiceBody<B> {
    open: Option<(Box<Session<B>>, Place)>,
}

impl<B> ServiceBody<B> {
    const fn empty() -> Self {
        Self { open: None }
    }
}

impl<B> std::fmt::Debug for ServiceBody<B> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ServiceBody").finish_non_exhaustive()
    }
}

impl<B> Body for ServiceBody<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some((session, _)) = &mut self.open else {
            return Poll::Ready(None);
        };
        match session.poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Step::Write(bytes)) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Poll::Ready(Step::End(status)) => {
                self.open = None;
                Poll::Ready(Some(Ok(Frame::trailers(status_headers(&status)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.open.is_none()
    }
}
