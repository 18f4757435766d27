//! How etcd and the API server are started, alone or in a whole cluster.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::certificates::{Authority, Pair, PairFiles, service_account_keys};

/// Where the API server listens.
pub(crate) const API_PORT: u16 = 6443;
const ETCD_PORT: u16 = 2379;
const ETCD_PEER_PORT: u16 = 2380;
/// Who signs the tokens of ServiceAccounts, and their audience when none is asked for.
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The files and addresses of a control plane.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ControlPlane {
    folder: PathBuf,
    /// Where clients find the API server.
    pub(crate) address: IpAddr,
    /// Where only the control plane is.
    etcd: Ipv4Addr,
    /// Comma-separated.
    service_ranges: String,
    /// Whether the API server says in the Service `kubernetes` where it is.
    endpoints: Endpoints,
    serving: PairFiles,
    kubelet_client: PairFiles,
    pub(crate) service_account: PairFiles,
}

/// Whether anything reaches the API server by its Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Endpoints {
    /// Pods do.
    Published,
    /// There are none.
    None,
}

/// What is needed to lay one out.
pub(crate) struct Layout<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) address: IpAddr,
    pub(crate) etcd: Ipv4Addr,
    pub(crate) service_ranges: &'a str,
    /// The first address of each range, at which pods find the API server.
    pub(crate) service_addresses: &'a [IpAddr],
    pub(crate) endpoints: Endpoints,
}

impl ControlPlane {
    /// Writes everything that the programs read.
    pub(crate) fn lay_out(authority: &Authority, layout: &Layout<'_>) -> Result<Self> {
        let folder = layout.folder;
        let mut addresses = vec![layout.address, IpAddr::V4(Ipv4Addr::LOCALHOST)];
        addresses.extend(layout.service_addresses);
        // Everything, but nothing of the content: who did what to which object.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{ "level": "Metadata" }],
        });
        fs::write(folder.join("audit-policy.yaml"), serde_json::to_string_pretty(&policy)?)?;
        fs::write(Self::audit_log(folder), "")?;
        Ok(Self {
            folder: folder.to_owned(),
            address: layout.address,
            etcd: layout.etcd,
            service_ranges: layout.service_ranges.to_owned(),
            endpoints: layout.endpoints,
            serving: authority.api_server(&addresses)?.write(folder, "kube-apiserver")?,
            kubelet_client: authority
                .client("kube-apiserver-kubelet-client", Some("system:masters"))?
                .write(folder, "kube-apiserver-kubelet-client")?,
            service_account: service_account_keys(folder)?,
        })
    }

    /// Where the audit log of a control plane in `folder` is.
    pub(crate) fn audit_log(folder: &Path) -> PathBuf {
        folder.join("audit.log")
    }

    /// The certificate of whoever may do everything.
    pub(crate) fn administrator(authority: &Authority) -> Result<Pair> {
        authority.client("kubernetes-admin", Some("system:masters"))
    }

    /// Where clients find it.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.socket())
    }

    /// Where clients connect to.
    pub(crate) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, API_PORT)
    }

    pub(crate) fn etcd_arguments(&self) -> Vec<String> {
        let client = format!("http://{}:{ETCD_PORT}", self.etcd);
        let peer = format!("http://{}:{ETCD_PEER_PORT}", self.etcd);
        vec![
            "--name=etcd".to_owned(),
            format!("--data-dir={}", self.folder.join("etcd").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=etcd={peer}"),
            // What is lost with the machine is made again.
            "--unsafe-no-fsync".to_owned(),
            "--log-level=warn".to_owned(),
        ]
    }

    pub(crate) fn api_server_arguments(&self) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        let reconciler = match self.endpoints {
            Endpoints::Published => "lease",
            Endpoints::None => "none",
        };
        vec![
            format!("--etcd-servers=http://{}:{ETCD_PORT}", self.etcd),
            format!("--bind-address={}", self.bind_address()),
            format!("--secure-port={API_PORT}"),
            // Always said: else it is guessed from the default route, and there may be none.
            format!("--advertise-address={}", self.address),
            format!("--endpoint-reconciler-type={reconciler}"),
            format!("--tls-cert-file={}", self.serving.certificate.display()),
            format!("--tls-private-key-file={}", self.serving.key.display()),
            format!("--client-ca-file={}", file("ca.crt")),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-signing-key-file={}", self.service_account.key.display()),
            format!("--service-account-key-file={}", self.service_account.certificate.display()),
            format!("--service-cluster-ip-range={}", self.service_ranges),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--kubelet-client-certificate={}", self.kubelet_client.certificate.display()),
            format!("--kubelet-client-key={}", self.kubelet_client.key.display()),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            // Else logs and exec go to a name that nobody resolves.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--audit-policy-file={}", file("audit-policy.yaml")),
            format!("--audit-log-path={}", Self::audit_log(&self.folder).display()),
            "--profiling=false".to_owned(),
        ]
    }

    fn bind_address(&self) -> IpAddr {
        match self.endpoints {
            // Also on loopback, for the rest of the control plane.
            Endpoints::Published => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Endpoints::None => self.address,
        }
    }
}

/// What the controller manager needs beside the control plane.
pub(crate) struct ControllerManager<'a> {
    /// Who it is.
    pub(crate) kubeconfig: &'a Path,
    /// Where it says how it is.
    pub(crate) bind: IpAddr,
    /// Comma-separated ranges of which each node gets a part, where there are nodes.
    pub(crate) pod_ranges: Option<&'a str>,
}

impl ControlPlane {
    pub(crate) fn controller_manager_arguments(&self, options: &ControllerManager<'_>) -> Vec<String> {
        let mut arguments = vec![
            format!("--kubeconfig={}", options.kubeconfig.display()),
            format!("--bind-address={}", options.bind),
            "--leader-elect=false".to_owned(),
            "--use-service-account-credentials=true".to_owned(),
            format!("--service-account-private-key-file={}", self.service_account.key.display()),
            format!("--root-ca-file={}", self.folder.join("ca.crt").display()),
            format!("--cluster-signing-cert-file={}", self.folder.join("ca.crt").display()),
            format!("--cluster-signing-key-file={}", self.folder.join("ca.key").display()),
            format!("--service-cluster-ip-range={}", self.service_ranges),
            // Else it makes one on the host.
            format!("--flex-volume-plugin-dir={}", self.folder.join("volume-plugins").display()),
            "--profiling=false".to_owned(),
        ];
        if let Some(ranges) = options.pod_ranges {
            arguments.extend(["--allocate-node-cidrs=true".to_owned(), format!("--cluster-cidr={ranges}")]);
        }
        arguments
    }
}
