//! From a connection to an answer.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::http::{self, Answer};
use crate::keys::KeyKind;
use crate::{FOR_EVER, Fault, LOGIN_HOST, Operation, State, TENANT, VAULT_HOST, login};

pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    // Connections end with the double.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(connection(stream, tls.clone(), state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    let Ok(stream) = tls.accept(stream).await else { return };
    let service = hyper::service::service_fn(move |request| respond(request, state.clone()));
    // A client that goes away is no concern of the double.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// `Err` ends the connection.
async fn respond(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Answer, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let asked = Asked {
        base: format!("https://{host}"),
        login: host.starts_with(LOGIN_HOST),
        token: head.headers.get(AUTHORIZATION).and_then(|token| token.to_str().ok()).unwrap_or_default().to_owned(),
        method: head.method,
        path: head.uri.path().trim_matches('/').split('/').map(str::to_owned).collect(),
        versioned: head.uri.query().is_some_and(|query| query.contains("api-version=")),
        body,
    };
    let (answer, fault) = {
        let mut state = state.lock();
        let operation = asked.operation(&state);
        let Some(operation) = operation else {
            return Ok(asked.answer_unasked());
        };
        state.calls.push(operation);
        let fault = state.take_fault(operation);
        (asked.answer(operation, &mut state), fault)
    };
    match fault {
        None => Ok(answer),
        Some(fault) => spoil(answer, fault).await,
    }
}

pub(crate) async fn spoil(answer: Answer, fault: Fault) -> Result<Answer, std::io::Error> {
    Ok(match fault {
        Fault::Throttled(seconds) => {
            let mut answer = http::error(
                429,
                "Throttled",
                None,
                "Request was not processed because too many requests were received.",
            );
            if let Some(seconds) = seconds {
                http::set(&mut answer, "retry-after", &seconds.to_string());
            }
            answer
        }
        Fault::Forbidden => http::error(
            403,
            "Forbidden",
            Some("ForbiddenByRbac"),
            "Caller is not authorized to perform action on resource.",
        ),
        Fault::Status(status) => http::raw(status, String::new()),
        Fault::Garbage => http::raw(200, "<html>a page</html>".to_owned()),
        Fault::Hang => {
            tokio::time::sleep(FOR_EVER).await;
            answer
        }
        Fault::Cut => {
            let mut cut = http::raw(200, "{\"key\":".to_owned());
            http::set(&mut cut, "content-length", "1000");
            let _ = answer;
            cut
        }
        Fault::WrongSignature => {
            change(answer, |body| {
                let value = body["value"].as_str().unwrap_or_default();
                // Another r, of the same length.
                let flipped = if value.starts_with('A') { 'B' } else { 'A' };
                let tail: String = value.chars().skip(1).collect();
                body["value"] = json!(format!("{flipped}{tail}"));
            })
            .await
        }
        Fault::OtherVersion => {
            change(answer, |body| {
                let kid = body["kid"].as_str().unwrap_or_default();
                let (key, _) = kid.rsplit_once('/').unwrap_or_default();
                body["kid"] = json!(format!("{key}/ffffffffffffffffffffffffffffffff"));
            })
            .await
        }
    })
}

async fn change(answer: Answer, change: impl FnOnce(&mut Value)) -> Answer {
    let (head, body) = answer.into_parts();
    let body: Result<_, Infallible> = body.collect().await;
    let Ok(body) = body;
    let mut value: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
    change(&mut value);
    Answer::from_parts(head, Full::new(Bytes::from(value.to_string())))
}

/// A request, as far as it matters.
struct Asked {
    base: String,
    login: bool,
    token: String,
    method: Method,
    path: Vec<String>,
    versioned: bool,
    body: Bytes,
}

