//! Certificates as another implementation sees them: OpenSSL's strict chain verification.

use std::fs;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
use osm_issuer::{
    CertificateRequest, CertificateStore, IssueError, IssuedCertificate, Issuer, IssuerHealth, LeafCertificate,
    LeafKeyAlgorithm, LeafPolicy, NamedIssuer, PeerIdentity, PrivateKeyPem, RsaKeySize, StoreConfig, TrustBundle,
};
use tempfile::TempDir;

use crate::support;
use crate::support::{ManualClock, issuers, openssl, tresor, try_openssl};

/// Writes a leaf, its intermediates, its key and the trust bundle to a folder.
async fn write_out(store: &CertificateStore, leaf: &LeafCertificate) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let chain = leaf.material().certificate_chain_pem();
    fs::write(at("chain.pem"), chain).unwrap();
    let second = chain.rfind("-----BEGIN").unwrap();
    fs::write(at("last.pem"), &chain[second..]).unwrap();
    fs::write(at("key.pem"), leaf.material().expose_private_key_pem()).unwrap();
    fs::write(at("roots.pem"), store.trust_bundle().await.unwrap().pem()).unwrap();
    folder
}

/// Both sides of a connection accept the leaf, strictly by RFC 5280; and its key is its own.
async fn check_strictly(store: &CertificateStore, identity: &PeerIdentity) -> TempDir {
    let leaf = store.certificate(identity).await.unwrap();
    let folder = write_out(store, &leaf).await;
    for purpose in ["sslserver", "sslclient"] {
        openssl(
            folder.path(),
            &[
                "verify",
                "-x509_strict",
                "-purpose",
                purpose,
                "-CAfile",
                "roots.pem",
                "-untrusted",
                "last.pem",
                "chain.pem",
            ],
        );
    }
    let of_key = openssl(folder.path(), &["pkey", "-in", "key.pem", "-pubout"]);
    let of_leaf = openssl(folder.path(), &["x509", "-in", "chain.pem", "-noout", "-pubkey"]);
    assert_eq!(of_key, of_leaf);
    folder
}

#[tokio::test]
async fn a_created_authority_and_its_leaves_pass_strictly() {
    let (store, _) = support::store(StoreConfig::default());
    for identity in [
        support::workload("bookstore", "book.store"),
        support::proxy("bookstore", "bookstore", "vm-7.example"),
        support::control_plane(),
    ] {
        let folder = check_strictly(&store, &identity).await;
        let text = openssl(folder.path(), &["x509", "-in", "chain.pem", "-noout", "-text"]);
        assert!(text.contains("X509v3 Subject Alternative Name: critical"), "{text}");
        assert!(text.contains(&format!("URI:{}", identity.uri())), "{text}");
        assert!(text.contains("X509v3 Authority Key Identifier"), "{text}");
        assert!(text.contains("X509v3 Subject Key Identifier"), "{text}");
        assert!(text.contains("CA:FALSE"), "{text}");
        assert!(text.contains("TLS Web Server Authentication, TLS Web Client Authentication"), "{text}");
        assert!(!text.contains("Key Encipherment"), "not for ECDSA: {text}");
        let root = openssl(folder.path(), &["x509", "-in", "roots.pem", "-noout", "-text"]);
        assert!(root.contains("CN = osm-ca.openservicemesh.io, O = Open Service Mesh"), "{root}");
        assert!(root.contains("NIST CURVE: P-256"), "{root}");
    }
}

#[tokio::test]
async fn another_authority_does_not_verify_the_leaf() {
    let (store, _) = support::store(StoreConfig::default());
    let (other, _) = support::store(StoreConfig::default());
    let folder = check_strictly(&store, &support::workload("a", "b")).await;
    let stranger = other.trust_bundle().await.unwrap().pem();
    fs::write(folder.path().join("roots.pem"), stranger).unwrap();
    let output = try_openssl(folder.path(), &["verify", "-CAfile", "roots.pem", "chain.pem"]);
    assert!(!output.status.success());
}

