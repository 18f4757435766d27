//! From `spec.provider` to an issuer.

use std::path::Path;
use std::time::Duration;

use osm_api::{
    AzureKeyVaultProvider, CertManagerProvider, MeshRootCertificateProvider, MeshRootCertificateReason as Reason,
    Provider, TresorProvider, VaultProvider,
};
use osm_issuer::cert_manager::{CertManagerConfig, IssuerKind};
use osm_issuer::key_vault::{KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};
use osm_issuer::vault::{VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{
    Advice, ControlPlaneIdentity, IssueError, IssuerConfig, LeafKeyAlgorithm, NamedIssuer, TrustBundle, tresor,
};
use time::OffsetDateTime;

use super::secrets::{Missing, Secrets};
use crate::labels;

/// How soon what failed is tried again when nothing says otherwise.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How long a provider may take to say who it is.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(30);
/// Where a pod finds the token of its ServiceAccount.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Why a root cannot be used, and when to look again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RootProblem {
    pub(super) reason: &'static str,
    /// The field of the MeshRootCertificate.
    pub(super) field: String,
    pub(super) message: String,
    pub(super) remedy: String,
    pub(super) retry: Duration,
}

impl std::fmt::Display for RootProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.message, self.remedy)
    }
}

impl RootProblem {
    pub(super) fn new(reason: Reason, field: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (message, remedy) = (message.into(), remedy.into());
        Self { reason: reason.as_str(), field: field.to_owned(), message, remedy, retry: TRY_AGAIN }
    }

    /// Something outside the object's author's reach.
    pub(super) fn local(field: &str, message: &str) -> Self {
        Self::new(Reason::ProviderUnavailable, field, message, "it is tried again; see the control plane's log")
    }

    pub(super) fn of_issuer(field: &str, error: &IssueError) -> Self {
        let (reason, remedy) = match error {
            IssueError::UnusableAuthority { .. } => (Reason::InvalidSecret, "replace the certificate and key"),
            IssueError::Unreachable { .. } => {
                (Reason::ProviderUnavailable, "make the provider reachable; it is tried again")
            }
            IssueError::Refused { .. } | IssueError::Misconfigured { .. } => {
                (Reason::ProviderRefused, "set the provider up as the message says; it is tried again")
            }
            _ => (Reason::ProviderUnavailable, "it is tried again; see the control plane's log"),
        };
        let retry = match error.advice() {
            Advice::RetryAfter(wait) => wait.clamp(Duration::from_secs(1), Duration::from_secs(300)),
            Advice::WaitForOperator | Advice::GiveUp => TRY_AGAIN,
        };
        Self { retry, ..Self::new(reason, field, error.to_string(), remedy) }
    }
}

/// An issuer that can be used.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(super) issuer: NamedIssuer,
    /// Its own roots.
    pub(super) bundle: TrustBundle,
    /// Whether it can sign: one of which only the certificates are known cannot.
    pub(super) signs: bool,
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

impl Built {
    pub(super) fn new(issuer: NamedIssuer, bundle: TrustBundle, signs: bool) -> Option<Self> {
        let (not_before, not_after) = bundle.validity()?;
        Some(Self { issuer, bundle, signs, not_before, not_after })
    }
}

/// Makes issuers.
#[derive(Debug, Clone)]
pub(crate) struct Factory {
    /// Where the Secrets are.
    pub(crate) secrets: Secrets,
    /// Whom remote providers are asked about on trial.
    pub(crate) control_plane: ControlPlaneIdentity,
}

impl Factory {
    /// Finds Secrets in the state folder of a control plane without a cluster.
    pub(crate) fn in_folder(state: &Path, control_plane: ControlPlaneIdentity) -> Self {
        Self { secrets: Secrets::Folder(state.join("secrets")), control_plane }
    }

