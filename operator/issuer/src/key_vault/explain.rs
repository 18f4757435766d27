//! What a failed call means: how to behave, who is to blame, and what its owner can do.

use std::error::Error as _;
use std::time::Duration;

use azure_core::Error;
use azure_core::error::ErrorKind;
use azure_core::http::RawResponse;
use azure_core::http::headers::HeaderName;
use serde_json::Value;

use super::config::{KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig};
use crate::error::IssueError;
use crate::words::{shorten, with_causes};

/// A vault that does not answer is asked again after this time.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(5);
/// A vault that throttles without saying for how long, likewise.
const THROTTLED_RETRY: Duration = Duration::from_secs(10);
/// A vault that says to come back later than this is asked again then.
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    GetKey,
    GetCertificate,
    GetSecret,
    Sign,
}

impl Call {
    fn attempt(self, config: &KeyVaultConfig) -> String {
        let certificate = match &config.authority {
            KeyVaultAuthority::CertificateObject { name } => name.as_str(),
            KeyVaultAuthority::Pem { .. } => "",
        };
        match self {
            Self::GetKey => format!("reading keys/{}", config.key_name),
            Self::GetCertificate => format!("reading certificates/{certificate}"),
            Self::GetSecret => format!("reading secrets/{certificate}, the chain of the certificate"),
            Self::Sign => format!("signing by keys/{}", config.key_name),
        }
    }

    fn permission(self) -> &'static str {
        match self {
            Self::GetKey => "keys/get (role Key Vault Crypto User)",
            Self::GetCertificate => "certificates/get (role Key Vault Certificate User)",
            Self::GetSecret => "secrets/get (role Key Vault Secrets User)",
            Self::Sign => "keys/sign (role Key Vault Crypto User)",
        }
    }
}

pub(super) fn explain(call: Call, error: &Error, config: &KeyVaultConfig) -> IssueError {
    let innermost = innermost(error);
    let while_authenticating = matches!(error.kind(), ErrorKind::Credential);
    match innermost.kind() {
        ErrorKind::HttpResponse { status, raw_response, .. } => {
            let answer = Answer::new(u16::from(*status), raw_response.as_deref());
            if let Some(error) = unavailable(&answer, while_authenticating, config) {
                return error;
            }
            if while_authenticating { not_accepted(&answer, config) } else { refused(call, &answer, config) }
        }
        ErrorKind::Connection | ErrorKind::Io => IssueError::Unreachable {
            remote: config.remote(),
            message: format!(
                "{}{}",
                if while_authenticating { format!("{}: ", token_endpoint(config)) } else { String::new() },
                shorten(&with_causes(innermost))
            ),
            retry_after: UNREACHABLE_RETRY,
        },
        ErrorKind::DataConversion => {
            // The parser's words may quote the answer, and that may hold a token.
            let whose =
                if while_authenticating { format!("that of {}", token_endpoint(config)) } else { "it".to_owned() };
            IssueError::BadAnswer {
                remote: config.remote(),
                message: format!(
                    "{} ({}): {whose} is not JSON of the expected form",
                    call.attempt(config),
                    innermost.kind()
                ),
            }
        }
        ErrorKind::Credential | ErrorKind::Other => IssueError::Misconfigured {
            remote: if while_authenticating { config.credential_origin() } else { config.remote() },
            message: format!("{}: {}", call.attempt(config), shorten(&innermost.to_string())),
        },
    }
}

/// Who gives the tokens that the vault asks for.
fn token_endpoint(config: &KeyVaultConfig) -> &'static str {
    match &config.auth {
        KeyVaultAuth::ManagedIdentity { .. } => "the machine's metadata service at 169.254.169.254",
        KeyVaultAuth::WorkloadIdentity { .. } | KeyVaultAuth::ClientSecret { .. } => "its token endpoint",
    }
}

/// The error that an error of the credential is about.
fn innermost(error: &Error) -> &Error {
    let mut found = error;
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<Error>() {
            found = cause;
        }
        source = cause.source();
    }
    found
}

/// What matters of an answer that says no.
struct Answer {
    status: u16,
    retry_after: Option<Duration>,
    code: String,
    inner_code: String,
    message: String,
}

