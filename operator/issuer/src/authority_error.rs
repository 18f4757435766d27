//! Why a certificate authority is refused.

use time::OffsetDateTime;

/// Why a certificate authority's certificate chain (`ca.crt`) or key (`private.key`) cannot be used. Positions count from
/// 1, the certificate that signs leaves. Never quotes a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthorityError {
    /// No PEM section of type `CERTIFICATE`.
    #[error("ca.crt: no certificate found; it must be PEM text")]
    NoCertificate,
    /// A section cannot be decoded.
    #[error("ca.crt: certificate {position} is malformed: {message}")]
    MalformedCertificate {
        /// Position in the file.
        position: usize,
        /// The parser's words.
        message: String,
    },
    /// Basic constraints are missing or say no.
    #[error(
        "ca.crt: certificate {position} ({subject}) is not a certificate authority (basic constraints CA:TRUE is missing)"
    )]
    NotAuthority {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// The key usage does not allow signing certificates.
    #[error("ca.crt: certificate {position} ({subject}) may not sign certificates (key usage keyCertSign is missing)")]
    MayNotSign {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// The extended key usage excludes TLS servers or clients.
    #[error("ca.crt: certificate {position} ({subject}) has an extended key usage without serverAuth and clientAuth")]
    WrongExtendedKeyUsage {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// The path length does not allow the authorities below.
    #[error(
        "ca.crt: certificate {position} ({subject}) has path length {allowed}, but {needed} authorities are below it"
    )]
    PathLength {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
        /// What the certificate allows.
        allowed: u32,
        /// How many authorities are between it and a leaf.
        needed: usize,
    },
    /// The validity has not begun.
    #[error("ca.crt: {subject} is not valid before {not_before}")]
    NotYetValid {
        /// Its subject.
        subject: String,
        /// Start of validity.
        not_before: OffsetDateTime,
    },
    /// The validity is over.
    #[error("ca.crt: {subject} expired at {not_after}; replace it")]
    Expired {
        /// Its subject.
        subject: String,
        /// End of validity.
        not_after: OffsetDateTime,
    },
    /// An RSA key that is too short.
    #[error("ca.crt: certificate {position} ({subject}) has an RSA key of {bits} bits; at least 2048 are required")]
    WeakKey {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
        /// Size of the modulus.
        bits: usize,
    },
    /// A key that proxies could not verify.
    #[error(
        "ca.crt: certificate {position} ({subject}) has a key of an unsupported kind; RSA and ECDSA on P-256 or P-384 are supported"
    )]
    UnsupportedKey {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// A signature with a broken or unknown hash function.
    #[error("ca.crt: certificate {position} ({subject}) is signed with {algorithm}; SHA-256 or stronger is required")]
    WeakSignature {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
        /// Name or object identifier of the algorithm.
        algorithm: String,
    },
    /// A certificate is not signed by the one that follows it.
    #[error(
        "ca.crt: certificate {position} ({subject}) is not signed by the certificate after it; order them from the signing certificate to the root"
    )]
    BrokenChain {
        /// Position in the file.
        position: usize,
        /// Its subject.
        subject: String,
    },
    /// The last certificate is not self-signed.
    #[error(
        "ca.crt: the last certificate ({subject}) is not self-signed; append the certificate of its issuer ({issuer})"
    )]
    NoRoot {
        /// Its subject.
        subject: String,
        /// Its issuer.
        issuer: String,
    },
    /// No PEM section with a private key.
    #[error("private.key: no private key found; it must be PEM text (PKCS#8, PKCS#1 or SEC1), not encrypted")]
    NoPrivateKey,
    /// The section cannot be decoded.
    #[error("private.key: the PEM text is malformed")]
    MalformedPrivateKey,
    /// Not a key that can sign here.
    #[error("private.key: not a usable key; RSA of at least 2048 bits and ECDSA on P-256 or P-384 are supported")]
    UnsupportedPrivateKey,
    /// The key belongs to another certificate.
    #[error("private.key: does not belong to the first certificate in ca.crt ({subject})")]
    KeyMismatch {
        /// Subject of that certificate.
        subject: String,
    },
    /// A leaf signed on trial does not verify.
    #[error("ca.crt: a certificate signed on trial is not accepted: {message}")]
    TrialRefused {
        /// Why not.
        message: String,
    },
    /// A file of the folder cannot be read or written.
    #[error("{file}: {message}")]
    File {
        /// Which file.
        file: String,
        /// The operating system's words.
        message: String,
    },
}
