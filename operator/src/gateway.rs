//! The certificate of the mesh for an ingress gateway outside of it (MeshConfig `spec.certificate.ingressGateway`): kept in a Secret
//! with the roots of the mesh by the writer among the replicas.
//!
//! `wanted` reads the MeshConfig. The certificate store issues the certificate and renews it; one that is good in the Secret is taken
//! up by the store, so that a restart writes nothing. `secret` says what is to be written, and what must not be. What came of it goes
//! two ways: to the status of the MeshConfig ([`GatewayNews`]), and to the keeper of the roots, which waits for the gateway as for
//! everybody else ([`GatewayState`]).
//!
//! The Secret is looked at from time to time and not watched, so that no right to watch Secrets is needed.

mod problem;
mod secret;
mod state;
mod wanted;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use osm_api::ObjectRef;
use osm_issuer::{
    Blame, CLOCK_SKEW, CertificateStore, Change, Changes, Clock, IngressGatewayIdentity, LeafCertificate, LeafValidity,
    PeerIdentity,
};
use osm_kubernetes::{Created, Leadership, RequestError, Target, Writer};
use osm_model::Finding;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use self::problem::Problem;
use self::secret::{Content, Found};
pub(crate) use self::state::GatewayState;
use self::state::Watched;
use self::wanted::Asked;
pub(crate) use self::wanted::{Wanted, observer, without_cluster};
use crate::leading::while_leading;

/// How often the Secret is looked at: in this time it is put back when somebody changes or deletes it. Each look is a request.
const LOOK_EVERY: Duration = Duration::from_secs(20);
/// How often it is looked whether somebody has mended what is wrong.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait after a failure that passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the status of the MeshConfig says of the gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct GatewayNews {
    /// The generation of the MeshConfig that it is about.
    pub generation: i64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// `status.ingressGateway`; null where there is no certificate.
    pub status: Value,
}

/// Keeps the Secret, whenever this replica is the writer.
#[derive(Debug)]
pub(crate) struct IngressGateway {
    /// Reads and writes.
    pub(crate) writer: Writer,
    /// Labels of what belongs to this mesh.
    pub(crate) labels: BTreeMap<String, String>,
    /// Where certificates and roots come from.
    pub(crate) store: Arc<CertificateStore>,
    /// The MeshConfig in use.
    pub(crate) mesh_config: ObjectRef,
    /// What it asks for; `None` before it was read.
    pub(crate) wanted: watch::Receiver<Option<Wanted>>,
    /// The time.
    pub(crate) clock: Clock,
    /// Told what the gateway may trust and show.
    pub(crate) state: watch::Sender<GatewayState>,
    /// Told what the status says; nothing, once another says it.
    pub(crate) news: mpsc::UnboundedSender<Option<GatewayNews>>,
}

/// What is remembered between looks.
#[derive(Debug, Default)]
struct Memory {
    /// The Secret that is asked for, and what it holds.
    watched: Option<Watched>,
    told: Option<GatewayNews>,
    /// What that was about.
    asked: Option<Asked>,
}

