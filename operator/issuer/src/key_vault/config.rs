//! What a Key Vault issuer is told (MeshRootCertificate `spec.provider.azureKeyVault`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::error::{Blame, IssueError};
use crate::secret::Credential;

/// Everything a Key Vault issuer needs.
#[derive(Debug, Clone)]
pub struct KeyVaultConfig {
    /// The vault, such as `https://mesh.vault.azure.net` (`vaultURL`).
    pub vault_url: String,
    /// Name of the key that signs (`keyName`).
    pub key_name: String,
    /// Version of the key (`keyVersion`). `None` takes the one that belongs to the certificate, or else the newest, when the
    /// vault is first asked; a newer one is never taken by itself.
    pub key_version: Option<String>,
    /// The certificate that belongs to the key.
    pub authority: KeyVaultAuthority,
    /// How we prove who we are (`auth`).
    pub auth: KeyVaultAuth,
    /// How the vault and the token endpoint are reached.
    pub network: KeyVaultNetwork,
}

/// Where the certificate of the key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyVaultAuthority {
    /// A certificate object of the vault (`certificateName`). If it is not a root, the chain above it is read from the secret of
    /// the same name.
    CertificateObject {
        /// Name of the object.
        name: String,
    },
    /// PEM: the certificate of the key, followed by its issuers up to the root.
    Pem {
        /// The text.
        chain: String,
    },
}

/// How we prove who we are to Microsoft Entra.
#[derive(Debug, Clone)]
pub enum KeyVaultAuth {
    /// The ServiceAccount of this process (Entra Workload Identity). What is `None` is taken from the environment variables
    /// that the identity's webhook sets in pods.
    WorkloadIdentity {
        /// Tenant (`AZURE_TENANT_ID`).
        tenant_id: Option<String>,
        /// Client (`AZURE_CLIENT_ID`).
        client_id: Option<String>,
        /// File with the ServiceAccount's token (`AZURE_FEDERATED_TOKEN_FILE`).
        token_file: Option<PathBuf>,
    },
    /// The identity that Azure gives the machine.
    ManagedIdentity {
        /// Client id of a user-assigned identity; `None` for the system's.
        client_id: Option<String>,
    },
    /// An application with a secret.
    ClientSecret {
        /// Tenant.
        tenant_id: String,
        /// Client.
        client_id: String,
        /// The application's secret.
        secret: Credential,
        /// The Secret it is from, to be blamed when it is no good.
        origin: Blame,
    },
}

/// How the vault and the token endpoint are reached. The default is Azure's public cloud.
#[derive(Debug, Clone)]
pub struct KeyVaultNetwork {
    /// Entra's token endpoint; `None` for `AZURE_AUTHORITY_HOST`, or else that of the public cloud.
    pub authority_host: Option<String>,
    /// Authorities that servers' certificates are verified against, as PEM; `None` for those of the system.
    pub ca_pem: Option<String>,
    /// Addresses of hosts that are not asked of DNS (private endpoints). TLS still verifies the names.
    pub addresses: Vec<(String, SocketAddr)>,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for KeyVaultNetwork {
    fn default() -> Self {
        Self { authority_host: None, ca_pem: None, addresses: Vec::new(), timeout: Duration::from_secs(10) }
    }
}

impl KeyVaultConfig {
    /// The vault, for errors.
    pub(crate) fn remote(&self) -> Blame {
        // What is before an `@` could be a password.
        let address = match Url::parse(&self.vault_url) {
            Ok(url) => url.origin().ascii_serialization(),
            Err(_) => "the vault".to_owned(),
        };
        Blame::Remote { address }
    }

    /// Whom to blame when Entra does not accept us.
    pub(super) fn credential_origin(&self) -> Blame {
        match &self.auth {
            KeyVaultAuth::ClientSecret { origin, .. } => origin.clone(),
            KeyVaultAuth::WorkloadIdentity { .. } | KeyVaultAuth::ManagedIdentity { .. } => self.remote(),
        }
    }

    /// Refuses what would become another path or host.
    pub(super) fn check(&self) -> Result<(), IssueError> {
        let url = Url::parse(&self.vault_url).map_err(|error| self.bad("vaultURL", &error.to_string()))?;
        let bare = url.path() == "/" && url.query().is_none() && url.username().is_empty() && url.password().is_none();
        if url.scheme() != "https" || url.host_str().is_none() || !bare {
            return Err(self.bad("vaultURL", "it must be https:// and a host name, as in https://mesh.vault.azure.net"));
        }
        check_name(&self.key_name).map_err(|problem| self.bad("keyName", problem))?;
        if let Some(version) = &self.key_version {
            check_name(version).map_err(|problem| self.bad("keyVersion", problem))?;
        }
        if let KeyVaultAuthority::CertificateObject { name } = &self.authority {
            check_name(name).map_err(|problem| self.bad("certificateName", problem))?;
        }
        Ok(())
    }

    pub(super) fn bad(&self, field: &str, problem: &str) -> IssueError {
        self.misconfigured(format!("{field}: {problem}"))
    }

    pub(super) fn misconfigured(&self, message: String) -> IssueError {
        IssueError::Misconfigured { remote: self.remote(), message }
    }
}

/// Names of objects in a vault, and versions, which are narrower.
fn check_name(name: &str) -> Result<(), &'static str> {
    let good = (1..=127).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good { Ok(()) } else { Err("use 1 to 127 letters, digits and `-`") }
}
