//! A double with a root, and a store that it signs for.

use std::time::Duration;

use osm_issuer::key_vault::{KeyVault, KeyVaultAuth, KeyVaultAuthority, KeyVaultConfig, KeyVaultNetwork};
use osm_issuer::{
    Blame, CertificateStore, Clock, Credential, IngressGatewayIdentity, IssuerConfig, Issuers, PeerIdentity,
    ProxyIdentity, StoreConfig, TrustDomain, WorkloadIdentity,
};
use osm_key_vault_double::{CLIENT, CLIENT_SECRET, KeyVaultDouble, TENANT};
use time::OffsetDateTime;

/// Much longer than anything takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// For the key and certificate `name`.
pub(crate) fn config(double: &KeyVaultDouble, name: &str) -> KeyVaultConfig {
    KeyVaultConfig {
        vault_url: double.vault_url(),
        key_name: name.to_owned(),
        key_version: None,
        authority: KeyVaultAuthority::CertificateObject { name: name.to_owned() },
        auth: client_secret(CLIENT_SECRET),
        network: KeyVaultNetwork {
            authority_host: Some(double.authority_host()),
            ca_pem: Some(double.ca_pem().to_owned()),
            addresses: double.hosts(),
            timeout: LIMIT,
        },
    }
}

pub(crate) fn client_secret(secret: &str) -> KeyVaultAuth {
    KeyVaultAuth::ClientSecret {
        tenant_id: TENANT.to_owned(),
        client_id: CLIENT.to_owned(),
        secret: Credential::new(secret.to_owned()),
        origin: secret_origin(),
    }
}

pub(crate) fn secret_origin() -> Blame {
    Blame::Secret { namespace: "osm-system".to_owned(), name: "azure-client".to_owned() }
}

pub(crate) fn key_vault(config: KeyVaultConfig) -> KeyVault {
    KeyVault::new(config).unwrap()
}

pub(crate) fn store(config: KeyVaultConfig) -> CertificateStore {
    let signing = IssuerConfig::KeyVault(config).build(OffsetDateTime::now_utc()).unwrap();
    let issuers = Issuers { signing, validating: Vec::new() };
    CertificateStore::new(issuers, StoreConfig::default(), Clock::system())
}

fn workload_identity(name: &str) -> WorkloadIdentity {
    WorkloadIdentity::new(TrustDomain::new("mesh.example").unwrap(), "bookstore", name).unwrap()
}

pub(crate) fn workload(name: &str) -> PeerIdentity {
    PeerIdentity::Workload(workload_identity(name))
}

pub(crate) fn proxy_of(name: &str) -> PeerIdentity {
    PeerIdentity::Proxy(ProxyIdentity::new(workload_identity(name), "pod-0.1234").unwrap())
}

pub(crate) fn gateway() -> PeerIdentity {
    let domain = TrustDomain::new("mesh.example").unwrap();
    let identity = IngressGatewayIdentity::new(domain, "ingress", "tls", ["a.example", "b.example"]);
    PeerIdentity::IngressGateway(identity.unwrap())
}
