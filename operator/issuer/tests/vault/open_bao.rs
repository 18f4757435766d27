//! How the provider reaches a real server.

use std::time::Duration;

use osm_issuer::vault::{Vault, VaultAuth, VaultConfig, VaultProtocol};
use osm_issuer::{
    Blame, CertificateStore, Clock, ControlPlaneIdentity, Credential, IssuerConfig, Issuers, LeafKeyAlgorithm,
    NamedIssuer, PeerIdentity, ProxyIdentity, StoreConfig, TrustDomain, WorkloadIdentity,
};
use osm_open_bao::OpenBao;
use time::OffsetDateTime;

/// Much longer than anything takes, on a machine that is busy with other things too.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// A configuration for `token` that reaches `server` directly.
pub(crate) fn config(server: &OpenBao, token: &str) -> VaultConfig {
    VaultConfig {
        host: server.address().ip().to_string(),
        port: server.address().port(),
        protocol: VaultProtocol::Https { ca_pem: Some(server.ca_pem().to_owned()) },
        namespace: None,
        mount: VaultConfig::DEFAULT_MOUNT.to_owned(),
        role: "osm".to_owned(),
        auth: VaultAuth::Token { token: Credential::new(token.to_owned()), origin: token_secret() },
        timeout: LIMIT,
        control_plane: ControlPlaneIdentity::new(trust_domain(), "osm-system", "osm-controller").unwrap(),
        leaf_key: LeafKeyAlgorithm::EcdsaP256,
    }
}

pub(crate) fn token_secret() -> Blame {
    Blame::Secret { namespace: "osm-system".to_owned(), name: "osm-vault-token".to_owned() }
}

pub(crate) fn trust_domain() -> TrustDomain {
    TrustDomain::new("mesh.example").unwrap()
}

pub(crate) fn workload(name: &str) -> PeerIdentity {
    PeerIdentity::Workload(WorkloadIdentity::new(trust_domain(), "bookstore", name).unwrap())
}

pub(crate) fn proxy_of(name: &str) -> PeerIdentity {
    let workload = WorkloadIdentity::new(trust_domain(), "bookstore", name).unwrap();
    PeerIdentity::Proxy(ProxyIdentity::new(workload, "pod-0.1234").unwrap())
}

pub(crate) fn issuer(config: VaultConfig) -> NamedIssuer {
    IssuerConfig::Vault(config).build(OffsetDateTime::now_utc()).unwrap()
}

pub(crate) fn vault(config: VaultConfig) -> Vault {
    Vault::new(config).unwrap()
}

/// A store that `config` signs for, by the system's clock.
pub(crate) fn store(config: VaultConfig) -> CertificateStore {
    let issuers = Issuers { signing: issuer(config), validating: Vec::new() };
    CertificateStore::new(issuers, StoreConfig::default(), Clock::system())
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while tokio::time::Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain: {what}");
}
