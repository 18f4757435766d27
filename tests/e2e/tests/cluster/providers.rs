//! The root of the mesh goes from provider to provider under load, by editing roles as a user does: Tresor, Vault, cert-manager, Azure
//! Key Vault and Tresor again.
//!
//! Vault is an OpenBao, cert-manager is cert-manager; of Azure Key Vault only a double can be had.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use osm_cluster::CertManager;
use osm_e2e::ClusterWorld;
use osm_key_vault_double::{CLIENT, CLIENT_SECRET, KeyKind, KeyVaultDouble, Operation, TENANT};
use osm_open_bao::OpenBao;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::LIMIT;
use crate::application::{NAMESPACE, load, unharmed};

const CONTROL_PLANE: &str = "osm-system";
/// Key and certificate in Azure Key Vault.
const KEY: &str = "mesh-root";
/// Secrets with what the control plane shows to providers. They exist as long as the providers do.
pub(crate) const CREDENTIALS: [&str; 3] = ["vault-token", "vault-ca", "azure-application"];
/// ConfigMap with the authority of the double of Azure Key Vault.
pub(crate) const AUTHORITIES: &str = "authorities";

/// Who can sign for the mesh beside it.
pub(crate) struct Providers {
    vault: OpenBao,
    vault_token: String,
    key_vault: KeyVaultDouble,
    key_version: String,
    _cert_manager: CertManager,
}

/// A MeshRootCertificate.
struct Root {
    name: &'static str,
    provider: Value,
    /// Its certificate, as PEM.
    certificate: String,
}

impl Providers {
    /// Starts them, and lets the mesh know how to reach them once it is installed.
    pub(crate) async fn start(world: &mut ClusterWorld) -> Result<Self> {
        let here = world.cluster().host_address();
        let vault = OpenBao::start_at(here).await;
        vault.set_up().await;
        let vault_token = vault.token_in(None, json!({})).await;
        let key_vault = KeyVaultDouble::start_at(here).await?;
        let key_version = key_vault.create_root(KEY, KeyKind::P256)?;
        let hosts: Vec<(String, IpAddr)> = key_vault.hosts().into_iter().map(|(name, at)| (name, at.ip())).collect();
        world.cluster().set_hosts(&hosts).await?;
        let secret = |name: &str, key: &str, value: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "namespace": CONTROL_PLANE, "name": name },
                "stringData": { key: value },
            })
        };
        let authorities = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "namespace": CONTROL_PLANE, "name": AUTHORITIES },
            "data": { "ca.crt": key_vault.ca_pem() },
        });
        let [token, ca, application] = CREDENTIALS;
        let objects = [
            secret(token, "token", &vault_token),
            secret(ca, "ca.crt", vault.ca_pem()),
            secret(application, "password", CLIENT_SECRET),
            authorities,
        ];
        world.apply_objects(&objects).await?;
        let cluster = world.cluster();
        CertManager::install_crds(cluster.kubectl()).await?;
        let cert_manager = CertManager::start(&cluster.kubeconfig(), CONTROL_PLANE).await?;
        cluster.kubectl().apply(CertManager::ISSUERS).await?;
        world.set_values(vec![
            format!("osm.rootSecretNames={{next-root,{}}}", CREDENTIALS.join(",")),
            "osm.certmanager.allow=true".to_owned(),
            format!("osm.osmController.authoritiesConfigMapName={AUTHORITIES}"),
            "osm.osmController.env[0].name=AZURE_AUTHORITY_HOST".to_owned(),
            format!("osm.osmController.env[0].value={}", key_vault.authority_host()),
        ]);
        Ok(Self { vault, vault_token, key_vault, key_version, _cert_manager: cert_manager })
    }

    /// What nobody may read anywhere but in its Secret.
    pub(crate) fn secrets(&self) -> [&str; 2] {
        [&self.vault_token, CLIENT_SECRET]
    }

    /// Takes away what was made for them and is not needed by a mesh whose root is its own.
    pub(crate) async fn end(self, world: &ClusterWorld) -> Result<()> {
        let kubectl = world.kubectl();
        kubectl.output(&[&["delete", "secret", "-n", CONTROL_PLANE][..], &CREDENTIALS].concat()).await?;
        let kinds = "certificates,issuers,certificaterequests";
        kubectl.output(&["delete", kinds, "-n", CONTROL_PLANE, "--all"]).await?;
        kubectl.output(&["delete", "clusterissuers", "--all"]).await?;
        kubectl.output(&["delete", "secret", "-n", CONTROL_PLANE, "root"]).await.map(drop)
    }

    /// The roots in the order in which they take each other's place, from the one that signs from the beginning, as OSM's own object
    /// names it, to one in a Secret that the installation grants.
    async fn roots(&self, world: &ClusterWorld) -> Result<[Root; 5]> {
        let tresor = |secret: &str| json!({ "tresor": { "ca": { "secretRef": { "name": secret, "namespace": CONTROL_PLANE } } } });
        let key = |index: usize, key: &str| json!({ "secretKeyRef": { "namespace": CONTROL_PLANE, "name": CREDENTIALS[index], "key": key } });
        let address = self.vault.address();
        let vault = json!({ "vault": {
            "protocol": "https", "host": address.ip().to_string(), "port": address.port(), "role": "osm",
            "token": key(0, "token"), "serverCa": key(1, "ca.crt"),
        } });
        let cert_manager = json!({ "certManager": { "issuerName": "osm-ca", "issuerKind": "Issuer", "issuerGroup": "cert-manager.io" } });
        let mut application = key(2, "password");
        application["tenantID"] = json!(TENANT);
        application["clientID"] = json!(CLIENT);
        let azure = json!({ "azureKeyVault": {
            "vaultURL": self.key_vault.vault_url(), "keyName": KEY, "keyVersion": self.key_version, "certificateName": KEY,
            "auth": { "clientSecret": application },
        } });
        let of_vault = self.vault.read("root-pki/cert/ca").await["data"]["certificate"].as_str().map(str::to_owned);
        let root = |name, provider, certificate| Root { name, provider, certificate };
        Ok([
            root("osm-mesh-root-certificate", tresor("osm-ca-bundle"), String::new()),
            root("vault", vault, of_vault.context("Vault tells its root")?),
            root("cert-manager", cert_manager, certificate_in(world, "root").await?),
            root("key-vault", azure, self.key_vault.certificate_pem(KEY, &self.key_version)?),
            root("next", tresor("next-root"), String::new()),
        ])
    }
}

