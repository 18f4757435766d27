//! Answers, in the form that the service gives them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

pub(crate) type Answer = Response<Full<Bytes>>;

pub(crate) fn json(status: u16, body: &Value) -> Answer {
    raw(status, body.to_string())
}

pub(crate) fn raw(status: u16, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    set(&mut answer, "content-type", "application/json; charset=utf-8");
    answer
}

pub(crate) fn set(answer: &mut Answer, name: &'static str, value: &str) {
    if let Ok(value) = value.parse() {
        answer.headers_mut().insert(name, value);
    }
}

/// An error of the vault.
pub(crate) fn error(status: u16, code: &str, inner: Option<&str>, message: &str) -> Answer {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    json(status, &json!({ "error": error }))
}

pub(crate) fn not_found(code: &str, kind: &str, name: &str) -> Answer {
    error(404, code, None, &format!("A {kind} with (name/id) {name} was not found in this key vault."))
}
