//! The metadata service of a machine in Azure, as far as it gives tokens to managed identities: plain HTTP, one path, and a
//! header that a browser or a proxy would not send.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use hyper::body::Incoming;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::http::{Answer, json as answer};
use crate::server::spoil;
use crate::{CLIENT, Operation, State};

/// Where machines in Azure find it.
pub const METADATA_ADDRESS: &str = "169.254.169.254:80";

/// A running metadata service. Ends when it is dropped.
#[derive(Debug)]
pub struct MetadataDouble {
    task: JoinHandle<()>,
}

impl Drop for MetadataDouble {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl MetadataDouble {
    pub(crate) async fn start(address: SocketAddr, state: Arc<Mutex<State>>) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let serve = async move {
            // Connections end with the double.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(connection(stream, state.clone()));
                while connections.try_join_next().is_some() {}
            }
        };
        Ok(Self { task: tokio::spawn(serve) })
    }
}

async fn connection(stream: TcpStream, state: Arc<Mutex<State>>) {
    let service = hyper::service::service_fn(move |request| respond(request, state.clone()));
    // A client that goes away is no concern of the double.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// `Err` ends the connection.
async fn respond(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Answer, std::io::Error> {
    let (answer, fault) = {
        let mut state = state.lock();
        state.calls.push(Operation::MachineToken);
        let fault = state.take_fault(Operation::MachineToken);
        (token(&mut state, &request), fault)
    };
    match fault {
        None => Ok(answer),
        Some(fault) => spoil(answer, fault).await,
    }
}

/// A token for an identity of this machine.
fn token(state: &mut State, request: &Request<Incoming>) -> Answer {
    let refused = |words: &str| answer(400, &json!({ "error": "invalid_request", "error_description": words }));
    if request.method() != Method::GET || request.uri().path() != "/metadata/identity/oauth2/token" {
        return answer(404, &json!({ "error": "not_found" }));
    }
    if request.headers().get("metadata").is_none_or(|value| value != "true") {
        return refused("Required metadata header not specified");
    }
    let query = request.uri().query().unwrap_or_default();
    let query: Vec<(String, String)> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let field = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if field("api-version").is_none() {
        return refused("Required query variable 'api-version' is missing");
    }
    let Some(resource) = field("resource").filter(|resource| resource.contains("vault.")) else {
        return refused("Required query variable 'resource' is missing or unknown");
    };
    let known = match field("client_id") {
        Some(client) => client == CLIENT,
        None => state.system_identity,
    };
    if !known {
        return refused("Identity not found");
    }
    let resource = resource.to_owned();
    let token = state.new_token();
    let until = time::OffsetDateTime::now_utc().unix_timestamp() + 86_399;
    answer(
        200,
        &json!({
            "access_token": token,
            "client_id": CLIENT,
            "expires_in": "86399",
            "expires_on": until.to_string(),
            "ext_expires_in": "86399",
            "not_before": (until - 86_399).to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }),
    )
}
