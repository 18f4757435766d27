//! Our kinds as users of `kubectl` meet them, with nothing running but an API server: no webhook, no control plane.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use anyhow::{Context as _, Result, ensure};
use osm_cluster::{ApiServer, Kubectl, KubernetesVersion};
use serde_json::{Value, json};

const ACCEPTED: [&str; 3] = [
    include_str!("../../../api/tests/samples/osm-accepted.yaml"),
    include_str!("../../../api/tests/samples/bookstore-manual.yaml"),
    include_str!("../../../api/tests/samples/bookstore-script.yaml"),
];
const REFUSED: &str = include_str!("../../../api/tests/samples/refused.yaml");

async fn server() -> Result<ApiServer> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    let kubectl = server.kubectl();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd");
    kubectl.output(&["apply", "--server-side", "--kustomize", crds]).await?;
    kubectl.output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;
    for namespace in ["osm-system", "bookstore", "bookbuyer", "bookwarehouse"] {
        kubectl.output(&["create", "namespace", namespace]).await?;
    }
    Ok(server)
}

async fn read(kubectl: &Kubectl, arguments: &[&str]) -> Result<Value> {
    let output = kubectl.output(&[&["get", "--output=json"], arguments].concat()).await?;
    serde_json::from_str(&output).context("kubectl prints JSON")
}

#[tokio::test]
async fn schemas_and_rules_refuse_what_cannot_be_and_take_what_osm_took() -> Result<()> {
    let server = server().await?;
    let kubectl = server.kubectl();
    let apply = ["apply", "--server-side", "--force-conflicts", "--validate=strict", "--filename=-"];
    for manifests in ACCEPTED {
        let output = kubectl.run_with_input(&apply, manifests).await?;
        ensure!(output.status.success(), "{}\n{manifests}", String::from_utf8_lossy(&output.stderr));
    }
    let mut refused = 0;
    for document in REFUSED.split("\n---\n") {
        let wanted = document.lines().find_map(|line| line.strip_prefix("# want: "));
        let verb = if document.lines().any(|line| line == "# update") { "replace" } else { "create" };
        let output = kubectl.run_with_input(&[verb, "--validate=strict", "--filename=-"], document).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        match wanted {
            Some(wanted) => {
                refused += 1;
                ensure!(
                    !output.status.success() && said.contains(wanted),
                    "it does not say {wanted:?}: {said}\n{document}"
                );
            }
            None => ensure!(output.status.success(), "{said}\n{document}"),
        }
    }
    ensure!(refused >= 15, "{refused} documents are refused");
    Ok(())
}

#[tokio::test]
async fn every_field_is_explained() -> Result<()> {
    let server = server().await?;
    for kind in
        ["meshconfigs", "meshrootcertificates", "traffictargets", "httproutegroups", "tcproutes", "trafficsplits"]
    {
        let text = server.kubectl().output(&["explain", &format!("{kind}.spec")]).await?;
        ensure!(text.contains("FIELDS:") && !text.contains("<no description>"), "{kind}: {text}");
    }
    let text = server.kubectl().output(&["explain", "proxysnapshots.status"]).await?;
    ensure!(text.contains("FIELDS:") && !text.contains("<no description>"), "{text}");
    Ok(())
}

fn condition(reason: &str) -> Value {
    json!({
        "type": "Ready", "status": "True", "reason": reason, "message": "All 2 proxies run it.",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    })
}

fn split(status: &Value) -> String {
    json!({
        "apiVersion": "split.smi-spec.io/v1alpha2", "kind": "TrafficSplit",
        "metadata": { "namespace": "bookstore", "name": "split" },
        "spec": { "service": "store", "backends": [{ "service": "store-v1", "weight": 1 }] },
        "status": status,
    })
    .to_string()
}

