//! The certificate of an ingress gateway: in its Secret, in the status of the MeshConfig, and in a change of roots.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use osm_issuer::{
    Blame, IngressGatewayIdentity, LeafCertificate, PeerIdentity, PrivateKeyPem, TrustBundle, TrustDomain,
};
use osm_kubernetes::RuleNames;
use osm_testkit::eventually;
use serde_json::{Value, json};

use crate::roots::{TIMES, path, root, wait_for_record};
use crate::world::{CONTROL_PLANE, LIMIT, MESH_CONFIG_PATH, World, condition};

const SECRET: &str = "/api/v1/namespaces/ingress/secrets/gateway-tls";
const KEYS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];

/// A MeshConfig that asks for a certificate with these names, in a Secret of the namespace `ingress`.
pub(crate) fn mesh_config(names: &[&str], secret: &str) -> String {
    json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
        "metadata": { "namespace": CONTROL_PLANE, "name": "osm-mesh-config" },
        "spec": { "certificate": {
            "serviceCertValidityDuration": "24h", "certKeyBitSize": 2048,
            "ingressGateway": {
                "subjectAltNames": names, "validityDuration": "24h",
                "secret": { "name": secret, "namespace": "ingress" },
            },
        } },
    })
    .to_string()
}

fn secret(name: &str, metadata: Value, data: &[&str]) -> String {
    let mut metadata = metadata;
    (metadata["namespace"], metadata["name"]) = (json!("ingress"), json!(name));
    let data: BTreeMap<&str, String> = data.iter().map(|key| (*key, STANDARD.encode("of before"))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": metadata, "data": data })
        .to_string()
}

/// The Role in the namespace of the gateway, as the chart makes it, and its binding to whoever a control plane runs as.
pub(crate) fn role() -> String {
    let rules = osm_kubernetes::rules(&RuleNames {
        lease: "osm-controller".into(),
        config_maps: vec![],
        read_config_maps: vec![],
        own_config_maps: vec![],
        read_secrets: vec![],
        own_secrets: vec![],
        gateway_secrets: vec!["gateway-tls".into()],
        mutating_webhooks: vec![],
        validating_webhooks: vec![],
    });
    role_of("ingress", &json!(rules.gateway_namespace))
}

fn role_of(namespace: &str, rules: &Value) -> String {
    let metadata = json!({ "namespace": namespace, "name": "osm-operator-of-the-test" });
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules,
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "osm-operator-of-the-test" },
        "subjects": [{ "kind": "ServiceAccount", "name": "osm-controller", "namespace": CONTROL_PLANE }],
    });
    format!("{role}\n---\n{binding}\n")
}

/// What is in the Secret, by its keys.
async fn keys(world: &World) -> Result<BTreeMap<String, String>> {
    let secret = world.get(SECRET).await?;
    let data = secret["data"].as_object().context("the Secret has keys")?;
    let text = |value: &Value| -> Result<String> {
        Ok(String::from_utf8(STANDARD.decode(value.as_str().unwrap_or_default())?)?)
    };
    data.iter().map(|(key, value)| Ok((key.clone(), text(value)?))).collect()
}

/// Waits until the Secret holds a certificate with these names that the authority in a Secret of the control plane has signed, and
/// so many roots, which verify it.
async fn wait_for_certificate(world: &World, authority: &str, names: &[&str], roots: usize) -> Result<String> {
    let domain = TrustDomain::new("cluster.local")?;
    let identity = IngressGatewayIdentity::new(domain, "ingress", "gateway-tls", names.iter().copied())?;
    let identity = PeerIdentity::IngressGateway(identity);
    eventually(
        &format!("a certificate of {authority} for {names:?} is in the Secret, with {roots} roots"),
        LIMIT,
        || async {
            let keys = keys(world).await?;
            ensure!(keys.keys().eq(KEYS), "{:?}", keys.keys());
            let bundle = TrustBundle::from_pem(&keys["ca.crt"])?;
            ensure!(bundle.roots().len() == roots, "{} roots", bundle.roots().len());
            let store = world.authority_in(authority).await?;
            let (origin, key) = (Blame::Process, PrivateKeyPem::new(keys["tls.key"].clone()));
            // Key, names, signature and validity.
            let leaf = store.adopt(&identity, &keys["tls.crt"], key, origin).await?;
            let chain = leaf.material().certificate_chain();
            ensure!(bundle.verifies(chain, leaf.issued_at()), "the roots do not verify it");
            ensure!(leaf.not_after() - leaf.issued_at() == time::Duration::hours(24), "{}", leaf.not_after());
            Ok(LeafCertificate::serial(&leaf).to_owned())
        },
    )
    .await
}

