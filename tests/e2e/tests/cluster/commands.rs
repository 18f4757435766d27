//! The everyday commands, as a user runs them beside the cluster.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use osm_e2e::ClusterWorld;
use osm_e2e::demo::OUTSIDER;
use osm_testkit::eventually;

use crate::application::{NAMESPACE, URL};
use crate::disturbances::pods;

/// A command is asked again for as long as this.
const LIMIT: Duration = Duration::from_secs(30);

/// A pod without a proxy gets no answer, and the commands say why; they also say that the rest is well.
pub(crate) async fn everyday(world: &ClusterWorld, operator: &Path) -> Result<()> {
    let report = world.control(OUTSIDER).get(URL, 3).await?;
    ensure!(report.successes() == 0 && !report.samples.is_empty(), "a stranger is answered: {report:?}");
    let pod = async |namespace: &str, name: &str| {
        let found = pods(world, namespace, &format!("app={name}")).await?;
        let first = found.first().with_context(|| format!("{name} has a pod"))?;
        anyhow::Ok(format!("{namespace}/{first}"))
    };
    let (stranger, echo) = (pod(OUTSIDER, OUTSIDER).await?, pod(NAMESPACE, "echo").await?);
    let (caller, other) = (pod(NAMESPACE, "caller").await?, pod(NAMESPACE, "other").await?);
    // Arguments, the exit code, and a word that must be in the answer.
    let (from, to) = (format!("--from-pod={caller}"), format!("--to-pod={echo}"));
    let other_pod = format!("--from-pod={other}");
    let expected: [(&[&str], i32, &str); 10] = [
        (&["policy", "check-pods", &stranger, &echo], 1, "is not in the mesh"),
        (&["policy", "check-pods", &other, &echo], 1, "denied"),
        (&["policy", "check-pods", &caller, &echo], 0, "allowed"),
        (&["check"], 0, ""),
        (&["namespace", "list"], 0, NAMESPACE),
        (&["proxy", "list"], 0, NAMESPACE),
        (&["proxy", "get", "server_info", &caller], 0, "LIVE"),
        (&["verify", "connectivity", &from, &to], 0, ""),
        (&["verify", "connectivity", &other_pod, &to], 1, "NOT OK   allowed by policy"),
        (&["version"], 0, env!("CARGO_PKG_VERSION")),
    ];
    let mut wrong = Vec::new();
    for (arguments, code, word) in expected {
        // What the control plane tells of its proxies may be a moment old.
        let outcome = eventually("the command says so", LIMIT, || async {
            let output = tokio::process::Command::new(operator)
                .args(arguments)
                .env("KUBECONFIG", world.cluster().kubeconfig())
                .stdin(Stdio::null())
                .output()
                .await?;
            let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
            let as_expected = output.status.code() == Some(code) && said.contains(word);
            ensure!(as_expected, "{} instead of {code} and {word:?}:\n{said}", output.status);
            Ok(())
        })
        .await;
        if let Err(error) = outcome {
            wrong.push(format!("{}: {error:#}", arguments.join(" ")));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