/// The certificate of the authority in a Secret.
async fn certificate_in(world: &ClusterWorld, secret: &str) -> Result<String> {
    let template = "go-template={{index .data \"ca.crt\" | base64decode}}";
    world.kubectl().output(&["get", "secret", secret, "-n", CONTROL_PLANE, "-o", template]).await
}

/// No request fails, no container starts again, and both replicas, the webhooks, every namespace and every proxy have come along.
pub(crate) async fn succeed_each_other(world: &ClusterWorld, providers: &Providers) -> Result<()> {
    let before = restarts(world).await?;
    let load = load(world).await?;
    let roots = providers.roots(world).await?;
    for pair in roots.windows(2) {
        let [old, new] = pair else { continue };
        replace(world, old, new).await.with_context(|| format!("from {} to {}", old.name, new.name))?;
    }
    unharmed(load).await?;
    let after = restarts(world).await?;
    let again: Vec<_> = before.iter().filter(|(name, count)| after.get(*name) != Some(count)).collect();
    ensure!(again.is_empty(), "{again:?} of {after:?}");
    let signed = providers.vault.audited().iter().filter(|path| *path == "pki/sign/osm").count();
    ensure!(signed > 0 && providers.key_vault.count(Operation::Sign) > 0, "a provider has signed nothing");
    Ok(())
}

