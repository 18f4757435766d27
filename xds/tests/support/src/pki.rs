//! Throw-away certificates.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// A certificate chain and its key, both in PEM.
#[derive(Clone)]
pub struct Identity {
    /// PEM of the certificate.
    pub certificate: String,
    /// PEM of the private key.
    pub key: String,
    /// DER of the certificate.
    pub der: Vec<u8>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Identity").finish_non_exhaustive()
    }
}

/// A certificate authority that lives as long as a test.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes an authority with a key of its own.
    ///
    /// # Panics
    ///
    /// When the machine cannot make keys.
    pub fn new(common_name: &str) -> Self {
        let key = KeyPair::generate().expect("make a key");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).expect("sign the authority").pem();
        Self { issuer: Issuer::new(parameters, key), certificate }
    }

    /// PEM of the authority's own certificate.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Issues a certificate for client and server use with these subject alternative names: URIs where they contain
    /// `://`, IP addresses where they parse as such, DNS names otherwise.
    ///
    /// # Panics
    ///
    /// When a name is not ASCII.
    pub fn issue(&self, names: &[&str]) -> Identity {
        let key = KeyPair::generate().expect("make a key");
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names.iter().map(|name| alternative_name(name)).collect();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer).expect("sign the leaf");
        Identity { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }
}

fn alternative_name(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        SanType::IpAddress(address)
    } else if name.contains("://") {
        SanType::URI(name.try_into().expect("names are ASCII"))
    } else {
        SanType::DnsName(name.try_into().expect("names are ASCII"))
    }
}
