//! Authorities in Secrets.

use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use time::OffsetDateTime;

use crate::control_plane::{check_refused, started, tresor};

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
        check_refused(&control_plane, (name, &tresor(name), "InvalidSecret", &[SECRET, words]));
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
