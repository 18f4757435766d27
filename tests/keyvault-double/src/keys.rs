//! What is in the vault.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, anyhow};
use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PSS_SHA256,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Which key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// EC on P-256; signs ES256.
    P256,
    /// EC on P-384; signs ES384.
    P384,
    /// RSA of 2048 bits; signs RS256 and PS256.
    Rsa2048,
}

/// Attributes of a version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// Whether it may be used.
    pub enabled: bool,
    /// From when on.
    pub not_before: Option<OffsetDateTime>,
    /// Until when.
    pub expires: Option<OffsetDateTime>,
    created: i64,
}

pub(crate) struct Vault {
    url: String,
    keys: BTreeMap<String, Vec<Version>>,
    certificates: BTreeMap<String, Vec<CertificateVersion>>,
}

struct Version {
    version: String,
    pkcs8: Vec<u8>,
    key: Private,
    attributes: Attributes,
}

enum Private {
    Ec(EcdsaKeyPair, &'static str),
    Rsa(RsaKeyPair),
}

struct CertificateVersion {
    version: String,
    der: Vec<u8>,
    /// The certificate and those above it.
    chain_pem: String,
}

impl Vault {
    pub(crate) fn new(url: String) -> Self {
        Self { url, keys: BTreeMap::new(), certificates: BTreeMap::new() }
    }

    pub(crate) fn create_key(&mut self, name: &str, kind: KeyKind) -> Result<String> {
        let generate = |algorithm: &'static EcdsaSigningAlgorithm| -> Result<Vec<u8>> {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new());
            Ok(document.map_err(|_| anyhow!("no randomness"))?.as_ref().to_vec())
        };
        let pkcs8 = match kind {
            KeyKind::P256 => generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?,
            KeyKind::P384 => generate(&ECDSA_P384_SHA384_FIXED_SIGNING)?,
            KeyKind::Rsa2048 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no randomness"))?;
                pair.as_der().map_err(|_| anyhow!("an RSA key without a form"))?.as_ref().to_vec()
            }
        };
        self.import_key(name, &pkcs8)
    }

    pub(crate) fn import_key(&mut self, name: &str, pkcs8: &[u8]) -> Result<String> {
        let ec = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok();
        let key = ec(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map(|pair| Private::Ec(pair, "P-256"))
            .or_else(|| ec(&ECDSA_P384_SHA384_FIXED_SIGNING).map(|pair| Private::Ec(pair, "P-384")))
            .or_else(|| RsaKeyPair::from_pkcs8(pkcs8).ok().map(Private::Rsa))
            .context("not a private key of a kind that a vault has")?;
        let mut bytes = [0; 16];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| anyhow!("no randomness"))?;
        let version: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let created = OffsetDateTime::now_utc().unix_timestamp();
        let attributes = Attributes { enabled: true, not_before: None, expires: None, created };
        let entry = Version { version: version.clone(), pkcs8: pkcs8.to_vec(), key, attributes };
        self.keys.entry(name.to_owned()).or_default().push(entry);
        Ok(version)
    }

    pub(crate) fn create_certificate(&mut self, name: &str, kind: KeyKind, root: Option<&str>) -> Result<String> {
        let version = self.create_key(name, kind)?;
        let key = self.key(name, Some(&version)).context("it was just created")?.rcgen()?;
        let (certificate, above) = match root {
            None => (authority(name, 1).self_signed(&key)?, String::new()),
            Some(root) => {
                let issuing = self.key(root, None).with_context(|| format!("there is no key {root}"))?;
                let above = self.certificate(root, None).with_context(|| format!("there is no certificate {root}"))?;
                let issuer = Issuer::new(authority(root, 1), issuing.rcgen()?);
                let mut params = authority(name, 0);
                params.use_authority_key_identifier_extension = true;
                (params.signed_by(&key, &issuer)?, above.chain_pem.clone())
            }
        };
        let chain_pem = format!("{}{above}", certificate.pem());
        let entry = CertificateVersion { version: version.clone(), der: certificate.der().to_vec(), chain_pem };
        self.certificates.entry(name.to_owned()).or_default().push(entry);
        Ok(version)
    }

    pub(crate) fn set_attributes(
        &mut self,
        name: &str,
        version: &str,
        change: impl FnOnce(&mut Attributes),
    ) -> Result<()> {
        let versions = self.keys.get_mut(name).with_context(|| format!("there is no key {name}"))?;
        let found = versions.iter_mut().find(|one| one.version == version).context("there is no such version")?;
        change(&mut found.attributes);
        Ok(())
    }

    pub(crate) fn certificate_pem(&self, name: &str, version: &str) -> Result<String> {
        let certificate = self.certificate(name, Some(version)).context("there is no such certificate")?;
        Ok(certificate.chain_pem.clone())
    }

    /// The version, or the newest.
    fn key(&self, name: &str, version: Option<&str>) -> Option<&Version> {
        let versions = self.keys.get(name)?;
        match version {
            Some(version) => versions.iter().find(|one| one.version == version),
            None => versions.last(),
        }
    }

    fn certificate(&self, name: &str, version: Option<&str>) -> Option<&CertificateVersion> {
        let versions = self.certificates.get(name)?;
        match version {
            Some(version) => versions.iter().find(|one| one.version == version),
            None => versions.last(),
        }
    }

    /// A key bundle.
    pub(crate) fn key_bundle(&self, name: &str, version: Option<&str>) -> Option<Value> {
        let found = self.key(name, version)?;
        let mut key = found.public();
        key["kid"] = json!(format!("{}/keys/{name}/{}", self.url, found.version));
        key["key_ops"] = json!(["sign", "verify"]);
        Some(json!({ "key": key, "attributes": found.attributes.json() }))
    }

    pub(crate) fn key_versions(&self, name: &str) -> Option<Value> {
        let versions = self.keys.get(name)?.iter().map(|one| {
            json!({ "kid": format!("{}/keys/{name}/{}", self.url, one.version), "attributes": one.attributes.json() })
        });
        Some(json!({ "value": versions.collect::<Vec<_>>(), "nextLink": null }))
    }

    pub(crate) fn certificate_bundle(&self, name: &str, version: Option<&str>) -> Option<Value> {
        let found = self.certificate(name, version)?;
        let id = |kind: &str| format!("{}/{kind}/{name}/{}", self.url, found.version);
        Some(json!({
            "id": id("certificates"),
            "kid": id("keys"),
            "sid": id("secrets"),
            "cer": STANDARD.encode(&found.der),
            "attributes": { "enabled": true, "created": 1_700_000_000, "updated": 1_700_000_000 },
            "policy": { "id": format!("{}/certificates/{name}/policy", self.url), "issuer": { "name": "Unknown" } },
        }))
    }

    /// The secret behind a certificate: its chain. The key is not exportable.
    pub(crate) fn secret_bundle(&self, name: &str, version: Option<&str>) -> Option<Value> {
        let found = self.certificate(name, version)?;
        Some(json!({
            "id": format!("{}/secrets/{name}/{}", self.url, found.version),
            "value": found.chain_pem,
            "contentType": "application/x-pem-file",
            "attributes": { "enabled": true },
        }))
    }

    /// Signs a digest. `Err` says why not, as code and message.
    pub(crate) fn sign(
        &self,
        name: &str,
        version: &str,
        body: &Value,
    ) -> Option<Result<Value, (u16, &'static str, String)>> {
        let found = self.key(name, Some(version).filter(|version| !version.is_empty()))?;
        if let Some((code, what)) = found.attributes.refusal() {
            return Some(Err((403, code, format!("Operation sign is not allowed on {what} key."))));
        }
        let bad = |message: &str| Some(Err((400, "BadParameter", message.to_owned())));
        let (Some(algorithm), Some(value)) = (body["alg"].as_str(), body["value"].as_str()) else {
            return bad("Property alg or value has invalid value");
        };
        let Ok(value) = URL_SAFE_NO_PAD.decode(value) else {
            return bad("Property value is not base64url");
        };
        let Some(signature) = found.sign(algorithm, &value) else {
            return bad("Key and signing algorithm are incompatible, or the digest has the wrong length");
        };
        let kid = format!("{}/keys/{name}/{}", self.url, found.version);
        Some(Ok(json!({ "kid": kid, "value": URL_SAFE_NO_PAD.encode(signature) })))
    }
}

