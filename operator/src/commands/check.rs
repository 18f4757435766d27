//! `osm-operator check`: whether a cluster can have the mesh, and whether the one it has is well. Each line has a remedy.

use std::process::ExitCode;

use kube::Client;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use osm_api::k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration;
use osm_api::k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use osm_api::k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use osm_api::{Kind, ProxySnapshot};
use serde::Serialize;

use super::cluster::ClusterArgs;
use super::output::{FormatArgs, columns};
use super::version::control_planes;
use crate::listing::resource;

/// Minor version of Kubernetes 1 from which on sidecars are native without a feature gate.
const OLDEST_MINOR: u32 = 29;

const HELP: &str = "\
Examples:
  osm-operator check --pre      before an installation
  osm-operator check            of an installation
  osm-operator check -o json

Exit codes: 0 all is well, 1 something is not and is named with its remedy, 2 the cluster cannot be asked.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub(crate) struct CheckArgs {
    /// Only what an installation needs
    #[arg(long)]
    pre: bool,
    #[command(flatten)]
    format: FormatArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Line {
    check: String,
    ok: bool,
    /// What was found.
    found: String,
    /// What to do; empty if nothing is to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Line {
    pub(crate) fn judged(check: &str, ok: bool, found: impl Into<String>, remedy: &str) -> Self {
        let remedy = if ok { String::new() } else { remedy.to_owned() };
        Self { check: check.to_owned(), ok, found: found.into(), remedy }
    }

    pub(crate) fn bad(check: &str, found: impl Into<String>, remedy: &str) -> Self {
        Self::judged(check, false, found, remedy)
    }
}

/// All that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct Lines(Vec<Line>);

impl Lines {
    pub(crate) fn push(&mut self, line: Line) {
        self.0.push(line);
    }

    pub(crate) fn extend(&mut self, lines: Vec<Line>) {
        self.0.extend(lines);
    }

    fn table(&self) -> String {
        let rows = self.0.iter().map(|line| {
            let mark = if line.ok { "ok" } else { "NOT OK" };
            [mark.to_owned(), line.check.clone(), line.found.clone(), line.remedy.clone()]
        });
        columns(["", "CHECK", "FOUND", "REMEDY"], rows)
    }

    /// Prints them; the exit code says whether all is well.
    pub(crate) fn print(&self, format: FormatArgs) -> anyhow::Result<ExitCode> {
        let code = if self.0.iter().all(|line| line.ok) { ExitCode::SUCCESS } else { ExitCode::from(1) };
        Ok(crate::print(&format.text(self, Self::table)?, code))
    }
}

/// Carries the command out.
pub(crate) async fn run(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let client = args.cluster.client().await?;
    let mut lines = Lines::default();
    let version = client.apiserver_version().await?;
    lines.push(version_line(&version.major, &version.minor, &version.git_version));
    if args.pre {
        lines.extend(permissions(&client).await?);
    } else {
        lines.extend(crds(&client).await?);
        lines.push(control_plane_line(&client, &args.cluster).await?);
        lines.push(webhook_line(&client, &args.cluster.mesh_name).await?);
        lines.extend(objects(&client).await?);
    }
    lines.print(args.format)
}

fn version_line(major: &str, minor: &str, full: &str) -> Line {
    let number: u32 = minor.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().unwrap_or_default();
    let new_enough = major == "1" && number >= OLDEST_MINOR;
    let remedy = format!("upgrade to Kubernetes 1.{OLDEST_MINOR} or later: proxies are native sidecars");
    Line::judged("Kubernetes version", new_enough, full, &remedy)
}

/// What whoever installs must be allowed to create.
async fn permissions(client: &Client) -> anyhow::Result<Vec<Line>> {
    let needed = [
        ("", "namespaces"),
        ("", "serviceaccounts"),
        ("apps", "deployments"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
    ];
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut lines = Vec::new();
    for (group, resource) in needed {
        let attributes = ResourceAttributes {
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            verb: Some("create".to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..Default::default() };
        let answer = api.create(&PostParams::default(), &review).await?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        lines.push(Line::judged("may create", allowed, resource, "ask whoever runs the cluster for this right"));
    }
    Ok(lines)
}

async fn crds(client: &Client) -> anyhow::Result<Vec<Line>> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut lines = Vec::new();
    for kind in Kind::own() {
        let name = format!("{}.{}", kind.plural(), kind.group());
        let found = api.get_opt(&name).await?;
        let served = found.is_some_and(|crd| {
            crd.spec.versions.iter().any(|version| version.served && version.name == kind.storage_version())
        });
        let remedy = "install the chart osm-operator-crds";
        lines.push(Line::judged("CRD is served", served, format!("{name}/{}", kind.storage_version()), remedy));
    }
    Ok(lines)
}

async fn control_plane_line(client: &Client, cluster: &ClusterArgs) -> anyhow::Result<Line> {
    let found = control_planes(client).await?;
    let ours = found.iter().find(|it| it.namespace == cluster.osm_namespace && it.mesh == cluster.mesh_name);
    Ok(match ours {
        Some(it) => {
            let text = format!("{}/{} replicas in {}", it.available, it.replicas, it.namespace);
            let remedy = format!("kubectl -n {} describe deployment osm-controller", it.namespace);
            Line::judged("control plane is available", it.available > 0 && it.available == it.replicas, text, &remedy)
        }
        None => {
            let text = format!("no mesh {:?} in namespace {:?}", cluster.mesh_name, cluster.osm_namespace);
            Line::bad(
                "control plane is available",
                text,
                "osm-operator install, or name --mesh-name and --osm-namespace",
            )
        }
    })
}

async fn webhook_line(client: &Client, mesh: &str) -> anyhow::Result<Line> {
    let api: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let labels = format!("app.kubernetes.io/name=openservicemesh.io,app.kubernetes.io/instance={mesh}");
    let found = api.list(&ListParams::default().labels(&labels)).await?.items;
    let trusted = !found.is_empty()
        && found.iter().flat_map(|it| it.webhooks.iter().flatten()).all(|hook| hook.client_config.ca_bundle.is_some());
    let text = match found.len() {
        0 => "none".to_owned(),
        _ => found.iter().filter_map(|it| it.metadata.name.clone()).collect::<Vec<_>>().join(", "),
    };
    Ok(Line::judged("webhook for injection has a caBundle", trusted, text, "kubectl logs of the control plane say why"))
}

/// Conditions of our objects, and proxies that refuse something.
async fn objects(client: &Client) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for kind in Kind::own().filter(|kind| *kind != Kind::ProxySnapshot) {
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource(kind));
        // A kind that is not served is named above.
        let Ok(found) = api.list(&ListParams::default()).await else { continue };
        for object in &found.items {
            lines.extend(not_ready(kind, object));
        }
    }
    let api: Api<ProxySnapshot> = Api::all(client.clone());
    let snapshots = api.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
    let rejected: u32 =
        snapshots.iter().filter_map(|snapshot| snapshot.status.as_ref()).map(|status| status.proxies.rejected).sum();
    let remedy = "kubectl get proxysnapshots -A -o yaml has the proxies' words";
    lines.push(Line::judged(
        "no proxy refuses its configuration",
        rejected == 0,
        format!("{rejected} proxies"),
        remedy,
    ));
    Ok(lines)
}

