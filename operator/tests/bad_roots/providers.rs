//! Providers that answer what makes no sense: when a root is to be taken up, and when it signs already.

use std::time::Duration;

use crate::control_plane::{ControlPlane, check_refused, says, started, tresor};
use crate::vault::{Answers, STRANGER, Vault};

const DAY: Duration = Duration::from_secs(24 * 3600);
const FIELD: &str = "spec.provider.vault";
const WRONG_KEY: &str = "the certificate is for another key";

/// What is said of each answer that makes no sense: reason, and words.
const WRONG: [(Answers, &str, &[&str]); 5] = [
    (Answers::Garbage, "InvalidAnswer", &[FIELD, "127.0.0.1", "it is not JSON"]),
    (Answers::Cut, "ProviderUnavailable", &[FIELD, "127.0.0.1", "make the provider reachable"]),
    (Answers::Silent, "ProviderUnavailable", &[FIELD, "127.0.0.1", "no answer within"]),
    (Answers::OtherName, "InvalidAnswer", &[FIELD, "127.0.0.1", STRANGER]),
    (Answers::OtherKey, "InvalidAnswer", &[FIELD, "127.0.0.1", WRONG_KEY]),
];

#[test]
fn a_provider_that_makes_no_sense_is_named_and_the_good_root_signs() {
    let control_plane = started();
    control_plane.write_secret("token", &[("token", "a-token")]);
    let cert_manager =
        |kind: &str| format!("certManager: {{ issuerName: ca, issuerKind: {kind}, issuerGroup: a.example }}");
    let two = format!("{}, {}", tresor("two"), cert_manager("Issuer"));
    check_refused(&control_plane, ("two", &two, "InvalidProvider", &["spec.provider"]));
    let unknown = (cert_manager("Isuer"), ["spec.provider.certManager.issuerKind", "Isuer"]);
    check_refused(&control_plane, ("unknown-kind", &unknown.0, "InvalidProvider", &unknown.1));
    let vault = Vault::start(DAY);
    for (answers, reason, words) in WRONG {
        vault.set(answers);
        let name = format!("vault-{answers:?}").to_lowercase();
        check_refused(&control_plane, (&name, &vault.provider(), reason, words));
    }
}

/// A control plane whose root is in `vault`.
fn signing_by(vault: &Vault) -> ControlPlane {
    let control_plane = started();
    control_plane.write_secret("token", &[("token", "a-token")]);
    control_plane.set(&[("first", "passive", &tresor("first")), ("vault", "active", &vault.provider())]);
    control_plane.status("vault", |status| status["state"] == "active" && status["usage"] == "issuing");
    control_plane
}

/// Its root is told to be ill for this reason, in these words, and stays in force.
fn check_told(control_plane: &ControlPlane, (answers, reason, words): (Answers, &str, &[&str])) {
    let status = control_plane.status("vault", |status| says(status, reason, words));
    assert_eq!((&status["state"], &status["usage"]), (&"active".into(), &"issuing".into()), "{answers:?}: {status}");
    let ready = status["conditions"].as_array().unwrap().iter().find(|condition| condition["type"] == "Ready").unwrap();
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("False"), Some(reason)), "{answers:?}");
    assert_eq!(control_plane.signing(), "osm-system/vault", "{answers:?}");
}

fn is_well(status: &serde_json::Value) -> bool {
    status["conditions"].as_array().is_some_and(|all| all.iter().all(|condition| condition["status"] == "True"))
}

#[test]
fn a_provider_that_stops_making_sense_is_named_while_its_root_signs_and_nothing_else_changes() {
    let vault = Vault::start(DAY);
    let control_plane = signing_by(&vault);
    let before = control_plane.certificate();
    assert!(before["root"] == "osm-system/vault" && before["serial"].is_string(), "{before}");
    for wrong in &WRONG[..3] {
        vault.set(wrong.0);
        check_told(&control_plane, *wrong);
    }
    vault.set(Answers::Good);
    control_plane.status("vault", is_well);
    assert_eq!(control_plane.certificate(), before, "the certificate at hand is used all the time");
}

/// A provider that signs certificates which are no good when its first one is to be renewed, and good ones after that.
fn check_renewal(wrong: (Answers, &str, &[&str])) {
    // Certificates of that life are renewed within a minute, and are good for as long again.
    let vault = Vault::start(Duration::from_secs(100));
    let control_plane = signing_by(&vault);
    vault.set(wrong.0);
    let before = control_plane.certificate();
    check_told(&control_plane, wrong);
    assert_eq!(control_plane.certificate(), before, "a certificate that is no good takes no place");
    vault.set(Answers::Good);
    control_plane.status("vault", is_well);
    let after = control_plane.certificate();
    assert!(after["serial"].is_string() && after["serial"] != before["serial"], "{after}");
}

#[test]
fn a_provider_that_begins_to_sign_for_others_is_named_and_what_it_signed_before_is_used() {
    check_renewal(WRONG[3]);
}

#[test]
fn a_provider_that_begins_to_sign_other_keys_is_named_and_what_it_signed_before_is_used() {
    check_renewal(WRONG[4]);
}
