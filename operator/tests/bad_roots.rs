//! Roots that cannot be used, from an object in a folder to its status document: each is named with its field, and the root that is
//! in force goes on signing.
//!
//! Needs the program `openssl` for what no library of ours would make.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;

/// Longest wait, on a machine that is busy with other things too.
const LIMIT: Duration = Duration::from_secs(120);
const SECRET: &str = "spec.provider.tresor.ca.secretRef";

/// Certificates and key of an authority, as PEM.
type Pair = (String, String);

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(100);
    params
}

/// A root that is good but for what `change` does to it.
fn root(change: impl FnOnce(&mut CertificateParams)) -> Pair {
    let (mut params, key) = (params("root"), KeyPair::generate().unwrap());
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// An authority below one that allows none.
fn too_deep() -> Pair {
    let (mut above, key) = (params("narrow"), KeyPair::generate().unwrap());
    above.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let certificate = above.self_signed(&key).unwrap().pem();
    let issuer = rcgen::Issuer::new(above, key);
    let key = KeyPair::generate().unwrap();
    (params("below").signed_by(&key, &issuer).unwrap().pem() + &certificate, key.serialize_pem())
}

fn openssl(bits: &str, digest: &str) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    let arguments =
        ["req", "-x509", "-nodes", "-subj", "/CN=root", "-keyout", "key", "-out", "crt", "-newkey", bits, digest];
    let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output();
    let output = output.expect("this test needs the openssl binary (Debian package openssl)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    (read("crt"), read("key"))
}

/// A control plane on a folder.
struct ControlPlane {
    folder: TempDir,
    admin: SocketAddr,
    process: Child,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl ControlPlane {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("mesh")).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_osm-operator"))
            .arg("standalone")
            .arg(path("mesh"))
            .args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string()])
            .args(["--trust-bundle-delay", "1", "--proxy-grace", "1"])
            .arg("--state-dir")
            .arg(path("state"))
            .arg("--status-dir")
            .arg(path("status"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { folder, admin, process }
    }

    /// The MeshRootCertificates that there are from now on: name, role and provider.
    fn set(&self, roots: &[(&str, &str, &str)]) {
        let documents = roots.iter().map(|(name, role, provider)| {
            format!(
                "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshRootCertificate\n\
                 metadata: {{ name: {name}, namespace: osm-system }}\nspec: {{ role: {role}, provider: {{ {provider} }} }}\n---\n"
            )
        });
        let unfinished = self.folder.path().join("roots.new");
        std::fs::write(&unfinished, documents.collect::<String>()).unwrap();
        std::fs::rename(unfinished, self.folder.path().join("mesh/roots.yaml")).unwrap();
    }

    fn write_secret(&self, name: &str, files: &[(&str, &str)]) {
        let folder = self.folder.path().join("state/secrets/osm-system").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }

    /// Waits until the status of a root is as wanted.
    fn status(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + LIMIT;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            last = read_status(&self.folder.path().join("status"), name);
            if wanted(&last) {
                return last;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{name} did not come to it: {last}");
    }

    /// Who signs, by the control plane's own page.
    fn signing(&self) -> String {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.write_all(b"GET /debug/roots HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let start = text.find('{').unwrap_or_else(|| panic!("{text}"));
        let end = text.rfind('}').unwrap() + 1;
        let page: Value = serde_json::from_str(&text[start..end]).unwrap();
        page["signing"].as_str().unwrap_or_default().to_owned()
    }
}

fn read_status(folder: &Path, name: &str) -> Value {
    let suffix = format!(".osm-system.{name}.yaml");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found = files.map(|file| file.path()).find(|path| path.to_string_lossy().ends_with(&suffix));
    let text = found.and_then(|path| std::fs::read_to_string(path).ok());
    let document: Value = text.and_then(|text| serde_saphyr::from_str(&text).ok()).unwrap_or_default();
    if document["status"].is_object() { document["status"].clone() } else { document }
}

fn tresor(name: &str) -> String {
    format!("tresor: {{ ca: {{ secretRef: {{ name: {name}, namespace: osm-system }} }} }}")
}

/// A condition that is not true and says all of `words`.
fn says(status: &Value, words: &[&str]) -> bool {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| {
        let text = condition["message"].as_str().unwrap_or_default();
        condition["status"] == "False" && words.iter().all(|word| text.contains(word))
    })
}

/// Puts a bad root in place of the good one; it says why it is not used, and the good one signs.
fn check_refused(control_plane: &ControlPlane, (name, provider, words): (&str, &str, &[&str])) {
    let first = tresor("first");
    control_plane.set(&[("first", "passive", &first), (name, "active", provider)]);
    let status = control_plane.status(name, |status| says(status, words));
    assert_eq!(status["state"], "error", "{name}: {status}");
    assert!(!status.to_string().contains("PRIVATE KEY"), "{name}: a key in a status");
    assert_eq!(control_plane.signing(), "osm-system/first", "{name}");
    control_plane.set(&[("first", "active", &first)]);
    control_plane.status("first", |status| status["state"] == "active" && status["usage"] == "issuing");
}

fn started() -> ControlPlane {
    let control_plane = ControlPlane::start();
    control_plane.set(&[("first", "active", &tresor("first"))]);
    control_plane.status("first", |status| status["state"] == "active");
    control_plane
}

#[test]
fn an_authority_that_proxies_could_not_trust_is_named_and_the_good_root_signs() {
    let control_plane = started();
    let now = OffsetDateTime::now_utc();
    let minutes = time::Duration::minutes;
    let emails = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection];
    };
    let cases = [
        ("wrong-usage", root(emails), "serverAuth and clientAuth"),
        ("too-deep", too_deep(), "has path length 0, but 1 authorities are below it"),
        ("sha1", openssl("rsa:2048", "-sha1"), "SHA-256 or stronger is required"),
        ("short-key", openssl("rsa:1024", "-sha256"), "RSA key of 1024 bits"),
        ("expired", root(|params| params.not_after = now - minutes(1)), "expired at"),
        ("early", root(|params| params.not_before = now + minutes(20)), "is not valid before"),
    ];
    for (name, (certificate, key), words) in cases {
        control_plane.write_secret(name, &[("ca.crt", &certificate), ("private.key", &key)]);
        check_refused(&control_plane, (name, &tresor(name), &[SECRET, words]));
    }
}