/// A line for an object that is not ready, in its own words.
fn not_ready(kind: Kind, object: &DynamicObject) -> Option<Line> {
    let conditions = object.data["status"]["conditions"].as_array()?;
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
    if ready["status"] != "False" {
        return None;
    }
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let message = ready["message"].as_str().unwrap_or_default();
    let remedy = format!("kubectl -n {namespace} describe {} {name}", kind.plural());
    Some(Line::bad("object is ready", format!("{kind} {namespace}/{name}: {message}"), &remedy))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version_line("1", "36", "v1.36.3").ok);
        assert!(version_line("1", "29+", "v1.29.1-eks").ok);
        let old = version_line("1", "27", "v1.27.0");
        assert!(!old.ok && old.remedy.contains("1.29"));
    }

    #[test]
    fn an_object_that_is_not_ready_speaks_for_itself() {
        let object = |status: &str| -> DynamicObject {
            serde_json::from_value(json!({
                "metadata": { "namespace": "shop", "name": "buyers" },
                "status": { "conditions": [{ "type": "Ready", "status": status, "message": "wrong." }] },
            }))
            .unwrap()
        };
        assert_eq!(not_ready(Kind::TrafficTarget, &object("True")), None);
        assert_eq!(not_ready(Kind::TrafficTarget, &object("Unknown")), None);
        let line = not_ready(Kind::TrafficTarget, &object("False")).unwrap();
        assert_eq!(line.found, "TrafficTarget shop/buyers: wrong.");
        assert_eq!(line.remedy, "kubectl -n shop describe traffictargets buyers");
    }

    #[test]
    fn remedies_are_shown_only_where_something_is_wrong() {
        let lines = Lines(vec![Line::judged("a", true, "x", "do y"), Line::bad("b", "z", "do w")]);
        let text = lines.table();
        assert!(!text.contains("do y") && text.contains("NOT OK") && text.contains("do w"), "{text}");
    }
}
