//! From the status of a CertificateRequest to a chain and the authority that signed it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::OffsetDateTime;

use crate::authority::AuthorityChain;
use crate::bundle::TrustBundle;
use crate::der;
use crate::error::{Blame, IssueError};

/// Longer than any chain that is of use.
const MAX_ENCODED: usize = 256 << 10;

/// An answer whose authority is proved.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    /// The leaf, then intermediates.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Who signed it, up to the root that `status.ca` has.
    pub(super) authority: AuthorityChain,
}

impl Answer {
    /// Reads `status.certificate` and `status.ca` of the CertificateRequest `request`.
    ///
    /// The root is taken from `status.ca` and from nowhere else, and only if the leaf leads to it: an issuer may leave the field
    /// out, or put something else there, and a wrong root in the trust bundle would part the mesh.
    pub(super) fn read(
        certificate: &str,
        ca: Option<&str>,
        request: &str,
        origin: &Blame,
        now: OffsetDateTime,
    ) -> Result<Self, IssueError> {
        let bad = |field: &str, problem: &str| IssueError::BadAnswer {
            remote: origin.clone(),
            message: format!("{request}: {field}: {problem}"),
        };
        let chain = certificates(certificate).map_err(|problem| bad("status.certificate", &problem))?;
        let (leaf, above) = chain.split_first().ok_or_else(|| bad("status.certificate", "it has no certificate"))?;
        let ca = ca.ok_or_else(|| IssueError::Misconfigured {
            remote: origin.clone(),
            message: format!(
                "{request}: status.ca is empty, so nobody knows which root verifies its certificates; use an issuer that returns \
                 its root, for example a CA issuer whose Secret has the root in ca.crt"
            ),
        })?;
        let roots = certificates(ca).map_err(|problem| bad("status.ca", &problem))?;
        let pool: Vec<_> = above.iter().chain(&roots).cloned().collect();
        let signer = signer(leaf, &pool)
            .map_err(|problem| bad("status.certificate", &problem))?
            .ok_or_else(|| bad("status.ca", "it does not verify the certificate in status.certificate"))?;
        let authority = AuthorityChain::ordered(signer, &pool, now)
            .map_err(|problem| IssueError::UnusableAuthority { origin: origin.clone(), problem })?;
        if !roots.contains(authority.root()) {
            return Err(bad("status.ca", "it does not have the root to which status.certificate leads"));
        }
        let chain = std::iter::once(leaf).chain(authority.intermediates()).cloned().collect();
        Ok(Self { chain, authority })
    }

    /// The root alone.
    pub(super) fn bundle(authority: &AuthorityChain, origin: &Blame) -> Result<TrustBundle, IssueError> {
        TrustBundle::new(vec![authority.root().clone()])
            .map_err(|error| IssueError::BadAnswer { remote: origin.clone(), message: error.to_string() })
    }
}

/// Base64 of PEM.
fn certificates(encoded: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    if encoded.len() > MAX_ENCODED {
        return Err(format!("it is longer than {MAX_ENCODED} characters"));
    }
    let pem = STANDARD.decode(encoded.trim()).map_err(|_| "it is not base64".to_owned())?;
    let sections: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let sections = sections.map_err(|error| format!("it is not PEM: {error}"))?;
    if sections.is_empty() { Err("it has no certificate in PEM".to_owned()) } else { Ok(sections) }
}

/// Which certificate of `pool` signed the leaf.
fn signer(
    leaf: &CertificateDer<'_>,
    pool: &[CertificateDer<'static>],
) -> Result<Option<CertificateDer<'static>>, String> {
    let leaf = der::certificate(leaf)?;
    let signed = |other: &&CertificateDer<'static>| {
        der::certificate(other).is_ok_and(|other| {
            other.subject().as_raw() == leaf.issuer().as_raw()
                && leaf.verify_signature(Some(other.public_key())).is_ok()
        })
    };
    Ok(pool.iter().find(signed).cloned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

    use super::*;

    struct Authority {
        pem: String,
        issuer: Issuer<'static, KeyPair>,
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }

    fn authority(name: &str, above: Option<&Authority>) -> Authority {
        let mut params = params(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = match above {
            Some(above) => params.signed_by(&key, &above.issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        Authority { pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    fn leaf(signer: &Authority) -> String {
        params("leaf").signed_by(&KeyPair::generate().unwrap(), &signer.issuer).unwrap().pem()
    }

    fn read(certificate: &str, ca: Option<&str>) -> Result<Answer, String> {
        let origin = Blame::Object { kind: "Issuer.example".into(), name: "ns/ca".into() };
        let encode = |text: &str| STANDARD.encode(text);
        let ca = ca.map(encode);
        let now = OffsetDateTime::now_utc();
        Answer::read(&encode(certificate), ca.as_deref(), "CertificateRequest ns/r", &origin, now)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_root_is_what_the_leaf_leads_to() {
        let root = authority("root", None);
        let answer = read(&leaf(&root), Some(&root.pem)).unwrap();
        assert_eq!((answer.chain.len(), answer.authority.subject()), (1, "CN=root"));
        let between = authority("between", Some(&root));
        let chain = leaf(&between) + &between.pem;
        for (chain, ca) in [(chain, root.pem.clone()), (leaf(&between), root.pem.clone() + &between.pem)] {
            let answer = read(&chain, Some(&ca)).unwrap();
            assert_eq!((answer.chain.len(), answer.authority.subject()), (2, "CN=between"));
            let bundle = Answer::bundle(&answer.authority, &Blame::Process).unwrap();
            assert_eq!(bundle, TrustBundle::from_pem(&root.pem).unwrap());
        }
    }

    #[test]
    fn a_root_that_does_not_verify_the_leaf_is_never_taken() {
        let (root, other) = (authority("root", None), authority("root", None));
        let refused = |certificate: &str, ca: Option<&str>, expected: &str| {
            let error = read(certificate, ca).unwrap_err();
            assert!(error.contains(expected) && error.contains("Issuer.example ns/ca"), "{error}");
        };
        // The same name, another key.
        refused(&leaf(&root), Some(&other.pem), "status.ca: it does not verify");
        refused(&leaf(&root), None, "status.ca is empty");
        // The root is in the chain, and something else in the field.
        refused(&(leaf(&root) + &root.pem), Some(&other.pem), "does not have the root");
        let between = authority("between", Some(&root));
        refused(&leaf(&between), Some(&between.pem), "certificate authority in");
        refused("garbage", Some(&root.pem), "status.certificate: it has no certificate");
        refused(&leaf(&root), Some("garbage"), "status.ca: it has no certificate");
        let half = &leaf(&root)[..200];
        refused(half, Some(&root.pem), "status.certificate: it is not PEM");
    }
}
