//! `spec.provider` of MeshRootCertificate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::SecretReference;
use crate::value::{Port, non_empty};

/// Who issues certificates from a root: exactly one of the fields is set.
///
/// A further provider is one more optional field here, one more variant of [`Provider`] and one more line in
/// [`MeshRootCertificateProvider::provider`] and in the rule below; the compiler then names what else has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.azureKeyVault), has(self.certManager), has(self.tresor), has(self.vault)].filter(present, present).size() == 1",
    "message": "exactly one provider must be set: azureKeyVault, certManager, tresor or vault",
}]))]
pub struct MeshRootCertificateProvider {
    /// Azure Key Vault signs; the key of the root never leaves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure_key_vault: Option<AzureKeyVaultProvider>,
    /// cert-manager issues certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_manager: Option<CertManagerProvider>,
    /// The control plane issues certificates itself, from a root in a Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tresor: Option<TresorProvider>,
    /// HashiCorp Vault, or OpenBao, issues certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultProvider>,
}

/// The one provider of a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "documented at the types they hold")]
pub enum Provider<'a> {
    AzureKeyVault(&'a AzureKeyVaultProvider),
    CertManager(&'a CertManagerProvider),
    Tresor(&'a TresorProvider),
    Vault(&'a VaultProvider),
}

/// Why a root has no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No provider is set.
    #[error("spec.provider: no provider is set; set one of azureKeyVault, certManager, tresor, vault")]
    Missing,
    /// Several providers are set.
    #[error("spec.provider: several providers are set ({}); keep one", .0.join(", "))]
    Several(Vec<&'static str>),
}

impl MeshRootCertificateProvider {
    /// The one provider that is set.
    ///
    /// # Errors
    /// None is set, or more than one. The API server refuses such an object; a file can hold it.
    pub fn provider(&self) -> Result<Provider<'_>, ProviderError> {
        let candidates = [
            ("azureKeyVault", self.azure_key_vault.as_ref().map(Provider::AzureKeyVault)),
            ("certManager", self.cert_manager.as_ref().map(Provider::CertManager)),
            ("tresor", self.tresor.as_ref().map(Provider::Tresor)),
            ("vault", self.vault.as_ref().map(Provider::Vault)),
        ];
        let set: Vec<_> =
            candidates.into_iter().filter_map(|(name, provider)| provider.map(|provider| (name, provider))).collect();
        match set.as_slice() {
            [] => Err(ProviderError::Missing),
            [(_, provider)] => Ok(*provider),
            several => Err(ProviderError::Several(several.iter().map(|(name, _)| *name).collect())),
        }
    }
}

/// cert-manager issues certificates, through an Issuer or ClusterIssuer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertManagerProvider {
    /// Name of the issuer.
    #[schemars(length(max = 1024))]
    pub issuer_name: String,
    /// Kind of the issuer.
    #[schemars(extend("enum" = ["ClusterIssuer", "Issuer"]))]
    pub issuer_kind: String,
    /// API group of the issuer, usually cert-manager.io.
    #[schemars(length(max = 1024))]
    pub issuer_group: String,
}

/// The control plane issues certificates itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TresorProvider {
    /// The root certificate and its key.
    pub ca: TresorCa,
}

/// Where the root certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TresorCa {
    /// The Secret with ca.crt and private.key. It is created if it does not exist.
    pub secret_ref: SecretReference,
}

/// HashiCorp Vault, or OpenBao, issues certificates by its PKI engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.token) != has(self.kubernetesAuth)",
    "message": "exactly one of token and kubernetesAuth must be set",
}]))]
pub struct VaultProvider {
    /// Host name or address of the server.
    #[schemars(length(max = 1024))]
    pub host: String,
    /// Port of the server.
    pub port: Port,
    /// Role of the PKI engine.
    #[schemars(length(max = 1024))]
    pub role: String,
    /// Protocol of the server.
    pub protocol: VaultProtocol,
    /// The token to present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<VaultToken>,
    /// Logs in with the control plane's ServiceAccount instead of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_auth: Option<VaultKubernetesAuth>,
    /// Path at which the PKI engine is mounted. Default pki.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub mount_path: Option<String>,
    /// Namespace of the server, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub namespace: Option<String>,
    /// The certificates that the server's own is verified against. Default: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_ca: Option<VaultServerCa>,
}

