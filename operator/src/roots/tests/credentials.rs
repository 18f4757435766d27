//! What a Secret holds is followed without an edit and without a restart, by a root that signs.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::*;
use crate::roots::follow::take_up;
use crate::roots::open_store;

/// A root whose authorities sign one after the other.
struct Root {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Root {
    fn new() -> Self {
        let (params, key) = (authority_params("root"), KeyPair::generate().unwrap());
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// An authority below it: its certificate, the chain with that, and its key.
    fn below(&self, subject: &str) -> (String, String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = authority_params(subject).signed_by(&key, &self.issuer).unwrap().pem();
        let chain = format!("{certificate}{}", self.certificate);
        (certificate, chain, key.serialize_pem())
    }

    /// Puts an authority below it into the Secret `name`, and gives its certificate.
    fn write_below(&self, state: &Path, name: &str, subject: &str) -> String {
        let (certificate, chain, key) = self.below(subject);
        // Half of it may be seen, as when a user copies files one by one. That is a problem until the other half is there.
        write_secret(state, name, &[("ca.crt", &chain), ("private.key", &key)]);
        certificate
    }
}

fn control_plane() -> PeerIdentity {
    let trust_domain = TrustDomain::new("cluster.local").unwrap();
    PeerIdentity::ControlPlane(identity::control_plane_identity(&trust_domain, NAMESPACE).unwrap())
}

/// Asks for leaves until one is signed by `authority`.
async fn until_signed_by(running: &Running, authority: &str) {
    let waiting = async {
        loop {
            let leaf = running.store.rotate_now(&control_plane()).await.unwrap();
            if leaf.material().certificate_chain_pem().contains(authority.trim()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("the new authority signs");
}

fn is_well(status: &RootStatus) -> bool {
    status.findings.is_empty()
}

fn is_ill(words: &str) -> impl Fn(&RootStatus) -> bool {
    move |status| status.findings.iter().any(|finding| finding.message.contains(words))
}

#[tokio::test]
async fn another_authority_of_the_same_root_takes_over_and_no_certificate_is_replaced_for_it() {
    let (state, root) = (state(), Root::new());
    let first = root.write_below(state.path(), "mesh", "first");
    let mut running = run(state.path(), objects(&[tresor("mesh", "active")])).await;
    running.status("mesh", is("active")).await;
    until_signed_by(&running, &first).await;
    let workload =
        osm_issuer::WorkloadIdentity::new(TrustDomain::new("cluster.local").unwrap(), "shop", "api").unwrap();
    let workload = PeerIdentity::Workload(workload);
    let leaf = running.store.certificate(&workload).await.unwrap();

    let second = root.write_below(state.path(), "mesh", "second");
    until_signed_by(&running, &second).await;
    running.store.renew_due().await;
    let after = running.store.cached(&workload).unwrap();
    assert_eq!(after.serial(), leaf.serial(), "the root is the same, so the leaf at hand is as good as another");
    assert_eq!(running.signing(), "osm-system/mesh");
}

#[tokio::test]
async fn a_secret_that_is_spoiled_is_told_while_the_former_signs_and_mended_without_an_edit() {
    let (state, root, other) = (state(), Root::new(), Root::new());
    let first = root.write_below(state.path(), "mesh", "first");
    let mut running = run(state.path(), objects(&[tresor("mesh", "active")])).await;
    running.status("mesh", is("active")).await;
    let before = running.store.trust_bundle().await.unwrap();

    write_secret(state.path(), "mesh", &[("private.key", "no key")]);
    let status = running.status("mesh", is_ill("private.key")).await;
    assert_eq!((status.findings[0].reason, status.findings[0].severity), ("InvalidSecret", osm_model::Severity::Error));
    assert_eq!(status.fields["state"], "active", "it goes on with what it has");
    until_signed_by(&running, &first).await;

    // Another root is no new credential: whoever verifies by the former would be cut off.
    other.write_below(state.path(), "mesh", "other");
    let status = running.status("mesh", is_ill("another certificate than the one that is in force")).await;
    assert!(status.findings[0].remedy.contains("rotate to it"), "{status:?}");
    until_signed_by(&running, &first).await;
    assert_eq!(running.store.trust_bundle().await.unwrap(), before);

    let second = root.write_below(state.path(), "mesh", "second");
    running.status("mesh", is_well).await;
    until_signed_by(&running, &second).await;

    std::fs::remove_dir_all(state.path().join("secrets").join(NAMESPACE).join("mesh")).unwrap();
    running.status("mesh", is_ill("is gone")).await;
    until_signed_by(&running, &second).await;
    let gone = state.path().join("secrets").join(NAMESPACE).join("mesh");
    assert!(!gone.join("ca.crt").exists(), "another authority was made in place of one whose certificates are in use");
}

#[tokio::test]
async fn nobody_changes_over_to_a_root_whose_provider_has_failed() {
    let (state, root) = (state(), Root::new());
    root.write_below(state.path(), "next", "next");
    let mut running = run(state.path(), objects(&[tresor("first", "active"), tresor("next", "passive")])).await;
    running.status("next", is("validatingRollout")).await;
    write_secret(state.path(), "next", &[("private.key", "no key")]);
    let status = running.status("next", is_ill("private.key")).await;
    assert_eq!(status.findings[0].severity, osm_model::Severity::Warning, "its certificates are enough to be trusted");
    running.set(&[tresor("first", "passive"), tresor("next", "active")]);
    let held = running.status("next", |status| status.fields["waitsForCount"] == 1 && !is_well(status)).await;
    assert_eq!(running.signing(), "osm-system/first", "{held:?}");
    root.write_below(state.path(), "next", "again");
    running.status("next", |status| is("active")(status) && is_well(status)).await;
    assert_eq!(running.signing(), "osm-system/next");
}

#[tokio::test]
async fn who_issues_beside_the_control_plane_follows_what_signs_as_well() {
    let (state, root) = (state(), Root::new());
    let write = |root: &Root, subject: &str| {
        let (certificate, chain, key) = root.below(subject);
        std::fs::write(state.path().join("ca.crt"), chain).unwrap();
        std::fs::write(state.path().join("private.key"), key).unwrap();
        certificate
    };
    write(&root, "first");
    let trust_domain = TrustDomain::new("cluster.local").unwrap();
    let factory = Factory::in_folder(state.path(), identity::control_plane_identity(&trust_domain, NAMESPACE).unwrap());
    let mut followed = open_store(state.path(), factory, NAMESPACE, Clock::system()).await.unwrap();
    let (store, peer) = (Arc::clone(&followed.store), control_plane());
    let before = store.certificate(&peer).await.unwrap();
    let chain = async || store.rotate_now(&peer).await.unwrap().material().certificate_chain_pem().to_owned();

    let second = write(&root, "second");
    take_up(&mut followed).await.unwrap();
    assert!(!chain().await.contains(second.trim()), "it is not time to look");
    followed.look_every = Duration::ZERO;
    let leaf = store.cached(&peer).unwrap();
    take_up(&mut followed).await.unwrap();
    assert_eq!(store.next_renewal(), Some(leaf.renew_at()), "nothing is due for another authority of the same root");
    assert!(chain().await.contains(second.trim()));

    // Another root is not followed, and one that is gone is not made anew.
    write(&Root::new(), "other");
    take_up(&mut followed).await.unwrap_err();
    std::fs::remove_file(state.path().join("ca.crt")).unwrap();
    take_up(&mut followed).await.unwrap_err();
    assert!(chain().await.contains(second.trim()));
    assert_eq!(store.cached(&peer).unwrap().roots(), before.roots());
    assert!(!state.path().join("ca.crt").exists());
}
