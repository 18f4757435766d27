//! Issuers that lie, and what the store makes of their answers.

use std::fmt;
use std::sync::Arc;

use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
use osm_issuer::{
    Advice, CertificateRequest, CertificateStore, IssueError, IssuedCertificate, Issuer, IssuerHealth, LeafError,
    NamedIssuer, StoreConfig, TrustBundle,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::support::{ManualClock, issuers, origin, tresor, workload};

type Lie = Box<dyn Fn(&Liar, &CertificateRequest) -> Vec<CertificateDer<'static>> + Send + Sync>;

/// An authority whose answers a test decides.
struct Liar {
    key: KeyPair,
    root: CertificateDer<'static>,
    lie: Lie,
}

impl fmt::Debug for Liar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Liar")
    }
}

#[async_trait::async_trait]
impl Issuer for Liar {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        Ok(IssuedCertificate::new((self.lie)(self, request)))
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        Ok(TrustBundle::new(vec![self.root.clone()]).unwrap())
    }

    async fn probe(&self, now: OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        Ok(IssuerHealth::new("liar".to_owned(), now))
    }
}

impl Liar {
    fn new(lie: Lie) -> Self {
        let key = KeyPair::generate().unwrap();
        let root = authority_params("liar").self_signed(&key).unwrap().into();
        Self { key, root, lie }
    }

    /// An honest certificate for the request, except for what `change` does to it.
    fn sign(&self, request: &CertificateRequest, change: impl Fn(&mut CertificateParams)) -> CertificateDer<'static> {
        let csr = CertificateSigningRequestParams::from_der(&request.csr().unwrap()).unwrap();
        let params = leaf_params(request, change);
        params.signed_by(&csr.public_key, &self.as_rcgen()).unwrap().into()
    }

    fn as_rcgen(&self) -> rcgen::Issuer<'static, &KeyPair> {
        rcgen::Issuer::new(authority_params("liar"), &self.key)
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(request: &CertificateRequest, change: impl Fn(&mut CertificateParams)) -> CertificateParams {
    let names = request.subject_names();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = names.dns().iter().map(|name| dns(name)).collect();
    params.subject_alt_names.push(uri(names.uri()));
    params.not_before = request.now();
    params.not_after = request.now() + request.validity().as_duration();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

async fn answer(liar: Liar) -> Result<(), LeafError> {
    let clock = ManualClock::new();
    let issuer = NamedIssuer { origin: origin(), issuer: Arc::new(liar) };
    let store = CertificateStore::new(issuers(&issuer), StoreConfig::default(), clock.clock());
    let identity = workload("bookstore", "bookstore");
    match store.certificate(&identity).await {
        Ok(_) => Ok(()),
        Err(error) => {
            assert!(store.cached(&identity).is_none(), "nothing that failed is kept");
            assert_eq!(error.blame(), &origin());
            assert!(matches!(error.advice(), Advice::RetryAfter(_)));
            let IssueError::BadCertificate { problem, .. } = error else { panic!("{error}") };
            Err(problem)
        }
    }
}

async fn changed(change: impl Fn(&mut CertificateParams) + Send + Sync + 'static) -> Result<(), LeafError> {
    answer(Liar::new(Box::new(move |liar, request| vec![liar.sign(request, &change)]))).await
}

#[tokio::test]
async fn an_honest_answer_is_used() {
    assert_eq!(changed(|_| {}).await, Ok(()));
    // A root at the end is harmless, and so is a clock that is a little ahead.
    let with_root = |liar: &Liar, request: &CertificateRequest| vec![liar.sign(request, |_| {}), liar.root.clone()];
    assert_eq!(answer(Liar::new(Box::new(with_root))).await, Ok(()));
    assert_eq!(changed(|params| params.not_before += time::Duration::minutes(4)).await, Ok(()));
    // Less validity than asked for is the provider's right.
    assert_eq!(changed(|params| params.not_after -= time::Duration::hours(23)).await, Ok(()));
}

#[tokio::test]
async fn other_names_are_refused() {
    let thief = workload("bookthief", "bookthief");
    let result = changed(move |params| {
        params.subject_alt_names = vec![dns(&thief.subject_names().dns()[0]), uri(&thief.uri())];
    });
    let Err(LeafError::WrongIdentity { requested, found }) = result.await else { panic!() };
    assert_eq!(requested, "spiffe://mesh.example/ns/bookstore/sa/bookstore");
    assert_eq!(found, "spiffe://mesh.example/ns/bookthief/sa/bookthief");
    // A role that ignores the URI (or the DNS name) of a request is common in remote issuers.
    let no_uri = changed(|params| params.subject_alt_names.truncate(1)).await;
    assert!(matches!(no_uri, Err(LeafError::NoIdentity(_))), "{no_uri:?}");
    let no_dns = changed(|params| drop(params.subject_alt_names.remove(0))).await;
    assert!(matches!(no_dns, Err(LeafError::NoIdentity(_))), "{no_dns:?}");
    let more = changed(|params| params.subject_alt_names.push(dns("more.example"))).await;
    assert!(matches!(more, Err(LeafError::NoIdentity(_))), "{more:?}");
}

#[tokio::test]
async fn another_key_is_refused() {
    let liar = Liar::new(Box::new(|liar, request| {
        let other = KeyPair::generate().unwrap();
        vec![leaf_params(request, |_| {}).signed_by(&other, &liar.as_rcgen()).unwrap().into()]
    }));
    assert_eq!(answer(liar).await, Err(LeafError::WrongKey));
}

#[tokio::test]
async fn another_authority_is_refused() {
    let liar = Liar::new(Box::new(|_, request| {
        let other = Liar::new(Box::new(|_, _| Vec::new()));
        vec![other.sign(request, |_| {})]
    }));
    let result = answer(liar).await;
    assert!(matches!(result, Err(LeafError::Untrusted { .. })), "{result:?}");
}

#[tokio::test]
async fn a_wrong_validity_is_refused() {
    use time::Duration;
    let early = changed(|params| params.not_before += Duration::minutes(6)).await;
    assert!(matches!(early, Err(LeafError::NotYetValid { .. })), "{early:?}");
    let over = changed(|params| {
        params.not_after = params.not_before - Duration::minutes(1);
        params.not_before -= Duration::hours(1);
    });
    assert!(matches!(over.await, Err(LeafError::Expired { .. })));
    let nearly_over = changed(|params| params.not_after = params.not_before + Duration::seconds(30)).await;
    assert!(matches!(nearly_over, Err(LeafError::Expired { .. })), "{nearly_over:?}");
    let long = changed(|params| params.not_after += Duration::minutes(6)).await;
    assert!(matches!(long, Err(LeafError::TooLong { .. })), "{long:?}");
}

#[tokio::test]
async fn a_wrong_use_is_refused() {
    let authority = changed(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)).await;
    assert_eq!(authority, Err(LeafError::IsAuthority));
    let cases = [
        (vec![ExtendedKeyUsagePurpose::ServerAuth], "clientAuth"),
        (vec![ExtendedKeyUsagePurpose::ClientAuth], "serverAuth"),
        (vec![ExtendedKeyUsagePurpose::CodeSigning], "serverAuth"),
    ];
    for (usages, usage) in cases {
        let result = changed(move |params| params.extended_key_usages = usages.clone()).await;
        assert_eq!(result, Err(LeafError::MissingUsage { position: 1, usage }));
    }
    let usages = vec![KeyUsagePurpose::KeyEncipherment];
    let result = changed(move |params| params.key_usages = usages.clone()).await;
    assert_eq!(result, Err(LeafError::MissingUsage { position: 1, usage: "digitalSignature" }));
}