impl VaultProvider {
    /// `mountPath`, default `pki`.
    pub fn mount_path(&self) -> &str {
        non_empty(self.mount_path.as_deref()).unwrap_or("pki")
    }
}

/// How to log in to a Vault server with a ServiceAccount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultKubernetesAuth {
    /// Role of the Kubernetes auth method.
    #[schemars(length(min = 1, max = 1024))]
    pub role: String,
    /// Path at which the auth method is mounted. Default kubernetes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub mount_path: Option<String>,
}

impl VaultKubernetesAuth {
    /// `mountPath`, default `kubernetes`.
    pub fn mount_path(&self) -> &str {
        non_empty(self.mount_path.as_deref()).unwrap_or("kubernetes")
    }
}

/// Where the certificates are that a Vault server is verified against.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultServerCa {
    /// The key of a Secret that holds them as PEM.
    pub secret_key_ref: SecretKeyReference,
}

/// Azure Key Vault signs with a key that never leaves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.certificateName) != has(self.caSecretRef)",
    "message": "exactly one of certificateName and caSecretRef must be set: they say where the key's certificate is",
}]))]
pub struct AzureKeyVaultProvider {
    /// Address of the vault, for example `https://mesh.vault.azure.net`.
    #[serde(rename = "vaultURL")]
    #[schemars(length(min = 1, max = 1024), extend("pattern" = "^https://"))]
    pub vault_url: String,
    /// Name of the key that signs.
    #[schemars(length(min = 1, max = 127))]
    pub key_name: String,
    /// Version of the key. A new version is another root: create another MeshRootCertificate and rotate to it.
    #[schemars(length(min = 1, max = 64))]
    pub key_version: String,
    /// Name of the vault's certificate object that holds the key's certificate and those of its issuers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 127))]
    pub certificate_name: Option<String>,
    /// The key of a Secret that holds the key's certificate, followed by those of its issuers up to the root, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyReference>,
    /// How the control plane proves who it is. Default: workload identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AzureAuth>,
}

/// How the control plane proves who it is to Azure: one of the fields at most; none is workload identity with what the
/// environment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.clientSecret), has(self.managedIdentity), has(self.workloadIdentity)].filter(present, present).size() <= 1",
    "message": "at most one of clientSecret, managedIdentity and workloadIdentity can be set",
}]))]
pub struct AzureAuth {
    /// An application's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_secret: Option<AzureClientSecret>,
    /// The identity of the machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<AzureManagedIdentity>,
    /// The identity of the control plane's ServiceAccount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<AzureWorkloadIdentity>,
}

/// An application's password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AzureClientSecret {
    /// Tenant of the application.
    #[serde(rename = "tenantID")]
    #[schemars(length(min = 1, max = 64))]
    pub tenant_id: String,
    /// The application.
    #[serde(rename = "clientID")]
    #[schemars(length(min = 1, max = 64))]
    pub client_id: String,
    /// The key of a Secret that holds the password.
    pub secret_key_ref: SecretKeyReference,
}

/// The identity of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AzureManagedIdentity {
    /// Which one, where the machine has several.
    #[serde(rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub client_id: Option<String>,
}

/// The identity of the control plane's ServiceAccount. What is not set is what the environment says, as Azure's webhook sets
/// it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AzureWorkloadIdentity {
    /// Tenant of the identity.
    #[serde(rename = "tenantID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub tenant_id: Option<String>,
    /// The identity.
    #[serde(rename = "clientID", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub client_id: Option<String>,
}

/// Protocol of a Vault server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = crate::value::plain_enum)]
pub enum VaultProtocol {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// Where the token for a Vault server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VaultToken {
    /// The key of a Secret that holds the token.
    pub secret_key_ref: SecretKeyReference,
}

/// One key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(max = 1024))]
    pub name: String,
    /// Key in the Secret.
    #[schemars(length(max = 1024))]
    pub key: String,
    /// Namespace of the Secret.
    #[schemars(length(max = 1024))]
    pub namespace: String,
}
