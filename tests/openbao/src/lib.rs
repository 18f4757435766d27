//! A real server with Vault's API, for tests: OpenBao with TLS, and what an administrator does to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use osm_cluster::Tool;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};
use reqwest::{Certificate, Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Much longer than anything takes, on a machine that is busy with other things too.
const LIMIT: Duration = Duration::from_secs(60);

/// Ends with the test that started it.
#[derive(Debug)]
pub struct OpenBao {
    process: Child,
    folder: TempDir,
    client: Client,
    address: SocketAddr,
    ca_pem: String,
    unseal_key: String,
    root_token: String,
}

impl OpenBao {
    /// A server on a loopback address, with an audit log and nothing in it.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start() -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Likewise, on an address of the caller's choice.
    ///
    /// # Panics
    /// It does not start.
    pub async fn start_at(address: IpAddr) -> Self {
        // The port is free when it is chosen; by the time the server listens, somebody else may have it.
        for _ in 0..10 {
            if let Some(server) = Self::try_start(address).await {
                return server;
            }
        }
        panic!("OpenBao did not start at any of ten ports");
    }

    async fn try_start(ip: IpAddr) -> Option<Self> {
        let bao = tokio::task::spawn_blocking(|| Tool::OpenBao.prepare()).await.unwrap().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap();
        let ca_pem = lay_out(&folder, address);
        let roots = Certificate::from_pem_bundle(ca_pem.as_bytes()).unwrap();
        let client = Client::builder().no_proxy().tls_certs_only(roots).build().unwrap();
        let output = std::fs::File::create(folder.path().join("output")).unwrap();
        // Ends with this thread, should the test be killed.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(bao.program())
            .args(["server", "-config"])
            .arg(folder.path().join("config.hcl"))
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("setpriv (Debian package util-linux) starts OpenBao");
        let (unseal_key, root_token) = Default::default();
        let mut server = Self { process, folder, client, address, ca_pem, unseal_key, root_token };
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            if server.process.try_wait().unwrap().is_some() {
                return None;
            }
            // Only ours has a certificate of that authority.
            let shares = json!({ "secret_shares": 1, "secret_threshold": 1 });
            if let Some((200, keys)) = server.try_send(Method::PUT, "sys/init", None, &shares).await {
                server.unseal_key = keys["keys_base64"][0].as_str().unwrap().to_owned();
                server.root_token = keys["root_token"].as_str().unwrap().to_owned();
                server.unseal().await;
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("OpenBao is not ready: {}", server.output());
    }

    /// Opens a sealed server, and waits until it works.
    ///
    /// # Panics
    /// It does not.
    pub async fn unseal(&self) {
        self.write("sys/unseal", json!({ "key": self.unseal_key })).await;
        let deadline = tokio::time::Instant::now() + LIMIT;
        while tokio::time::Instant::now() < deadline {
            if matches!(self.try_send(Method::GET, "sys/health", None, &Value::Null).await, Some((200, _))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("OpenBao is not active: {}", self.output());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate that verifies the server.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A token that may do everything.
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// What the server printed.
    fn output(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path("output")).unwrap()).into_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn try_send(
        &self,
        method: Method,
        path: &str,
        namespace: Option<&str>,
        body: &Value,
    ) -> Option<(u16, Value)> {
        let url = format!("https://{}/v1/{path}", self.address);
        let mut request = self.client.request(method, url).header("X-Vault-Token", &self.root_token);
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

    async fn send(&self, method: Method, path: &str, namespace: Option<&str>, body: &Value) -> Value {
        let (status, answer) = self.try_send(method, path, namespace, body).await.expect("an answer");
        assert!((200..300).contains(&status), "{path}: {status} {answer}");
        answer
    }

    /// Writes as the administrator, in `namespace`.
    ///
    /// # Panics
    /// It is refused.
    pub async fn write_in(&self, namespace: Option<&str>, path: &str, body: Value) -> Value {
        self.send(Method::POST, path, namespace, &body).await
    }

    /// Writes as the administrator.
    ///
    /// # Panics
    /// It is refused.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        self.write_in(None, path, body).await
    }

    /// What is at `path`.
    ///
    /// # Panics
    /// It is refused.
    pub async fn read(&self, path: &str) -> Value {
        self.send(Method::GET, path, None, &Value::Null).await
    }

    /// Deletes as the administrator.
    ///
    /// # Panics
    /// It is refused.
    pub async fn delete(&self, path: &str) {
        self.send(Method::DELETE, path, None, &Value::Null).await;
    }

    /// A PKI engine at `pki` whose root signs by an intermediate, with a role `osm` as documented; in `namespace`.
    ///
    /// # Panics
    /// It is refused.
    pub async fn set_up_in(&self, namespace: Option<&str>) {
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

    /// The same in the root namespace.
    ///
    /// # Panics
    /// It is refused.
    pub async fn set_up(&self) {
        self.set_up_in(None).await;
    }

    /// A token with the policy `osm`, in `namespace`; `more` are further fields of it.
    ///
    /// # Panics
    /// It is refused.
    pub async fn token_in(&self, namespace: Option<&str>, more: Value) -> String {
        let mut body = json!({"policies": ["osm"], "ttl": "1h"});
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        let answer = self.write_in(namespace, "auth/token/create", body).await;
        answer["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// Paths of all requests that the server answered, by its own account.
    ///
    /// # Panics
    /// The audit log cannot be read.
    pub fn audited(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("audit.log")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let requests = lines.filter(|line| line["type"] == "response");
        requests.map(|line| line["request"]["path"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends the server at once.
    ///
    /// # Panics
    /// It cannot be killed.
    pub fn kill(&mut self) {
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

/// The role that the documentation asks for, for meshes of the trust domains `mesh.example` and `cluster.local`.
pub fn role() -> Value {
    json!({
        "allowed_domains": ["mesh.example", "cluster.local", "svc"],
        "allow_subdomains": true,
        "allowed_uri_sans": ["spiffe://mesh.example/*", "spiffe://cluster.local/*"],
        "key_type": "any",
        "no_store": true,
        "require_cn": false,
        "use_csr_sans": false,
        "max_ttl": "720h",
    })
}

/// Writes the configuration and the certificate of a server; gives the authority that verifies it.
fn lay_out(folder: &TempDir, address: SocketAddr) -> String {
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let configuration = format!(
        "disable_mlock = true\nstorage \"inmem\" {{}}\n\
         listener \"tcp\" {{\n  address = {:?}\n  tls_cert_file = {:?}\n  tls_key_file = {:?}\n}}\n\
         audit \"file\" \"all\" {{ options {{ file_path = {:?} }} }}\n",
        address.to_string(),
        path("server.crt"),
        path("server.key"),
        path("audit.log"),
    );
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "authority of a test's OpenBao");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(address.ip())];
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    for (name, text) in
        [("config.hcl", configuration), ("server.crt", certificate), ("server.key", key.serialize_pem())]
    {
        std::fs::write(path(name), text).unwrap();
    }
    authority
}
