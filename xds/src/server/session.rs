//! One stream from its first request to its end.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body::Body;
use parking_lot::Mutex;
use tokio::time::Sleep;
use tonic::Status;

use super::Server;
use super::accept::{Connection, StreamHandle};
use super::clients::Client;
use super::codec::Requests;
use crate::cache::{HoldBacks, Published};
use crate::policy::{Admission, ClientIdentity, CloseReason, Event, Node, Peer, Refusal, Service, Variant};
use crate::stream::{Request, Stream};

/// What the transport shall do next.
pub(super) enum Step {
    Write(Bytes),
    End(Status),
}

pub(super) struct Session<B> {
    server: Server,
    connection: Arc<Connection>,
    handle: Arc<StreamHandle>,
    service: Service,
    variant: Variant,
    requests: Requests<B>,
    phase: Phase,
    timer: Option<Pin<Box<Sleep>>>,
}

enum Phase {
    First(Peer),
    Authenticating { request: Box<Request>, node: Arc<str>, decision: BoxFuture<'static, Result<Admission, Refusal>> },
    Serving(Serving),
    Ended,
}

struct Serving {
    client: Arc<Client>,
    published: Option<Arc<Published>>,
    hold_backs: Arc<HoldBacks>,
    frames: VecDeque<Bytes>,
    requests_ended: bool,
    closed: Option<CloseReason>,
}

impl<B> Session<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    pub(super) fn new(
        server: Server,
        connection: Arc<Connection>,
        peer: Peer,
        service: Service,
        variant: Variant,
        requests: Requests<B>,
    ) -> Self {
        let handle = connection.open_stream();
        let deadline = Instant::now() + server.inner.settings.first_request_timeout;
        Self {
            server,
            connection,
            handle,
            service,
            variant,
            requests,
            phase: Phase::First(peer),
            timer: Some(Box::pin(tokio::time::sleep_until(deadline.into()))),
        }
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        self.handle.poll_begins(context.waker());
        loop {
            match &mut self.phase {
                Phase::First(_) => match ready!(self.poll_first(context)) {
                    Ok(phase) => self.phase = phase,
                    Err(status) => return self.end(status),
                },
                Phase::Authenticating { decision, .. } => {
                    if let Some(reason) = self.handle.closing() {
                        return self.end(status_of(&reason));
                    }
                    let decision = ready!(decision.as_mut().poll(context));
                    match self.admit(decision) {
                        Ok(serving) => self.phase = Phase::Serving(serving),
                        Err(status) => return self.end(status),
                    }
                }
                Phase::Serving(_) => return self.poll_serving(context),
                Phase::Ended => return Poll::Ready(Step::End(Status::ok(""))),
            }
        }
    }

