//! The keeper of the trust bundles' ConfigMaps on a real API server, with the rights that its role gives it and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use osm_bootstrap::names;
use osm_cluster::{ApiServer, KubernetesVersion};
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{Blame, CertificateStore, Clock, IssuerConfig, Issuers, NamedIssuer, StoreConfig, TrustBundle};
use osm_kubernetes::{Leadership, RuleNames, StoredObjects, Writer};
use osm_operator::{Namespaces, TrustBundles, WrittenRoots};
use osm_testkit::eventually;
use serde_json::{Value, json};
use tokio::sync::watch;

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(60);

fn authority() -> Result<NamedIssuer> {
    let now = Clock::system().now();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, now)?;
    Ok(IssuerConfig::Tresor(TresorConfig { material, origin: Blame::Process }).build(now)?)
}

/// The ConfigMap of a namespace, and its version; `None` if there is none.
async fn config_map(server: &ApiServer, namespace: &str) -> Result<Option<Value>> {
    let list = ["get", "configmaps", "-n", namespace, "-o", "json"];
    let list: Value = serde_json::from_str(&server.kubectl().output(&list).await?)?;
    let items = list["items"].as_array().context("a list has items")?;
    Ok(items.iter().find(|item| item["metadata"]["name"] == names::TRUST_BUNDLE_CONFIG_MAP).cloned())
}

/// Waits until the ConfigMap of a namespace holds `pem`, or is not there.
async fn eventually_holds(server: &ApiServer, namespace: &str, pem: Option<&str>) -> Result<Option<Value>> {
    eventually(&format!("the ConfigMap of {namespace} is as expected"), LIMIT, || async {
        let found = config_map(server, namespace).await?;
        let data = found.as_ref().map(|found| found["data"].clone());
        ensure!(data == pem.map(|pem| json!({ names::TRUST_BUNDLE_KEY: pem })), "it holds {data:?}");
        Ok(found)
    })
    .await
}

/// What was asked of the API server about ConfigMaps by the operator: verbs with how often.
fn asked(server: &ApiServer) -> Result<BTreeMap<String, usize>> {
    let mut verbs = BTreeMap::new();
    for line in std::fs::read_to_string(server.audit_log())?.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let is_operator = line["user"]["username"] == "system:serviceaccount:osm-system:osm";
        if is_operator && line["objectRef"]["resource"] == "configmaps" {
            *verbs.entry(line["verb"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    Ok(verbs)
}

/// The role of the operator, as far as ConfigMaps in the mesh's namespaces go.
fn role() -> Result<String> {
    let rules = osm_kubernetes::rules(&RuleNames {
        lease: "osm-controller".into(),
        config_maps: vec![names::TRUST_BUNDLE_CONFIG_MAP.into()],
        read_config_maps: Vec::new(),
        own_config_maps: Vec::new(),
        read_secrets: Vec::new(),
        own_secrets: Vec::new(),
        gateway_secrets: vec![],
        mutating_webhooks: Vec::new(),
        validating_webhooks: Vec::new(),
    });
    let rules: Vec<_> = rules.cluster.into_iter().filter(|rule| rule.resources == ["configmaps"]).collect();
    ensure!(rules.len() == 1, "{rules:?}");
    let documents = [
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": { "name": "osm" }, "rules": rules,
        }),
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": "osm" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "osm" },
            "subjects": [{ "kind": "ServiceAccount", "name": "osm", "namespace": "osm-system" }],
        }),
    ];
    Ok(documents.map(|document| format!("---\n{document}\n")).concat())
}

const OBJECTS: &str = r"
apiVersion: v1
kind: Namespace
metadata: { name: osm-system }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: osm, namespace: osm-system }
---
apiVersion: v1
kind: Namespace
metadata: { name: a }
---
apiVersion: v1
kind: Namespace
metadata: { name: b }
---
apiVersion: v1
kind: Namespace
metadata: { name: outside }
---
apiVersion: v1
kind: ConfigMap
metadata: { name: osm-trust-bundle, namespace: outside }
data: { mine: content }
";

fn members(names: &[&str]) -> Namespaces {
    Some(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>())
}