#[tokio::test]
async fn rsa_leaves_of_every_size_from_an_rsa_authority_pass_strictly() {
    let clock = ManualClock::new();
    let material = AuthorityMaterial::generate(AuthorityKey::Rsa2048, clock.now()).unwrap();
    let store = CertificateStore::new(
        issuers(&tresor(&material, clock.now())),
        StoreConfig { max_rsa_generating: NonZeroUsize::MIN, ..StoreConfig::default() },
        clock.clock(),
    );
    for size in [RsaKeySize::Bits2048, RsaKeySize::Bits3072, RsaKeySize::Bits4096] {
        store.set_policy(LeafPolicy { key: LeafKeyAlgorithm::Rsa(size), ..LeafPolicy::default() });
        let identity = support::workload("bookstore", &format!("rsa-{}", size.bits()));
        let folder = check_strictly(&store, &identity).await;
        let text = openssl(folder.path(), &["x509", "-in", "chain.pem", "-noout", "-text"]);
        assert!(text.contains(&format!("Public-Key: ({} bit)", size.bits())), "{text}");
        assert!(text.contains("Digital Signature, Key Encipherment"), "{text}");
    }
}

/// Makes `name.key` and the self-signed `name.crt` with openssl.
fn openssl_root(folder: &TempDir, name: &str, key_arguments: &[&str], extension: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let mut arguments = vec!["genpkey", "-out", &key];
    arguments.extend(key_arguments);
    openssl(folder.path(), &arguments);
    let subject = format!("/O=Test/CN={name}");
    openssl(
        folder.path(),
        &[
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-out",
            &certificate,
            "-days",
            "30",
            "-subj",
            &subject,
            "-addext",
            extension,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ],
    );
}