async fn wait_for_problem(world: &World, reason: &str, words: &str) -> Result<()> {
    let told = |status: &Value| {
        let is_false = condition(status, "ResolvedRefs") == Some(("False".to_owned(), reason.to_owned()));
        is_false && status["conditions"].to_string().contains(words) && status["ingressGateway"].is_null()
    };
    world.wait_for_status(MESH_CONFIG_PATH, &format!("the MeshConfig says {reason}: {words}"), told).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_has_a_certificate_in_its_secret_as_long_as_the_mesh_config_asks_for_it() -> Result<()> {
    let world = World::start().await?;
    let kubectl = world.server.kubectl();
    world.apply(&mesh_config(&["gateway.example"], "gateway-tls")).await?;
    let operator = world.operator("a", &[]).await?;
    // Nobody has made the namespace yet. Then there is what OSM's control plane left, which is taken over.
    wait_for_problem(&world, "SecretNotWritten", "create the namespace ingress").await?;
    kubectl.output(&["create", "namespace", "ingress"]).await?;
    world.apply(&secret("gateway-tls", json!({}), &KEYS)).await?;
    wait_for_certificate(&world, "osm-ca-bundle", &["gateway.example"], 1).await?;
    let ready = world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    let status = &ready["status"]["ingressGateway"];
    ensure!(status["secret"] == "ingress/gateway-tls" && status["expires"].is_string(), "{}", ready["status"]);

    // Other names, one of which is none.
    world.apply(&mesh_config(&["gateway.example", "shop.example", "*.example"], "gateway-tls")).await?;
    let names = ["gateway.example", "shop.example"];
    let serial = wait_for_certificate(&world, "osm-ca-bundle", &names, 1).await?;
    let warned = |status: &Value| {
        let accepted = condition(status, "Accepted") == Some(("True".to_owned(), "InvalidField".to_owned()));
        accepted && status["conditions"].to_string().contains("subjectAltNames[2]")
    };
    world.wait_for_status(MESH_CONFIG_PATH, "a name is none", warned).await?;

    // Deleted by somebody: it is made again, with the same certificate.
    kubectl.output(&["delete", "secret", "-n", "ingress", "gateway-tls"]).await?;
    ensure!(wait_for_certificate(&world, "osm-ca-bundle", &names, 1).await? == serial);
    // No key is anywhere else.
    let key = keys(&world).await?["tls.key"].lines().nth(1).context("the key has lines")?.to_owned();
    ensure!(!operator.log().contains(&key) && !world.get(MESH_CONFIG_PATH).await?.to_string().contains(&key));
    operator.stop().await?;

    // Another control plane takes up the certificate, and has nothing to write.
    let operator = world.operator("b", &[]).await?;
    eventually("the certificate is taken up", LIMIT, || async {
        let page = operator.json("/debug/certificates").await?;
        let gateway = page.as_array().context("a list")?.iter().find(|one| one["kind"] == "ingressGateway").cloned();
        let gateway = gateway.context("there is none yet")?;
        ensure!(gateway["leaf"]["serial"] == *serial, "{gateway}");
        Ok(())
    })
    .await?;
    let leads = |status: &Value| status["ingressGateway"]["secret"] == "ingress/gateway-tls";
    world.wait_for_status(MESH_CONFIG_PATH, "the status stays", leads).await?;

    // A Secret of somebody else's is named, and is left as it is.
    let theirs = json!({ "annotations": { "cert-manager.io/certificate-name": "theirs" } });
    world.apply(&secret("theirs", theirs, &KEYS)).await?;
    world.apply(&mesh_config(&names, "theirs")).await?;
    wait_for_problem(&world, "SecretNotOurs", "cert-manager keeps it").await?;
    // Nothing is asked for any more: what is there stays.
    kubectl
        .output(&[
            "patch",
            "meshconfig",
            "-n",
            CONTROL_PLANE,
            "osm-mesh-config",
            "--type=merge",
            "--patch",
            r#"{"spec":{"certificate":null}}"#,
        ])
        .await?;
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    ensure!(world.get(MESH_CONFIG_PATH).await?["status"]["ingressGateway"].is_null());
    ensure!(wait_for_certificate(&world, "osm-ca-bundle", &names, 1).await? == serial);
    let writes = world.operator_writes()?;
    let of_b = writes.iter().filter(|(user, _, what)| user == "operator-b" && what.starts_with("secrets/"));
    ensure!(of_b.count() == 0, "{writes:?}");
    operator.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_roots_waits_for_the_gateway() -> Result<()> {
    let world = World::start().await?;
    let kubeconfig = crate::rights::install(&world).await?;
    world.server.kubectl().output(&["create", "namespace", "ingress"]).await?;
    let next = json!([
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["next-root"], "verbs": ["get"] },
    ]);
    world.apply(&role_of(CONTROL_PLANE, &next)).await?;
    world.apply(&mesh_config(&["gateway.example"], "gateway-tls")).await?;
    world.apply(&root("first", "osm-ca-bundle", "active")).await?;
    let operator = world.start_operator_as("a", &kubeconfig, &TIMES).await?;
    operator.wait_until_ready().await?;
    wait_for_problem(&world, "SecretNotWritten", "osm.ingressGateway.secret.name=gateway-tls").await?;

    world.apply(&root("next", "next-root", "passive")).await?;
    world.apply(&root("next", "next-root", "active")).await?;
    world.apply(&root("first", "osm-ca-bundle", "passive")).await?;
    let waits = |status: &Value| {
        status["waitsForCount"] == 1 && status["waitsFor"].to_string().contains("the ingress gateway does not trust")
    };
    world.wait_for_status(&path("next"), "the gateway is waited for", waits).await?;
    wait_for_record(&world, "first", &["first", "next"]).await?;

    // The right is granted: both roots are in the Secret before the new one signs, and the old one goes last.
    world.apply(&role()).await?;
    wait_for_certificate(&world, "next-root", &["gateway.example"], 2).await?;
    wait_for_record(&world, "next", &["first", "next"]).await?;
    let uses = |usage: &'static str| move |status: &Value| status["componentStatuses"]["gateway"] == usage;
    world.wait_for_status(&path("next"), "the gateway shows the new root's", uses("issuing")).await?;
    world.wait_for_status(&path("first"), "and trusts the old one", uses("validating")).await?;
    world.apply(&root("first", "osm-ca-bundle", "inactive")).await?;
    wait_for_record(&world, "next", &["next"]).await?;
    wait_for_certificate(&world, "next-root", &["gateway.example"], 1).await?;
    world.wait_for_status(&path("first"), "the gateway does not use the old one", uses("unused")).await?;

    // In this order, as the API server saw it: the Secret was made, and had the new certificate before the old root went.
    world.wait_ready(MESH_CONFIG_PATH, "0/0").await?;
    operator.stop().await
}
