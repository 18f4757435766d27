//! What the programs of a node are told.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::{Value, json};

use super::NODE_NAME;
use super::network::{self, Addresses};
use super::requirements::CNI_PROGRAMS;
use crate::certificates::Authority;
use crate::control_plane::ControlPlane;
use crate::images::Image;
use crate::kubeconfig::{self, Credentials};

/// The node.
pub(super) struct Node {
    pub(super) addresses: Addresses,
    pub(super) cgroup: String,
}

/// The files of a node and the arguments of its programs.
pub(super) struct Configuration<'a> {
    folder: &'a Path,
    control_plane: &'a ControlPlane,
    node: Node,
}

impl<'a> Configuration<'a> {
    pub(super) fn new(folder: &'a Path, control_plane: &'a ControlPlane, node: Node) -> Self {
        Self { folder, control_plane, node }
    }

    /// Writes all files.
    pub(super) fn write(&self, authority: &Authority, pause: &Image) -> Result<()> {
        fs::create_dir_all(self.file("cni"))?;
        write_json(&self.file("cni/10-osm.conflist"), &network_list())?;
        fs::write(self.file("containerd.toml"), self.containerd(pause))?;
        // Pods that ask for the node's own DNS get no answers, quickly.
        fs::write(self.file("resolv.conf"), "nameserver 127.0.0.1\n")?;
        let addresses = [IpAddr::V4(self.node.addresses.node_ipv4), IpAddr::V6(self.node.addresses.node_ipv6)];
        let serving = authority.server(NODE_NAME, &addresses)?.write(self.folder, "kubelet")?;
        write_json(&self.file("kubelet.yaml"), &self.kubelet(&serving.certificate, &serving.key))?;
        write_json(&self.file("kube-proxy.yaml"), &self.kube_proxy())?;
        let users = [
            ("kubelet", format!("system:node:{NODE_NAME}"), Some("system:nodes")),
            ("kube-proxy", "system:kube-proxy".to_owned(), None),
        ];
        for (program, user, group) in users {
            let credentials = Credentials::Certificate(authority.client(&user, group)?);
            let path = self.file(&format!("{program}.kubeconfig"));
            kubeconfig::write(&path, &self.control_plane.url(), authority.pem(), &credentials)?;
        }
        Ok(())
    }

    pub(super) fn containerd_socket(&self) -> PathBuf {
        self.file("containerd.sock")
    }

    pub(super) fn containerd_arguments(&self) -> Vec<String> {
        vec!["--config".to_owned(), self.path("containerd.toml")]
    }

    pub(super) fn kubelet_arguments(&self) -> Vec<String> {
        let addresses = &self.node.addresses;
        vec![
            format!("--config={}", self.path("kubelet.yaml")),
            format!("--kubeconfig={}", self.path("kubelet.kubeconfig")),
            format!("--root-dir={}", self.path("kubelet")),
            format!("--hostname-override={NODE_NAME}"),
            format!("--node-ip={},{}", addresses.node_ipv4, addresses.node_ipv6),
        ]
    }

    pub(super) fn kube_proxy_arguments(&self) -> Vec<String> {
        vec![format!("--config={}", self.path("kube-proxy.yaml"))]
    }

    pub(super) fn scheduler_arguments(&self, kubeconfig: &Path) -> Vec<String> {
        vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--leader-elect=false".to_owned(),
            "--bind-address=127.0.0.1".to_owned(),
            "--profiling=false".to_owned(),
        ]
    }

    /// containerd's own format is TOML; version 2 of it is read by containerd 1.6 and by all since.
    fn containerd(&self, pause: &Image) -> String {
        let (root, state, socket) = (self.path("containerd"), "/run/containerd", self.path("containerd.sock"));
        let (networks, pause) = (self.path("cni"), pause.reference());
        format!(
            r#"version = 2
root = "{root}"
state = "{state}"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{socket}"

[debug]
level = "warn"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{CNI_PROGRAMS}"
conf_dir = "{networks}"
"#
        )
    }

    fn kubelet(&self, certificate: &Path, key: &Path) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.path("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "tlsCertFile": certificate,
            "tlsPrivateKeyFile": key,
            "containerRuntimeEndpoint": format!("unix://{}", self.path("containerd.sock")),
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.node.cgroup),
            "failCgroupV1": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false,
            "clusterDNS": [network::DNS_SERVICE],
            "clusterDomain": "cluster.local",
            "resolvConf": self.path("resolv.conf"),
            "podLogsDir": self.path("pods"),
            "volumePluginDir": self.path("volume-plugins"),
            "serializeImagePulls": false,
            // How late volumes follow ConfigMaps.
            "syncFrequency": "10s",
            "registryPullQPS": 0,
            "maxPods": 200,
            // The machine's disk is not the cluster's to clean up.
            "evictionHard": {
                "memory.available": "10Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
        })
    }

    fn kube_proxy(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "hostnameOverride": NODE_NAME,
            "clusterCIDR": network::POD_RANGES.join(","),
            "clientConnection": { "kubeconfig": self.path("kube-proxy.kubeconfig") },
            "iptables": { "minSyncPeriod": "100ms", "syncPeriod": "30s" },
            // The limits of the machine's connection tracking are not the cluster's to set.
            "conntrack": { "maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn path(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

/// A link of its own for each pod, routed by the node. With a bridge the answers of a Service's pod to a pod would bypass the
/// translation of addresses where the kernel does not filter bridges.
fn network_list() -> Value {
    let ranges: Vec<Value> = network::NODE_POD_RANGES.iter().map(|range| json!([{ "subnet": range }])).collect();
    json!({
        "cniVersion": "0.4.0",
        "name": "osm",
        "plugins": [
            {
                "type": "ptp",
                "ipMasq": true,
                "ipam": {
                    "type": "host-local",
                    "ranges": ranges,
                    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    Ok(fs::write(path, serde_json::to_vec_pretty(value)?)?)
}
