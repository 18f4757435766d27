//! A control plane as a process, and what its status documents say.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Longest wait, on a machine that is busy with other things too.
const LIMIT: Duration = Duration::from_secs(120);

/// A control plane on a folder.
pub(crate) struct ControlPlane {
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
            .args(["--trust-bundle-delay", "1", "--proxy-grace", "1", "--provider-check", "1"])
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
    pub(crate) fn set(&self, roots: &[(&str, &str, &str)]) {
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

    pub(crate) fn write_secret(&self, name: &str, files: &[(&str, &str)]) {
        let folder = self.folder.path().join("state/secrets/osm-system").join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            std::fs::write(folder.join(file), text).unwrap();
        }
    }

    /// Waits until the status of a root is as wanted.
    pub(crate) fn status(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
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
    pub(crate) fn signing(&self) -> String {
        self.page("roots")["signing"].as_str().unwrap_or_default().to_owned()
    }

    /// The certificate that it serves with, without its failures.
    pub(crate) fn certificate(&self) -> Value {
        let page = self.page("certificates");
        let own = page.as_array().unwrap().iter().find(|one| one["kind"] == "controlPlane");
        own.unwrap_or_else(|| panic!("{page}"))["leaf"].clone()
    }

    fn page(&self, name: &str) -> Value {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        write!(stream, "GET /debug/{name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {text}"))
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

pub(crate) fn tresor(name: &str) -> String {
    format!("tresor: {{ ca: {{ secretRef: {{ name: {name}, namespace: osm-system }} }} }}")
}

/// A condition that is not true for this reason, and says all of `words`.
pub(crate) fn says(status: &Value, reason: &str, words: &[&str]) -> bool {
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| {
        let text = condition["message"].as_str().unwrap_or_default();
        condition["status"] == "False" && condition["reason"] == reason && words.iter().all(|word| text.contains(word))
    })
}

/// Puts a bad root in place of the good one; it says why it is not used, and the good one signs.
pub(crate) fn check_refused(
    control_plane: &ControlPlane,
    (name, provider, reason, words): (&str, &str, &str, &[&str]),
) {
    let first = tresor("first");
    control_plane.set(&[("first", "passive", &first), (name, "active", provider)]);
    let status = control_plane.status(name, |status| says(status, reason, words));
    assert_eq!(status["state"], "error", "{name}: {status}");
    assert!(!status.to_string().contains("PRIVATE KEY"), "{name}: a key in a status");
    assert_eq!(control_plane.signing(), "osm-system/first", "{name}");
    control_plane.set(&[("first", "active", &first)]);
    control_plane.status("first", |status| status["state"] == "active" && status["usage"] == "issuing");
}

pub(crate) fn started() -> ControlPlane {
    let control_plane = ControlPlane::start();
    control_plane.set(&[("first", "active", &tresor("first"))]);
    control_plane.status("first", |status| status["state"] == "active");
    control_plane
}
