//! One request to the server and its answer, whatever becomes of it.

use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Certificate, Client, redirect};
use rustify::Endpoint;
use serde::de::DeserializeOwned;
use vaultrs::api::{EndpointError, EndpointMiddleware, EndpointResult};
use zeroize::Zeroizing;

use super::config::{VaultConfig, VaultProtocol};
use crate::error::IssueError;
use crate::secret::Credential;
use crate::words::{shorten, with_causes};

/// Largest answer that is read: a chain has a few kilobytes.
const MAX_ANSWER: usize = 1 << 20;
/// How long it may take until there is a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A standby server points to the active one; nothing points further.
const MAX_REDIRECTS: usize = 2;
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-vault-token");

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    base: String,
    timeout: Duration,
    middleware: EndpointMiddleware,
}

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer, or half of one.
    Unreachable(String),
    /// No answer in time.
    TimedOut(Duration),
    /// An answer that says no.
    Status {
        /// HTTP status.
        code: u16,
        /// When to come back, if the server says so.
        retry_after: Option<Duration>,
        /// The server's words.
        message: String,
    },
    /// An answer that is not one of the API.
    Unreadable(String),
}

impl Transport {
    pub(super) fn new(config: &VaultConfig) -> Result<Self, IssueError> {
        config.check()?;
        let misconfigured = |message: String| IssueError::Misconfigured { remote: config.remote(), message };
        let mut client = Client::builder()
            // Nothing that the environment says may decide whom the token is sent to.
            .no_proxy()
            .referer(false)
            .redirect(redirect::Policy::limited(MAX_REDIRECTS))
            .connect_timeout(CONNECT_TIMEOUT.min(config.timeout))
            .timeout(config.timeout)
            .user_agent("osm-operator");
        client = match &config.protocol {
            VaultProtocol::Https { ca_pem: None } => client.https_only(true),
            VaultProtocol::Https { ca_pem: Some(pem) } => {
                let roots = Certificate::from_pem_bundle(pem.as_bytes())
                    .map_err(|error| misconfigured(format!("CA certificate: {}", with_causes(&error))))?;
                if roots.is_empty() {
                    return Err(misconfigured("CA certificate: no certificate found; it must be PEM text".to_owned()));
                }
                client.https_only(true).tls_certs_only(roots)
            }
            VaultProtocol::PlainHttp => {
                tracing::warn!(remote = %config.remote(), "Vault is spoken to without TLS, as configured: its token can be read on the way");
                client.tls_certs_only([])
            }
        };
        let client = client.build().map_err(|error| misconfigured(with_causes(&error)))?;
        let middleware = EndpointMiddleware {
            // Added by us, marked as sensitive.
            token: String::new(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: config.namespace.clone(),
        };
        Ok(Self { client, base: config.url()?.to_string(), timeout: config.timeout, middleware })
    }

    /// Sends `endpoint` and reads the answer's data as `T`.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        endpoint: impl Endpoint,
        token: Option<&Credential>,
    ) -> Result<EndpointResult<T>, Failure> {
        let request = self.request(endpoint, token)?;
        let response = self.client.execute(request).await.map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        let retry_after = retry_after(response.headers().get(RETRY_AFTER));
        let body = self.read(response).await?;
        if !status.is_success() {
            return Err(Failure::Status { code: status.as_u16(), retry_after, message: words(&body) });
        }
        serde_json::from_slice(&body).map_err(|error| Failure::Unreadable(without_text(&error)))
    }

    fn request(&self, endpoint: impl Endpoint, token: Option<&Credential>) -> Result<reqwest::Request, Failure> {
        let unsendable = |error: &dyn std::error::Error| Failure::Unreachable(with_causes(error));
        let request =
            endpoint.with_middleware(&self.middleware).request(&self.base).map_err(|error| unsendable(&error))?;
        let mut request = reqwest::Request::try_from(request).map_err(|error| unsendable(&error))?;
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(token.expose_credential()).map_err(|error| unsendable(&error))?;
            value.set_sensitive(true);
            request.headers_mut().insert(TOKEN_HEADER, value);
        }
        Ok(request)
    }

    /// The whole body; in memory that is wiped, because it may hold a token.
    async fn read(&self, mut response: reqwest::Response) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut body = Zeroizing::new(Vec::with_capacity(8 << 10));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unanswered(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Failure::Unreadable(format!("it is longer than {MAX_ANSWER} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unanswered(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() { Failure::TimedOut(self.timeout) } else { Failure::Unreachable(with_causes(error)) }
    }
}

/// Where and how the answer is wrong. The parser's own words may quote the answer, and that may hold a token.
fn without_text(error: &serde_json::Error) -> String {
    let problem = match error.classify() {
        serde_json::error::Category::Data => "a field of it is missing or of another type",
        serde_json::error::Category::Eof => "it is cut short",
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => "it is not JSON",
    };
    format!("{problem} (line {}, column {})", error.line(), error.column())
}

/// The server's words, from the form that it gives errors.
fn words(body: &[u8]) -> String {
    let errors = serde_json::from_slice::<EndpointError>(body).map(|answer| answer.errors.join("; "));
    let errors = errors.unwrap_or_else(|_| "an answer that is not Vault's".to_owned());
    shorten(&errors)
}

/// The number of seconds; the form with a date is not used by the API.
fn retry_after(header: Option<&HeaderValue>) -> Option<Duration> {
    header?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::words::MAX_WORDS;

    #[test]
    fn the_servers_words_are_taken_from_its_form_and_kept_short() {
        let denied = br#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
        assert_eq!(words(denied), "1 error occurred: * permission denied");
        assert_eq!(words(br#"{"errors":[]}"#), "");
        assert_eq!(words(b"<html>504</html>"), "an answer that is not Vault's");
        let long = format!(r#"{{"errors":["{}"]}}"#, "ä".repeat(2000));
        assert_eq!(words(long.as_bytes()).chars().count(), MAX_WORDS);
    }

    #[test]
    fn the_time_to_come_back_is_in_seconds() {
        let parse = |text: &'static str| retry_after(Some(&HeaderValue::from_static(text)));
        assert_eq!(parse("7"), Some(Duration::from_secs(7)));
        assert_eq!(parse("-1"), None);
        assert_eq!(parse("soon"), None);
        assert_eq!(retry_after(None), None);
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_not_quoted() {
        let problem = |text: &str| without_text(&serde_json::from_str::<EndpointError>(text).unwrap_err());
        assert_eq!(
            problem(r#"{"errors":"hvs.secret"}"#),
            "a field of it is missing or of another type (line 1, column 22)"
        );
        assert!(problem(r#"{"errors":["hvs.sec"#).contains("cut short"));
        assert!(problem("<html>").contains("not JSON"));
    }
}
