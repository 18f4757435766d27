//! `spec.provider` of MeshRootCertificate.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::SecretReference;
use crate::value::Port;

/// Who issues certificates from a root: exactly one of the fields is set.
///
/// A further provider is one more optional field here, one more variant of [`Provider`] and one more line in
/// [`MeshRootCertificateProvider::provider`] and in the rule below; the compiler then names what else has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.certManager), has(self.tresor), has(self.vault)].filter(present, present).size() == 1",
    "message": "exactly one provider must be set: certManager, tresor or vault",
}]))]
pub struct MeshRootCertificateProvider {
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
    CertManager(&'a CertManagerProvider),
    Tresor(&'a TresorProvider),
    Vault(&'a VaultProvider),
}

/// Why a root has no provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// No provider is set.
    #[error("spec.provider: no provider is set; set one of certManager, tresor, vault")]
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
    pub token: VaultToken,
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
