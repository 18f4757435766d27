//! Kubeconfig files: where the API server is, and who one is to it.

use std::path::Path;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certificates::{Pair, write_private};

/// Who one is.
pub(crate) enum Credentials {
    /// Whom the certificate names.
    Certificate(Pair),
    /// Whom the token names.
    Token(String),
}

/// Writes a kubeconfig that needs no other file.
pub(crate) fn write(path: &Path, server: &str, authority: &str, credentials: &Credentials) -> Result<()> {
    let user: Value = match credentials {
        Credentials::Certificate(pair) => json!({
            "client-certificate-data": STANDARD.encode(&pair.certificate),
            "client-key-data": STANDARD.encode(&pair.key),
        }),
        Credentials::Token(token) => json!({ "token": token }),
    };
    let cluster = json!({ "server": server, "certificate-authority-data": STANDARD.encode(authority) });
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": cluster }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "context", "context": { "cluster": "cluster", "user": "user" } }],
        "current-context": "context",
    });
    // YAML, of which JSON is a part.
    write_private(path, &serde_json::to_string_pretty(&kubeconfig)?)
}
