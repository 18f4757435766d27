//! Checks by the standard service `grpc.health.v1.Health`: each is a service.

use std::convert::Infallible;
use std::task::{Context, Poll};

use anyhow::Result;
use http::{Request, Response};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic_prost::ProstCodec;

use crate::apps::checks::Checks;

/// The one method that probes call.
pub(super) const CHECK: &str = "/grpc.health.v1.Health/Check";
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.SERVING`
pub(super) const SERVING: i32 = 1;
/// `grpc.health.v1.HealthCheckResponse.ServingStatus.NOT_SERVING`
pub(super) const NOT_SERVING: i32 = 2;

/// `grpc.health.v1.HealthCheckRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(super) service: String,
}

/// `grpc.health.v1.HealthCheckResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    pub(super) status: i32,
}

/// Serves without TLS, as the kubelet asks.
pub(super) async fn serve(listener: TcpListener, checks: Checks) -> Result<()> {
    let service = HealthService { checks };
    Server::builder().add_service(service).serve_with_incoming(TcpListenerStream::new(listener)).await?;
    Ok(())
}

#[derive(Debug, Clone)]
struct HealthService {
    checks: Checks,
}

impl NamedService for HealthService {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl UnaryService<HealthCheckRequest> for HealthService {
    type Response = HealthCheckResponse;
    type Future = BoxFuture<tonic::Response<HealthCheckResponse>, Status>;

    fn call(&mut self, request: tonic::Request<HealthCheckRequest>) -> Self::Future {
        let checks = self.checks.clone();
        Box::pin(async move {
            let passes = checks.ask(&request.into_inner().service).await;
            let status = if passes { SERVING } else { NOT_SERVING };
            Ok(tonic::Response::new(HealthCheckResponse { status }))
        })
    }
}

impl Service<Request<Body>> for HealthService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let path = request.uri().path();
            Ok(match path {
                CHECK => {
                    let codec = ProstCodec::<HealthCheckResponse, HealthCheckRequest>::default();
                    Grpc::new(codec).unary(service, request).await
                }
                path => Status::unimplemented(format!("there is no method {path}")).into_http(),
            })
        })
    }
}