/// Each role by itself, as a careful user edits them.
async fn replace(world: &ClusterWorld, old: &Root, new: &Root) -> Result<()> {
    let began = Instant::now();
    let so_far = || began.elapsed().as_secs_f64();
    set(world, old, "active").await?;
    state(world, old, "active").await?;
    set(world, new, "passive").await?;
    state(world, new, "validatingRollout").await?;
    let trusted = so_far();
    set(world, new, "active").await?;
    set(world, old, "passive").await?;
    state(world, new, "active").await?;
    let signs = so_far();
    set(world, old, "inactive").await?;
    state(world, old, "inactive").await?;
    let status = state(world, new, "active").await?;
    let (from, to) = (old.name, new.name);
    println!("{from} to {to}: trusted after {trusted:.1} s, signs after {signs:.1} s, alone after {:.1} s", so_far());
    let counts = status["propagation"]["acked"].as_str().unwrap_or_default().split_once('/');
    ensure!(counts.is_some_and(|(acknowledged, all)| acknowledged == all && all != "0"), "{status}");
    let components = &status["componentStatuses"];
    for (component, usage) in [
        ("sidecar", "issuing"),
        ("xdsControlPlane", "issuing"),
        ("bootstrap", "validating"),
        ("mutatingWebhook", "validating"),
        ("validatingWebhook", "validating"),
    ] {
        ensure!(components[component] == usage, "{component} of {components}");
    }
    one_root_everywhere(world, new).await?;
    if old.name != "osm-mesh-root-certificate" {
        world.kubectl().output(&["delete", "mrc", "-n", CONTROL_PLANE, old.name]).await?;
    }
    Ok(())
}

async fn set(world: &ClusterWorld, root: &Root, role: &str) -> Result<()> {
    let root = json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "namespace": CONTROL_PLANE, "name": root.name },
        "spec": { "role": role, "provider": root.provider },
    });
    world.apply_objects(&[root]).await
}

/// Waits until a root has come to a state, and its status is about what was asked for last.
async fn state(world: &ClusterWorld, root: &Root, state: &str) -> Result<Value> {
    let name = root.name;
    eventually(&format!("{name} is {state}"), LIMIT, || async {
        let root = world.json(&["get", "mrc", name, "-n", CONTROL_PLANE]).await?;
        let status = &root["status"];
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        let is_current = status["observedGeneration"] == root["metadata"]["generation"];
        ensure!(ready && is_current && status["state"] == state, "{status}");
        Ok(status.clone())
    })
    .await
}

/// The namespaces' ConfigMaps and the webhooks trust this root alone.
async fn one_root_everywhere(world: &ClusterWorld, root: &Root) -> Result<()> {
    let bare = |pem: &str| pem.split_whitespace().collect::<String>();
    let expected = match root.certificate.as_str() {
        // Tresor's is where the control plane made it.
        "" => {
            certificate_in(world, root.provider["tresor"]["ca"]["secretRef"]["name"].as_str().unwrap_or_default())
                .await?
        }
        known => known.to_owned(),
    };
    let maps = world.json(&["get", "configmaps", "-A", "--field-selector=metadata.name=osm-trust-bundle"]).await?;
    let maps = maps["items"].as_array().cloned().unwrap_or_default();
    ensure!(!maps.is_empty(), "no namespace has a trust bundle");
    for map in maps {
        let bundles = map["data"].as_object().into_iter().flatten();
        let bundles: Vec<String> = bundles.filter_map(|(_, text)| text.as_str().map(bare)).collect();
        ensure!(bundles == [bare(&expected)], "{} trusts {bundles:?}", map["metadata"]["namespace"]);
    }
    Ok(())
}

/// How often each container of the test's applications and of the control plane started again.
async fn restarts(world: &ClusterWorld) -> Result<BTreeMap<String, u64>> {
    let mut all = BTreeMap::new();
    for namespace in [NAMESPACE, CONTROL_PLANE] {
        let selector = "app in (echo,caller,other,osm-controller)";
        let pods = world.json(&["get", "pods", "-n", namespace, "-l", selector]).await?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let statuses = ["containerStatuses", "initContainerStatuses"];
            for status in statuses.iter().flat_map(|kind| pod["status"][*kind].as_array().into_iter().flatten()) {
                let name = format!("{namespace}/{}/{}", pod["metadata"]["name"], status["name"]);
                all.insert(name, status["restartCount"].as_u64().unwrap_or_default());
            }
        }
    }
    Ok(all)
}
