//! What several tests need: identities, a store on a clock that the test moves, and the openssl binary.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
use osm_issuer::{
    Blame, CertificateStore, Clock, ControlPlaneIdentity, IngressGatewayIdentity, IssuerConfig, Issuers, NamedIssuer,
    PeerIdentity, ProxyIdentity, StoreConfig, TrustDomain, WorkloadIdentity,
};
use time::OffsetDateTime;

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::new("mesh.example").unwrap()
}

pub(crate) fn workload_identity(namespace: &str, service_account: &str) -> WorkloadIdentity {
    WorkloadIdentity::new(trust_domain(), namespace, service_account).unwrap()
}

pub(crate) fn workload(namespace: &str, service_account: &str) -> PeerIdentity {
    PeerIdentity::Workload(workload_identity(namespace, service_account))
}

pub(crate) fn proxy(namespace: &str, service_account: &str, node: &str) -> PeerIdentity {
    let workload = workload_identity(namespace, service_account);
    PeerIdentity::Proxy(ProxyIdentity::new(workload, node).unwrap())
}

pub(crate) fn control_plane() -> PeerIdentity {
    let service = ControlPlaneIdentity::DEFAULT_SERVICE;
    let identity = ControlPlaneIdentity::new(trust_domain(), "osm-system", service);
    PeerIdentity::ControlPlane(identity.unwrap())
}

pub(crate) fn gateway(dns_names: &[&str]) -> PeerIdentity {
    let identity = IngressGatewayIdentity::new(trust_domain(), "ingress", "gateway-tls", dns_names.iter().copied());
    PeerIdentity::IngressGateway(identity.unwrap())
}

pub(crate) fn origin() -> Blame {
    Blame::Secret { namespace: "osm-system".to_owned(), name: "osm-ca-bundle".to_owned() }
}

pub(crate) fn tresor(material: &AuthorityMaterial, now: OffsetDateTime) -> NamedIssuer {
    let config = TresorConfig { material: material.clone(), origin: origin() };
    IssuerConfig::Tresor(config).build(now).unwrap()
}

pub(crate) fn issuers(signing: &NamedIssuer) -> Issuers {
    Issuers { signing: signing.clone(), validating: Vec::new() }
}

/// A clock that only the test moves, in whole seconds from now on.
#[derive(Clone)]
pub(crate) struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicI64::new(OffsetDateTime::now_utc().unix_timestamp())))
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::SeqCst)).unwrap()
    }

    pub(crate) fn set(&self, to: OffsetDateTime) {
        // Rounded up, so that what is due at `to` is due.
        let seconds = to.unix_timestamp() + i64::from(to.nanosecond() > 0);
        self.0.store(seconds, Ordering::SeqCst);
    }

    pub(crate) fn advance(&self, by: time::Duration) {
        self.0.fetch_add(by.whole_seconds(), Ordering::SeqCst);
    }

    pub(crate) fn clock(&self) -> Clock {
        let clock = self.clone();
        Clock::from_fn(move || clock.now())
    }
}

/// A store on a new ECDSA authority.
pub(crate) fn store(config: StoreConfig) -> (CertificateStore, ManualClock) {
    let clock = ManualClock::new();
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, clock.now()).unwrap();
    let issuer = tresor(&material, clock.now());
    let store = CertificateStore::new(issuers(&issuer), config, clock.clock());
    (store, clock)
}

/// Runs `openssl` in `folder` and requires that it succeeds.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> String {
    let output = try_openssl(folder, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "openssl {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

pub(crate) fn try_openssl(folder: &Path, arguments: &[&str]) -> Output {
    Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("these tests need the openssl binary (Debian package openssl)")
}
