//! `config/{rbac,manager,webhook,default}`: the chart `osm-operator` with its defaults, in namespace `osm-system`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Files, HEADER};
use crate::documents::{ObjectName, objects, sorted};
use crate::helm::Helm;
use crate::repository::Repository;

/// Folders below `config`, in the order in which `default` lists them after the CRDs.
const FOLDERS: [&str; 3] = ["rbac", "manager", "webhook"];

pub(super) fn manifests(repository: &Repository, helm: &Helm) -> Result<Files> {
    let mut rendered = objects(&helm.template(&repository.operator_chart(), &[])?)?;
    rendered.push(namespace(&rendered)?);
    let mut folders: BTreeMap<&str, BTreeMap<String, String>> = BTreeMap::new();
    for object in rendered {
        let name = ObjectName::of(&object);
        let folder = folder(&name)?;
        let file = format!("{}_{}.yaml", name.kind.to_lowercase(), name.name);
        let yaml =
            serde_saphyr::to_string(&sorted(without_release(object))).with_context(|| format!("writing {name}"))?;
        if folders.entry(folder).or_default().insert(file, format!("{HEADER}{yaml}")).is_some() {
            bail!("two objects would be in one file: {name}");
        }
    }

    let mut files = Files::new();
    for (folder, contents) in folders {
        let resources: Vec<_> = contents.keys().cloned().collect();
        files.insert(repository.config(folder).join("kustomization.yaml"), kustomization(&resources));
        files.extend(contents.into_iter().map(|(file, text)| (repository.config(folder).join(file), text)));
    }
    let parts: Vec<_> = ["crd"].iter().chain(&FOLDERS).map(|folder| format!("../{folder}")).collect();
    files.insert(repository.config("default").join("kustomization.yaml"), kustomization(&parts));
    Ok(files)
}

fn folder(name: &ObjectName) -> Result<&'static str> {
    Ok(match name.kind.as_str() {
        "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => "rbac",
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => "webhook",
        "Namespace" | "ConfigMap" | "Deployment" | "Service" | "PodDisruptionBudget" | "NetworkPolicy" => "manager",
        _ => bail!("say which folder of config/ {name} belongs to"),
    })
}

/// What `helm install --create-namespace` makes beside the chart, with the level of security that the control plane keeps.
fn namespace(rendered: &[Value]) -> Result<Value> {
    let deployment = rendered.iter().find(|object| object["kind"] == "Deployment");
    let metadata = &deployment.context("the chart has a Deployment")?["metadata"];
    let mut labels = metadata["labels"].clone();
    let fields = labels.as_object_mut().context("the Deployment has labels")?;
    fields.retain(|label, _| label.starts_with("app.kubernetes.io/"));
    fields.insert("pod-security.kubernetes.io/enforce".to_owned(), json!("restricted"));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": { "name": metadata["namespace"], "labels": labels },
    }))
}

/// The object without the label that says that Helm manages it.
fn without_release(mut object: Value) -> Value {
    let labels = ["/metadata/labels", "/spec/template/metadata/labels"];
    for path in labels {
        if let Some(labels) = object.pointer_mut(path).and_then(Value::as_object_mut) {
            labels.remove("app.kubernetes.io/managed-by");
        }
    }
    object
}

fn kustomization(resources: &[String]) -> String {
    let mut text = format!("{HEADER}apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n");
    for resource in resources {
        text.push_str(&format!("- {resource}\n"));
    }
    text
}
