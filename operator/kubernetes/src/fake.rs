//! An API server in memory for tests: as much of one as lists, watches and single requests need, and every way to fail.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// How a request fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// A `Status` with this code.
    Status(u16),
    /// As a proxy or priority and fairness answer: no JSON, and a time to wait.
    TooManyRequests(u64),
    /// No answer ever.
    Hang,
    /// An answer that is this text.
    Text(&'static str),
    /// The connection breaks.
    Broken,
}

/// The server. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, BTreeMap<String, Value>>,
    watches: Vec<(String, mpsc::UnboundedSender<String>)>,
    faults: BTreeMap<String, VecDeque<Fault>>,
    requests: Vec<Seen>,
    streams_lists: bool,
    answers: BTreeMap<String, VecDeque<Value>>,
}

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
    pub(crate) at: tokio::time::Instant,
}

impl Fake {
    /// A server that streams lists.
    pub(crate) fn new() -> Self {
        let fake = Self::default();
        fake.state.lock().streams_lists = true;
        fake
    }

    /// One that does not.
    pub(crate) fn without_streamed_lists() -> Self {
        Self::default()
    }

    pub(crate) fn client(&self) -> Client {
        crate::request::with_retry_after(Client::new(self.clone(), "default"))
    }

    /// The next request whose path ends with this fails.
    pub(crate) fn fail(&self, suffix: &str, fault: Fault) {
        self.state.lock().faults.entry(suffix.to_owned()).or_default().push_back(fault);
    }

    /// The next request other than a list or watch whose path ends with this is answered so.
    pub(crate) fn answer(&self, suffix: &str, answer: Value) {
        self.state.lock().answers.entry(suffix.to_owned()).or_default().push_back(answer);
    }

    /// Requests whose path contains this.
    pub(crate) fn requests(&self, part: &str) -> Vec<Seen> {
        self.state.lock().requests.iter().filter(|seen| seen.path.contains(part)).cloned().collect()
    }

    /// Makes or changes an object of a kind, by the path of its list.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock();
        state.version += 1;
        object["metadata"]["resourceVersion"] = state.version.to_string().into();
        let key = key(&object);
        let of_kind = state.objects.entry(path.to_owned()).or_default();
        let type_ = if of_kind.contains_key(&key) { "MODIFIED" } else { "ADDED" };
        of_kind.insert(key, object.clone());
        state.tell(path, &json!({ "type": type_, "object": object }));
    }

    pub(crate) fn delete(&self, path: &str, namespace: &str, name: &str) {
        let mut state = self.state.lock();
        state.version += 1;
        let version = state.version.to_string();
        let of_kind = state.objects.entry(path.to_owned()).or_default();
        let mut object = of_kind.remove(&format!("{namespace}/{name}")).unwrap();
        object["metadata"]["resourceVersion"] = version.into();
        state.tell(path, &json!({ "type": "DELETED", "object": object }));
    }

    /// As [`Fake::delete`], while no watch sees it.
    pub(crate) fn delete_unseen(&self, path: &str, namespace: &str, name: &str) {
        self.end_watches(path);
        let mut state = self.state.lock();
        state.version += 1;
        state.objects.entry(path.to_owned()).or_default().remove(&format!("{namespace}/{name}")).unwrap();
    }

    /// Says something on the watches of a path.
    pub(crate) fn say(&self, path: &str, line: &Value) {
        self.state.lock().tell(path, line);
    }

    pub(crate) fn end_watches(&self, path: &str) {
        self.state.lock().watches.retain(|(of, _)| of != path);
    }

    /// Watches that are open.
    pub(crate) fn watches(&self, path: &str) -> usize {
        self.state.lock().watches.iter().filter(|(of, sender)| of == path && !sender.is_closed()).count()
    }

    fn respond(&self, seen: &Seen) -> Option<Answer> {
        let mut state = self.state.lock();
        let suffix = state.faults.keys().find(|suffix| seen.path.ends_with(suffix.as_str())).cloned();
        let fault = suffix.and_then(|suffix| state.faults.get_mut(&suffix)?.pop_front());
        match fault {
            Some(Fault::Status(code)) => return Some(status(code, "as the test wants")),
            Some(Fault::TooManyRequests(seconds)) => {
                let body = whole("Too many requests, please try again later.");
                let answer = Response::builder().status(429).header("Retry-After", seconds).body(body);
                return Some(answer.unwrap());
            }
            Some(Fault::Text(text)) => return Some(Response::new(whole(text))),
            Some(Fault::Hang | Fault::Broken) => return None,
            None => {}
        }
        let suffix = state.answers.keys().find(|suffix| seen.path.ends_with(suffix.as_str())).cloned();
        if let Some(answer) = suffix.and_then(|suffix| state.answers.get_mut(&suffix)?.pop_front()) {
            return Some(Response::new(whole(answer.to_string())));
        }
        Some(if seen.query.contains("watch=true") {
            state.watch(seen)
        } else if seen.method == Method::GET {
            state.list(&seen.path)
        } else {
            status(404, "nobody expects it")
        })
    }
}

impl State {
    fn tell(&mut self, path: &str, line: &Value) {
        self.watches.retain(|(of, sender)| of != path || sender.send(format!("{line}\n")).is_ok());
    }

    fn list(&self, path: &str) -> Answer {
        let items: Vec<&Value> = self.objects.get(path).into_iter().flat_map(BTreeMap::values).collect();
        let list = json!({ "metadata": { "resourceVersion": self.version.to_string() }, "items": items });
        Response::new(whole(list.to_string()))
    }

    fn watch(&mut self, seen: &Seen) -> Answer {
        let initial = seen.query.contains("sendInitialEvents=true");
        if initial && !self.streams_lists {
            return status(
                422,
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
            );
        }
        let (sender, mut receiver) = mpsc::unbounded_channel();
        if initial {
            for object in self.objects.get(&seen.path).into_iter().flat_map(BTreeMap::values) {
                sender.send(format!("{}\n", json!({ "type": "ADDED", "object": object }))).unwrap();
            }
            let metadata = json!({
                "resourceVersion": self.version.to_string(), "annotations": { "k8s.io/initial-events-end": "true" },
            });
            sender.send(format!("{}\n", json!({ "type": "BOOKMARK", "object": { "metadata": metadata } }))).unwrap();
        }
        self.watches.push((seen.path.clone(), sender));
        let frames = futures::stream::poll_fn(move |context| receiver.poll_recv(context));
        let frames =
            futures::StreamExt::map(frames, |line| Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(line))));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

fn key(object: &Value) -> String {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

fn whole(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, Infallible> {
    Full::new(text.into()).boxed_unsync()
}

fn status(code: u16, message: &str) -> Answer {
    let body = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message });
    Response::builder().status(code).body(whole(body.to_string())).unwrap()
}

impl tower_service::Service<Request<Body>> for Fake {
    type Response = Answer;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Answer, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let fake = self.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let seen = Seen {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
                at: tokio::time::Instant::now(),
            };
            fake.state.lock().requests.push(seen.clone());
            let broken = {
                let state = fake.state.lock();
                let of_path = state.faults.iter().find(|(suffix, _)| seen.path.ends_with(suffix.as_str()));
                of_path.is_some_and(|(_, faults)| matches!(faults.front(), Some(Fault::Broken)))
            };
            match fake.respond(&seen) {
                Some(answer) => Ok(answer),
                None if broken => Err(std::io::Error::other("connection refused")),
                None => futures::future::pending().await,
            }
        }
        .boxed()
    }
}