impl Asked {
    fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// `None` for what is not counted.
    fn operation(&self, state: &State) -> Option<Operation> {
        if self.login {
            return (self.method == Method::POST && self.path.last().is_some_and(|last| last == "token"))
                .then_some(Operation::Token);
        }
        let token = self.token.strip_prefix("Bearer ").unwrap_or_default();
        if !state.tokens.iter().any(|known| known == token) {
            return Some(Operation::Challenge);
        }
        match (&self.method, self.path().as_slice()) {
            (&Method::GET, ["keys", _, "versions"]) => Some(Operation::ListKeyVersions),
            (&Method::GET, ["keys", _] | ["keys", _, _]) => Some(Operation::GetKey),
            (&Method::POST, ["keys", _, "create"]) => Some(Operation::CreateKey),
            (&Method::POST, ["keys", _, _, "sign"] | ["keys", _, "sign"]) => Some(Operation::Sign),
            (&Method::GET, ["certificates", _] | ["certificates", _, _]) => Some(Operation::GetCertificate),
            (&Method::GET, ["secrets", _] | ["secrets", _, _]) => Some(Operation::GetSecret),
            _ => None,
        }
    }

    fn answer_unasked(&self) -> Answer {
        if self.login && self.path.last().is_some_and(|last| last == "openid-configuration") {
            return login::discovery(&self.base);
        }
        http::error(404, "NotFound", None, "The double does not know this path.")
    }

    fn answer(&self, operation: Operation, state: &mut State) -> Answer {
        if operation == Operation::Token {
            let form = url::form_urlencoded::parse(&self.body).into_owned().collect::<Vec<_>>();
            return login::token(state, &form);
        }
        if operation == Operation::Challenge {
            return self.challenge();
        }
        if !self.versioned {
            return http::error(400, "BadParameter", None, "The api-version query parameter is missing.");
        }
        let path = self.path();
        let name = path.get(1).copied().unwrap_or_default();
        let version = path.get(2).copied().filter(|version| !version.is_empty() && *version != "sign");
        let vault = &mut state.vault;
        let found = |bundle: Option<Value>, code: &str, kind: &str| match bundle {
            Some(bundle) => http::json(200, &bundle),
            None => http::not_found(code, kind, name),
        };
        match operation {
            Operation::GetKey => found(vault.key_bundle(name, version), "KeyNotFound", "key"),
            Operation::ListKeyVersions => found(vault.key_versions(name), "KeyNotFound", "key"),
            Operation::GetCertificate => {
                found(vault.certificate_bundle(name, version), "CertificateNotFound", "certificate")
            }
            Operation::GetSecret => found(vault.secret_bundle(name, version), "SecretNotFound", "secret"),
            Operation::CreateKey => self.create(name, vault),
            Operation::Sign => {
                let body = serde_json::from_slice(&self.body).unwrap_or_default();
                match vault.sign(name, version.unwrap_or_default(), &body) {
                    Some(Ok(result)) => http::json(200, &result),
                    Some(Err((status, code, message))) => {
                        let outer = if status == 403 { "Forbidden" } else { code };
                        http::error(status, outer, Some(code), &message)
                    }
                    None => http::not_found("KeyNotFound", "key", name),
                }
            }
            Operation::Token | Operation::MachineToken | Operation::Challenge => self.challenge(),
        }
    }

    fn create(&self, name: &str, vault: &mut crate::keys::Vault) -> Answer {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = match (body["kty"].as_str(), body["crv"].as_str()) {
            (Some("EC" | "EC-HSM"), Some("P-256") | None) => KeyKind::P256,
            (Some("EC" | "EC-HSM"), Some("P-384")) => KeyKind::P384,
            (Some("RSA" | "RSA-HSM"), _) => KeyKind::Rsa2048,
            _ => return http::error(400, "BadParameter", None, "Property kty or crv has invalid value"),
        };
        match vault.create_key(name, kind) {
            Ok(version) => http::json(200, &vault.key_bundle(name, Some(&version)).unwrap_or_default()),
            Err(error) => http::error(500, "InternalError", None, &error.to_string()),
        }
    }

    /// Where to get a token, and for what.
    fn challenge(&self) -> Answer {
        let mut answer = http::error(401, "Unauthorized", None, "AKV10000: Request is missing a Bearer or PoP token.");
        let login = self.base.replace(VAULT_HOST, LOGIN_HOST);
        let resource = self.base.replace(VAULT_HOST, "vault.double.test");
        let challenge = format!("Bearer authorization=\"{login}/{TENANT}\", resource=\"{resource}\"");
        http::set(&mut answer, "www-authenticate", &challenge);
        answer
    }
}