#[tokio::test]
async fn garbage_is_refused() {
    assert_eq!(answer(Liar::new(Box::new(|_, _| Vec::new()))).await, Err(LeafError::Empty));
    for garbage in [vec![], b"<html>busy</html>".to_vec(), vec![0x30; 4096], vec![0xff; 3]] {
        let result = answer(Liar::new(Box::new(move |_, _| vec![CertificateDer::from(garbage.clone())]))).await;
        assert!(matches!(result, Err(LeafError::Malformed { position: 1, .. })), "{result:?}");
    }
    let truncated = Liar::new(Box::new(|liar, request| {
        let leaf = liar.sign(request, |_| {});
        vec![CertificateDer::from(leaf[..leaf.len() - 1].to_vec())]
    }));
    assert!(matches!(answer(truncated).await, Err(LeafError::Malformed { position: 1, .. })));
    let flipped = Liar::new(Box::new(|liar, request| {
        let mut leaf = liar.sign(request, |_| {}).to_vec();
        // In the signature, which is last.
        let last = leaf.len() - 1;
        leaf[last] ^= 1;
        vec![CertificateDer::from(leaf)]
    }));
    assert!(matches!(answer(flipped).await, Err(LeafError::Untrusted { .. })));
}

#[tokio::test]
async fn a_leaf_does_not_outlive_its_authority() {
    let clock = ManualClock::new();
    let made_at = clock.now() - time::Duration::hours(87_600) + time::Duration::hours(2);
    let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, made_at).unwrap();
    let issuer = tresor(&material, clock.now());
    let store = CertificateStore::new(issuers(&issuer), StoreConfig::default(), clock.clock());
    let leaf = store.certificate(&workload("bookstore", "bookstore")).await.unwrap();
    let health = issuer.issuer.probe(clock.now()).await.unwrap();
    assert_eq!(leaf.not_after(), health.not_after);
    assert!(leaf.not_after() <= clock.now() + time::Duration::hours(2));
    clock.advance(time::Duration::hours(3));
    let error = store.certificate(&workload("bookstore", "other")).await.unwrap_err();
    assert_eq!(error.reason(), "UnusableAuthority");
    assert_eq!(error.advice(), Advice::WaitForOperator);
    assert!(error.to_string().contains("expired at"), "{error}");
    assert!(issuer.issuer.probe(clock.now()).await.is_err());
}
