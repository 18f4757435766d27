//! The bookstore's manifests: the base describes a cluster in which the applications work, and every stage can be copied over it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use osm_testkit::{Fabric, Manifests, Workload, apply_stage, sandbox_test, stages};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/bookstore")
}

sandbox_test! {
    /// Pods, addresses and names come from the manifests alone.
    async fn the_base_is_a_working_cluster() -> Result<()> {
        let fabric = Fabric::create().await?;
        let manifests = Manifests::read(&samples().join("00-base"))?;
        fabric.set_services(&manifests.service_rules()?).await?;
        fabric.set_names(&manifests.names()?).await?;
        let mut workloads = Vec::new();
        for pod in manifests.pods()? {
            workloads.push(Workload::start(&fabric, &pod.workload).await?);
        }
        let named = |name: &str| {
            workloads.iter().find(|workload| workload.pod().name() == name).with_context(|| format!("a pod {name}"))
        };
        for client in ["bookbuyer", "bookthief"] {
            for (service, versions) in [("bookstore", 2), ("bookstore-v1", 1), ("bookstore-v2", 1)] {
                for path in ["/books-bought", "/buy-a-book/new"] {
                    let url = format!("http://{service}.bookstore:14001{path}");
                    let report = named(client)?.control().get(&url, 20).await?;
                    ensure!(report.successes() == 20 && report.identities.len() == versions, "{client} {url}: {report:?}");
                }
            }
        }
        let ledger = named("ledger")?.control().counters().await?;
        ensure!(ledger.counters["total-books"] == 120, "{ledger:?}");
        Ok(())
    }

    /// Copying the stages one over the other leaves the files that each stage's name promises.
    async fn stages_are_copied_one_over_the_other() -> Result<()> {
        let folder = PathBuf::from("/run/osm/tmp/manifests");
        std::fs::create_dir(&folder)?;
        let all = stages(&samples())?;
        ensure!(all.len() == 8, "{all:?}");
        for stage in &all {
            let touched = apply_stage(stage, &folder)?;
            ensure!(!touched.is_empty());
            Manifests::read(&folder)?;
        }
        let mut names: Vec<_> = std::fs::read_dir(&folder)?
            .map(|entry| Ok(entry?.file_name().into_string().expect("a text")))
            .collect::<Result<_>>()?;
        names.sort();
        ensure!(
            names
                == [
                    "bookstore-routes.yaml", "endpoint-slices.yaml", "mesh-config.yaml", "namespaces.yaml", "pods.yaml",
                    "service-accounts.yaml", "services.yaml", "traffic-split.yaml",
                ],
            "{names:?}"
        );
        let missing = apply_stage(all.last().expect("there are some"), &folder).expect_err("nothing left to remove");
        ensure!(missing.to_string().contains("bookstore-access.yaml"), "{missing}");
        Ok(())
    }
}
