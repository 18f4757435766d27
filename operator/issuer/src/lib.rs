//! Identities and certificates of the mesh: who signs, what a certificate names, and the store that keeps leaves fresh.
//!
//! The path of a certificate:
//!
//! 1. A [`PeerIdentity`] says whom the certificate names, and how that is written into it.
//! 2. [`CertificateStore`] makes the key and a [`CertificateRequest`] for it. The private key never leaves the store but as
//!    [`SecretMaterial`].
//! 3. An [`Issuer`] signs the request. [`tresor`] is the authority inside this process; a provider reached over the
//!    network is another implementation of the same three functions, and [`IssuerConfig`] is the list of all.
//! 4. The answer is verified in one place for all issuers (key, names, usage, validity, chain) and becomes a
//!    [`LeafCertificate`].
//! 5. The store renews it before it ends, and tells its [subscribers](CertificateStore::subscribe).
//!
//! What this crate is not: it knows neither Kubernetes nor Envoy, reads no object and serves nothing. Which identities
//! are wanted, and where leaves and trust bundles go, is the operator's business.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
//! use osm_issuer::*;
//!
//! let clock = Clock::system();
//! let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, clock.now())?;
//! let origin = Blame::Secret { namespace: "osm-system".into(), name: "osm-ca-bundle".into() };
//! let signing = IssuerConfig::Tresor(TresorConfig { material, origin }).build(clock.now())?;
//! let issuers = Issuers { signing, validating: Vec::new() };
//! let store = CertificateStore::new(issuers, StoreConfig::default(), clock);
//!
//! let workload = WorkloadIdentity::new(TrustDomain::new("cluster.local")?, "bookstore", "bookstore-v1")?;
//! let leaf = store.certificate(&PeerIdentity::Workload(workload)).await?;
//! assert!(leaf.material().certificate_chain_pem().starts_with("-----BEGIN CERTIFICATE-----"));
//! assert_eq!(store.trust_bundle().await?.roots().len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! Private keys are wiped when dropped, and print as `[redacted]`; the one way to one is
//! [`SecretMaterial::expose_private_key_pem`].

#[cfg_attr(
    not(all(feature = "tresor", feature = "key-vault", feature = "vault")),
    allow(dead_code, unused_imports, reason = "each provider uses a part of it")
)]
mod authority;
mod authority_error;
mod bundle;
#[cfg(feature = "cert-manager")]
pub mod cert_manager;
#[cfg_attr(
    not(all(feature = "tresor", feature = "key-vault")),
    allow(dead_code, reason = "each provider uses a part of it")
)]
mod der;
mod error;
mod identity;
mod issuer;
mod key;
#[cfg(feature = "key-vault")]
pub mod key_vault;
mod leaf;
mod pem;
mod renewal;
pub mod rotation;
mod secret;
#[cfg(any(feature = "tresor", feature = "key-vault"))]
mod serial;
mod store;
mod tls;
#[cfg(any(feature = "tresor", feature = "key-vault"))]
mod to_sign;
#[cfg(feature = "tresor")]
pub mod tresor;
mod validating;
mod validity;
#[cfg(feature = "vault")]
pub mod vault;
mod verify;
#[cfg(any(feature = "vault", feature = "key-vault"))]
mod words;

pub use authority_error::AuthorityError;
pub use bundle::{TrustBundle, TrustBundleError};
pub use error::{Advice, Blame, IssueError};
pub use identity::{
    ControlPlaneIdentity, IdentityError, IdentityField, IngressGatewayIdentity, PeerIdentity, ProxyIdentity,
    SubjectNames, TrustDomain, WorkloadIdentity,
};
pub use issuer::{CertificateRequest, IssuedCertificate, Issuer, IssuerConfig, IssuerHealth, NamedIssuer};
pub use key::{LeafKeyAlgorithm, RsaKeySize, RsaKeySizeError};
pub use leaf::LeafCertificate;
pub use renewal::{JitterFraction, renew_at, retry_at};
pub use secret::{Credential, PrivateKeyPem, SecretMaterial};
pub use store::{
    CertificateStatus, CertificateStore, Change, Changes, Clock, FailureStatus, Issuers, LeafPolicy, LeafStatus,
    Renewed, StoreConfig,
};
pub use tls::{ClientCertificates, TlsError, anonymous_client_config, client_config, server_config};
pub use validity::{CLOCK_SKEW, LeafValidity, LeafValidityError};
pub use verify::LeafError;