    fn end(&mut self, status: Status) -> Poll<Step> {
        self.leave();
        self.phase = Phase::Ended;
        Poll::Ready(Step::End(status))
    }

    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<Result<Phase, Status>> {
        if let Some(reason) = self.handle.closing() {
            return Poll::Ready(Err(status_of(&reason)));
        }
        let request = match self.requests.poll_next(context) {
            Poll::Ready(Some(Ok(request))) => request,
            Poll::Ready(Some(Err(status))) => return Poll::Ready(Err(status)),
            Poll::Ready(None) => return Poll::Ready(Err(Status::ok(""))),
            Poll::Pending => {
                if let Some(timer) = &mut self.timer {
                    ready!(timer.as_mut().poll(context));
                }
                return Poll::Ready(Err(Status::deadline_exceeded("no request arrived")));
            }
        };
        self.timer = None;
        let mut request = request;
        let node = request.node.take().and_then(Node::parse);
        let Some(node) = node else {
            return Poll::Ready(Err(Status::invalid_argument(
                "the first request of a stream must have a node with an id",
            )));
        };
        let Phase::First(peer) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return Poll::Ready(Err(Status::internal("no peer")));
        };
        let policy = Arc::clone(&self.server.inner.policy);
        let id = Arc::clone(&node.id);
        Poll::Ready(Ok(Phase::Authenticating {
            request: Box::new(request),
            node: id,
            decision: Box::pin(async move { policy.authenticate(&peer, &node).await }),
        }))
    }

    fn admit(&mut self, decision: Result<Admission, Refusal>) -> Result<Serving, Status> {
        let admission = decision.map_err(|refusal| match refusal {
            Refusal::Unauthenticated(text) => Status::unauthenticated(text),
            Refusal::PermissionDenied(text) => Status::permission_denied(text),
            Refusal::InvalidArgument(text) => Status::invalid_argument(text),
            Refusal::Unavailable(text) => Status::unavailable(text),
        })?;
        let Phase::Authenticating { request, node, .. } = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return Err(Status::internal("no request"));
        };
        let inner = &self.server.inner;
        let subscriber = inner
            .cache
            .subscribe(&admission.key, &admission.proxy)
            .ok_or_else(|| Status::unavailable(format!("nothing is published yet for {}", admission.key)))?;
        let policy = Arc::clone(&inner.policy);
        let asked_for = admission.clone();
        let stream = Stream::new(
            self.variant,
            self.service.clone(),
            Arc::clone(&inner.stream_settings),
            Box::new(move |type_url, name| policy.unknown_name(&asked_for, type_url, name)),
            Instant::now(),
        );
        let identity = Arc::new(ClientIdentity {
            stream: inner.next_stream(),
            admission,
            node,
            service: self.service.clone(),
            variant: self.variant,
        });
        let client = Arc::new(Client {
            identity,
            stream: Arc::new(Mutex::new(stream)),
            subscriber: Arc::new(subscriber),
            handle: Arc::clone(&self.handle),
            connection: Arc::clone(&self.connection),
        });
        inner.clients.insert(Arc::clone(&client));
        inner.policy.observe(&client.identity, Event::Connected);
        let mut serving = Serving {
            client,
            published: None,
            hold_backs: Arc::default(),
            frames: VecDeque::new(),
            requests_ended: false,
            closed: None,
        };
        serving.take_changes();
        serving.take_request(*request);
        Ok(serving)
    }

    fn poll_serving(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        let Phase::Serving(serving) = &mut self.phase else {
            return Poll::Pending;
        };
        serving.client.subscriber.register(context.waker());
        loop {
            if let Some(frame) = serving.frames.pop_front() {
                self.handle.writing();
                return Poll::Ready(Step::Write(frame));
            }
            if serving.closed.is_none() {
                serving.closed = self.handle.closing();
            }
            while serving.closed.is_none() && !serving.requests_ended {
                match self.requests.poll_next(context) {
                    Poll::Ready(Some(Ok(request))) => serving.take_request(request),
                    Poll::Ready(Some(Err(status))) => {
                        serving.closed = Some(CloseReason::Protocol(status.message().to_owned()));
                    }
                    Poll::Ready(None) => serving.requests_ended = true,
                    Poll::Pending => break,
                }
            }
            serving.take_changes();
            let now = Instant::now();
            if serving.closed.is_none()
                && let Err(reason) = serving.client.stream.lock().on_timer(now)
            {
                serving.closed = Some(reason);
            }
            if let Some(reason) = serving.closed.clone() {
                serving.observe(&self.server);
                return self.end(status_of(&reason));
            }
            let response = serving.client.stream.lock().next_response(now);
            serving.observe(&self.server);
            if let Some(response) = response {
                for frame in response.into_frames() {
                    serving.write(frame);
                }
                continue;
            }
            if serving.requests_ended {
                // It has what its requests asked for and will ask for no more.
                serving.closed = Some(CloseReason::Client);
                continue;
            }
            let (synced, deadline) = {
                let stream = serving.client.stream.lock();
                (stream.synced(), stream.next_deadline(now))
            };
            serving.client.subscriber.set_synced(synced);
            if serving.is_outdated() {
                // Published between the look at the snapshot and the note of how far it is synced.
                continue;
            }
            if !is_due(&mut self.timer, deadline, context) {
                return Poll::Pending;
            }
        }
    }
}

/// Sees to it that the task is woken by a deadline; whether that is now. The timer is moved only to make it fire
/// earlier: firing too early costs less than moving it with every response and acknowledgement.
fn is_due(timer: &mut Option<Pin<Box<Sleep>>>, deadline: Option<Instant>, context: &mut Context<'_>) -> bool {
    let deadline = deadline.map(tokio::time::Instant::from_std);
    if let (Some(timer), Some(deadline)) = (timer.as_mut(), deadline)
        && deadline < timer.deadline()
    {
        timer.as_mut().reset(deadline);
    }
    if timer.is_none() {
        *timer = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
    }
    let fired = timer.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready());
    if fired {
        *timer = None;
    }
    fired
}

