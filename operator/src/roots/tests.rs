//! The keeper on a folder, without proxies: which roots come into force, what their status says, and that a bad root never
//! takes the place of one that is in force.

mod credentials;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use osm_api::{ConditionStatus, MeshRootCertificate, ObjectRef};
use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
use osm_issuer::{Clock, PeerIdentity, TrustDomain};
use osm_xds::{Cache, Server, Settings};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::issuers::BuiltIn;
use super::keeper::{Keeper, KeeperInputs, RootObjects};
use super::{Factory, RecordFile, RecordStore, RootStatus, RootsNews, Surroundings, Timing};
use crate::identity;
use crate::mesh::xds_server;
use crate::proxies::ProxyPolicy;

const NAMESPACE: &str = "osm-system";
/// Longest wait for something that must happen.
const LIMIT: Duration = Duration::from_secs(60);

/// Answers pages of the admin endpoint.
type Pages = Box<dyn Fn(&str) -> Option<Value> + Send + Sync>;
/// Name of a Secret, its files, and what is said of it.
type BadSecret = (&'static str, Vec<(&'static str, String)>, &'static str);

/// A keeper that runs on a folder.
struct Running {
    objects: mpsc::UnboundedSender<RootObjects>,
    news: mpsc::UnboundedReceiver<RootsNews>,
    store: Arc<osm_issuer::CertificateStore>,
    /// What was trusted before anything was decided.
    opened: Arc<osm_issuer::TrustBundle>,
    pages: Pages,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(state: &Path, objects: RootObjects) -> Running {
    let trust_domain = TrustDomain::new("cluster.local").unwrap();
    let control_plane = identity::control_plane_identity(&trust_domain, NAMESPACE).unwrap();
    let mut inputs = KeeperInputs {
        namespace: NAMESPACE.to_owned(),
        trust_domain: trust_domain.to_string(),
        factory: Factory::in_folder(state, control_plane.clone()),
        built_in: BuiltIn::in_folder(NAMESPACE, state),
        record: RecordStore::File(RecordFile::in_folder(state)),
        surroundings: Surroundings::Alone,
        timing: Timing {
            proxy_grace: Duration::ZERO,
            trust_bundle_delay: Duration::ZERO,
            look_every: Duration::from_millis(100),
            ..Timing::STANDALONE
        },
        clock: Clock::system(),
    };
    let in_force = inputs.take_up(&objects).await.unwrap().expect("a process alone decides");
    let keeper = Keeper::new(inputs, in_force).unwrap();
    let (store, deliveries) = (Arc::clone(keeper.store()), Arc::clone(keeper.deliveries()));
    let (opened, pages) = (store.trust_bundle().await.unwrap(), Box::new(keeper.pages()));
    let cache = Cache::new();
    cache.set_ready();
    let (events, _) = mpsc::unbounded_channel();
    let policy = ProxyPolicy::new(vec![trust_domain], crate::driver::KnownPods::default(), events);
    let server: Server = xds_server(&cache, policy, Settings::default());
    let (send_objects, changed) = mpsc::unbounded_channel();
    let (send_news, news) = mpsc::unbounded_channel();
    send_objects.send(objects).unwrap();
    let mut changes = store.subscribe();
    let serving = Arc::clone(&store);
    // The part of the loop of the mesh that the keeper needs: what the store says is published and served at once.
    let loop_of_the_mesh = async move {
        let identity = PeerIdentity::ControlPlane(control_plane);
        let mut epoch = 0;
        loop {
            let bundle = serving.trust_bundle().await.unwrap();
            epoch += 1;
            deliveries.publish_bundle(&bundle, || osm_xds::Epoch(epoch));
            let leaf = serving.certificate(&identity).await.unwrap();
            deliveries.serve(&leaf, &bundle);
            changes.next().await;
        }
    };
    let renewing = Arc::clone(&store);
    let task = tokio::spawn(async move {
        tokio::select! {
            never = keeper.run(server, changed, send_news) => match never {},
            () = loop_of_the_mesh => {}
            never = renewing.run() => match never {},
        }
    });
    Running { objects: send_objects, news, store, opened, pages, task }
}

impl Running {
    /// Waits until the status of a root is as wanted.
    async fn status(&mut self, name: &str, wanted: impl Fn(&RootStatus) -> bool) -> RootStatus {
        let mut last = None;
        let waiting = async {
            loop {
                let news = self.news.recv().await.expect("the keeper runs");
                for (object, status) in news.statuses {
                    if object.name == name
                        && let Some(status) = status
                    {
                        if wanted(&status) {
                            return status;
                        }
                        last = Some(status);
                    }
                }
            }
        };
        let found = tokio::time::timeout(LIMIT, waiting).await;
        found.unwrap_or_else(|_| panic!("{name} did not come to it: {last:?}"))
    }