#[test]
fn a_clock_that_is_less_than_five_minutes_behind_refuses_no_root() {
    let control_plane = started();
    let (certificate, key) = root(|params| params.not_before = OffsetDateTime::now_utc() + time::Duration::minutes(4));
    control_plane.write_secret("early", &[("ca.crt", &certificate), ("private.key", &key)]);
    control_plane.set(&[("first", "passive", &tresor("first")), ("early", "active", &tresor("early"))]);
    control_plane.status("early", |status| status["state"] != "error" && status["expires"].is_string());
}

/// A server that answers every request with `answer` and ends the connection; with nothing, it never answers.
fn server(answer: Option<&'static str>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for mut stream in listener.incoming().flatten() {
            match answer {
                Some(answer) => {
                    if stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                        // A client that goes away is no concern of the server.
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
                None => held.push(stream),
            }
        }
    });
    address
}

#[test]
fn a_provider_that_makes_no_sense_is_named_and_the_good_root_signs() {
    let control_plane = started();
    control_plane.write_secret("token", &[("token", "a-token")]);
    let vault = |address: SocketAddr| {
        format!(
            "vault: {{ host: 127.0.0.1, port: {}, protocol: http, role: mesh, token: {{ secretKeyRef: {{ name: token, \
             namespace: osm-system, key: token }} }} }}",
            address.port()
        )
    };
    let garbage = server(Some("HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\n<html></html>"));
    let cut = server(Some("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nConnection: close\r\n\r\n{\"data\":"));
    let cert_manager =
        |kind: &str| format!("certManager: {{ issuerName: ca, issuerKind: {kind}, issuerGroup: a.example }}");
    let two = format!("{}, {}", tresor("two"), cert_manager("Issuer"));
    let unknown = cert_manager("Isuer");
    let (garbage, cut, silent) = (vault(garbage), vault(cut), vault(server(None)));
    let cases: [(&str, &str, &[&str]); 5] = [
        ("two", &two, &["spec.provider"]),
        ("unknown-kind", &unknown, &["spec.provider.certManager.issuerKind", "Isuer"]),
        ("garbage", &garbage, &["spec.provider.vault", "127.0.0.1"]),
        ("cut", &cut, &["spec.provider.vault", "127.0.0.1"]),
        ("silent", &silent, &["spec.provider.vault"]),
    ];
    for case in cases {
        check_refused(&control_plane, case);
    }
}
