//! What an issuer is made from: `spec.provider`, and what the Secrets hold that it names.

use osm_api::{
    AzureKeyVaultProvider, CertManagerProvider, MeshRootCertificateProvider, MeshRootCertificateReason as Reason,
    Provider, SecretKeyReference, TresorProvider, VaultProvider,
};
use osm_issuer::cert_manager::{CertManagerConfig, IssuerKind};
use osm_issuer::key_vault::{KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};
use osm_issuer::vault::{VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{ControlPlaneIdentity, Credential, IssuerConfig, LeafKeyAlgorithm, PeerIdentity, tresor};
use time::OffsetDateTime;

use super::RootProblem;
use crate::labels;
use crate::roots::mark::{Mark, Marking};
use crate::roots::secrets::{Missing, Secrets};

/// Where a pod finds the token of its ServiceAccount.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// See the module.
#[derive(Debug)]
pub(in crate::roots) struct Material {
    /// The field of the MeshRootCertificate that all of it is about.
    pub(in crate::roots) field: &'static str,
    pub(in crate::roots) config: IssuerConfig,
    /// Differs when anything of it does.
    pub(in crate::roots) mark: Mark,
    /// For whom a certificate is asked for on trial. A provider in this process needs no trial, and cert-manager's is one.
    pub(in crate::roots) trial: Option<PeerIdentity>,
}

impl Material {
    /// What a provider's issuer is made from now.
    pub(super) async fn read(
        provider: &MeshRootCertificateProvider,
        secrets: &Secrets,
        control_plane: &ControlPlaneIdentity,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<Self, RootProblem> {
        let mut reading = Reading { secrets, control_plane, marking: Marking::new() };
        reading.marking.add(serde_json::to_string(provider).unwrap_or_default());
        let provider = provider.provider().map_err(|error| {
            RootProblem::new(Reason::InvalidProvider, "spec.provider", error.to_string(), "set exactly one provider")
        })?;
        let (field, config) = match provider {
            Provider::Tresor(tresor) => reading.tresor(tresor, missing, now).await?,
            Provider::Vault(vault) => reading.vault(vault).await?,
            Provider::AzureKeyVault(key_vault) => reading.key_vault(key_vault).await?,
            Provider::CertManager(issuer) => reading.cert_manager(issuer)?,
        };
        let trial = match config {
            IssuerConfig::Vault(_) | IssuerConfig::KeyVault(_) => {
                Some(PeerIdentity::ControlPlane(control_plane.clone()))
            }
            IssuerConfig::Tresor(_) | IssuerConfig::CertManager(_) => None,
        };
        Ok(Self { field, config, mark: reading.marking.finish(), trial })
    }
}

/// Reads what one issuer is made from.
struct Reading<'a> {
    secrets: &'a Secrets,
    control_plane: &'a ControlPlaneIdentity,
    marking: Marking,
}

impl Reading<'_> {
    async fn value(&mut self, field: &str, reference: &SecretKeyReference) -> Result<Credential, RootProblem> {
        let value = self.secrets.value(field, reference).await?;
        self.marking.add(value.expose_credential());
        Ok(value)
    }

    async fn tresor(
        &mut self,
        tresor: &TresorProvider,
        missing: Missing,
        now: OffsetDateTime,
    ) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.tresor.ca.secretRef";
        let secret = &tresor.ca.secret_ref;
        let material = self.secrets.authority(FIELD, &secret.namespace, &secret.name, missing, now).await?;
        self.marking.add_authority(&material);
        let origin = self.secrets.blame(&secret.namespace, &secret.name);
        Ok((FIELD, IssuerConfig::Tresor(tresor::TresorConfig { material, origin })))
    }

    async fn vault(&mut self, vault: &VaultProvider) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.vault";
        let auth = match (&vault.token, &vault.kubernetes_auth) {
            (Some(token), _) => {
                let reference = &token.secret_key_ref;
                let token = self.value("spec.provider.vault.token.secretKeyRef", reference).await?;
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
                        Some(self.value(field, &ca.secret_key_ref).await?.expose_credential().to_owned())
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

    async fn key_vault(&mut self, vault: &AzureKeyVaultProvider) -> Result<(&'static str, IssuerConfig), RootProblem> {
        const FIELD: &str = "spec.provider.azureKeyVault";
        let authority = match (&vault.certificate_name, &vault.ca_secret_ref) {
            (Some(name), _) => KeyVaultAuthority::CertificateObject { name: name.clone() },
            (None, Some(secret)) => {
                let chain = self.value("spec.provider.azureKeyVault.caSecretRef", secret).await?;
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
                    secret: self.value(field, reference).await?,
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
    use std::path::Path;

    use super::*;

    /// The mark of what `provider` names in the folder of Secrets.
    async fn mark(folder: &Path, provider: &str) -> Mark {
        let provider = serde_saphyr::from_str(provider).unwrap();
        let secrets = Secrets::Folder(folder.to_owned());
        let now = OffsetDateTime::now_utc();
        Material::read(&provider, &secrets, &control_plane(), Missing::Report, now).await.unwrap().mark
    }

    #[tokio::test]
    async fn every_secret_of_a_provider_and_each_of_its_fields_makes_a_difference() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, key: &str, text: &str| {
            let secret = folder.path().join("a").join(name);
            std::fs::create_dir_all(&secret).unwrap();
            std::fs::write(secret.join(key), text).unwrap();
        };
        let vault = "vault: { host: h, port: 8200, role: r, protocol: https, \
            token: { secretKeyRef: { name: token, namespace: a, key: t } }, \
            serverCa: { secretKeyRef: { name: ca, namespace: a, key: c } } }";
        let key_vault = "azureKeyVault: { vaultURL: 'https://v.vault.azure.net', keyName: k, keyVersion: v, \
            caSecretRef: { name: chain, namespace: a, key: c }, \
            auth: { clientSecret: { tenantID: t, clientID: c, \
            secretKeyRef: { name: application, namespace: a, key: p } } } }";
        for (provider, secrets, field) in [
            (vault, [("token", "t"), ("ca", "c")], ("host: h", "host: i")),
            (key_vault, [("application", "p"), ("chain", "c")], ("keyVersion: v", "keyVersion: w")),
        ] {
            for (name, key) in secrets {
                write(name, key, "one");
            }
            let before = mark(folder.path(), provider).await;
            for (name, key) in secrets {
                write(name, "another-key", "one");
                assert_eq!(mark(folder.path(), provider).await, before, "{name}: nothing that it reads was changed");
                write(name, key, "two");
                assert_ne!(mark(folder.path(), provider).await, before, "{name}");
                write(name, key, "one");
                assert_eq!(mark(folder.path(), provider).await, before, "{name}: as it was");
            }
            assert_ne!(mark(folder.path(), &provider.replace(field.0, field.1)).await, before, "{}", field.0);
        }
    }

    fn control_plane() -> ControlPlaneIdentity {
        let domain = osm_issuer::TrustDomain::new("mesh.example").unwrap();
        ControlPlaneIdentity::new(domain, "osm-system", "osm-controller").unwrap()
    }

    #[test]
    fn cert_manager_without_a_cluster_or_with_another_kind_of_issuer_is_a_finding_that_names_the_field() {
        let control_plane = control_plane();
        let secrets = Secrets::Folder("/nowhere".into());
        let reading = Reading { secrets: &secrets, control_plane: &control_plane, marking: Marking::new() };
        let problem = |kind: &str, name: &str| {
            let provider = CertManagerProvider {
                issuer_name: name.to_owned(),
                issuer_kind: kind.to_owned(),
                issuer_group: "cert-manager.io".to_owned(),
            };
            reading.cert_manager(&provider).unwrap_err()
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
