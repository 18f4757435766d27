use super::*;

fn spec(yaml: &str) -> MeshRootCertificateSpec {
    serde_saphyr::from_str(yaml).unwrap()
}

const TRESOR: &str = "tresor: {ca: {secretRef: {name: osm-ca-bundle, namespace: osm-system}}}";
const CERT_MANAGER: &str = "certManager: {issuerName: osm-ca, issuerKind: Issuer, issuerGroup: cert-manager.io}";

#[test]
fn an_object_of_osm_1_2_is_an_active_root_of_cluster_local() {
    let spec = spec(&format!("provider: {{{TRESOR}}}"));
    assert_eq!(spec.trust_domain(), "cluster.local");
    assert_eq!(spec.role(), Role::Active);
    assert!(!spec.spiffe_enabled());
    match spec.provider.provider().unwrap() {
        Provider::Tresor(tresor) => assert_eq!(tresor.ca.secret_ref.name, "osm-ca-bundle"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn none_or_several_providers_are_an_error_that_says_what_to_do() {
    let none = spec("provider: {}").provider.provider().unwrap_err();
    assert_eq!(none, ProviderError::Missing);
    let both = spec(&format!("provider: {{{TRESOR}, {CERT_MANAGER}}}"));
    assert_eq!(
        both.provider.provider().unwrap_err().to_string(),
        "spec.provider: several providers are set (certManager, tresor); keep one"
    );
}

#[test]
fn the_only_provider_is_found_whichever_it_is() {
    let spec = spec(&format!("role: passive\nprovider: {{{CERT_MANAGER}}}"));
    assert!(matches!(spec.provider.provider(), Ok(Provider::CertManager(_))));
    assert_eq!(spec.role(), Role::Passive);
}

#[test]
fn a_status_that_osm_wrote_is_kept() {
    let text = r#"{
        "state": "somethingElse",
        "transitionAfter": "2023-01-01T00:00:00Z",
        "componentStatuses": {"xdsControlPlane": "issuing", "sidecar": "unknown"}
    }"#;
    let status: MeshRootCertificateStatus = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(status).unwrap(), serde_json::from_str::<serde_json::Value>(text).unwrap());
}

#[test]
fn what_is_new_in_providers_may_be_left_out() {
    let vault = "vault: {host: vault.example, port: 8200, role: mesh, protocol: https, \
        token: {secretKeyRef: {name: osm-vault-token, key: token, namespace: osm-system}}}";
    match spec(&format!("provider: {{{vault}}}")).provider.provider().unwrap() {
        Provider::Vault(vault) => {
            assert_eq!((vault.mount_path(), &vault.namespace), ("pki", &None));
            assert!(vault.token.is_some() && vault.kubernetes_auth.is_none() && vault.server_ca.is_none());
        }
        other => panic!("{other:?}"),
    }
    let login = "vault: {host: vault.example, port: 8200, role: mesh, protocol: https, mountPath: pki-mesh, \
        kubernetesAuth: {role: osm}}";
    match spec(&format!("provider: {{{login}}}")).provider.provider().unwrap() {
        Provider::Vault(vault) => {
            assert_eq!(vault.mount_path(), "pki-mesh");
            assert_eq!(vault.kubernetes_auth.as_ref().map(VaultKubernetesAuth::mount_path), Some("kubernetes"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn key_vault_is_a_provider_like_the_others() {
    let key_vault = "azureKeyVault: {vaultURL: 'https://mesh.vault.azure.net', keyName: root, keyVersion: '1', \
        certificateName: root, auth: {managedIdentity: {clientID: '7'}}}";
    match spec(&format!("provider: {{{key_vault}}}")).provider.provider().unwrap() {
        Provider::AzureKeyVault(vault) => {
            assert_eq!((vault.vault_url.as_str(), vault.key_version.as_str()), ("https://mesh.vault.azure.net", "1"));
            let identity = vault.auth.as_ref().and_then(|auth| auth.managed_identity.as_ref());
            assert_eq!(identity.and_then(|identity| identity.client_id.as_deref()), Some("7"));
        }
        other => panic!("{other:?}"),
    }
    let both = spec(&format!("provider: {{{key_vault}, {TRESOR}}}"));
    assert_eq!(
        both.provider.provider().unwrap_err().to_string(),
        "spec.provider: several providers are set (azureKeyVault, tresor); keep one"
    );
}
