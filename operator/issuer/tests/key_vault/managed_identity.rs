//! The identity that Azure gives a machine, asked of a double of its metadata service: at the one address where Azure's clients
//! look for it, in a network namespace that has nothing else.
//!
//! Needs the rights to make namespaces, as root has them, and `unshare` and `ip`.

use std::net::SocketAddr;
use std::time::Duration;

use osm_issuer::key_vault::{KeyVaultAuth, KeyVaultConfig};
use osm_issuer::{Advice, IssueError, Issuer};
use osm_key_vault_double::{CLIENT, Fault, KeyKind, KeyVaultDouble, METADATA_ADDRESS, Operation};

use crate::support::{config, key_vault, store, workload};

/// Set in the process that runs in the namespace.
const INSIDE: &str = "OSM_TEST_IN_NAMESPACE";
const ADDRESS: &str = "ip link set lo up && ip address add 169.254.169.254/32 dev lo && exec \"$0\" \"$@\"";

/// Runs the test `name` again in a network namespace where the machine has the metadata service's address.
async fn inside(name: &str, test: impl AsyncFnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        return test().await;
    }
    let mut command = tokio::process::Command::new("unshare");
    command.args(["--net", "sh", "-c", ADDRESS]).arg(std::env::current_exe().unwrap());
    command.args([&format!("managed_identity::{name}"), "--exact", "--nocapture"]).env(INSIDE, "1");
    // What would lead to another kind of managed identity than the machine's.
    command.env_remove("IDENTITY_ENDPOINT").env_remove("IDENTITY_HEADER");
    let output = command.kill_on_drop(true).output().await.expect("unshare runs (Debian package util-linux)");
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn address() -> SocketAddr {
    METADATA_ADDRESS.parse().unwrap()
}

fn of_machine(double: &KeyVaultDouble, client_id: Option<&str>) -> KeyVaultConfig {
    KeyVaultConfig {
        auth: KeyVaultAuth::ManagedIdentity { client_id: client_id.map(str::to_owned) },
        ..config(double, "mesh")
    }
}

async fn refusal(config: KeyVaultConfig) -> IssueError {
    key_vault(config).trust_bundle().await.unwrap_err()
}

#[track_caller]
fn check(error: &IssueError, reason: &str, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.reason(), reason, "{text}");
    for part in words {
        assert!(text.contains(part), "{text:?} lacks {part:?}");
    }
}

#[tokio::test]
async fn an_identity_of_the_machine_opens_the_vault() {
    inside("an_identity_of_the_machine_opens_the_vault", async || {
        let double = KeyVaultDouble::start().await.unwrap();
        double.create_root("mesh", KeyKind::P256).unwrap();
        let _metadata = double.start_metadata_service(address()).await.unwrap();
        let assigned = store(of_machine(&double, Some(CLIENT)));
        for name in ["bookstore", "bookbuyer"] {
            assigned.certificate(&workload(name)).await.unwrap();
        }
        // Once per client of the vault, and not once per call.
        assert!(double.count(Operation::MachineToken) <= 3, "{:?}", double.calls());
        assert_eq!((double.count(Operation::Token), double.count(Operation::Sign)), (0, 2));
        double.assign_system_identity();
        store(of_machine(&double, None)).certificate(&workload("bookstore")).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_identity_that_the_machine_does_not_have_is_named() {
    inside("an_identity_that_the_machine_does_not_have_is_named", async || {
        let double = KeyVaultDouble::start().await.unwrap();
        double.create_root("mesh", KeyKind::P256).unwrap();
        let _metadata = double.start_metadata_service(address()).await.unwrap();
        let unknown = "00000000-0000-0000-0000-000000000001";
        let error = refusal(of_machine(&double, Some(unknown))).await;
        let said = ["HTTP 400, invalid_request, Identity not found", "assign the identity", unknown];
        check(&error, "IssuerMisconfigured", &said);
        assert_eq!(error.advice(), Advice::WaitForOperator);
        let error = refusal(of_machine(&double, None)).await;
        check(&error, "IssuerMisconfigured", &["Identity not found", "system-assigned identity"]);
        assert_eq!(double.count(Operation::MachineToken), 2, "a refusal is not repeated");
    })
    .await;
}

#[tokio::test]
async fn a_metadata_service_that_limits_is_asked_when_it_says_and_not_before() {
    inside("a_metadata_service_that_limits_is_asked_when_it_says_and_not_before", async || {
        let double = KeyVaultDouble::start().await.unwrap();
        double.create_root("mesh", KeyKind::P256).unwrap();
        let _metadata = double.start_metadata_service(address()).await.unwrap();
        let vault = key_vault(of_machine(&double, Some(CLIENT)));
        let cases = [
            (Fault::Throttled(Some(17)), 17, "limits our requests (HTTP 429"),
            (Fault::Throttled(None), 10, "limits our requests (HTTP 429"),
            (Fault::Status(503), 10, "is not available (HTTP 503"),
            // While it is being updated (404) or restarted (410), as Azure documents.
            (Fault::Status(404), 10, "is not available (HTTP 404"),
            (Fault::Status(410), 10, "is not available (HTTP 410"),
        ];
        for (fault, seconds, words) in cases {
            let before = double.count(Operation::MachineToken);
            double.fail(Operation::MachineToken, &fault, 1);
            let error = vault.trust_bundle().await.unwrap_err();
            check(&error, "IssuerUnreachable", &["metadata service", words]);
            assert_eq!(error.advice(), Advice::RetryAfter(Duration::from_secs(seconds)), "{fault:?}");
            assert_eq!(double.count(Operation::MachineToken), before + 1, "the store decides when to ask again");
        }
        double.fail(Operation::MachineToken, &Fault::Garbage, 1);
        check(&vault.trust_bundle().await.unwrap_err(), "BadAnswer", &["metadata service"]);
        vault.trust_bundle().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_machine_without_a_metadata_service_is_told_apart_from_a_vault_that_is_away() {
    inside("a_machine_without_a_metadata_service_is_told_apart_from_a_vault_that_is_away", async || {
        let double = KeyVaultDouble::start().await.unwrap();
        double.create_root("mesh", KeyKind::P256).unwrap();
        // Nobody listens.
        let error = refusal(of_machine(&double, Some(CLIENT))).await;
        check(&error, "IssuerUnreachable", &["metadata service at 169.254.169.254", "Connection refused"]);
        assert!(matches!(error.advice(), Advice::RetryAfter(_)));
        // Somebody listens and says nothing.
        let _metadata = double.start_metadata_service(address()).await.unwrap();
        double.fail(Operation::MachineToken, &Fault::Hang, 1);
        let mut hasty = of_machine(&double, Some(CLIENT));
        hasty.network.timeout = Duration::from_secs(2);
        check(&refusal(hasty).await, "IssuerUnreachable", &["metadata service at 169.254.169.254"]);
        assert_eq!(double.count(Operation::MachineToken), 1, "the store decides when to ask again");
    })
    .await;
}
