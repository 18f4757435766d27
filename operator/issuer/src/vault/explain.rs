//! What a failed call means: how to behave, who is to blame, and what its owner can do.

use std::time::Duration;

use super::config::{VaultAuth, VaultConfig};
use super::transport::Failure;
use crate::error::IssueError;

/// A server that does not answer is asked again after this time.
const UNREACHABLE_RETRY: Duration = Duration::from_secs(5);
/// A server that is sealed or not ready, likewise: somebody has to act, but nothing here has to change.
const NOT_READY_RETRY: Duration = Duration::from_secs(10);
/// A server that says to come back later than this is asked again then.
const LONGEST_RETRY: Duration = Duration::from_secs(60 * 60);

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Login,
    LookUpToken,
    ReadRole,
    ReadIssuer,
    Sign,
}

pub(super) fn explain(call: Call, failure: Failure, config: &VaultConfig) -> IssueError {
    let remote = config.remote();
    match failure {
        Failure::Unreachable(message) => IssueError::Unreachable { remote, message, retry_after: UNREACHABLE_RETRY },
        Failure::TimedOut(limit) => IssueError::Unreachable {
            remote,
            message: format!("no answer within {limit:?}"),
            retry_after: UNREACHABLE_RETRY,
        },
        Failure::Unreadable(message) => IssueError::BadAnswer { remote, message },
        Failure::Status { code, retry_after, message } => {
            let said = if message.is_empty() { format!("HTTP {code}") } else { format!("HTTP {code}, {message}") };
            match code {
                // The engine calls this an error of its own.
                500 if said.contains("default issuer") || said.contains("find PKI issuer") => {
                    refused(call, code, &said, config)
                }
                // 412: a standby that has not seen our last write. 472, 473: a standby of another kind.
                412 | 429 | 472 | 473 | 500..=599 => IssueError::Unreachable {
                    remote,
                    message: unready(code, &said),
                    retry_after: retry_after.unwrap_or(NOT_READY_RETRY).min(LONGEST_RETRY),
                },
                _ => refused(call, code, &said, config),
            }
        }
    }
}

fn unready(code: u16, said: &str) -> String {
    match code {
        429 => format!("it limits our requests ({said})"),
        501 => format!("it is not initialized ({said}); initialize and unseal it"),
        503 if said.contains("sealed") => format!("it is sealed ({said}); unseal it"),
        _ => said.to_owned(),
    }
}

/// The server's owner has to act: the token, its policy, the role or the mount is not what we need.
fn refused(call: Call, code: u16, said: &str, config: &VaultConfig) -> IssueError {
    let VaultConfig { mount, role, auth, .. } = config;
    let about_token = matches!(call, Call::Login | Call::LookUpToken) || code == 403;
    let blame = match auth {
        VaultAuth::Token { origin, .. } if about_token => origin.clone(),
        VaultAuth::Token { .. } | VaultAuth::Kubernetes { .. } => config.remote(),
    };
    let remedy = match (call, code) {
        (Call::Login | Call::LookUpToken, _) => match auth {
            VaultAuth::Token { .. } => {
                "the token has ended, was revoked, or lacks the policy `default`; put a valid one there".to_owned()
            }
            VaultAuth::Kubernetes { mount, role, .. } => format!(
                "check that auth/{mount}/role/{role} exists and names our ServiceAccount, namespace and audience, and that \
                 auth/{mount}/config can reach the API server"
            ),
        },
        (Call::Sign, 403) => needs(&format!("{mount}/sign/{role}"), "update"),
        (Call::ReadRole | Call::ReadIssuer, 403) => needs(&format!("{mount}/roles/{role}"), "read"),
        (Call::ReadRole, 404) if !said.contains("no handler") => "create the role".to_owned(),
        (_, 404 | 405) => {
            format!("enable the PKI engine at {mount} (mount and namespace must be right), with an issuer in it")
        }
        (Call::Sign, _) => format!("correct {mount}/roles/{role}, or the issuer it names"),
        (Call::ReadRole | Call::ReadIssuer, _) => {
            format!("see that {mount} has an issuer, and that {mount}/roles/{role} names it")
        }
    };
    IssueError::Misconfigured { remote: blame, message: format!("{} ({said}): {remedy}", attempt(call, config)) }
}

fn needs(path: &str, capability: &str) -> String {
    format!(
        "the token has ended, or its policy lacks `path \"{path}\" {{ capabilities = [\"{capability}\"] }}`; renew the token \
         or add that"
    )
}

fn attempt(call: Call, config: &VaultConfig) -> String {
    let VaultConfig { mount, role, .. } = config;
    match call {
        Call::Login => "logging in".to_owned(),
        Call::LookUpToken => "looking up the token".to_owned(),
        Call::ReadRole => format!("reading {mount}/roles/{role}"),
        Call::ReadIssuer => format!("reading the issuer of {mount}/roles/{role}"),
        Call::Sign => format!("signing by {mount}/sign/{role}"),
    }
}
