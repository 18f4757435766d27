//! A whole cluster: pods, Services, names, logs, outages, and nothing left at the end.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use osm_cluster::images::{self, Image};
use osm_cluster::{Cluster, ClusterOptions, KubernetesVersion, NODE_NAME, Tier};
use serde_json::{Value, json};

/// A pod with a native sidecar, and a Job's worth of steps before it; a Service in front.
fn web(image: &Image) -> String {
    let container =
        |name: &str, script: &str| json!({ "name": name, "image": image.reference(), "command": ["sh", "-c", script] });
    let mut sidecar = container("sidecar", "echo beside; touch /shared/started; sleep 100000");
    sidecar["restartPolicy"] = json!("Always");
    sidecar["startupProbe"] = json!({ "exec": { "command": ["test", "-e", "/shared/started"] }, "periodSeconds": 1, "failureThreshold": 120 });
    let mut web =
        container("web", "mkdir /tmp/www; echo hello >/tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www");
    web["readinessProbe"] = json!({ "tcpSocket": { "port": 8080 }, "periodSeconds": 1 });
    let mut init = container("init", "test -e /shared/started && echo after the sidecar");
    for container in [&mut sidecar, &mut web, &mut init] {
        container["volumeMounts"] = json!([{ "name": "shared", "mountPath": "/shared" }]);
    }
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web" } },
        "spec": {
            "initContainers": [sidecar, init],
            "containers": [web],
            "securityContext": { "fsGroup": 65532 },
            "terminationGracePeriodSeconds": 1,
            "volumes": [{ "name": "shared", "emptyDir": {} }],
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "web", "namespace": "default" },
        "spec": { "selector": { "app": "web" }, "ipFamilyPolicy": "RequireDualStack", "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    json!({ "apiVersion": "v1", "kind": "List", "items": [pod, service] }).to_string()
}

async fn get(cluster: &Cluster, arguments: &[&str]) -> Result<Value> {
    Ok(serde_json::from_str(&cluster.kubectl().output(&[&["get", "--output=json"], arguments].concat()).await?)?)
}

/// What `web` answers to itself. A Service's rules follow its pods a moment later, so some refusals come first.
async fn fetch(cluster: &Cluster, host: &str) -> Result<String> {
    let script =
        format!("for i in $(seq 60); do timeout 5 wget -q -O - http://{host}/ && exit 0; sleep 1; done; exit 1");
    cluster.kubectl().output(&["exec", "web", "--container=web", "--", "sh", "-c", &script]).await
}

#[tokio::test]
async fn a_cluster_runs_pods_services_and_names_and_leaves_nothing() -> Result<()> {
    let name = "test-whole";
    let cluster = Cluster::up(ClusterOptions::new(name)).await?;
    let kubectl = cluster.kubectl();
    let node = get(&cluster, &["node", NODE_NAME]).await?;
    let release = format!("v{}", KubernetesVersion::NEWEST.release());
    assert_eq!(node["status"]["nodeInfo"]["kubeletVersion"], release.as_str());

    // Two clusters side by side, each with its own world.
    let second = ClusterOptions { tier: Tier::ApiServer, ..ClusterOptions::new("test-api") };
    let second = Cluster::up(second).await?;
    assert_ne!(second.url(), cluster.url());
    kubectl.output(&["create", "namespace", "only-here"]).await?;
    assert!(second.kubectl().output(&["get", "namespace", "only-here"]).await.is_err());
    let refused = second.load(Path::new("image.tar")).unwrap_err().to_string();
    assert!(refused.contains("no node"), "{refused}");
    drop(second);
    assert!(!Cluster::names()?.contains(&"test-api".to_owned()));
    let taken = Cluster::up(ClusterOptions::new(name)).await.unwrap_err().to_string();
    assert!(taken.contains("runs already"), "{taken}");

    // An image, a pod that needs it, and the ways to it.
    let busybox = images::busybox()?;
    cluster.load_image(&busybox)?;
    cluster.load_image(&busybox)?;
    kubectl.apply(&web(&busybox)).await?;
    kubectl.output(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/web"]).await?;
    assert_eq!(kubectl.output(&["logs", "web", "--container=sidecar"]).await?, "beside\n");
    assert_eq!(kubectl.output(&["logs", "web", "--container=init"]).await?, "after the sidecar\n");
    let service = get(&cluster, &["service", "web"]).await?;
    let addresses: Vec<&str> =
        service["spec"]["clusterIPs"].as_array().unwrap().iter().flat_map(Value::as_str).collect();
    let [ipv4, ipv6] = addresses[..] else { panic!("both families: {addresses:?}") };
    for host in ["web.default", "web.default.svc.cluster.local", ipv4, &format!("[{ipv6}]")] {
        assert_eq!(fetch(&cluster, host).await?, "hello\n", "{host}");
    }

    // A pod outlives its kubelet and its API server.
    cluster.stop_api_server()?;
    assert!(cluster.get("/readyz").await.is_err());
    cluster.start_api_server().await?;
    cluster.restart_kubelet().await?;
    assert_eq!(fetch(&cluster, "web.default").await?, "hello\n");
    let pod = get(&cluster, &["pod", "web"]).await?;
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);

    // A container that is killed is started again, in the same pod.
    let container = pod["status"]["containerStatuses"][0]["containerID"].as_str().context("a container has an id")?;
    assert!(cluster.kill_container(container)? > 0);
    let restarted = ["--for=jsonpath={.status.containerStatuses[0].restartCount}=1", "--timeout=120s", "pod/web"];
    kubectl.output(&[&["wait"][..], &restarted].concat()).await?;
    assert_eq!(cluster.kill_container(container)?, 0, "it has another id");
    assert!(cluster.kill_container("web").is_err());

    let audit = std::fs::read_to_string(cluster.audit_log())?;
    let watched = audit.lines().any(|line| line.contains("system:node:node") && line.contains("\"watch\""));
    assert!(watched, "the kubelet's requests are audited");

    // With everything still running.
    let (folder, link) = (cluster.folder().to_owned(), link(&cluster)?);
    assert!(left(&folder, name, &link).len() > 5, "what will have to go is seen");
    drop(cluster);
    assert_eq!(left(&folder, name, &link), Vec::<String>::new());
    assert!(Cluster::down(name).unwrap_err().to_string().contains("there is no cluster"));
    Ok(())
}

#[tokio::test]
async fn names_that_cannot_be_are_refused() {
    for name in ["", "Capital", "a/b", "..", "a-name-of-more-than-20-characters"] {
        let error =
            Cluster::up(ClusterOptions { tier: Tier::ApiServer, ..ClusterOptions::new(name) }).await.unwrap_err();
        assert!(error.to_string().contains("cannot be the name of a cluster"), "{name}: {error:#}");
    }
}

/// The host's end of the link to the cluster.
fn link(cluster: &Cluster) -> Result<PathBuf> {
    let addresses =
        Command::new("ip").args(["-json", "address", "show", "to"]).arg(cluster.host_address().to_string()).output()?;
    let links: Value = serde_json::from_slice(&addresses.stdout)?;
    let names = links.as_array().context("a list of links")?;
    let name = names.iter().find_map(|link| link["ifname"].as_str()).context("the host has an end of the link")?;
    ensure!(!name.is_empty(), "links have names");
    Ok(Path::new("/sys/class/net").join(name))
}

/// What is on the host of a cluster: processes, mounts, control groups, the link, folders.
fn left(folder: &Path, name: &str, link: &Path) -> Vec<String> {
    let text = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(text)).map(str::to_owned));
    for hierarchy in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        let group = hierarchy.path().join(format!("osm-cluster-{name}"));
        found.extend(group.exists().then(|| group.display().to_string()));
    }
    for path in [folder, link, &Path::new("/sys/fs/cgroup").join(format!("osm-cluster-{name}"))] {
        found.extend(path.exists().then(|| path.display().to_string()));
    }
    found
}
