//! MeshRootCertificates: who signs, and the part each root plays.

use std::collections::BTreeSet;
use std::sync::Arc;

use osm_api::{
    AzureKeyVaultProvider, CertManagerProvider, MeshRootCertificate, MeshRootCertificateReason as Reason, Provider,
    REMOVE_ROOT_NOW_ANNOTATION, REMOVE_ROOT_NOW_VALUE, Role, SecretKeyReference, TresorProvider, VaultProvider,
    WAIVE_PROXIES_ANNOTATION,
};
use osm_model::{Origin, TrustDomain};

use crate::parsed::{Parsed, Report};

/// What a MeshRootCertificate says. Whether its provider can be used is found out by using it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFacts {
    /// The object and its generation.
    pub origin: Origin,
    /// The part it is to play.
    pub role: Role,
    /// The domain that its certificates vouch for.
    pub trust_domain: TrustDomain,
    /// How it is to go.
    pub removal: RootRemoval,
    /// Proxies that no step of a rotation waits for, as `namespace/serviceaccount/node`.
    pub waived: BTreeSet<Arc<str>>,
}

/// How a root that is not wanted any more goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootRemoval {
    /// When nobody uses it any more.
    WhenUnused,
    /// At once, whatever breaks ([`REMOVE_ROOT_NOW_ANNOTATION`]).
    Now,
}

/// Reads a MeshRootCertificate. One whose provider or trust domain cannot be used has no value.
pub fn mesh_root_certificate(object: &MeshRootCertificate) -> Parsed<RootFacts> {
    let mut report = Report::of(object);
    let spec = &object.spec;
    let provider = match spec.provider.provider() {
        Ok(provider) => provider_is_usable(provider, &mut report),
        Err(error) => {
            let message = error.to_string();
            let message = message.strip_prefix("spec.provider: ").unwrap_or(&message).to_owned();
            let remedy = "set exactly one of azureKeyVault, certManager, tresor and vault";
            report.refuse("spec.provider", Reason::InvalidProvider, message, remedy);
            false
        }
    };
    let trust_domain = match TrustDomain::new(spec.trust_domain()) {
        Ok(domain) => Some(domain),
        Err(error) => {
            let remedy = "use a DNS name in lower case";
            report.refuse("spec.trustDomain", Reason::InvalidField, error.to_string(), remedy);
            None
        }
    };
    let removal = removal(object, &mut report);
    let waived = waived(object, &mut report);
    let origin = report.origin("spec");
    let facts = trust_domain.filter(|_| provider).map(|trust_domain| RootFacts {
        origin,
        role: spec.role(),
        trust_domain,
        removal,
        waived,
    });
    report.finish(facts)
}

fn annotation<'a>(object: &'a MeshRootCertificate, name: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

fn removal(object: &MeshRootCertificate, report: &mut Report) -> RootRemoval {
    match annotation(object, REMOVE_ROOT_NOW_ANNOTATION) {
        None => RootRemoval::WhenUnused,
        Some(REMOVE_ROOT_NOW_VALUE) => RootRemoval::Now,
        Some(other) => {
            report.warn(
                format!("metadata.annotations[{REMOVE_ROOT_NOW_ANNOTATION}]"),
                Reason::InvalidField,
                format!("{other:?} removes nothing"),
                format!("write {REMOVE_ROOT_NOW_VALUE:?} to have the root removed at once, or remove the annotation"),
            );
            RootRemoval::WhenUnused
        }
    }
}

fn waived(object: &MeshRootCertificate, report: &mut Report) -> BTreeSet<Arc<str>> {
    let mut waived = BTreeSet::new();
    let text = annotation(object, WAIVE_PROXIES_ANNOTATION).unwrap_or_default();
    for proxy in text.split(',').map(str::trim).filter(|proxy| !proxy.is_empty()) {
        let parts: Vec<&str> = proxy.split('/').collect();
        if parts.len() == 3 && parts.iter().all(|part| !part.is_empty()) {
            waived.insert(Arc::from(proxy));
        } else {
            report.warn(
                format!("metadata.annotations[{WAIVE_PROXIES_ANNOTATION}]"),
                Reason::InvalidField,
                format!("{proxy:?} names no proxy"),
                "write proxies as namespace/serviceaccount/node, as status.waitsFor does",
            );
        }
    }
    waived
}

/// Whether the provider's fields make sense by themselves. A file can hold what an API server would refuse.
fn provider_is_usable(provider: Provider<'_>, report: &mut Report) -> bool {
    let problems = match provider {
        Provider::AzureKeyVault(key_vault) => of_key_vault(key_vault),
        Provider::CertManager(cert_manager) => of_cert_manager(cert_manager),
        Provider::Tresor(tresor) => of_tresor(tresor),
        Provider::Vault(vault) => of_vault(vault),
    };
    let usable = problems.is_empty();
    for Problem { field, message, remedy } in problems {
        report.refuse(field, Reason::InvalidProvider, message, remedy);
    }
    usable
}