    fn set(&self, roots: &[MeshRootCertificate]) {
        self.objects.send(objects(roots)).unwrap();
    }

    fn signing(&self) -> String {
        let page = (self.pages)("roots").unwrap();
        page["signing"].as_str().unwrap_or_default().to_owned()
    }
}

fn objects(roots: &[MeshRootCertificate]) -> RootObjects {
    roots.iter().map(|root| (osm_api::MeshObject::reference(root), Some(root.clone()))).collect()
}

fn with_provider(name: &str, role: &str, provider: &str) -> MeshRootCertificate {
    serde_saphyr::from_str(&format!(
        "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshRootCertificate\n\
         metadata: {{ name: {name}, namespace: {NAMESPACE}, generation: 1 }}\n\
         spec: {{ role: {role}, provider: {{ {provider} }} }}\n"
    ))
    .unwrap()
}

fn tresor(name: &str, role: &str) -> MeshRootCertificate {
    let provider = format!("tresor: {{ ca: {{ secretRef: {{ name: {name}, namespace: {NAMESPACE} }} }} }}");
    with_provider(name, role, &provider)
}

fn state() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn is(state: &str) -> impl Fn(&RootStatus) -> bool {
    move |status| status.fields["state"] == state && status.programmed.status == ConditionStatus::True
}

/// Puts files into the Secret `name`.
fn write_secret(state: &Path, name: &str, files: &[(&str, &str)]) {
    let folder = state.join("secrets").join(NAMESPACE).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    for (key, text) in files {
        std::fs::write(folder.join(key), text).unwrap();
    }
}

fn authority() -> AuthorityMaterial {
    AuthorityMaterial::generate(AuthorityKey::default(), OffsetDateTime::now_utc()).unwrap()
}

#[tokio::test]
async fn without_an_object_the_authority_of_the_state_folder_signs_and_the_first_object_takes_its_place() {
    let state = state();
    let mut running = run(state.path(), Vec::new()).await;
    let built_in = std::fs::read_to_string(state.path().join("ca.crt")).unwrap();
    assert!(running.store.trust_bundle().await.unwrap().pem().contains(built_in.trim()));
    running.set(&[tresor("first", "active")]);
    running.status("first", is("active")).await;
    let bundle = running.store.trust_bundle().await.unwrap();
    assert_eq!(bundle.roots().len(), 1);
    assert!(!bundle.pem().contains(built_in.trim()), "the former authority is still trusted");
}

#[tokio::test]
async fn a_fresh_mesh_begins_with_its_object_and_never_makes_another_authority() {
    let state = state();
    let mut running = run(state.path(), objects(&[tresor("first", "active")])).await;
    // The state of a mesh without proxies is decided at once; the control plane's own certificate comes when it is served.
    let served = |status: &RootStatus| status.fields["componentStatuses"]["xdsControlPlane"] == "issuing";
    let status = running.status("first", |status| is("active")(status) && served(status)).await;
    assert_eq!((status.fields["usage"].as_str(), status.findings.len()), (Some("issuing"), 0));
    assert!(status.fields["expires"].is_string());
    assert!(!state.path().join("ca.crt").exists());
}

#[tokio::test]
async fn what_is_in_force_outlives_the_process_and_the_object() {
    let state = state();
    let mut running = run(state.path(), objects(&[tresor("first", "active")])).await;
    running.status("first", is("active")).await;
    let before = running.store.trust_bundle().await.unwrap();
    drop(running);
    // Another process, which is told of another root only: it signs with the former until it may change.
    let mut running = run(state.path(), objects(&[tresor("second", "active")])).await;
    assert_eq!(running.opened, before);
    running.status("second", is("active")).await;
    assert!(!running.store.trust_bundle().await.unwrap().contains(&before));
}

#[tokio::test]
async fn a_bad_root_is_named_with_its_field_and_the_good_one_keeps_signing() {
    let (good, other) = (authority(), authority());
    let key = |material: &AuthorityMaterial| material.private_key().expose_private_key_pem().to_owned();
    let short = {
        // A leaf in place of an authority.
        let leaf = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
        (leaf.cert.pem(), leaf.signing_key.serialize_pem())
    };
    let cases: [BadSecret; 5] = [
        (
            "malformed",
            vec![("ca.crt", "-----BEGIN CERTIFICATE-----\nnonsense\n".into()), ("private.key", key(&good))],
            "ca.crt",
        ),
        ("empty", vec![("ca.crt", String::new()), ("private.key", key(&good))], "ca.crt"),
        ("mismatch", vec![("ca.crt", good.certificate_pem().into()), ("private.key", key(&other))], "private.key"),
        ("no-authority", vec![("ca.crt", short.0), ("private.key", short.1)], "not a certificate authority"),
        ("wrong-keys", vec![("ca.crt", good.certificate_pem().into()), ("tls.key", key(&good))], "private.key"),
    ];
    let state = state();
    let mut running = run(state.path(), objects(&[tresor("first", "active")])).await;
    running.status("first", is("active")).await;
    let before = running.store.trust_bundle().await.unwrap();
    for (name, files, words) in cases {
        let files: Vec<(&str, &str)> = files.iter().map(|(key, text)| (*key, text.as_str())).collect();
        write_secret(state.path(), name, &files);
        running.set(&[tresor("first", "passive"), tresor(name, "active")]);
        let status = running.status(name, |status| !status.findings.is_empty()).await;
        let finding = &status.findings[0];
        assert_eq!((&*finding.field, finding.reason), ("spec.provider.tresor.ca.secretRef", "InvalidSecret"), "{name}");
        assert!(finding.message.contains(words), "{name}: {}", finding.message);
        assert!(!finding.message.contains("PRIVATE KEY"), "{name}: a key in a status");
        assert_eq!(status.fields["state"], "error", "{name}");
        assert_eq!(running.store.trust_bundle().await.unwrap(), before, "{name}");
        assert_eq!(running.signing(), "osm-system/first", "{name}");
        // The next is a case of its own.
        running.set(&[tresor("first", "active")]);
        running.objects.send(vec![(reference(name), None)]).unwrap();
    }
}

#[tokio::test]
async fn a_root_that_is_mended_comes_into_force() {
    let state = state();
    write_secret(state.path(), "second", &[("ca.crt", "nothing"), ("private.key", "nothing")]);
    let mut running = run(state.path(), objects(&[tresor("first", "active")])).await;
    running.status("first", is("active")).await;
    running.set(&[tresor("first", "passive"), tresor("second", "active")]);
    running.status("second", |status| status.fields["state"] == "error").await;
    let good = authority();
    let key = good.private_key().expose_private_key_pem();
    write_secret(state.path(), "second", &[("ca.crt", good.certificate_pem()), ("private.key", key)]);
    running.status("second", is("active")).await;
}

#[tokio::test]
async fn objects_that_take_no_part_say_why() {
    let state = state();
    let mut foreign = tresor("first", "active");
    foreign.metadata.namespace = Some("shop".to_owned());
    let mut domain = tresor("second", "passive");
    domain.spec.trust_domain = Some("elsewhere.example".to_owned());
    let both = with_provider(
        "third",
        "inactive",
        "tresor: { ca: { secretRef: { name: a, namespace: b } } }, \
         certManager: { issuerName: a, issuerKind: Issuer, issuerGroup: cert-manager.io }",
    );
    let mut running = run(state.path(), Vec::new()).await;
    for (object, field, reason) in [
        (foreign, "metadata.namespace", "NotInUse"),
        (domain, "spec.trustDomain", "TrustDomainMismatch"),
        (both, "spec.provider", "InvalidProvider"),
    ] {
        let name = object.metadata.name.clone().unwrap();
        running.set(&[object]);
        let status = running.status(&name, |status| !status.findings.is_empty()).await;
        assert_eq!((&*status.findings[0].field, status.findings[0].reason), (field, reason));
    }
}

#[tokio::test]
async fn a_name_never_leads_out_of_the_folder_of_secrets() {
    let state = state();
    let provider = "tresor: { ca: { secretRef: { name: '../../etc', namespace: osm-system } } }";
    let mut running = run(state.path(), Vec::new()).await;
    running.set(&[with_provider("first", "active", provider)]);
    let status = running.status("first", |status| !status.findings.is_empty()).await;
    assert_eq!(status.findings[0].reason, "InvalidField");
    assert!(!state.path().parent().unwrap().join("etc").join("ca.crt").exists());
}

fn reference(name: &str) -> ObjectRef {
    ObjectRef::new(osm_api::Kind::MeshRootCertificate, NAMESPACE, name)
}

#[tokio::test]
async fn a_compromised_root_goes_at_once_and_its_object_says_so() {
    let state = state();
    let mut running = run(state.path(), objects(&[tresor("first", "active"), tresor("second", "passive")])).await;
    running.status("second", is("validatingRollout")).await;
    let mut compromised = tresor("first", "active");
    let annotation = (osm_api::REMOVE_ROOT_NOW_ANNOTATION.to_owned(), osm_api::REMOVE_ROOT_NOW_VALUE.to_owned());
    compromised.metadata.annotations = Some([annotation].into());
    running.set(&[compromised]);
    let status = running.status("first", |status| status.fields["usage"] == "unused").await;
    assert_eq!(status.findings[0].reason, "Removed");
    running.status("second", |status| status.fields["state"] == "active").await;
    assert_eq!(
        (running.signing(), running.store.trust_bundle().await.unwrap().roots().len()),
        ("osm-system/second".to_owned(), 1)
    );
}