impl Answer {
    fn new(status: u16, response: Option<&RawResponse>) -> Self {
        let body: Value =
            response.and_then(|response| serde_json::from_slice(response.body()).ok()).unwrap_or_default();
        let error = &body["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Entra's errors are flat.
        let (code, message) = match error {
            Value::String(code) => (code.clone(), text(&body["error_description"])),
            _ => (text(&error["code"]), text(&error["message"])),
        };
        Self {
            status,
            retry_after: response.and_then(retry_after),
            code,
            inner_code: text(&error["innererror"]["code"]),
            message: shorten(&message),
        }
    }

    fn said(&self) -> String {
        let words = [&self.code, &self.inner_code, &self.message];
        let words = words.into_iter().filter(|word| !word.is_empty()).map(String::as_str);
        words.fold(format!("HTTP {}", self.status), |said, word| format!("{said}, {word}"))
    }

    /// Whether the answer says `word` of the key, in one of the vault's ways.
    fn says(&self, word: &str) -> bool {
        self.inner_code.to_lowercase().contains(word) || self.message.to_lowercase().contains(word)
    }
}

fn unavailable(answer: &Answer, while_authenticating: bool, config: &KeyVaultConfig) -> Option<IssueError> {
    // The metadata service is not there (404) or gone (410) while it is updated.
    let of_machine = while_authenticating && matches!(config.auth, KeyVaultAuth::ManagedIdentity { .. });
    match answer.status {
        408 | 429 | 500..=599 => {}
        404 | 410 if of_machine => {}
        _ => return None,
    }
    let whose = if while_authenticating { token_endpoint(config) } else { "it" };
    let what = if answer.status == 429 { "limits our requests" } else { "is not available" };
    Some(IssueError::Unreachable {
        remote: config.remote(),
        message: format!("{whose} {what} ({})", answer.said()),
        retry_after: answer.retry_after.unwrap_or(THROTTLED_RETRY).min(LONGEST_RETRY),
    })
}

/// Entra does not know us, or not in this way.
fn not_accepted(answer: &Answer, config: &KeyVaultConfig) -> IssueError {
    let remedy = match &config.auth {
        KeyVaultAuth::ClientSecret { .. } => {
            "check tenant, client and secret; secrets of applications end after some months".to_owned()
        }
        KeyVaultAuth::WorkloadIdentity { .. } => {
            "check tenant and client, and that the identity has a federated credential for our ServiceAccount"
                .to_owned()
        }
        KeyVaultAuth::ManagedIdentity { client_id: Some(client) } => {
            format!("assign the identity {client} to the machines of the control plane, or correct clientID")
        }
        KeyVaultAuth::ManagedIdentity { client_id: None } => {
            "give the machines of the control plane a system-assigned identity, or name another by clientID".to_owned()
        }
    };
    IssueError::Misconfigured {
        remote: config.credential_origin(),
        message: format!("authenticating to Microsoft Entra ({}): {remedy}", answer.said()),
    }
}

fn refused(call: Call, answer: &Answer, config: &KeyVaultConfig) -> IssueError {
    let key = &config.key_name;
    let remedy = match answer.status {
        401 => "the token is not accepted; vault and identity must be of one tenant".to_owned(),
        403 if answer.says("disabled") => format!("the key is disabled; enable that version of {key}"),
        403 if answer.says("expired") => {
            format!("the key is expired; extend it, or create a new version of {key} and rotate to it")
        }
        403 if answer.says("not yet valid") || answer.says("notyetvalid") => {
            format!("the key is not valid yet; correct its activation date (nbf), or name another version of {key}")
        }
        403 if answer.says("firewall") || answer.says("client address") => {
            "let the control plane's addresses through the vault's firewall, or use a private endpoint".to_owned()
        }
        403 => format!("give the identity {}", call.permission()),
        404 => match call {
            Call::GetKey | Call::Sign => "create the key, or correct keyName and keyVersion".to_owned(),
            Call::GetCertificate => "create the certificate, or correct certificateName".to_owned(),
            Call::GetSecret => "give the chain as PEM instead".to_owned(),
        },
        _ => "correct the key, or keyName and keyVersion".to_owned(),
    };
    config.misconfigured(format!("{} ({}): {remedy}", call.attempt(config), answer.said()))
}

/// In seconds, or in milliseconds in the vault's own header.
fn retry_after(response: &RawResponse) -> Option<Duration> {
    let number = |name: &'static str| -> Option<u64> {
        response.headers().get_optional_str(&HeaderName::from_static(name))?.trim().parse().ok()
    };
    number("retry-after-ms")
        .or_else(|| number("x-ms-retry-after-ms"))
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))
}
