//! The certificates of a cluster: one authority for everything, and keys that live in the cluster's folder.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};

/// The names of the API server inside a cluster.
const API_SERVER_NAMES: [&str; 5] =
    ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A certificate and its key, as files.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct PairFiles {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// What signs everything.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one, kept in `folder`.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = parameters("osm-cluster", None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let pem = params.self_signed(&key)?.pem();
        write_private(&folder.join("ca.key"), &key.serialize_pem())?;
        fs::write(folder.join("ca.crt"), &pem)?;
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The one that [`create`](Self::create) left in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let read =
            |name| fs::read_to_string(folder.join(name)).with_context(|| format!("reading the cluster's {name}"));
        let pem: String = read("ca.crt")?;
        let issuer = Issuer::from_ca_cert_pem(&pem, KeyPair::from_pem(&read("ca.key")?)?)?;
        Ok(Self { pem, issuer })
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A client's certificate: `user` in the group `group`.
    pub(crate) fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = parameters(user, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(params)
    }

    /// The certificate of an API server that is reached at `addresses`.
    pub(crate) fn api_server(&self, addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = parameters("kube-apiserver", None);
        for name in API_SERVER_NAMES {
            params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        }
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// The certificate of something else that listens, such as a kubelet.
    pub(crate) fn server(&self, name: &str, addresses: &[IpAddr]) -> Result<Pair> {
        let mut params = parameters(name, None);
        params.subject_alt_names.push(SanType::DnsName(name.try_into()?));
        params.subject_alt_names.extend(addresses.iter().map(|address| SanType::IpAddress(*address)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    fn sign(&self, mut params: CertificateParams) -> Result<Pair> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Pair {
    /// Writes `NAME.crt` and `NAME.key` into `folder`.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> Result<PairFiles> {
        let files =
            PairFiles { certificate: folder.join(format!("{name}.crt")), key: folder.join(format!("{name}.key")) };
        fs::write(&files.certificate, &self.certificate)?;
        write_private(&files.key, &self.key)?;
        Ok(files)
    }
}

/// A key pair that signs ServiceAccount tokens: the private key's file and the public key's.
pub(crate) fn service_account_keys(folder: &Path) -> Result<PairFiles> {
    let key = KeyPair::generate()?;
    let files = PairFiles { certificate: folder.join("service-account.pub"), key: folder.join("service-account.key") };
    fs::write(&files.certificate, key.public_key_pem())?;
    write_private(&files.key, &key.serialize_pem())?;
    Ok(files)
}

/// Writes what only its owner may read.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<()> {
    fs::write(path, "").with_context(|| format!("writing {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    fs::write(path, content)?;
    Ok(())
}

fn parameters(name: &str, group: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    if let Some(group) = group {
        subject.push(DnType::OrganizationName, group);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    // Whatever the clock of the machine says.
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2120, 1, 1);
    params
}
