//! A gRPC echo service, unary and streaming: `osm.testkit.Echo`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use futures::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
use tonic::transport::{Endpoint, Server};
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use super::attempt::GrpcMode;
use super::counters::Counters;
use super::report::{Answer, AttemptFailure, FailureKind};

const UNARY: &str = "/osm.testkit.Echo/Unary";
const STREAM: &str = "/osm.testkit.Echo/Stream";

/// The message in both directions.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Echo {
    /// What is echoed.
    #[prost(string, tag = "1")]
    pub(crate) text: String,
    /// Who answered; empty in requests.
    #[prost(string, tag = "2")]
    pub(crate) identity: String,
}

/// One call. gRPC codes are reported as the HTTP status they correspond to.
pub(crate) async fn call(url: &str, mode: GrpcMode) -> Result<Answer, AttemptFailure> {
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|error| AttemptFailure::new(FailureKind::Protocol, format!("{url} is not usable: {error}")))?;
    let channel = endpoint.connect().await.map_err(|error| AttemptFailure::from_error(&error))?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| AttemptFailure::from_error(&error))?;
    let outcome = match mode {
        GrpcMode::Unary => unary(&mut client).await,
        GrpcMode::Streaming { messages } => streaming(&mut client, messages).await,
    };
    match outcome {
        Ok(answer) => Ok(Answer { status: 200, identity: Some(answer.identity), body: answer.text }),
        Err(status) => refused(&status),
    }
}

/// A status without a transport error beneath it is an answer.
fn refused(status: &Status) -> Result<Answer, AttemptFailure> {
    let failure = AttemptFailure::from_error(status);
    if failure.kind != FailureKind::Other {
        return Err(failure);
    }
    let http = match status.code() {
        Code::PermissionDenied => 403,
        Code::Unauthenticated => 401,
        Code::Unimplemented | Code::NotFound => 404,
        Code::ResourceExhausted => 429,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 504,
        Code::DataLoss => return Err(AttemptFailure::new(FailureKind::Protocol, status.message())),
        _ => 500,
    };
    Ok(Answer { status: http, identity: None, body: status.message().to_owned() })
}

type Client = tonic::client::Grpc<tonic::transport::Channel>;

fn codec() -> ProstCodec<Echo, Echo> {
    ProstCodec::default()
}

async fn unary(client: &mut Client) -> Result<Echo, Status> {
    let sent = Echo { text: "hello".to_owned(), identity: String::new() };
    let path = PathAndQuery::from_static(UNARY);
    let answer = client.unary(tonic::Request::new(sent.clone()), path, codec()).await?.into_inner();
    expect(&answer, &sent)?;
    Ok(answer)
}

/// Sends each message after the one before was answered, so that the stream is used in both directions in turn.
async fn streaming(client: &mut Client, messages: u32) -> Result<Echo, Status> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let request = tonic::Request::new(ReceiverStream::new(receiver));
    let path = PathAndQuery::from_static(STREAM);
    let mut answers: Streaming<Echo> = client.streaming(request, path, codec()).await?.into_inner();
    let mut last = Echo::default();
    for number in 0..messages {
        let sent = Echo { text: format!("message {number}"), identity: String::new() };
        // When the call has ended, the stream of answers says why.
        let _ = sender.send(sent.clone()).await;
        last = answers.message().await?.ok_or_else(|| Status::data_loss("the stream of answers ended early"))?;
        expect(&last, &sent)?;
    }
    drop(sender);
    match answers.message().await? {
        None => Ok(last),
        Some(extra) => Err(Status::data_loss(format!("an answer to nothing: {extra:?}"))),
    }
}

fn expect(answer: &Echo, sent: &Echo) -> Result<(), Status> {
    if answer.text == sent.text {
        return Ok(());
    }
    Err(Status::data_loss(format!("sent {:?}, received {:?}", sent.text, answer.text)))
}

/// Serves the echo service without TLS.
pub(crate) async fn serve(listener: TcpListener, name: String, counters: Counters) -> Result<()> {
    let service = EchoService { name, counters };
    Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

#[derive(Debug, Clone)]
struct EchoService {
    name: String,
    counters: Counters,
}

impl EchoService {
    fn answer(&self, message: Echo) -> Echo {
        self.counters.add("messages");
        Echo { identity: self.name.clone(), ..message }
    }
}

impl NamedService for EchoService {
    const NAME: &'static str = "osm.testkit.Echo";
}

impl UnaryService<Echo> for EchoService {
    type Response = Echo;
    type Future = BoxFuture<tonic::Response<Echo>, Status>;

    fn call(&mut self, request: tonic::Request<Echo>) -> Self::Future {
        let answer = self.answer(request.into_inner());
        Box::pin(async move { Ok(tonic::Response::new(answer)) })
    }
}

impl StreamingService<Echo> for EchoService {
    type Response = Echo;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<Echo, Status>> + Send>>;
    type Future = BoxFuture<tonic::Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: tonic::Request<Streaming<Echo>>) -> Self::Future {
        let service = self.clone();
        let answers = request.into_inner().map(move |message| message.map(|message| service.answer(message)));
        Box::pin(async move { Ok(tonic::Response::new(Box::pin(answers) as Self::ResponseStream)) })
    }
}

impl Service<Request<Body>> for EchoService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let mut grpc = Grpc::new(codec());
            Ok(match path.as_str() {
                UNARY => grpc.unary(service, request).await,
                STREAM => grpc.streaming(service, request).await,
                _ => Status::unimplemented(format!("there is no method {path}")).into_http(),
            })
        })
    }
}
