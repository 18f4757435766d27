//! An API server with cert-manager's controllers and the issuers of a mesh.

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use osm_cluster::{ApiServer, CertManager as Controllers, KubernetesVersion};
use osm_issuer::cert_manager::{CertManager, CertManagerConfig, IssuerKind};
use osm_issuer::{
    CertificateStore, Clock, ControlPlaneIdentity, IssuerConfig, Issuers, PeerIdentity, StoreConfig, TrustDomain,
    WorkloadIdentity,
};
use serde_json::Value;
use time::OffsetDateTime;

/// Much longer than anything takes, on a machine that is busy with other things too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The control plane's.
pub(crate) const NAMESPACE: &str = "osm-system";

/// What the operator's roles grant where cert-manager signs, and no more.
const RIGHTS: &str = concat!(
    r"
apiVersion: v1
kind: Namespace
metadata: {name: osm-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: mesh, namespace: osm-system}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: mesh}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: mesh}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: mesh}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: mesh}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: mesh}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: mesh, namespace: osm-system}
rules:
",
    include_str!("../../../../helm/osm-operator/files/rules/cert-manager.yaml"),
    r"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: mesh}
rules:
",
    include_str!("../../../../helm/osm-operator/files/rules/cert-manager-cluster.yaml"),
);

pub(crate) struct Cluster {
    pub(crate) server: ApiServer,
    client: Client,
    controllers: Option<Controllers>,
}

impl Cluster {
    /// An API server that knows cert-manager's kinds; nobody acts on them.
    pub(crate) async fn start() -> Self {
        // Another test of this program may have been faster.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let server = ApiServer::start(KubernetesVersion::NEWEST).await.unwrap();
        Controllers::install_crds(server.kubectl()).await.unwrap();
        server.kubectl().apply(RIGHTS).await.unwrap();
        let kubeconfig = Kubeconfig::read_from(server.kubeconfig_for("mesh", None).unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
        config.default_retry = false;
        Self { client: Client::try_from(config).unwrap(), server, controllers: None }
    }

    /// Starts cert-manager.
    pub(crate) async fn start_cert_manager(&mut self) {
        self.controllers = Some(Controllers::start(self.server.kubeconfig(), NAMESPACE).await.unwrap());
    }

    pub(crate) fn stop_cert_manager(&mut self) {
        self.controllers = None;
    }

    /// cert-manager with its issuers, all ready.
    pub(crate) async fn with_issuers() -> Self {
        let mut cluster = Self::start().await;
        cluster.start_cert_manager().await;
        cluster.server.kubectl().apply(Controllers::ISSUERS).await.unwrap();
        cluster.wait_ready("issuer/osm-ca").await;
        cluster.wait_ready("clusterissuer/osm-cluster-ca").await;
        cluster
    }

    pub(crate) async fn wait_ready(&self, object: &str) {
        let wait = ["wait", "--namespace", NAMESPACE, "--for=condition=Ready", "--timeout=120s", object];
        self.server.kubectl().output(&wait).await.unwrap();
    }

    pub(crate) fn config(&self, kind: IssuerKind, name: &str) -> CertManagerConfig {
        CertManagerConfig {
            client: self.client.clone(),
            namespace: NAMESPACE.to_owned(),
            issuer_name: name.to_owned(),
            issuer_kind: kind,
            issuer_group: CertManagerConfig::GROUP.to_owned(),
            labels: [("app.kubernetes.io/instance".to_owned(), "osm".to_owned())].into(),
            timeout: LIMIT,
            control_plane: ControlPlaneIdentity::new(trust_domain(), NAMESPACE, "osm-controller").unwrap(),
        }
    }

    /// An issuer of another group: nobody answers its requests but the test.
    pub(crate) fn external(&self) -> CertManagerConfig {
        let issuer_group = "issuers.example".to_owned();
        CertManagerConfig { issuer_group, ..self.config(IssuerKind::Issuer, "external") }
    }

    /// The CertificateRequests of the namespace that are not of cert-manager's own Certificates.
    pub(crate) async fn requests(&self) -> Vec<Value> {
        let selector = "--selector=openservicemesh.io/leaf-request=true";
        let get = ["get", "certificaterequests", "--namespace", NAMESPACE, selector, "--output=json"];
        let list: Value = serde_json::from_str(&self.server.kubectl().output(&get).await.unwrap()).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// The one CertificateRequest, once it is there.
    pub(crate) async fn request(&self) -> Value {
        until("a CertificateRequest", async || self.requests().await.pop()).await
    }

    pub(crate) async fn no_request_is_left(&self) {
        until("no CertificateRequest", async || self.requests().await.is_empty().then_some(())).await;
    }

    /// Says as cert-manager would.
    pub(crate) async fn answer(&self, request: &Value, status: Value) {
        let name = request["metadata"]["name"].as_str().unwrap();
        let patch = serde_json::json!({ "status": status }).to_string();
        let patch = [
            "patch",
            "certificaterequest",
            name,
            "--namespace",
            NAMESPACE,
            "--subresource=status",
            "--type=merge",
            "--patch",
            &patch,
        ];
        self.server.kubectl().output(&patch).await.unwrap();
    }
}

/// A condition of a CertificateRequest.
pub(crate) fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let at = "2026-01-01T00:00:00Z";
    serde_json::json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": at})
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::new("mesh.example").unwrap()
}

pub(crate) fn workload(name: &str) -> PeerIdentity {
    PeerIdentity::Workload(WorkloadIdentity::new(trust_domain(), "bookstore", name).unwrap())
}

pub(crate) fn cert_manager(config: CertManagerConfig) -> CertManager {
    CertManager::new(config)
}

/// A store that `config` signs for, by the system's clock.
pub(crate) fn store(config: CertManagerConfig) -> CertificateStore {
    let signing = IssuerConfig::CertManager(config).build(OffsetDateTime::now_utc()).unwrap();
    CertificateStore::new(Issuers { signing, validating: Vec::new() }, StoreConfig::default(), Clock::system())
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while tokio::time::Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}
