//! A real server in development mode, with TLS, and what an administrator does to it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use osm_cluster::Tool;
use osm_issuer::vault::{Vault, VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{
    Blame, CertificateStore, Clock, ControlPlaneIdentity, Credential, IssuerConfig, Issuers, LeafKeyAlgorithm,
    NamedIssuer, PeerIdentity, ProxyIdentity, StoreConfig, TrustDomain, WorkloadIdentity,
};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::OffsetDateTime;

/// Much longer than anything takes, on a machine that is busy with other things too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
const ROOT_TOKEN: &str = "the-root-token-of-this-test";

/// Ends with the test that started it.
pub(crate) struct OpenBao {
    process: Child,
    folder: TempDir,
    client: Client,
    pub(crate) port: u16,
}

impl OpenBao {
    /// A server with an audit log and nothing in it.
    pub(crate) async fn start() -> Self {
        // The port is free when it is chosen; by the time the server listens, somebody else may have it.
        for _ in 0..10 {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("OpenBao did not start at any of ten ports");
    }

    async fn try_start() -> Option<Self> {
        let bao = tokio::task::spawn_blocking(|| Tool::OpenBao.prepare()).await.unwrap().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let audit = format!("audit \"file\" \"all\" {{ options {{ file_path = {:?} }} }}", path("audit.log"));
        std::fs::write(path("config.hcl"), audit).unwrap();
        std::fs::create_dir(path("tls")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let output = std::fs::File::create(path("output")).unwrap();
        // Ends with this thread, should the test be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(bao.program())
            .args(["server", "-dev-tls", "-dev-no-store-token", &format!("-dev-root-token-id={ROOT_TOKEN}")])
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-dev-tls-cert-dir={}", path("tls")))
            .arg(format!("-config={}", path("config.hcl")))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("setpriv (Debian package util-linux) starts OpenBao");
        let mut server = Self { process, folder, client: Client::new(), port };
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            if server.is_ours().await {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("OpenBao is not ready: {}", server.output());
    }

    /// Whether the server answers, and knows the token that only ours knows.
    async fn is_ours(&mut self) -> bool {
        let Ok(ca) = std::fs::read(self.path("tls/vault-ca.pem")) else { return false };
        let Ok(roots) = Certificate::from_pem_bundle(&ca) else { return false };
        self.client = Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
        matches!(self.try_send(Method::GET, "auth/token/lookup-self", None, &Value::Null).await, Some((200, _)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What the server printed.
    pub(crate) fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("output")).unwrap()).into_owned()
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        namespace: Option<&str>,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let url = format!("https://127.0.0.1:{}/v1/{path}", self.port);
        let mut request = self.client.request(method, url).header("X-Vault-Token", ROOT_TOKEN);
        if let Some(namespace) = namespace {
            request = request.header("X-Vault-Namespace", namespace);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        let text = response.text().await.ok()?;
        Some((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }

    /// Writes as the administrator, in `namespace`.
    pub(crate) async fn write_in(&self, namespace: Option<&str>, path: &str, body: Value) -> Value {
        let (status, answer) = self.try_send(Method::POST, path, namespace, &body).await.expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn write(&self, path: &str, body: Value) -> Value {
        self.write_in(None, path, body).await
    }

    /// What is at `path`.
    pub(crate) async fn read(&self, path: &str) -> Value {
        let (status, answer) = self.try_send(Method::GET, path, None, &Value::Null).await.expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    pub(crate) async fn delete(&self, path: &str) {
        let (status, answer) = self.try_send(Method::DELETE, path, None, &Value::Null).await.expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
    }

    /// A PKI engine at `pki` whose root signs by an intermediate, with a role `osm` as documented.
    pub(crate) async fn set_up_in(&self, namespace: Option<&str>) {
        let to = |path: &'static str, body| self.write_in(namespace, path, body);
        to("sys/mounts/root-pki", json!({"type": "pki", "config": {"max_lease_ttl": "87600h"}})).await;
        to("sys/mounts/pki", json!({"type": "pki", "config": {"max_lease_ttl": "8760h"}})).await;
        let root = json!({"common_name": "root of the mesh", "key_type": "ec", "ttl": "87600h"});
        to("root-pki/root/generate/internal", root).await;
        let request = json!({"common_name": "intermediate of the mesh", "key_type": "ec"});
        let request = to("pki/intermediate/generate/internal", request).await;
        let signed = json!({"csr": request["data"]["csr"], "ttl": "8760h", "common_name": "intermediate of the mesh"});
        let signed = to("root-pki/root/sign-intermediate", signed).await;
        let chain = [&signed["data"]["certificate"], &signed["data"]["issuing_ca"]];
        let chain = chain.map(|pem| pem.as_str().unwrap()).join("\n");
        to("pki/intermediate/set-signed", json!({"certificate": chain})).await;
        to("pki/roles/osm", role()).await;
        let policy = "path \"pki/sign/osm\" { capabilities = [\"update\"] }\npath \"pki/roles/osm\" { capabilities = [\"read\"] }";
        to("sys/policies/acl/osm", json!({"policy": policy})).await;
    }

    pub(crate) async fn set_up(&self) {
        self.set_up_in(None).await;
    }

    /// A token with the policy `osm`, in `namespace`.
    pub(crate) async fn token_in(&self, namespace: Option<&str>, more: Value) -> String {
        let mut body = json!({"policies": ["osm"], "ttl": "1h"});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = self.write_in(namespace, "auth/token/create", body).await;
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// A configuration for `token` that reaches the server directly.
    pub(crate) fn config(&self, token: &str) -> VaultConfig {
        VaultConfig {
            host: "127.0.0.1".to_owned(),
            port: self.port,
            protocol: VaultProtocol::Https { ca_pem: Some(self.ca_pem()) },
            namespace: None,
            mount: VaultConfig::DEFAULT_MOUNT.to_owned(),
            role: "osm".to_owned(),
            auth: VaultAuth::Token { token: Credential::new(token.to_owned()), origin: token_secret() },
            timeout: LIMIT,
            control_plane: ControlPlaneIdentity::new(trust_domain(), "osm-system", "osm-controller").unwrap(),
            leaf_key: LeafKeyAlgorithm::EcdsaP256,
        }
    }

    pub(crate) fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.path("tls/vault-ca.pem")).unwrap()
    }

    /// Paths of all requests that the server answered, by its own account.
    pub(crate) fn audited(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("audit.log")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let requests = lines.filter(|line| line["type"] == "response");
        requests.map(|line| line["request"]["path"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn unseal_key(&self) -> String {
        let output = self.output();
        let line = output.lines().find_map(|line| line.strip_prefix("Unseal Key: "));
        line.expect("the server prints its key").trim().to_owned()
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The role that the documentation asks for.
pub(crate) fn role() -> Value {
    json!({
        "allowed_domains": ["mesh.example", "svc"],
        "allow_subdomains": true,
        "allowed_uri_sans": ["spiffe://mesh.example/*"],
        "key_type": "any",
        "no_store": true,
        "require_cn": false,
        "use_csr_sans": false,
        "max_ttl": "720h",
    })
}

pub(crate) fn token_secret() -> Blame {
    Blame::Secret { namespace: "osm-system".to_owned(), name: "osm-vault-token".to_owned() }
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::new("mesh.example").unwrap()
}

pub(crate) fn workload(name: &str) -> PeerIdentity {
    PeerIdentity::Workload(WorkloadIdentity::new(trust_domain(), "bookstore", name).unwrap())
}

pub(crate) fn proxy_of(name: &str) -> PeerIdentity {
    let workload = WorkloadIdentity::new(trust_domain(), "bookstore", name).unwrap();
    PeerIdentity::Proxy(ProxyIdentity::new(workload, "pod-0.1234").unwrap())
}

pub(crate) fn issuer(config: VaultConfig) -> NamedIssuer {
    IssuerConfig::Vault(config).build(OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn vault(config: VaultConfig) -> Vault {
    Vault::new(config).unwrap()
}

/// A store that `config` signs for, by the system's clock.
pub(crate) fn store(config: VaultConfig) -> CertificateStore {
    let issuers = Issuers { signing: issuer(config), validating: Vec::new() };
    CertificateStore::new(issuers, StoreConfig::default(), Clock::system())
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