struct Problem {
    field: String,
    message: String,
    remedy: &'static str,
}

fn problem(field: impl Into<String>, message: impl Into<String>, remedy: &'static str) -> Problem {
    Problem { field: field.into(), message: message.into(), remedy }
}

fn empty(field: &str, value: &str) -> Option<Problem> {
    value.trim().is_empty().then(|| problem(field, "it is empty", "fill it in"))
}

fn of_tresor(tresor: &TresorProvider) -> Vec<Problem> {
    let secret = &tresor.ca.secret_ref;
    let fields = [("name", &secret.name), ("namespace", &secret.namespace)];
    fields
        .iter()
        .filter_map(|(field, value)| empty(&format!("spec.provider.tresor.ca.secretRef.{field}"), value))
        .collect()
}

fn of_cert_manager(cert_manager: &CertManagerProvider) -> Vec<Problem> {
    const KIND: &str = "spec.provider.certManager.issuerKind";
    let kind = &cert_manager.issuer_kind;
    let unknown =
        !["Issuer", "ClusterIssuer"].contains(&kind.as_str()) && cert_manager.issuer_group == "cert-manager.io";
    let kind = unknown.then(|| problem(KIND, format!("{kind:?} is no kind of issuer"), "use Issuer or ClusterIssuer"));
    kind.into_iter()
        .chain(empty("spec.provider.certManager.issuerName", &cert_manager.issuer_name))
        .chain(empty("spec.provider.certManager.issuerGroup", &cert_manager.issuer_group))
        .collect()
}

fn of_vault(vault: &VaultProvider) -> Vec<Problem> {
    let mut problems: Vec<Problem> = empty("spec.provider.vault.host", &vault.host).into_iter().collect();
    problems.extend(empty("spec.provider.vault.role", &vault.role));
    match (&vault.token, &vault.kubernetes_auth) {
        (Some(token), None) => problems.extend(of_key("spec.provider.vault.token", &token.secret_key_ref)),
        (None, Some(login)) => problems.extend(empty("spec.provider.vault.kubernetesAuth.role", &login.role)),
        (None, None) | (Some(_), Some(_)) => problems.push(problem(
            "spec.provider.vault",
            "it has no way to log in, or two",
            "set exactly one of token and kubernetesAuth",
        )),
    }
    if let Some(ca) = &vault.server_ca {
        problems.extend(of_key("spec.provider.vault.serverCa", &ca.secret_key_ref));
    }
    problems
}

fn of_key_vault(key_vault: &AzureKeyVaultProvider) -> Vec<Problem> {
    const BELOW: &str = "spec.provider.azureKeyVault";
    let mut problems = Vec::new();
    if !key_vault.vault_url.starts_with("https://") {
        let message = format!("{:?} is no https address", key_vault.vault_url);
        problems.push(problem(format!("{BELOW}.vaultURL"), message, "use the address that Azure shows for the vault"));
    }
    problems.extend(empty(&format!("{BELOW}.keyName"), &key_vault.key_name));
    problems.extend(empty(&format!("{BELOW}.keyVersion"), &key_vault.key_version));
    match (&key_vault.certificate_name, &key_vault.ca_secret_ref) {
        (Some(name), None) => problems.extend(empty(&format!("{BELOW}.certificateName"), name)),
        (None, Some(secret)) => problems.extend(of_key(&format!("{BELOW}.caSecretRef"), secret)),
        (None, None) | (Some(_), Some(_)) => problems.push(problem(
            BELOW,
            "it does not say where the key's certificate is, or says so twice",
            "set exactly one of certificateName and caSecretRef",
        )),
    }
    if let Some(auth) = &key_vault.auth {
        let ways = [auth.client_secret.is_some(), auth.managed_identity.is_some(), auth.workload_identity.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            let remedy = "keep one of clientSecret, managedIdentity and workloadIdentity";
            problems.push(problem(format!("{BELOW}.auth"), "it has several ways to log in", remedy));
        }
        if let Some(secret) = &auth.client_secret {
            problems.extend(of_key(&format!("{BELOW}.auth.clientSecret"), &secret.secret_key_ref));
        }
    }
    problems
}

