//! Manifests that were written for a folder, made ready for a cluster.

use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// The objects of the manifests in `folder`. A Pod becomes a Deployment with the image `image`; EndpointSlices and what a cluster
/// makes by itself are left out. Applications have their control sockets in the node's folder `control`.
pub(super) fn for_cluster(folder: &Path, image: &str, control: &Path) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for object in read(folder)? {
        match object["kind"].as_str() {
            Some("Pod") => objects.push(of_pod(&object, image, control)),
            Some("EndpointSlice") | None => {}
            Some(_) => objects.push(object),
        }
    }
    // A namespace before what is in it.
    objects.sort_by_key(|object| object["kind"] != "Namespace");
    Ok(objects)
}

/// All objects of the manifests in a folder, file by file.
pub(super) fn read(folder: &Path) -> Result<Vec<Value>> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("reading {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let mut objects = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let documents: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("reading {}", file.display()))?;
        objects.extend(documents);
    }
    Ok(objects)
}

fn of_pod(pod: &Value, image: &str, control: &Path) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let arguments: Vec<String> =
        pod["spec"]["containers"][0]["args"].as_array().into_iter().flatten().map(text).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let account = text(&pod["spec"]["serviceAccountName"]);
    let mut deployment = deployment(&namespace, &name, &account, &arguments, image, control);
    deployment["spec"]["selector"]["matchLabels"] = pod["metadata"]["labels"].clone();
    deployment["spec"]["template"]["metadata"]["labels"] = pod["metadata"]["labels"].clone();
    deployment
}

/// A Deployment of one pod, labelled `app: <name>`, that runs an application of `osm-bookstore`.
pub(super) fn deployment(
    namespace: &str,
    name: &str,
    account: &str,
    arguments: &[&str],
    image: &str,
    control: &Path,
) -> Value {
    let socket = format!("/control/{name}.sock");
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--control", socket.as_str()]).collect();
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "replicas": 1,
            // The next pod takes the control socket over.
            "strategy": { "type": "Recreate" },
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": {
                    "serviceAccountName": account,
                    "terminationGracePeriodSeconds": 5,
                    // Two questions at once from one socket race for their way through kube-proxy's rules: now and then one is lost, and
                    // asked again only after five seconds.
                    "dnsConfig": { "options": [{ "name": "single-request-reopen" }] },
                    "containers": [{
                        "name": "app",
                        "image": image,
                        "imagePullPolicy": "Never",
                        "args": arguments,
                        "volumeMounts": [{ "name": "control", "mountPath": "/control" }],
                    }],
                    "volumes": [{ "name": "control", "hostPath": { "path": control, "type": "Directory" } }],
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bookstore_becomes_deployments_with_its_arguments_and_labels() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/bookstore/00-base");
        let objects = for_cluster(&base, "local/osm-bookstore:1", Path::new("/control")).unwrap();
        assert_eq!(objects[0]["kind"], "Namespace");
        assert!(objects.iter().all(|object| object["kind"] != "Pod" && object["kind"] != "EndpointSlice"));
        let v1 = objects
            .iter()
            .find(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "bookstore-v1")
            .unwrap();
        let template = &v1["spec"]["template"];
        assert_eq!(template["metadata"]["labels"], json!({ "app": "bookstore", "version": "v1" }));
        assert_eq!(v1["spec"]["selector"]["matchLabels"], template["metadata"]["labels"]);
        assert_eq!(template["spec"]["serviceAccountName"], "bookstore-v1");
        let arguments = template["spec"]["containers"][0]["args"].as_array().unwrap();
        assert_eq!(arguments.first().unwrap(), "bookstore");
        assert_eq!(arguments.last().unwrap(), "/control/bookstore-v1.sock");
    }
}
