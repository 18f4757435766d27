//! The double is close enough to Key Vault for clients that somebody else wrote: Azure's own for Python.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::path::PathBuf;
use std::process::Command;

use osm_key_vault_double::{CLIENT, CLIENT_SECRET, Fault, KeyKind, KeyVaultDouble, Operation, TENANT};
use serde_json::{Value, json};

/// What is installed, by version; with what these need, as pip finds it.
const PACKAGES: [&str; 3] =
    ["azure-identity==1.27.0", "azure-keyvault-certificates==4.12.0", "azure-keyvault-keys==4.11.3"];

fn run(command: &mut Command) -> String {
    let output = command.output().expect("this test needs python3 with pip (Debian packages python3, python3-pip)");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// A folder with the clients, in the cache.
fn clients() -> PathBuf {
    let name = PACKAGES.join(",").replace("==", "-");
    let folder = osm_cluster::cache_directory().unwrap().join("azure-python").join(name);
    osm_cluster::once(&folder, |scratch| {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]);
        pip.args(["--root-user-action=ignore", "--only-binary", ":all:", "--target"]).arg(scratch);
        run(pip.args(PACKAGES));
        Ok(())
    })
    .unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azures_own_python_clients_work_against_it_unchanged() {
    let double = KeyVaultDouble::start().await.unwrap();
    let version = double.create_root("root-p256", KeyKind::P256).unwrap();
    let rsa_version = double.create_root("root-rsa", KeyKind::Rsa2048).unwrap();
    let disabled = double.create_key("disabled", KeyKind::P256).unwrap();
    double.set_attributes("disabled", &disabled, |attributes| attributes.enabled = false).unwrap();
    // The client's own retries obey the header.
    double.fail(Operation::Sign, &Fault::Throttled(Some(1)), 1);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), double.ca_pem()).unwrap();
    std::fs::write(path("clients.py"), include_str!("azure_clients.py")).unwrap();
    let given = json!({
        "vault": double.vault_url(),
        "authority": double.authority_host(),
        "ca": path("ca.pem"),
        "tenant": TENANT,
        "client": CLIENT,
        "secret": CLIENT_SECRET,
        "rsa_version": rsa_version,
    });
    std::fs::write(path("given.json"), given.to_string()).unwrap();
    let (script, given) = (path("clients.py"), path("given.json"));
    let printed = tokio::task::spawn_blocking(move || {
        let mut python = Command::new("python3");
        python.arg(script).arg(given).env("PYTHONPATH", clients()).env("PYTHONDONTWRITEBYTECODE", "1");
        for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
            python.env_remove(name);
        }
        run(&mut python)
    });
    let seen: Value = serde_json::from_str(&printed.await.unwrap()).unwrap();
    assert_eq!(seen["certificate"], json!(version));
    assert_eq!(seen["disabled"]["status"], 403);
    assert!(seen["disabled"]["message"].as_str().unwrap().contains("not allowed on a disabled key"), "{seen}");
    assert_eq!(seen["missing"]["status"], 404);
    assert!(seen["stranger"].as_str().unwrap().contains("AADSTS7000215"), "{seen}");
    assert_eq!(double.count(Operation::Sign), 6, "four signatures, one refusal, one more after throttling");
    assert!(double.count(Operation::Challenge) > 0);
}