#[tokio::test]
async fn every_namespace_of_the_mesh_has_the_roots_and_no_other_has() -> Result<()> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    let kubectl = server.kubectl();
    kubectl.apply(OBJECTS).await?;
    kubectl.apply(&role()?).await?;
    let kubeconfig = server.kubeconfig_for_service_account("osm-system", "osm").await?;
    let client = osm_kubernetes::client(Some(&kubeconfig)).await?;
    let (first, second) = (authority()?, authority()?);
    let issuers = |validating| Issuers { signing: first.clone(), validating };
    let store = Arc::new(CertificateStore::new(issuers(Vec::new()), StoreConfig::default(), Clock::system()));
    let (tell, namespaces) = watch::channel(None);
    let (elect, leadership) = watch::channel(Leadership::Follower);
    let labels: BTreeMap<String, String> = [("app.kubernetes.io/instance".to_owned(), "osm".to_owned())].into();
    let writer = Writer::new(client.clone(), StoredObjects::default());
    let clock = Clock::system();
    let started = clock.now();
    let (written, mut in_all) = watch::channel(WrittenRoots::Unknown);
    let keeper = TrustBundles { writer, labels, store: Arc::clone(&store), namespaces, clock: clock.clone(), written };
    let keeper = tokio::spawn(keeper.run(client, leadership));

    // Nothing is known yet, then nobody leads.
    tell.send(members(&["a", "b"]))?;
    elect.send(Leadership::Leader)?;
    let pem = store.trust_bundle().await?.pem();
    let found = eventually_holds(&server, "a", Some(&pem)).await?.context("it is there")?;
    ensure!(found["metadata"]["labels"]["app.kubernetes.io/instance"] == "osm", "{found}");
    eventually_holds(&server, "b", Some(&pem)).await?;

    // It is told since when all have them, once all were seen.
    let bundle = store.trust_bundle().await?;
    let since = in_all.wait_for(|written| written.since(&bundle).is_some()).await?.since(&bundle);
    ensure!(since.is_some_and(|since| since > started && since <= clock.now()), "since {since:?}");

    // Put back when it is deleted or changed.
    let name = names::TRUST_BUNDLE_CONFIG_MAP;
    kubectl.output(&["delete", "configmap", "-n", "a", name]).await?;
    eventually_holds(&server, "a", Some(&pem)).await?;
    let patch = r#"{"data":{"ca.crt":"somebody else's"}}"#;
    kubectl.output(&["patch", "configmap", "-n", "a", name, "--type=merge", "-p", patch]).await?;
    eventually_holds(&server, "a", Some(&pem)).await?;
    // It was missing twice, so the time started anew.
    let again = in_all.wait_for(|written| written.since(&bundle) > since).await?.since(&bundle);

    // Other roots: those that were there keep their time, and the new ones have one of their own.
    let only_second = TrustBundle::from_pem(&second.issuer.trust_bundle().await?.pem())?;
    ensure!(in_all.borrow().since(&only_second).is_none());
    store.set_issuers(issuers(vec![second])).await?;
    let pem = store.trust_bundle().await?.pem();
    ensure!(pem.matches("BEGIN CERTIFICATE").count() == 2);
    for namespace in ["a", "b"] {
        eventually_holds(&server, namespace, Some(&pem)).await?;
    }
    let later = in_all.wait_for(|written| written.since(&only_second).is_some()).await?.since(&only_second);
    ensure!(later > again && in_all.borrow().since(&bundle) == again, "{later:?} {again:?}");

    // A namespace that is new starts no time anew, though it is written to later.
    kubectl.output(&["create", "namespace", "new"]).await?;
    tell.send(members(&["a", "b", "new"]))?;
    eventually_holds(&server, "new", Some(&pem)).await?;
    ensure!(in_all.borrow().since(&bundle) == again && in_all.borrow().since(&only_second) == later);

    // A namespace that leaves, and one that was never in the mesh and has one of its own.
    tell.send(members(&["a", "new"]))?;
    eventually_holds(&server, "b", None).await?;
    let others = config_map(&server, "outside").await?.context("it is another's")?;
    ensure!(others["data"]["mine"] == "content", "{others}");

    // Each was written when it differed, and no more often.
    let verbs = asked(&server)?;
    ensure!(verbs.get("patch") == Some(&7) && verbs.get("delete") == Some(&1), "{verbs:?}");
    let allowed: BTreeSet<&str> = ["list", "watch", "patch", "delete"].into();
    ensure!(verbs.keys().all(|verb| allowed.contains(verb.as_str())), "{verbs:?}");

    // Who does not write any more does not know.
    elect.send(Leadership::Follower)?;
    in_all.wait_for(|written| *written == WrittenRoots::Unknown).await?;
    // It writes again, and time starts when it has seen all.
    let resumed = clock.now();
    elect.send(Leadership::Leader)?;
    let since = in_all.wait_for(|written| written.since(&only_second).is_some()).await?.since(&only_second);
    ensure!(since >= Some(resumed), "{since:?}");
    keeper.abort();
    Ok(())
}