fn authority(name: &str, path_length: u8) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::now_utc() - time::Duration::hours(1);
    params.not_after = OffsetDateTime::now_utc() + time::Duration::days(3650);
    params
}

impl Version {
    fn rcgen(&self) -> Result<KeyPair> {
        Ok(KeyPair::try_from(self.pkcs8.as_slice())?)
    }

    fn public(&self) -> Value {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.key {
            Private::Ec(pair, curve) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Private::Rsa(pair) => {
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kty": "RSA", "n": encode(&n), "e": encode(&e) })
            }
        }
    }

    fn sign(&self, algorithm: &str, value: &[u8]) -> Option<Vec<u8>> {
        let hash = if algorithm == "ES384" { &digest::SHA384 } else { &digest::SHA256 };
        let digest = Digest::import_less_safe(value, hash).ok()?;
        match (&self.key, algorithm) {
            (Private::Ec(pair, "P-256"), "ES256") | (Private::Ec(pair, "P-384"), "ES384") => {
                Some(pair.sign_digest(&digest).ok()?.as_ref().to_vec())
            }
            (Private::Rsa(pair), "RS256" | "PS256") => {
                let mut signature = vec![0; pair.public_modulus_len()];
                match algorithm {
                    "RS256" => pair.sign_digest(&RSA_PKCS1_SHA256, &digest, &mut signature).ok()?,
                    _ => pair.sign_digest(&RSA_PSS_SHA256, &digest, &mut signature).ok()?,
                }
                Some(signature)
            }
            _ => None,
        }
    }
}

impl Attributes {
    fn json(&self) -> Value {
        let mut json = json!({
            "enabled": self.enabled,
            "created": self.created,
            "updated": self.created,
            "recoveryLevel": "Recoverable+Purgeable",
            "recoverableDays": 90,
        });
        if let Some(at) = self.not_before {
            json["nbf"] = json!(at.unix_timestamp());
        }
        if let Some(at) = self.expires {
            json["exp"] = json!(at.unix_timestamp());
        }
        json
    }

    /// Why the key must not be used now.
    fn refusal(&self) -> Option<(&'static str, &'static str)> {
        let now = OffsetDateTime::now_utc();
        if !self.enabled {
            Some(("KeyDisabled", "a disabled"))
        } else if self.expires.is_some_and(|at| at <= now) {
            Some(("KeyExpired", "an expired"))
        } else if self.not_before.is_some_and(|at| at > now) {
            Some(("KeyNotYetValid", "a not yet valid"))
        } else {
            None
        }
    }
}
