//! What a certificate costs: processor time with Tresor, calls with a key in a vault.

use std::time::{Duration, Instant};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use osm_issuer::key_vault::{KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{
    Blame, CertificateStore, Clock, Credential, IssuerConfig, Issuers, PeerIdentity, StoreConfig, WorkloadIdentity,
};
use osm_key_vault_double::{CLIENT, CLIENT_SECRET, KeyKind, KeyVaultDouble, Operation, TENANT};

use crate::figure::{Figure, Goal};
use crate::measure::Effort;
use crate::operator::trust_domain;
use crate::statistics::Summary;

/// Leaves in a round.
const LEAVES: usize = 2000;
/// Leaves that the vault's key signs.
const VAULT_LEAVES: usize = 200;
/// About as long as the part of a leaf that is signed.
const MESSAGE: [u8; 400] = [7; 400];

fn store(config: IssuerConfig) -> anyhow::Result<CertificateStore> {
    let clock = Clock::system();
    let issuers = Issuers { signing: config.build(clock.now())?, validating: Vec::new() };
    Ok(CertificateStore::new(issuers, StoreConfig::default(), clock))
}

fn origin() -> Blame {
    Blame::Secret { namespace: "osm-system".to_owned(), name: "osm-ca-bundle".to_owned() }
}

fn workload(number: usize) -> anyhow::Result<PeerIdentity> {
    Ok(PeerIdentity::Workload(WorkloadIdentity::new(trust_domain()?, "bench", &format!("workload-{number}"))?))
}

/// Issues leaves, and does by itself what cryptography they cannot do without.
///
/// # Errors
/// A leaf is not issued.
pub async fn measure(effort: Effort) -> anyhow::Result<Vec<Figure>> {
    let (mut over_raw, mut over_all, mut per_second) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let raw = raw(Depth::KeyAndSignature)?.as_secs_f64();
        let all = raw_all()?.as_secs_f64();
        let issued = issued().await?.as_secs_f64();
        over_raw.push(issued / raw);
        over_all.push(issued / all);
        per_second.push(LEAVES as f64 / issued);
    }
    let summary = |values| Summary::of(values).context("no rounds");
    Ok(vec![
        Figure::new(
            "leaf_issue_over_raw_sign",
            Goal::AtMost(1.2),
            summary(over_raw)?,
            "time to issue an ECDSA P-256 leaf by Tresor through the certificate store (key, certificate, the store's check of it, \
             PEM) ÷ one key and one signature by aws-lc-rs",
        )
        .short_because(
            "the store verifies the signature of every leaf, whoever issued it, so that one that no peer would accept is found \
             before traffic finds it, and that alone takes twice as long as key and signature together; a request with proof of \
             possession is made only for providers that must be sent one; compare `leaf_issue_over_raw_operations`",
        ),
        Figure::new(
            "leaf_issue_over_raw_operations",
            Goal::Record,
            summary(over_all)?,
            "the same ÷ all operations by aws-lc-rs that a leaf and its check take: one key, one signature, one verification; the \
             rest is reading the certificate as a stranger's, names, PEM and the store's books",
        ),
        Figure::new(
            "leaf_per_second_tresor",
            Goal::Record,
            summary(per_second)?,
            "ECDSA P-256 leaves a second that Tresor issues through the certificate store, one after the other",
        ),
        key_vault().await?,
    ])
}

async fn issued() -> anyhow::Result<Duration> {
    let clock = Clock::system();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, clock.now())?;
    let store = store(IssuerConfig::Tresor(TresorConfig { material, origin: origin() }))?;
    store.trust_bundle().await?;
    let identities = (0..LEAVES).map(workload).collect::<anyhow::Result<Vec<_>>>()?;
    let start = Instant::now();
    for identity in &identities {
        store.certificate(identity).await?;
    }
    Ok(start.elapsed())
}

/// How much of the cryptography is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// A key, and a signature by the authority.
    KeyAndSignature,
    /// The signature is also verified.
    Everything,
}

fn raw_all() -> anyhow::Result<Duration> {
    raw(Depth::Everything)
}

fn raw(depth: Depth) -> anyhow::Result<Duration> {
    let (random, kind) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
    let authority = EcdsaKeyPair::generate(kind).context("make a key")?;
    let verified = |signature: &[u8]| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, authority.public_key().as_ref()).verify(&MESSAGE, signature)
    };
    let start = Instant::now();
    for _ in 0..LEAVES {
        let key = EcdsaKeyPair::generate(kind).context("make a key")?;
        let certificate = authority.sign(&random, &MESSAGE).context("sign")?;
        if depth == Depth::Everything {
            verified(certificate.as_ref()).context("verify")?;
        }
        std::hint::black_box((key, certificate));
    }
    Ok(start.elapsed())
}

async fn key_vault() -> anyhow::Result<Figure> {
    let double = KeyVaultDouble::start().await?;
    double.create_root("mesh", KeyKind::P256)?;
    let config = KeyVaultConfig {
        vault_url: double.vault_url(),
        key_name: "mesh".to_owned(),
        key_version: None,
        authority: KeyVaultAuthority::CertificateObject { name: "mesh".to_owned() },
        auth: KeyVaultAuth::ClientSecret {
            tenant_id: TENANT.to_owned(),
            client_id: CLIENT.to_owned(),
            secret: Credential::new(CLIENT_SECRET.to_owned()),
            origin: origin(),
        },
        network: KeyVaultNetwork {
            authority_host: Some(double.authority_host()),
            ca_pem: Some(double.ca_pem().to_owned()),
            addresses: double.hosts(),
            timeout: Duration::from_secs(60),
        },
    };
    let store = store(IssuerConfig::KeyVault(config))?;
    store.trust_bundle().await?;
    let before = double.count(Operation::Sign);
    let identities = (0..VAULT_LEAVES).map(workload).collect::<anyhow::Result<Vec<_>>>()?;
    let issued = identities.iter().map(|identity| store.certificate(identity));
    futures::future::try_join_all(issued).await?;
    let calls = (double.count(Operation::Sign) - before) as f64;
    Ok(Figure::new(
        "keyvault_sign_calls_per_leaf",
        Goal::Exactly(1.0),
        Summary::exact(calls / VAULT_LEAVES as f64),
        format!("calls of `sign` for {VAULT_LEAVES} leaves ÷ leaves, counted by a double of Azure Key Vault, exact"),
    ))
}