/// Makes `name.key` and `name.crt`, an authority signed by `issuer`.
fn openssl_intermediate(folder: &TempDir, name: &str, issuer: &str) {
    let (key, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.crt"));
    let subject = format!("/O=Test/CN={name}");
    openssl(folder.path(), &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", &key]);
    openssl(folder.path(), &["req", "-new", "-key", &key, "-subj", &subject, "-out", &request]);
    fs::write(
        folder.path().join("extensions"),
        "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign\n\
         subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n",
    )
    .unwrap();
    let (issuer_certificate, issuer_key) = (format!("{issuer}.crt"), format!("{issuer}.key"));
    openssl(
        folder.path(),
        &[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &issuer_certificate,
            "-CAkey",
            &issuer_key,
            "-CAcreateserial",
            "-days",
            "20",
            "-extfile",
            "extensions",
            "-out",
            &certificate,
        ],
    );
}

fn read(folder: &TempDir, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

async fn check_loaded(certificate: String, key: String) -> usize {
    let clock = ManualClock::new();
    let material = AuthorityMaterial::new(certificate, PrivateKeyPem::new(key));
    let store = CertificateStore::new(issuers(&tresor(&material, clock.now())), StoreConfig::default(), clock.clock());
    let identity = support::workload("bookstore", "bookstore");
    check_strictly(&store, &identity).await;
    let leaf = store.cached(&identity).unwrap();
    leaf.material().certificate_chain().len()
}

#[tokio::test]
async fn authorities_made_by_openssl_are_loaded_in_every_key_format() {
    let folder = tempfile::tempdir().unwrap();
    let authority = "basicConstraints=critical,CA:TRUE";
    openssl_root(&folder, "rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], authority);
    openssl_root(&folder, "p256", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"], authority);
    openssl_root(&folder, "p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"], authority);
    for name in ["rsa", "p256", "p384"] {
        let key = read(&folder, &format!("{name}.key"));
        assert!(key.contains("BEGIN PRIVATE KEY"), "PKCS#8");
        assert_eq!(check_loaded(read(&folder, &format!("{name}.crt")), key).await, 1);
        // PKCS#1 for RSA, SEC1 for the others.
        let key_file = format!("{name}.key");
        let traditional = openssl(folder.path(), &["pkey", "-in", &key_file, "-traditional"]);
        assert!(traditional.contains("BEGIN RSA PRIVATE") || traditional.contains("BEGIN EC PRIVATE"));
        assert_eq!(check_loaded(read(&folder, &format!("{name}.crt")), traditional).await, 1);
    }
}

#[tokio::test]
async fn an_intermediate_signs_and_travels_with_the_leaf() {
    let folder = tempfile::tempdir().unwrap();
    let key = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    openssl_root(&folder, "root", &key, "basicConstraints=critical,CA:TRUE,pathlen:1");
    openssl_intermediate(&folder, "middle", "root");
    let chain = read(&folder, "middle.crt") + &read(&folder, "root.crt");
    assert_eq!(check_loaded(chain, read(&folder, "middle.key")).await, 2);
}

fn refusal(certificate: &str, key: &str) -> String {
    let now = time::OffsetDateTime::now_utc();
    let config = osm_issuer::tresor::TresorConfig {
        material: AuthorityMaterial::new(certificate.to_owned(), PrivateKeyPem::new(key.to_owned())),
        origin: support::origin(),
    };
    let error = osm_issuer::IssuerConfig::Tresor(config).build(now).expect_err("the material is not usable");
    assert_eq!(error.blame(), &support::origin());
    assert_eq!(error.advice(), osm_issuer::Advice::WaitForOperator);
    error.to_string()
}

#[track_caller]
fn check_refused(certificate: &str, key: &str, expected: &str) {
    let message = refusal(certificate, key);
    assert!(message.contains(expected), "{message:?} lacks {expected:?}");
    assert!(message.contains("Secret osm-system/osm-ca-bundle"), "{message}");
}

#[test]
fn unusable_authorities_are_refused_with_the_field_and_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let p256 = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let authority = "basicConstraints=critical,CA:TRUE";
    openssl_root(&folder, "good", &p256, authority);
    openssl_root(&folder, "leaf", &p256, "basicConstraints=critical,CA:FALSE");
    openssl_root(&folder, "short", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"], authority);
    openssl_root(&folder, "curve", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp521r1"], authority);
    openssl_root(&folder, "edwards", &["-algorithm", "ED25519"], authority);
    openssl_root(&folder, "narrow", &p256, "basicConstraints=critical,CA:TRUE,pathlen:0");
    openssl_intermediate(&folder, "below-narrow", "narrow");
    openssl_intermediate(&folder, "below-good", "good");
    let file = |name: &str| read(&folder, name);
    let (good, good_key) = (file("good.crt"), file("good.key"));

    check_refused("", &good_key, "ca.crt: no certificate found");
    check_refused("not pem at all", &good_key, "ca.crt: no certificate found");
    check_refused(&good.replace("MI", "!!"), &good_key, "ca.crt: certificate 1 is malformed");
    let (first_line, rest) = good.split_once('\n').unwrap();
    let cut = format!("{first_line}\n{}", &rest[65..]);
    check_refused(&cut, &good_key, "ca.crt: certificate 1 is malformed");
    check_refused(&good, "", "private.key: no private key found");
    check_refused(&good, &good_key.replace("MI", "!!"), "private.key: the PEM text is malformed");
    check_refused(&good, &file("narrow.key"), "private.key: does not belong");
    check_refused(&good, &file("edwards.key"), "private.key: does not belong");
    check_refused(&file("leaf.crt"), &file("leaf.key"), "not a certificate authority");
    check_refused(&file("short.crt"), &file("short.key"), "RSA key of 1024 bits");
    check_refused(&file("curve.crt"), &file("curve.key"), "unsupported kind");
    check_refused(&file("edwards.crt"), &file("edwards.key"), "unsupported kind");
    let narrow = file("below-narrow.crt") + &file("narrow.crt");
    check_refused(&narrow, &file("below-narrow.key"), "has path length 0, but 1 authorities are below it");
    check_refused(&file("below-good.crt"), &file("below-good.key"), "append the certificate of its issuer");
    let broken = file("below-good.crt") + &file("narrow.crt");
    check_refused(&broken, &file("below-good.key"), "certificate 1");
    let reversed = file("good.crt") + &file("below-good.crt");
    check_refused(&reversed, &good_key, "is not signed by the certificate after it");
}

#[test]
fn sha1_wrong_usage_and_name_constraints_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    openssl(folder.path(), &["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "key"]);
    let key = read(&folder, "key");
    let root = |name: &str, digest: &str, extensions: &[&str]| {
        let mut arguments = vec![
            "req",
            "-x509",
            "-new",
            "-key",
            "key",
            "-out",
            name,
            "-subj",
            "/CN=x",
            digest,
            "-addext",
            "basicConstraints=critical,CA:TRUE",
        ];
        for extension in extensions {
            arguments.extend(["-addext", extension]);
        }
        openssl(folder.path(), &arguments);
        read(&folder, name)
    };
    check_refused(&root("sha1", "-sha1", &[]), &key, "is signed with");
    check_refused(&root("usage", "-sha256", &["keyUsage=critical,cRLSign"]), &key, "keyCertSign");
    check_refused(
        &root("extended", "-sha256", &["extendedKeyUsage=emailProtection"]),
        &key,
        "serverAuth and clientAuth",
    );
    let constraint = "nameConstraints=critical,permitted;DNS:elsewhere.example";
    check_refused(&root("names", "-sha256", &[constraint]), &key, "signed on trial is not accepted");
}

#[test]
fn authorities_outside_of_their_validity_are_refused() {
    let now = time::OffsetDateTime::now_utc();
    let years = time::Duration::days(3653);
    for (made_at, expected) in [(now - years, "expired at"), (now + time::Duration::hours(1), "is not valid before")] {
        let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, made_at).unwrap();
        let key = material.private_key().expose_private_key_pem();
        check_refused(material.certificate_pem(), key, expected);
    }
}

/// Keeps the request that a provider would be sent, and signs nothing.
#[derive(Debug, Default)]
struct Recorder(Mutex<Vec<u8>>);

#[async_trait::async_trait]
impl Issuer for Recorder {
    async fn issue(&self, request: &CertificateRequest) -> Result<IssuedCertificate, IssueError> {
        *self.0.lock().unwrap() = request.csr()?.to_vec();
        Err(IssueError::Refused { remote: support::origin(), message: "it only listens".to_owned() })
    }

    async fn trust_bundle(&self) -> Result<TrustBundle, IssueError> {
        let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, time::OffsetDateTime::now_utc())?;
        Ok(TrustBundle::from_pem(material.certificate_pem()).unwrap())
    }

    async fn probe(&self, now: time::OffsetDateTime) -> Result<IssuerHealth, IssueError> {
        Ok(IssuerHealth::new("recorder".to_owned(), now))
    }
}

#[tokio::test]
async fn requests_for_providers_prove_possession_and_ask_for_what_leaves_have() {
    let recorder = Arc::new(Recorder::default());
    let signing = NamedIssuer { origin: support::origin(), issuer: recorder.clone() };
    for (key, kind, usage) in [
        (LeafKeyAlgorithm::EcdsaP256, "NIST CURVE: P-256", "Digital Signature\n"),
        (LeafKeyAlgorithm::Rsa(RsaKeySize::Bits2048), "(2048 bit)", "Digital Signature, Key Encipherment"),
    ] {
        let config = StoreConfig { policy: LeafPolicy { key, ..LeafPolicy::default() }, ..StoreConfig::default() };
        let store = CertificateStore::new(issuers(&signing), config, ManualClock::new().clock());
        assert!(store.certificate(&support::workload("bookstore", "book.store")).await.is_err());
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("request"), recorder.0.lock().unwrap().as_slice()).unwrap();
        let arguments = ["req", "-inform", "DER", "-in", "request", "-verify", "-noout", "-text"];
        let text = openssl(folder.path(), &arguments);
        let names = "DNS:book.store.bookstore.mesh.example, URI:spiffe://mesh.example/ns/bookstore/sa/book.store";
        for expected in [kind, usage, names, "TLS Web Server Authentication, TLS Web Client Authentication"] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
    }
}
