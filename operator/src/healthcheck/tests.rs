//! Probes as the kubelet sends them, against real applications.

use std::convert::Infallible;

use axum::body::Body;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{
    Blame, CertificateStore, ClientCertificates, Clock, IssuerConfig, Issuers, PeerIdentity, StoreConfig, TrustDomain,
};
use prost::Message;
use tokio_rustls::TlsAcceptor;

use super::checks::{HealthCheckRequest, HealthCheckResponse, SERVING};
use super::*;

/// Sends a probe with these headers to a server that allows `ports`.
async fn probe(ports: &[u16], headers: &[(&str, &str)]) -> (u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(Ipv4Addr::LOCALHOST.into(), ports.iter().copied().collect());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = axum::http::Request::get(names::HEALTH_CHECK_PATH).header("host", "pod");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    server.abort();
    (status, String::from_utf8_lossy(&body).into_owned())
}

async fn listener() -> (TcpListener, u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port, port.to_string())
}

#[tokio::test]
async fn a_port_that_accepts_is_healthy_and_one_that_does_not_is_not() {
    let (open, port, text) = listener().await;
    assert_eq!(probe(&[port], &[("Original-Tcp-Port", &text)]).await.0, 200);
    drop(open);
    let (status, words) = probe(&[port], &[("Original-Tcp-Port", &text)]).await;
    assert_eq!(status, 404);
    assert!(words.contains(&format!("127.0.0.1:{port}")), "{words}");
}

#[tokio::test]
async fn only_the_ports_of_probes_can_be_asked_about() {
    let (_open, port, text) = listener().await;
    for header in ["Original-Tcp-Port", "Original-Grpc-Port", "Original-Https-Port"] {
        assert_eq!(probe(&[port.wrapping_add(1)], &[(header, &text)]).await.0, 403, "{header}");
    }
}

#[tokio::test]
async fn a_probe_that_says_nothing_is_told_what_to_say() {
    let (status, words) = probe(&[80], &[]).await;
    assert_eq!(status, 400);
    assert!(words.contains("Original-Tcp-Port"), "{words}");
    for port in ["0", "65536", "http", ""] {
        assert_eq!(probe(&[80], &[("Original-Tcp-Port", port)]).await.0, 400, "{port:?}");
    }
}

/// A gRPC server whose health service says `status` of `known`, and that it does not know of others.
async fn grpc_server(known: &'static str, status: i32) -> u16 {
    let (listener, port, _) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service =
                hyper::service::service_fn(move |request: axum::http::Request<hyper::body::Incoming>| async move {
                    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let asked = HealthCheckRequest::decode(body.slice(5..)).unwrap().service;
                    Ok::<_, Infallible>(health_answer((asked == known).then_some(status)))
                });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    port
}

fn health_answer(status: Option<i32>) -> axum::http::Response<Body> {
    let answer = axum::http::Response::builder().header("content-type", "application/grpc");
    let Some(status) = status else {
        // NOT_FOUND, in headers alone.
        return answer.header("grpc-status", "5").body(Body::empty()).unwrap();
    };
    let message = HealthCheckResponse { status }.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, u8::try_from(message.len()).unwrap()];
    frame.extend(message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    let body = http_body_util::Full::from(frame).with_trailers(std::future::ready(Some(Ok::<_, Infallible>(trailers))));
    answer.body(Body::new(body)).unwrap()
}

#[tokio::test]
async fn a_grpc_service_is_healthy_when_it_says_that_it_is_serving() {
    let port = grpc_server("shop", SERVING).await;
    let text = port.to_string();
    let grpc =
        |service: &'static str| [("Original-Grpc-Port", text.clone()), ("Original-Grpc-Service", service.to_owned())];
    let ask = async |service: &'static str| {
        let headers = grpc(service);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        probe(&[port], &headers).await
    };
    assert_eq!(ask("shop").await.0, 200);
    let (status, words) = ask("other").await;
    assert_eq!(status, 503);
    assert!(words.contains("NotFound"), "{words}");
}

#[tokio::test]
async fn a_grpc_server_is_asked_as_a_whole_without_a_service_and_not_serving_is_unhealthy() {
    let port = grpc_server("", 2).await;
    let (status, words) = probe(&[port], &[("Original-Grpc-Port", &port.to_string())]).await;
    assert_eq!(status, 503);
    assert!(words.contains("status 2"), "{words}");
}

#[tokio::test]
async fn a_grpc_port_that_is_closed_or_speaks_something_else_is_unhealthy() {
    let (open, port, text) = listener().await;
    drop(open);
    assert_eq!(probe(&[port], &[("Original-Grpc-Port", &text)]).await.0, 503);
    let (listener, port, text) = listener().await;
    tokio::spawn(async move {
        let router = axum::Router::new().fallback(async || "a web page");
        axum::serve(listener, router).await
    });
    assert_eq!(probe(&[port], &[("Original-Grpc-Port", &text)]).await.0, 503);
}

/// An HTTPS server with a certificate of an authority that nobody knows; `/good` is good.
async fn https_server() -> u16 {
    let clock = Clock::system();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, clock.now()).unwrap();
    let origin = Blame::Process;
    let signing = IssuerConfig::Tresor(TresorConfig { material, origin }).build(clock.now()).unwrap();
    let store = CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), clock);
    let trust_domain = TrustDomain::new("cluster.local").unwrap();
    let identity = crate::identity::control_plane_identity(&trust_domain, "osm-system").unwrap();
    let leaf = store.certificate(&PeerIdentity::ControlPlane(identity)).await.unwrap();
    let bundle = store.trust_bundle().await.unwrap();
    let mut config = osm_issuer::server_config(&leaf, &bundle, ClientCertificates::Optional).unwrap();
    config.alpn_protocols.clear();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (listener, port, _) = listener().await;
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let service =
                hyper::service::service_fn(|request: axum::http::Request<hyper::body::Incoming>| async move {
                    let status = if request.uri() == "/good?deep=1" { 204 } else { 418 };
                    Ok::<_, Infallible>(axum::http::Response::builder().status(status).body(Body::empty()).unwrap())
                });
            tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    port
}

#[tokio::test]
async fn the_status_of_a_page_by_https_is_passed_on_whatever_the_certificate() {
    let port = https_server().await;
    let text = port.to_string();
    let good = probe(&[port], &[("Original-Https-Port", &text), ("Original-Https-Path", "/good?deep=1")]).await;
    assert_eq!(good.0, 204, "{}", good.1);
    assert_eq!(probe(&[port], &[("Original-Https-Port", &text)]).await.0, 418);
    let (plain, port, text) = listener().await;
    drop(plain);
    assert_eq!(probe(&[port], &[("Original-Https-Port", &text)]).await.0, 503);
}
