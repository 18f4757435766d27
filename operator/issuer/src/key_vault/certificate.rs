//! The certificate that the vault signs: built here, because the vault signs digests and knows nothing of certificates.

use aws_lc_rs::digest;
use rustls_pki_types::CertificateDer;
use signature::Keypair;
use x509_cert::Certificate;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{AsyncBuilder, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{BitString, Ia5String, OctetString};
use x509_cert::der::oid::db::rfc5280::{ID_KP_CLIENT_AUTH, ID_KP_SERVER_AUTH};
use x509_cert::der::{Decode, Document, Encode};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::name::Name;
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier, EncodePublicKey, SubjectPublicKeyInfoOwned,
    SubjectPublicKeyInfoRef,
};
use x509_cert::time::{Time, Validity};

use time::OffsetDateTime;

use crate::identity::SubjectNames;

/// The authority as the builder wants it. It has no private key.
pub(super) struct Signer {
    name: Name,
    key_identifier: Option<OctetString>,
    public_key: PublicKey,
    algorithm: AlgorithmIdentifierOwned,
}

/// Subject public key info, as it stands in the authority's certificate.
#[derive(Clone)]
pub(super) struct PublicKey(Vec<u8>);

impl Signer {
    pub(super) fn new(authority: &CertificateDer<'_>, algorithm: AlgorithmIdentifierOwned) -> Result<Self, String> {
        let read = || -> Result<Self, x509_cert::der::Error> {
            let certificate = Certificate::from_der(authority)?;
            let certificate = certificate.tbs_certificate();
            let key_identifier =
                certificate.get_extension::<SubjectKeyIdentifier>()?.map(|(_, identifier)| identifier.0);
            let public_key = PublicKey(certificate.subject_public_key_info().to_der()?);
            Ok(Self { name: certificate.subject().clone(), key_identifier, public_key, algorithm })
        };
        read().map_err(|error| error.to_string())
    }
}

impl Keypair for Signer {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        self.public_key.clone()
    }
}

impl DynSignatureAlgorithmIdentifier for Signer {
    fn signature_algorithm_identifier(&self) -> x509_cert::spki::Result<AlgorithmIdentifierOwned> {
        Ok(self.algorithm.clone())
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> x509_cert::spki::Result<Document> {
        Ok(Document::from_der(&self.0)?)
    }
}

/// Names of issuer and subject. What else a leaf has is added to the builder.
struct Leaf {
    issuer: Name,
}

impl BuilderProfile for Leaf {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        Name::default()
    }

    fn build_extensions(
        &self,
        _key: SubjectPublicKeyInfoRef<'_>,
        _issuer_key: SubjectPublicKeyInfoRef<'_>,
        _certificate: &TbsCertificate,
    ) -> x509_cert::builder::Result<Vec<Extension>> {
        Ok(Vec::new())
    }
}

/// What a leaf says.
pub(super) struct LeafContent<'a> {
    pub(super) names: &'a SubjectNames,
    /// Subject public key info of the request, DER.
    pub(super) public_key: &'a [u8],
    pub(super) serial: [u8; 16],
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// A leaf that waits for its signature.
pub(super) struct Unsigned<'a> {
    builder: CertificateBuilder<Leaf>,
    signer: &'a Signer,
    /// What is to be signed.
    pub(super) bytes: Vec<u8>,
}

impl<'a> Unsigned<'a> {
    pub(super) fn new(signer: &'a Signer, content: &LeafContent<'_>) -> Result<Self, String> {
        let mut builder = builder(signer, content).map_err(|error| error.to_string())?;
        let bytes = AsyncBuilder::finalize(&mut builder, signer).map_err(|error| error.to_string())?;
        Ok(Self { builder, signer, bytes })
    }

    pub(super) fn signed(self, signature: &[u8]) -> Result<CertificateDer<'static>, String> {
        let bits = BitString::from_bytes(signature).map_err(|error| error.to_string())?;
        let certificate = AsyncBuilder::assemble(self.builder, bits, self.signer).map_err(|error| error.to_string())?;
        Ok(certificate.to_der().map_err(|error| error.to_string())?.into())
    }
}

fn builder(signer: &Signer, content: &LeafContent<'_>) -> Result<CertificateBuilder<Leaf>, x509_cert::builder::Error> {
    let public_key = SubjectPublicKeyInfoOwned::from_der(content.public_key)?;
    let key_bits = public_key.subject_public_key.raw_bytes().to_vec();
    let is_rsa = public_key.algorithm.oid == x509_cert::der::oid::db::rfc5912::RSA_ENCRYPTION;
    let validity = Validity::new(moment(content.not_before)?, moment(content.not_after)?);
    let profile = Leaf { issuer: signer.name.clone() };
    let mut builder = CertificateBuilder::new(profile, SerialNumber::new(&content.serial)?, validity, public_key)?;
    let mut names = Vec::new();
    for name in content.names.dns() {
        names.push(GeneralName::DnsName(Ia5String::new(name)?));
    }
    names.push(GeneralName::UniformResourceIdentifier(Ia5String::new(content.names.uri())?));
    // Critical, because there is no subject: the library sees to that.
    builder.add_extension(&SubjectAltName(names))?;
    let usages = KeyUsages::DigitalSignature;
    // Only an RSA key can encipher (RFC 8813 forbids the bit for ECDSA).
    let usages = if is_rsa { usages | KeyUsages::KeyEncipherment } else { usages.into() };
    builder.add_extension(&KeyUsage(usages))?;
    builder.add_extension(&ExtendedKeyUsage(vec![ID_KP_SERVER_AUTH, ID_KP_CLIENT_AUTH]))?;
    builder.add_extension(&BasicConstraints { ca: false, path_len_constraint: None })?;
    // RFC 7093, section 2, method 1.
    let identifier = digest::digest(&digest::SHA256, &key_bits).as_ref()[..20].to_vec();
    builder.add_extension(&SubjectKeyIdentifier(OctetString::new(identifier)?))?;
    if signer.key_identifier.is_some() {
        builder.add_extension(&AuthorityKeyIdentifier {
            key_identifier: signer.key_identifier.clone(),
            authority_cert_issuer: None,
            authority_cert_serial_number: None,
        })?;
    }
    Ok(builder)
}

fn moment(at: OffsetDateTime) -> Result<Time, x509_cert::der::Error> {
    Time::try_from(std::time::SystemTime::from(at))
}