/// The most handed to the transport at once. It takes what it is given whole, so this is what a client that does not
/// read can make it keep, and how finely it is noticed that it does not read.
const WRITE_BYTES: usize = 64 * 1024;

impl Serving {
    /// Queues a frame for the transport, in pieces that share its bytes.
    fn write(&mut self, mut frame: Bytes) {
        while frame.len() > WRITE_BYTES {
            self.frames.push_back(frame.split_to(WRITE_BYTES));
        }
        if !frame.is_empty() {
            self.frames.push_back(frame);
        }
    }

    fn take_request(&mut self, request: Request) {
        let now = Instant::now();
        let mut stream = self.client.stream.lock();
        if let Err(reason) = stream.on_request(request, now) {
            self.closed = Some(reason);
        }
        let interest = stream.take_interest();
        stream.share_names(&interest, |list| self.client.subscriber.share_names(list));
        drop(stream);
        if !interest.is_empty() {
            self.client.subscriber.change_interest(interest);
        }
    }

    /// Takes a newer snapshot and changed hold-backs.
    fn take_changes(&mut self) {
        let Some(current) = self.client.subscriber.current() else {
            self.closed.get_or_insert(CloseReason::Withdrawn);
            return;
        };
        let hold_backs = self.client.subscriber.hold_backs();
        let is_new = self.published.as_ref().is_none_or(|published| !Arc::ptr_eq(published, &current));
        let holds_changed = !Arc::ptr_eq(&hold_backs, &self.hold_backs);
        if !is_new && !holds_changed {
            return;
        }
        let mut stream = self.client.stream.lock();
        stream.on_snapshot(Arc::clone(&current));
        stream.on_hold_backs(Arc::clone(&hold_backs));
        let lapsed = stream.lapsed_hold_backs();
        drop(stream);
        self.published = Some(current);
        self.hold_backs = hold_backs;
        self.client.subscriber.forget_hold_backs(&lapsed);
    }

    fn is_outdated(&self) -> bool {
        match (&self.published, self.client.subscriber.current()) {
            (Some(published), Some(current)) => !Arc::ptr_eq(published, &current),
            (None, _) | (_, None) => true,
        }
    }

    /// Passes the stream's events on, with no lock held. Who hears that the stream is synced and looks, finds it so.
    fn observe(&self, server: &Server) {
        let (events, synced) = {
            let mut stream = self.client.stream.lock();
            (stream.take_events(), stream.synced())
        };
        if !events.is_empty() {
            self.client.subscriber.set_synced(synced);
        }
        for event in events {
            server.inner.policy.observe(&self.client.identity, event);
        }
    }
}

impl<B> Session<B> {
    /// Leaves the registers of open streams and tells the embedder.
    fn leave(&mut self) {
        let Phase::Serving(serving) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        let inner = &self.server.inner;
        let client = &serving.client;
        inner.clients.remove(client.identity.stream);
        let interest = client.stream.lock().ended_interest();
        client.subscriber.change_interest(interest);
        let reason = serving.closed.clone().or_else(|| self.handle.closing()).unwrap_or(CloseReason::Client);
        inner.policy.observe(&client.identity, Event::Disconnected(reason));
    }
}

impl<B> Drop for Session<B> {
    fn drop(&mut self) {
        self.leave();
        self.connection.close_stream(&self.handle);
    }
}

/// The gRPC status a stream ends with.
fn status_of(reason: &CloseReason) -> Status {
    let text = reason.to_string();
    match reason {
        // Not an error for a client that had a response: it connects again.
        CloseReason::Client | CloseReason::Age | CloseReason::Reconnect => Status::ok(text),
        CloseReason::Protocol(_) => Status::invalid_argument(text),
        CloseReason::NotAcknowledged(_) | CloseReason::NotReading => Status::deadline_exceeded(text),
        CloseReason::Withdrawn | CloseReason::Shutdown => Status::unavailable(text),
        CloseReason::Dismissed => Status::permission_denied(text),
    }
}