    /// The issuer of a provider, seen to be able to sign. `missing` says what is done about an authority in a Secret that is
    /// not there.
    pub(super) async fn build(
        &self,
        provider: &MeshRootCertificateProvider,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<Built, RootProblem> {
        let provider = provider.provider().map_err(|error| {
            RootProblem::new(Reason::InvalidProvider, "spec.provider", error.to_string(), "set exactly one provider")
        })?;
        let (field, config) = match provider {
            Provider::Tresor(tresor) => self.tresor(tresor, missing, now).await?,
            Provider::Vault(vault) => self.vault(vault).await?,
            Provider::AzureKeyVault(key_vault) => self.key_vault(key_vault).await?,
            Provider::CertManager(issuer) => self.cert_manager(issuer)?,
        };
        let issuer = config.build(now).map_err(|error| RootProblem::of_issuer(field, &error))?;
        let looked = async {
            let health = issuer.issuer.probe(now).await?;
            Ok::<_, IssueError>((issuer.issuer.trust_bundle().await?, health))
        };
        let (bundle, health) = tokio::time::timeout(PROVIDER_TIMEOUT, looked)
            .await
            .map_err(|_| RootProblem::local(field, "the provider did not answer in time"))?
            .map_err(|error| RootProblem::of_issuer(field, &error))?;
        let malformed = || RootProblem::local(field, "the provider's root certificate cannot be read");
        let mut built = Built::new(issuer, bundle, true).ok_or_else(malformed)?;
        built.not_after = built.not_after.min(health.not_after);
        Ok(built)
    }

    async fn tresor(
        &self,
        tresor: &TresorProvider,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.tresor.ca.secretRef";
        let secret = &tresor.ca.secret_ref;
        let material = self.secrets.authority(FIELD, &secret.namespace, &secret.name, missing, now).await?;
        let origin = self.secrets.blame(&secret.namespace, &secret.name);
        Ok((FIELD, IssuerConfig::Tresor(tresor::TresorConfig { material, origin })))
    }

    async fn vault(&self, vault: &VaultProvider) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.vault";
        let auth = match (&vault.token, &vault.kubernetes_auth) {
            (Some(token), _) => {
                let reference = &token.secret_key_ref;
                let token = self.secrets.value("spec.provider.vault.token.secretKeyRef", reference).await?;
                VaultAuth::Token { token, origin: self.secrets.blame(&reference.namespace, &reference.name) }
            }
            (None, Some(login)) => VaultAuth::Kubernetes {
                mount: login.mount_path().to_owned(),
                role: login.role.clone(),
                service_account_token: SERVICE_ACCOUNT_TOKEN.into(),
            },
            (None, None) => {
                let message = "there is no way to log in";
                return Err(RootProblem::new(Reason::InvalidProvider, FIELD, message, "set token or kubernetesAuth"));
            }
        };
        let protocol = match vault.protocol {
            osm_api::VaultProtocol::Http => VaultProtocol::PlainHttp,
            osm_api::VaultProtocol::Https => {
                let ca_pem = match &vault.server_ca {
                    Some(ca) => {
                        let field = "spec.provider.vault.serverCa.secretKeyRef";
                        Some(self.secrets.value(field, &ca.secret_key_ref).await?.expose_credential().to_owned())
                    }
                    None => None,
                };
                VaultProtocol::Https { ca_pem }
            }
        };
        let config = VaultConfig {
            host: vault.host.clone(),
            port: vault.port.get(),
            protocol,
            namespace: vault.namespace.clone(),
            mount: vault.mount_path().to_owned(),
            role: vault.role.clone(),
            auth,
            timeout: VaultConfig::DEFAULT_TIMEOUT,
            control_plane: self.control_plane.clone(),
            leaf_key: LeafKeyAlgorithm::default(),
        };
        Ok((FIELD, IssuerConfig::Vault(config)))
    }
}