impl IngressGateway {
    /// Runs for ever.
    pub(crate) async fn run(mut self, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            while_leading(&mut leadership, self.keep()).await;
            // What another writes from now on is not seen here, and its key is not needed.
            self.state.send_replace(GatewayState::Unknown);
            self.forget_all_but(None);
            self.send(None);
        }
    }

    async fn keep(&mut self) -> Infallible {
        let mut changes = self.store.subscribe();
        let mut memory = Memory::default();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let wait = match &wanted {
                Some(wanted) => self.look(wanted, &mut memory).await,
                None => None,
            };
            let again = async {
                match wait {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.wanted.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                }
                () = concerned(&mut changes) => {}
                () = again => {}
            }
        }
    }

    /// Brings the Secret to what is wanted, and tells what came of it. Gives when to look again.
    async fn look(&self, wanted: &Wanted, memory: &mut Memory) -> Option<Duration> {
        let news = |findings, status| GatewayNews { generation: wanted.generation, findings, status };
        self.repeat_status(wanted, memory);
        let Some(asked) = &wanted.gateway else {
            self.forget_all_but(None);
            memory.watched = None;
            self.tell_state(GatewayState::Nowhere);
            self.tell_status(memory, news(Vec::new(), Value::Null));
            return None;
        };
        let Some(identity) = &asked.identity else {
            self.forget_all_but(None);
            memory.watched = None;
            self.tell_state(GatewayState::Unknown);
            self.tell_status(memory, news(asked.findings.clone(), Value::Null));
            return None;
        };
        self.forget_all_but(Some(identity));
        let secret = (identity.namespace().to_owned(), identity.secret().to_owned());
        if memory.watched.as_ref().is_none_or(|watched| *watched.secret() != secret) {
            self.tell_state(GatewayState::Unknown);
            memory.watched = Some(Watched::new(secret, self.clock.now()));
        }
        let watched = memory.watched.as_mut()?;
        match self.bring(identity, asked.validity, watched).await {
            Ok(leaf) => {
                let failure = self.store.status_of(&PeerIdentity::IngressGateway(identity.clone()));
                let failure = failure.and_then(|status| status.failure).map(|failure| Problem::Renewal(failure.error));
                let findings = asked.findings.iter().cloned();
                let findings = findings.chain(failure.map(|problem| problem.finding(&self.mesh_config, identity)));
                self.tell_status(memory, news(findings.collect(), status(identity, &leaf)));
                Some(LOOK_EVERY)
            }
            Err(problem) => {
                tracing::warn!(secret = %problem::named(identity), %problem, "the ingress gateway's Secret is not as it should be; trying again");
                // What passes by itself changes no status.
                if problem.is_passing() {
                    return Some(RETRY_AFTER);
                }
                if !problem.leaves_what_is_known() {
                    self.tell_state(GatewayState::Unknown);
                    memory.watched = None;
                }
                let findings = asked.findings.iter().cloned().chain([problem.finding(&self.mesh_config, identity)]);
                self.tell_status(memory, news(findings.collect(), Value::Null));
                Some(LOOK_AGAIN)
            }
        }
    }

    /// Makes the Secret hold the gateway's certificate and the roots.
    async fn bring(
        &self,
        identity: &IngressGatewayIdentity,
        validity: LeafValidity,
        watched: &mut Watched,
    ) -> Result<Arc<LeafCertificate>, Problem> {
        let target = Target::secret(identity.namespace(), identity.secret());
        let found = self.writer.get(&target).await.map_err(Problem::Read)?;
        let found = found.map(|found| Found::read(found).ok_or(Problem::Unreadable)).transpose()?;
        if let Some(why) = found.as_ref().and_then(|found| found.refusal(&self.labels)) {
            return Err(Problem::NotOurs(why));
        }
        let leaf = self.leaf(identity, validity, found.as_ref()).await;
        let at_hand = leaf.as_ref().ok();
        let content = found.as_ref().map(|found| (&*found.roots, &*found.chain));
        self.tell_state(watched.learn(content, at_hand, self.clock.now()));
        let leaf = leaf?;
        let bundle = self.store.trust_bundle().await.map_err(Problem::Issue)?;
        let roots = bundle.pem();
        let content = Content { identity, labels: &self.labels, roots: &roots, material: leaf.material() };
        if !found.as_ref().is_some_and(|found| content.is_in(found)) {
            self.write(&content, found.as_ref()).await?;
            let content = Some((&*roots, leaf.material().certificate_chain_pem()));
            self.tell_state(watched.learn(content, Some(&leaf), self.clock.now()));
            tracing::info!(
                secret = %problem::named(identity), serial = leaf.serial(), not_after = %leaf.not_after(), roots = bundle.roots().len(),
                "the ingress gateway's Secret is written"
            );
        }
        Ok(leaf)
    }

    /// The certificate: the one at hand, the one in the Secret, or a new one.
    async fn leaf(
        &self,
        identity: &IngressGatewayIdentity,
        validity: LeafValidity,
        found: Option<&Found>,
    ) -> Result<Arc<LeafCertificate>, Problem> {
        let peer = PeerIdentity::IngressGateway(identity.clone());
        if let Some(leaf) = self.store.cached(&peer) {
            // By when the clocks of those who sign may differ.
            let longest = validity.as_duration() + 2 * CLOCK_SKEW;
            if leaf.not_after() <= leaf.issued_at() + longest {
                return Ok(leaf);
            }
            tracing::info!(
                "the ingress gateway's certificate is valid for longer than is asked for now, and is replaced"
            );
            return self.store.rotate_now(&peer).await.map_err(Problem::Issue);
        }
        if let Some(found) = found.filter(|found| !found.chain.is_empty()) {
            let origin =
                Blame::Secret { namespace: identity.namespace().to_owned(), name: identity.secret().to_owned() };
            match self.store.adopt(&peer, &found.chain, found.key.clone(), origin).await {
                Ok(leaf) => return Ok(leaf),
                Err(error) => tracing::info!(%error, "the certificate that the ingress gateway has is replaced"),
            }
        }
        self.store.certificate(&peer).await.map_err(Problem::Issue)
    }

    async fn write(&self, content: &Content<'_>, found: Option<&Found>) -> Result<(), Problem> {
        let manifest = content.manifest(found);
        match found {
            Some(_) => self.writer.apply(&manifest).await.map(drop).map_err(Problem::Write),
            None => match self.writer.create_if_absent(&manifest).await {
                Ok(Created::Created) => Ok(()),
                Ok(Created::Existed) => Err(Problem::Write(RequestError::Conflict("somebody else made it".to_owned()))),
                Err(error) => Err(Problem::Create(error)),
            },
        }
    }

    /// Drops the keys of gateways that are not wanted any more.
    fn forget_all_but(&self, wanted: Option<&IngressGatewayIdentity>) {
        self.store.retain(|identity| match identity {
            PeerIdentity::IngressGateway(gateway) => Some(gateway) == wanted,
            PeerIdentity::Workload(_) | PeerIdentity::Proxy(_) | PeerIdentity::ControlPlane(_) => true,
        });
    }

    fn tell_state(&self, state: GatewayState) {
        self.state.send_if_modified(|told| {
            let differs = *told != state;
            *told = state;
            differs
        });
    }

    /// What was said of the same text stays true of another generation of the MeshConfig: its status need not wait.
    fn repeat_status(&self, wanted: &Wanted, memory: &mut Memory) {
        let is_same = memory.asked == wanted.gateway;
        memory.asked.clone_from(&wanted.gateway);
        if let (true, Some(told)) = (is_same, memory.told.clone()) {
            self.tell_status(memory, GatewayNews { generation: wanted.generation, ..told });
        }
    }

    fn tell_status(&self, memory: &mut Memory, news: GatewayNews) {
        if memory.told.as_ref() != Some(&news) {
            self.send(Some(news.clone()));
        }
        memory.told = Some(news);
    }

    fn send(&self, news: Option<GatewayNews>) {
        if self.news.send(news).is_err() {
            tracing::debug!("the loop of the mesh has ended");
        }
    }
}

/// Waits until the roots changed, or a certificate of a gateway.
async fn concerned(changes: &mut Changes) {
    loop {
        match changes.next().await {
            Change::TrustBundle | Change::Leaf(PeerIdentity::IngressGateway(_)) => return,
            Change::Leaf(_) => {}
        }
    }
}

/// `status.ingressGateway` of the MeshConfig.
fn status(identity: &IngressGatewayIdentity, leaf: &LeafCertificate) -> Value {
    json!(osm_api::IngressGatewayStatus {
        secret: problem::named(identity),
        expires: crate::roots::time(leaf.not_after()),
    })
}
