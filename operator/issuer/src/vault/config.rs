//! What a Vault issuer is told (MeshRootCertificate `spec.provider.vault`).

use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

use crate::error::{Blame, IssueError};
use crate::identity::ControlPlaneIdentity;
use crate::key::LeafKeyAlgorithm;
use crate::secret::Credential;

/// Everything a Vault issuer needs.
#[derive(Debug, Clone)]
pub struct VaultConfig {
    /// Host name or IP address of the server (`host`).
    pub host: String,
    /// Its port (`port`).
    pub port: u16,
    /// How it is spoken to (`protocol`).
    pub protocol: VaultProtocol,
    /// The server's namespace; `None` for the root namespace.
    pub namespace: Option<String>,
    /// Path at which the PKI engine is mounted; [`VaultConfig::DEFAULT_MOUNT`] in OSM.
    pub mount: String,
    /// Role of the PKI engine that signs (`role`).
    pub role: String,
    /// How we prove who we are.
    pub auth: VaultAuth,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whose certificates the role will be asked for; [`Issuer::probe`](crate::Issuer::probe) compares the role with it. The
    /// workloads are those of the same trust domain.
    pub control_plane: ControlPlaneIdentity,
    /// What kind of key leaves have; compared likewise.
    pub leaf_key: LeafKeyAlgorithm,
}

/// HTTP with or without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultProtocol {
    /// HTTP over TLS.
    Https {
        /// Authorities that the server's certificate is verified against, as PEM; `None` for those of the system.
        ca_pem: Option<String>,
    },
    /// Without TLS (`protocol: http`): everybody on the way can read the token. Never a default.
    PlainHttp,
}

/// How we prove who we are.
#[derive(Debug, Clone)]
pub enum VaultAuth {
    /// A token (`token.secretKeyRef`). It is renewed before it ends, if it can be.
    Token {
        /// The token.
        token: Credential,
        /// The Secret it is from, to be blamed when it is no good.
        origin: Blame,
    },
    /// The ServiceAccount of this process, by the server's auth method for Kubernetes. The login is repeated before its token
    /// ends.
    Kubernetes {
        /// Path at which the auth method is mounted; usually `kubernetes`.
        mount: String,
        /// Role of the auth method.
        role: String,
        /// File with the token of the ServiceAccount. Read at every login, because the kubelet replaces it.
        service_account_token: PathBuf,
    },
}

impl VaultConfig {
    /// Where the PKI engine is mounted if nobody says otherwise.
    pub const DEFAULT_MOUNT: &'static str = "pki";
    /// How long one request may take if nobody says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

    /// The address of the server, without a path.
    pub(super) fn url(&self) -> Result<Url, IssueError> {
        let bad = |problem: &dyn std::fmt::Display| self.bad_field("host", &self.host, &problem.to_string());
        let host = match self.host.parse() {
            Ok(std::net::IpAddr::V6(address)) => Host::Ipv6(address),
            Ok(std::net::IpAddr::V4(address)) => Host::Ipv4(address),
            Err(_) => Host::parse(&self.host).map_err(|error| bad(&error))?,
        };
        Url::parse(&format!("{}://{host}:{}/", self.scheme(), self.port)).map_err(|error| bad(&error))
    }

    /// The server, for errors.
    pub(crate) fn remote(&self) -> Blame {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        Blame::Remote { address: format!("{}://{host}:{}", self.scheme(), self.port) }
    }

    fn scheme(&self) -> &'static str {
        match self.protocol {
            VaultProtocol::Https { .. } => "https",
            VaultProtocol::PlainHttp => "http",
        }
    }

    /// Refuses what would become another path, or a header that cannot be sent.
    pub(super) fn check(&self) -> Result<(), IssueError> {
        self.check_path("mount", &self.mount)?;
        self.check_segment("role", &self.role)?;
        if let Some(namespace) = &self.namespace {
            self.check_path("namespace", namespace)?;
        }
        match &self.auth {
            VaultAuth::Token { token, origin } => {
                let text = token.expose_credential();
                if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Ok(());
                }
                Err(IssueError::Misconfigured {
                    remote: origin.clone(),
                    message: "the token is empty or has characters that no token has; put Vault's token there"
                        .to_owned(),
                })
            }
            VaultAuth::Kubernetes { mount, role, .. } => {
                self.check_path("auth.mount", mount)?;
                self.check_segment("auth.role", role)
            }
        }
    }

    fn check_path(&self, field: &str, value: &str) -> Result<(), IssueError> {
        value.split('/').try_for_each(|segment| self.check_segment(field, segment))
    }

    fn check_segment(&self, field: &str, value: &str) -> Result<(), IssueError> {
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !["", ".", ".."].contains(&value) && value.bytes().all(good) {
            return Ok(());
        }
        Err(self.bad_field(field, value, "use letters, digits, `-`, `_` and `.`"))
    }

    fn bad_field(&self, field: &str, value: &str, message: &str) -> IssueError {
        IssueError::Misconfigured { remote: self.remote(), message: format!("{field} {value:?}: {message}") }
    }
}
