//! `osm-operator install` and `uninstall`: the charts that this program carries, by way of helm.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use include_dir::{Dir, include_dir};
use kube::api::{Api, DeleteParams};
use osm_api::Kind;
use osm_api::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::cluster::ClusterArgs;

/// The charts, as they are in the source tree.
static CHARTS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../helm");
/// The chart of the CRDs; its release has the same name.
const CRDS: &str = "osm-operator-crds";
/// The chart of the control plane.
const OPERATOR: &str = "osm-operator";

const INSTALL_HELP: &str = "\
Examples:
  osm-operator install
  osm-operator install --set osm.enablePermissiveTrafficPolicy=false --timeout 10m
  osm-operator install --values my-values.yaml

Runs helm, which must be on PATH, with the charts that are built in. Repeat it with the same values to upgrade.

Exit codes: 0 installed and ready, 2 not.";

const UNINSTALL_HELP: &str = "\
Examples:
  osm-operator uninstall
  osm-operator uninstall --delete-crds      also every object of the mesh's kinds, in all namespaces

Exit codes: 0 removed, 2 not.";

#[derive(Debug, clap::Args)]
#[command(after_help = INSTALL_HELP)]
pub(crate) struct InstallArgs {
    /// Values of the chart, as for helm
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Files of values, as for helm
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<std::path::PathBuf>,
    /// How long to wait until the control plane is ready
    #[arg(long, default_value = "5m")]
    timeout: String,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Debug, clap::Args)]
#[command(after_help = UNINSTALL_HELP)]
pub(crate) struct UninstallArgs {
    /// Remove the CRDs, too, and with them all their objects
    #[arg(long)]
    delete_crds: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Installs or upgrades.
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let folder = extracted()?;
    for arguments in install_commands(args, folder.path()) {
        helm(&arguments)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes. The chart of the CRDs keeps them, so that they are removed here, when that is asked for.
pub(crate) async fn uninstall(args: &UninstallArgs) -> anyhow::Result<ExitCode> {
    helm(&uninstall_command(OPERATOR, &args.cluster))?;
    if args.delete_crds {
        helm(&uninstall_command(CRDS, &args.cluster))?;
        let api: Api<CustomResourceDefinition> = Api::all(args.cluster.client().await?);
        for kind in Kind::own() {
            let name = format!("{}.{}", kind.plural(), kind.group());
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => drop(crate::print(&format!("CRD {name} removed\n"), ExitCode::SUCCESS)),
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error).with_context(|| format!("remove the CRD {name}")),
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn extracted() -> anyhow::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir().context("make a folder for the charts")?;
    CHARTS.extract(folder.path()).context("write the charts")?;
    Ok(folder)
}

fn install_commands(args: &InstallArgs, charts: &Path) -> [Vec<String>; 2] {
    let chart = |name: &str| charts.join(name).to_string_lossy().into_owned();
    let upgrade = |name: &str| {
        let mut arguments: Vec<String> = ["upgrade", "--install", name].map(str::to_owned).into();
        arguments.push(chart(name));
        arguments
            .extend(["--namespace", &args.cluster.osm_namespace, "--create-namespace", "--wait"].map(str::to_owned));
        arguments.extend(["--timeout", &args.timeout].map(str::to_owned));
        arguments.extend(args.cluster.helm_arguments());
        arguments
    };
    let mut operator = upgrade(OPERATOR);
    operator.extend(["--set".to_owned(), format!("osm.meshName={}", args.cluster.mesh_name)]);
    for file in &args.values {
        operator.extend(["--values".to_owned(), file.to_string_lossy().into_owned()]);
    }
    for value in &args.set {
        operator.extend(["--set".to_owned(), value.clone()]);
    }
    [upgrade(CRDS), operator]
}

fn uninstall_command(release: &str, cluster: &ClusterArgs) -> Vec<String> {
    let mut arguments: Vec<String> =
        ["uninstall", release, "--namespace", &cluster.osm_namespace, "--wait", "--ignore-not-found"]
            .map(str::to_owned)
            .into();
    arguments.extend(cluster.helm_arguments());
    arguments
}

fn helm(arguments: &[String]) -> anyhow::Result<()> {
    let status = Command::new("helm").args(arguments).status();
    let status = status.context("run helm; install it (https://helm.sh) and put it on PATH")?;
    if !status.success() {
        bail!("helm {} failed ({status}); its words are above", arguments.first().map_or("", String::as_str));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line<T: clap::Args> {
        #[command(flatten)]
        args: T,
    }

    #[test]
    fn the_charts_are_built_in() {
        let folder = extracted().unwrap();
        for chart in [CRDS, OPERATOR] {
            assert!(folder.path().join(chart).join("Chart.yaml").is_file(), "{chart}");
        }
    }

    #[test]
    fn crds_come_before_what_uses_them_and_values_reach_helm() {
        let line =
            ["x", "--set", "a=b", "-f", "v.yaml", "--mesh-name", "m", "--kubeconfig", "k", "--osm-namespace", "n"];
        let args = Line::<InstallArgs>::parse_from(line).args;
        let [crds, operator] = install_commands(&args, Path::new("/charts"));
        assert_eq!(crds[..4], ["upgrade", "--install", CRDS, "/charts/osm-operator-crds"]);
        assert!(!crds.contains(&"a=b".to_owned()), "values are the control plane's");
        let text = operator.join(" ");
        for part in
            ["--namespace n", "--set osm.meshName=m", "--values v.yaml", "--set a=b", "--kubeconfig k", "--wait"]
        {
            assert!(text.contains(part), "{text}");
        }
        let last = uninstall_command(OPERATOR, &args.cluster).join(" ");
        assert!(last.starts_with("uninstall osm-operator --namespace n") && last.ends_with("--kubeconfig k"), "{last}");
    }
}