fn of_key(below: &str, secret: &SecretKeyReference) -> Vec<Problem> {
    let fields = [("name", &secret.name), ("key", &secret.key), ("namespace", &secret.namespace)];
    fields.iter().filter_map(|(field, value)| empty(&format!("{below}.secretKeyRef.{field}"), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(provider: &str, annotations: &[(&str, &str)]) -> Parsed<RootFacts> {
        let yaml = format!(
            "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshRootCertificate\n\
             metadata: {{ name: root, namespace: osm-system, generation: 3 }}\n\
             spec: {{ role: passive, trustDomain: mesh.example, provider: {{ {provider} }} }}\n"
        );
        let mut object: MeshRootCertificate = serde_saphyr::from_str(&yaml).unwrap();
        let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        object.metadata.annotations = Some(annotations.collect());
        mesh_root_certificate(&object)
    }

    fn fields(parsed: &Parsed<RootFacts>) -> Vec<&str> {
        parsed.findings.iter().map(|finding| &*finding.field).collect()
    }

    const TRESOR: &str = "tresor: { ca: { secretRef: { name: new-root, namespace: osm-system } } }";

    #[test]
    fn a_root_says_its_role_and_who_is_waived() {
        let proxies = "shop/web/web-1, shop/web/web-2,,nonsense";
        let parsed = read(TRESOR, &[(WAIVE_PROXIES_ANNOTATION, proxies)]);
        assert_eq!(fields(&parsed), ["metadata.annotations[openservicemesh.io/waive-proxies]"]);
        let facts = parsed.value.unwrap();
        assert_eq!((facts.role, facts.trust_domain.as_str()), (Role::Passive, "mesh.example"));
        assert_eq!(facts.waived, BTreeSet::from(["shop/web/web-1".into(), "shop/web/web-2".into()]));
        assert_eq!(facts.removal, RootRemoval::WhenUnused);
    }

    #[test]
    fn a_root_goes_at_once_only_if_the_annotation_says_what_that_does() {
        let parsed = read(TRESOR, &[(REMOVE_ROOT_NOW_ANNOTATION, "breaks-traffic")]);
        assert_eq!((parsed.findings.len(), parsed.value.unwrap().removal), (0, RootRemoval::Now));
        let parsed = read(TRESOR, &[(REMOVE_ROOT_NOW_ANNOTATION, "true")]);
        assert_eq!(fields(&parsed), ["metadata.annotations[openservicemesh.io/remove-root-now]"]);
        assert_eq!(parsed.value.unwrap().removal, RootRemoval::WhenUnused);
    }

    #[test]
    fn what_is_wrong_with_a_provider_is_named_with_its_field() {
        let token = "token: { secretKeyRef: { name: a, key: b, namespace: c } }";
        let vault = "host: vault.example, port: 8200, role: mesh, protocol: https";
        let key_vault = "vaultURL: 'https://a', keyName: root, keyVersion: '1'";
        for (provider, field) in [
            ("", "spec.provider"),
            (
                &*format!("{TRESOR}, certManager: {{ issuerName: a, issuerKind: Issuer, issuerGroup: b }}"),
                "spec.provider",
            ),
            (
                "tresor: { ca: { secretRef: { name: '', namespace: osm-system } } }",
                "spec.provider.tresor.ca.secretRef.name",
            ),
            (
                "certManager: { issuerName: a, issuerKind: Issuers, issuerGroup: cert-manager.io }",
                "spec.provider.certManager.issuerKind",
            ),
            (&*format!("vault: {{ {vault} }}"), "spec.provider.vault"),
            (&*format!("vault: {{ {vault}, {token}, kubernetesAuth: {{ role: osm }} }}"), "spec.provider.vault"),
            (
                &*format!("vault: {{ {vault}, token: {{ secretKeyRef: {{ name: a, key: '', namespace: c }} }} }}"),
                "spec.provider.vault.token.secretKeyRef.key",
            ),
            (&*format!("azureKeyVault: {{ {key_vault} }}"), "spec.provider.azureKeyVault"),
            (
                "azureKeyVault: { vaultURL: 'http://a', keyName: root, keyVersion: '1', certificateName: root }",
                "spec.provider.azureKeyVault.vaultURL",
            ),
            (
                &*format!(
                    "azureKeyVault: {{ {key_vault}, certificateName: root, \
                     auth: {{ managedIdentity: {{}}, workloadIdentity: {{}} }} }}"
                ),
                "spec.provider.azureKeyVault.auth",
            ),
        ] {
            let parsed = read(provider, &[]);
            assert_eq!((fields(&parsed), &parsed.value), (vec![field], &None), "{provider}");
        }
    }

    #[test]
    fn every_provider_that_is_written_well_is_taken() {
        for provider in [
            TRESOR,
            "certManager: { issuerName: a, issuerKind: ClusterIssuer, issuerGroup: cert-manager.io }",
            "certManager: { issuerName: a, issuerKind: AWSPCAIssuer, issuerGroup: awspca.cert-manager.io }",
            "vault: { host: a, port: 8200, role: mesh, protocol: https, kubernetesAuth: { role: osm } }",
            "azureKeyVault: { vaultURL: 'https://a', keyName: root, keyVersion: '1', certificateName: root }",
        ] {
            let parsed = read(provider, &[]);
            assert!(parsed.findings.is_empty() && parsed.value.is_some(), "{provider}: {:?}", parsed.findings);
        }
    }
}
