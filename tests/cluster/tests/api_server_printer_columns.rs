//! What `kubectl get` shows of a rotation. The API server makes the table; no control plane runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use anyhow::Result;
use osm_cluster::{ApiServer, KubernetesVersion};
use serde_json::{Value, json};

/// Two roots in the middle of a rotation, and one of which nothing is said yet.
const SHOWN: &str = "\
NAME    READY     ROLE      STATE               EXPIRES                AGE
first   True      passive   issuingRollback     2035-01-31T08:00:00Z   *
new               active                                               *
next    Unknown   active    issuingRollout      2036-01-31T08:00:00Z   *
";
const SHOWN_WIDE: &str = "\
NAME    READY     ROLE      STATE               EXPIRES                ACKED   REASON     AGE
first   True      passive   issuingRollback     2035-01-31T08:00:00Z   3/3     Ready      *
new               active                                                                  *
next    Unknown   active    issuingRollout      2036-01-31T08:00:00Z   2/3     Rotating   *
";

fn root(name: &str, role: &str) -> String {
    json!({
        "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshRootCertificate",
        "metadata": { "name": name, "namespace": "osm-system" },
        "spec": {
            "role": role,
            "provider": { "tresor": { "ca": { "secretRef": { "name": name, "namespace": "osm-system" } } } },
        },
    })
    .to_string()
}

fn status(ready: &str, reason: &str, state: &str, expires: &str, acked: (u32, u32)) -> Value {
    json!({ "status": {
        "state": state, "expires": expires,
        "propagation": { "targeted": acked.1, "acknowledged": acked.0, "acked": format!("{}/{}", acked.0, acked.1) },
        "conditions": [{
            "type": "Ready", "status": ready, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    } })
}

/// Words with one space between them, and the age, which differs, as a star.
fn cells(table: &str) -> Vec<Vec<&str>> {
    let lines = table.lines().enumerate();
    lines
        .map(|(number, line)| {
            let mut cells: Vec<_> = line.split_whitespace().collect();
            if let Some(age) = cells.last_mut().filter(|_| number > 0) {
                *age = "*";
            }
            cells
        })
        .collect()
}

#[tokio::test]
async fn roots_in_a_rotation_read_well() -> Result<()> {
    let server = ApiServer::start(KubernetesVersion::NEWEST).await?;
    let kubectl = server.kubectl();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/crd");
    kubectl.output(&["apply", "--server-side", "--kustomize", crds]).await?;
    kubectl.output(&["wait", "--for=condition=Established", "--timeout=120s", "crd", "--all"]).await?;
    kubectl.output(&["create", "namespace", "osm-system"]).await?;
    let said = [
        ("first", "passive", Some(status("True", "Ready", "issuingRollback", "2035-01-31T08:00:00Z", (3, 3)))),
        ("next", "active", Some(status("Unknown", "Rotating", "issuingRollout", "2036-01-31T08:00:00Z", (2, 3)))),
        ("new", "active", None),
    ];
    for (name, role, status) in said {
        kubectl.apply(&root(name, role)).await?;
        let Some(status) = status else { continue };
        let (object, status) = (format!("meshrootcertificate/{name}"), status.to_string());
        let patch = ["patch", "-n", "osm-system", &object, "--subresource=status", "--type=merge", "--patch", &status];
        kubectl.output(&patch).await?;
    }
    let short = kubectl.output(&["get", "mrc", "-n", "osm-system"]).await?;
    assert_eq!(cells(&short), cells(SHOWN), "{short}");
    let wide = kubectl.output(&["get", "mrc", "-n", "osm-system", "--output=wide"]).await?;
    assert_eq!(cells(&wide), cells(SHOWN_WIDE), "{wide}");
    Ok(())
}
