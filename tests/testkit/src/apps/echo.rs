//! HTTP and WebSocket echo: reports what arrived, so that tests see what the proxies made of it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http_body_util::BodyExt as _;
use tokio::net::TcpListener;

use super::counters::Counters;

#[derive(Debug, Clone)]
struct Echo {
    name: String,
    counters: Counters,
}

/// Answers everything with a JSON report of the request. Query parameters: `status` sets the answer's status,
/// `delay-milliseconds` delays it. `/socket` is a WebSocket that returns every message. HTTP/1.1 and HTTP/2 without TLS.
pub(crate) async fn serve(listener: TcpListener, name: String, counters: Counters) -> Result<()> {
    let router = Router::new()
        .route("/socket", any(socket))
        .fallback(any(echo))
        .with_state(Echo { name, counters })
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, router).await?;
    Ok(())
}

async fn echo(
    State(echo): State<Echo>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Query(query): Query<BTreeMap<String, String>>,
    request: Request,
) -> Response {
    echo.counters.add("requests");
    let (head, body) = request.into_parts();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in &head.headers {
        let values = headers.entry(name.to_string()).or_default();
        values.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let report = serde_json::json!({
        "name": echo.name,
        "peer": peer.to_string(),
        "method": head.method.as_str(),
        "uri": head.uri.to_string(),
        "version": format!("{:?}", head.version),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
    });
    if let Some(delay) = query.get("delay-milliseconds").and_then(|delay| delay.parse().ok()) {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = query.get("status").and_then(|status| status.parse().ok()).unwrap_or(StatusCode::OK);
    (status, [("identity", echo.name)], axum::Json(report)).into_response()
}

async fn socket(State(echo): State<Echo>, upgrade: WebSocketUpgrade) -> Response {
    echo.counters.add("sockets");
    let mut response = upgrade.on_upgrade(return_messages);
    if let Ok(name) = echo.name.parse() {
        response.headers_mut().insert("identity", name);
    }
    response
}

async fn return_messages(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let send = match message {
            Message::Text(_) | Message::Binary(_) => socket.send(message).await,
            Message::Ping(_) | Message::Pong(_) => Ok(()),
            Message::Close(_) => return,
        };
        if send.is_err() {
            return;
        }
    }
}