#[tokio::test]
async fn spec_and_status_are_written_apart_and_applied_twice_nothing_changes() -> Result<()> {
    let server = server().await?;
    let kubectl = server.kubectl();
    let named = ["--namespace=bookstore", "trafficsplit/split"];
    kubectl.apply(&split(&json!({ "conditions": [condition("Programmed")] }))).await?;
    ensure!(read(kubectl, &named).await?["status"]["conditions"].is_null(), "the status of a manifest is not taken");
    let status = json!({ "spec": { "service": "other" }, "status": { "conditions": [condition("Programmed")] } });
    let patch = ["patch", named[0], named[1], "--subresource=status", "--type=merge", "--patch"];
    kubectl.output(&[&patch[..], &[&status.to_string()]].concat()).await?;
    let written = read(kubectl, &named).await?;
    ensure!(written["spec"]["service"] == "store", "the spec of a status is not taken: {written}");
    kubectl.apply(&split(&json!({}))).await?;
    let again = read(kubectl, &named).await?;
    ensure!(
        again["metadata"]["generation"] == 1
            && again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]
    );

    // Defaults are in the schema, so that they are there from the first time on; the older version is read as the newer.
    let config = |version: &str| {
        json!({
            "apiVersion": format!("config.openservicemesh.io/{version}"), "kind": "MeshConfig",
            "metadata": { "namespace": "osm-system", "name": "osm-mesh-config" },
            "spec": { "traffic": { "enableEgress": true }, "sidecar": { "logLevel": "debug" } },
        })
        .to_string()
    };
    for version in ["v1alpha1", "v1alpha1", "v1alpha2"] {
        kubectl.apply(&config(version)).await?;
        let newer = read(
            kubectl,
            &["--namespace=osm-system", "meshconfigs.v1alpha2.config.openservicemesh.io/osm-mesh-config"],
        )
        .await?;
        ensure!(newer["metadata"]["generation"] == 1, "{newer}");
        ensure!(
            newer["spec"]["sidecar"]["tlsMinProtocolVersion"] == "TLSv1_2"
                && newer["spec"]["sidecar"]["logLevel"] == "debug",
            "{newer}"
        );
    }
    let older =
        read(kubectl, &["--namespace=osm-system", "meshconfigs.v1alpha1.config.openservicemesh.io/osm-mesh-config"])
            .await?;
    ensure!(
        older["apiVersion"] == "config.openservicemesh.io/v1alpha1" && older["spec"]["traffic"]["enableEgress"] == true
    );
    Ok(())
}

/// The words of a table's lines.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines().filter(|line| !line.is_empty()).map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test]
async fn tables_show_readiness_first_and_all_kinds_together() -> Result<()> {
    let server = server().await?;
    let kubectl = server.kubectl();
    kubectl.apply(&split(&json!({}))).await?;
    let status = json!({ "status": {
        "conditions": [condition("Programmed")], "propagation": { "targeted": 2, "acknowledged": 2, "refused": 0, "acked": "2/2" },
    } });
    let patch =
        ["patch", "--namespace=bookstore", "trafficsplit/split", "--subresource=status", "--type=merge", "--patch"];
    kubectl.output(&[&patch[..], &[&status.to_string()]].concat()).await?;
    for name in ["trafficsplits", "ts"] {
        let text = kubectl.output(&["get", "--namespace=bookstore", name]).await?;
        let rows = table(&text);
        assert_eq!(rows[0].join(" "), "NAME SERVICE READY ACKED REASON AGE");
        assert_eq!(rows[1][..5], ["split", "store", "True", "2/2", "Programmed"], "{text}");
    }
    for manifests in ACCEPTED {
        kubectl.apply(manifests).await?;
    }
    let headers = [
        ("meshconfigs", "NAME READY PROXIES VERSION AGE", "NAME READY PROXIES VERSION REASON AGE"),
        ("meshrootcertificates", "NAME READY ROLE STATE EXPIRES AGE", "NAME READY ROLE STATE EXPIRES ACKED REASON AGE"),
        ("traffictargets", "NAME READY ACKED REASON AGE", "NAME READY ACKED REASON DESTINATION AGE"),
        ("httproutegroups", "NAME READY ACKED REASON AGE", "NAME READY ACKED REASON AGE"),
        ("tcproutes", "NAME READY ACKED REASON AGE", "NAME READY ACKED REASON AGE"),
        ("proxysnapshots", "NAME READY SYNCED REJECTED VERSION AGE", "NAME READY SYNCED REJECTED VERSION CLUSTERS AGE"),
    ];
    for (kind, narrow, wide) in headers {
        for (more, header) in [("--output=", narrow), ("--output=wide", wide)] {
            let text = kubectl.output(&["get", kind, "--all-namespaces", more]).await?;
            let header = format!("NAMESPACE {header}");
            assert_eq!(table(&text)[0].join(" "), header, "{kind}");
        }
    }
    // One category for all.
    let all = kubectl.output(&["get", "mesh", "--all-namespaces", "--output=name"]).await?;
    for kind in
        ["meshconfig.", "meshrootcertificate.", "traffictarget.", "httproutegroup.", "tcproute.", "trafficsplit."]
    {
        ensure!(all.contains(kind), "{kind} is not in {all}");
    }
    Ok(())
}