impl Factory {
    async fn key_vault(&self, vault: &AzureKeyVaultProvider) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.azureKeyVault";
        let authority = match (&vault.certificate_name, &vault.ca_secret_ref) {
            (Some(name), _) => KeyVaultAuthority::CertificateObject { name: name.clone() },
            (None, Some(secret)) => {
                let chain = self.secrets.value("spec.provider.azureKeyVault.caSecretRef", secret).await?;
                KeyVaultAuthority::Pem { chain: chain.expose_credential().to_owned() }
            }
            (None, None) => {
                let message = "it does not say where the key's certificate is";
                let remedy = "set certificateName or caSecretRef";
                return Err(RootProblem::new(Reason::InvalidProvider, FIELD, message, remedy));
            }
        };
        let auth = vault.auth.clone().unwrap_or_default();
        let auth = match (auth.client_secret, auth.managed_identity, auth.workload_identity) {
            (Some(application), _, _) => {
                let reference = &application.secret_key_ref;
                let field = "spec.provider.azureKeyVault.auth.clientSecret.secretKeyRef";
                KeyVaultAuth::ClientSecret {
                    secret: self.secrets.value(field, reference).await?,
                    origin: self.secrets.blame(&reference.namespace, &reference.name),
                    tenant_id: application.tenant_id,
                    client_id: application.client_id,
                }
            }
            (None, Some(identity), _) => KeyVaultAuth::ManagedIdentity { client_id: identity.client_id },
            (None, None, identity) => {
                let identity = identity.unwrap_or_default();
                let (tenant_id, client_id) = (identity.tenant_id, identity.client_id);
                KeyVaultAuth::WorkloadIdentity { tenant_id, client_id, token_file: None }
            }
        };
        let config = KeyVaultConfig {
            vault_url: vault.vault_url.clone(),
            key_name: vault.key_name.clone(),
            key_version: Some(vault.key_version.clone()),
            authority,
            auth,
            network: KeyVaultNetwork::default(),
        };
        Ok((FIELD, IssuerConfig::KeyVault(config)))
    }

    fn cert_manager(&self, issuer: &CertManagerProvider) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.certManager";
        let invalid =
            |field, message: String, remedy| RootProblem::new(Reason::InvalidProvider, field, message, remedy);
        let issuer_kind = IssuerKind::parse(&issuer.issuer_kind).map_err(|error| {
            let remedy = "set Issuer (of the control plane's namespace) or ClusterIssuer";
            invalid("spec.provider.certManager.issuerKind", error.to_string(), remedy)
        })?;
        for (field, value) in [
            ("spec.provider.certManager.issuerName", &issuer.issuer_name),
            ("spec.provider.certManager.issuerGroup", &issuer.issuer_group),
        ] {
            if value.is_empty() {
                return Err(invalid(field, "it is empty".to_owned(), "name the issuer and its API group"));
            }
        }
        let Some((client, mesh_name)) = self.secrets.cluster() else {
            let message = "cert-manager signs in a cluster, and this control plane runs without one".to_owned();
            return Err(invalid(FIELD, message, "use another provider"));
        };
        let config = CertManagerConfig {
            client,
            namespace: self.control_plane.namespace().to_owned(),
            issuer_name: issuer.issuer_name.clone(),
            issuer_kind,
            issuer_group: issuer.issuer_group.clone(),
            labels: labels::of_mesh(mesh_name),
            timeout: CertManagerConfig::DEFAULT_TIMEOUT,
            control_plane: self.control_plane.clone(),
        };
        Ok((FIELD, IssuerConfig::CertManager(config)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn cert_manager_without_a_cluster_or_with_another_kind_of_issuer_is_a_finding_that_names_the_field() {
        let control_plane = osm_issuer::TrustDomain::new("mesh.example")
            .and_then(|domain| ControlPlaneIdentity::new(domain, "osm-system", "osm-controller"))
            .unwrap();
        let factory = Factory::in_folder(Path::new("/nowhere"), control_plane);
        let problem = |kind: &str, name: &str| {
            let provider = CertManagerProvider {
                issuer_name: name.to_owned(),
                issuer_kind: kind.to_owned(),
                issuer_group: "cert-manager.io".to_owned(),
            };
            factory.cert_manager(&provider).unwrap_err()
        };
        let kind = problem("Isuer", "osm-ca");
        assert_eq!((kind.field.as_str(), kind.reason), ("spec.provider.certManager.issuerKind", "InvalidProvider"));
        assert!(kind.message.contains("\"Isuer\""), "{}", kind.message);
        assert_eq!(problem("Issuer", "").field, "spec.provider.certManager.issuerName");
        let folder = problem("ClusterIssuer", "osm-ca");
        assert_eq!(folder.field, "spec.provider.certManager");
        assert!(folder.message.contains("without one"), "{}", folder.message);
    }
}
