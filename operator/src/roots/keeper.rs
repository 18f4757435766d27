//! The task that keeps roots: makes issuers, takes steps or follows them, tells what came of it.

mod evidence;
mod known;
mod making;
mod opening;
mod same;
mod telling;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use arc_swap::ArcSwap;
use osm_api::{MeshRootCertificate, ObjectRef};
use osm_issuer::rotation::{Evidence, Plan, Record, RootName, Step, plan};
use osm_issuer::{CertificateStore, Clock, NamedIssuer, StoreConfig};
use osm_kubernetes::EventType;
use osm_xds::{Cache, Epoch, Server};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};

pub(crate) use self::opening::InForce;

use self::evidence::Reported;
use self::known::{Known, RootObject};
use self::making::{Making, Source};
use super::Timing;
use super::deliveries::{Bundles, Deliveries};
use super::issuers::{self, BuiltIn};
use super::page::{self, Shown};
use super::provider::Factory;
use super::proxies::Watched;
use super::record::{RecordDocument, RecordStore, RecordedName, RecordedRoot, Seen, Stored};
use super::status::{RootStatus, RootsNews};
use super::surroundings::{Part, Surroundings};
use crate::publish::snapshot_key;

/// How often evidence is gathered while something is under way.
const BUSY: Duration = Duration::from_millis(50);
/// How often it is gathered while nothing is.
const IDLE: Duration = Duration::from_secs(1);
/// How long to wait after something failed that others have to do with: the API server, a provider.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// More steps than any rotation has.
const MOST_STEPS: usize = 16;

/// Changed MeshRootCertificates; `None` for those that are gone.
pub(crate) type RootObjects = Vec<(ObjectRef, Option<MeshRootCertificate>)>;

/// What a keeper is made from.
#[derive(Debug)]
pub(crate) struct KeeperInputs {
    /// Namespace of the control plane: MeshRootCertificates elsewhere have no effect.
    pub(crate) namespace: String,
    /// Trust domain of the mesh.
    pub(crate) trust_domain: String,
    /// Makes issuers.
    pub(crate) factory: Factory,
    /// The authority that the control plane is started with.
    pub(crate) built_in: BuiltIn,
    /// Where what is in force is written down.
    pub(crate) record: RecordStore,
    /// Alone, or among replicas.
    pub(crate) surroundings: Surroundings,
    /// How long to wait for what nothing tells.
    pub(crate) timing: Timing,
    /// The time.
    pub(crate) clock: Clock,
}

/// What the store was told.
struct Enforced {
    record: Record,
    /// The issuer that signs.
    signer: NamedIssuer,
}

/// See the module.
pub(crate) struct Keeper {
    inputs: KeeperInputs,
    store: Arc<CertificateStore>,
    deliveries: Arc<Deliveries>,
    roots: BTreeMap<RootName, Known>,
    making: Making,
    record: Record,
    /// Since when `record` is what it is.
    record_since: Instant,
    /// What the store was last told.
    enforced: Option<Enforced>,
    /// What is written down, as far as this process knows; and since when.
    written: (RecordDocument, Instant),
    /// Whether that is known to be the newest. Only then this process may write.
    confirmed: bool,
    /// Nothing that failed is tried again before then.
    try_again: Instant,
    watched: Watched,
    reported: Option<Reported>,
    told: BTreeMap<ObjectRef, RootStatus>,
    next_renewal: Option<(OffsetDateTime, Instant)>,
    shown: Arc<ArcSwap<Shown>>,
    bundles: Arc<ArcSwap<Bundles>>,
}

impl Keeper {
    /// A keeper of what is in force.
    ///
    /// # Errors
    /// No root can sign.
    pub(crate) fn new(inputs: KeeperInputs, in_force: InForce) -> anyhow::Result<Self> {
        let InForce { document, built } = in_force;
        let now = inputs.clock.now();
        let record = document.record();
        let issuers = issuers::issuers(&record, &built).context("find out which root signs")?;
        let signer = record.signing.as_ref().and_then(|name| built.get(name)).map(|built| built.issuer.clone());
        let mut roots: BTreeMap<RootName, Known> = BTreeMap::new();
        for (name, (recorded, _)) in document.roots() {
            let since = OffsetDateTime::from_unix_timestamp(recorded.trusted_since).ok();
            roots.entry(name).or_default().trusted_since = since;
        }
        for (name, built) in built {
            let known = roots.entry(name).or_default();
            // One that signs was looked at just now.
            known.looked = built.signs().then_some(now);
            known.built = Some(built);
        }
        let keeper = Self {
            store: Arc::new(CertificateStore::new(issuers, StoreConfig::default(), inputs.clock.clone())),
            deliveries: Arc::default(),
            roots,
            making: Making::default(),
            enforced: signer.map(|signer| Enforced { record: record.clone(), signer }),
            record,
            record_since: Instant::now(),
            watched: Watched::new(document.proxies, now + inputs.timing.proxy_grace),
            reported: None,
            written: (document, Instant::now()),
            confirmed: false,
            try_again: Instant::now(),
            told: BTreeMap::new(),
            next_renewal: None,
            shown: Arc::default(),
            bundles: Arc::default(),
            inputs,
        };
        keeper.share_bundles();
        Ok(keeper)
    }

    /// The store that it keeps the issuers of.
    pub(crate) fn store(&self) -> &Arc<CertificateStore> {
        &self.store
    }

    /// Where publications have to be noted.
    pub(crate) fn deliveries(&self) -> &Arc<Deliveries> {
        &self.deliveries
    }

    /// Answers the pages `roots` and `certificates` of the admin endpoint.
    pub(crate) fn pages(&self) -> impl Fn(&str) -> Option<Value> + Send + Sync + 'static {
        let (store, shown, bundles) = (Arc::clone(&self.store), Arc::clone(&self.shown), Arc::clone(&self.bundles));
        move |page| match page {
            "roots" => Some(shown.load().page()),
            "certificates" => Some(page::certificates(&store, &bundles.load())),
            _ => None,
        }
    }

    /// Runs for ever.
    pub(crate) async fn run(
        mut self,
        server: Server,
        mut objects: mpsc::UnboundedReceiver<RootObjects>,
        news: mpsc::UnboundedSender<RootsNews>,
    ) -> Infallible {
        let cache = server.cache().clone();
        let (seen, mut record) = watch::channel(Seen::default());
        let mut following = std::pin::pin!(self.follow_record(seen));
        let mut part = Part::Follows;
        let mut is_written_anew = false;
        let mut wait = BUSY;
        loop {
            tokio::select! {
                Some(changes) = objects.recv() => self.take(changes),
                () = self.making.done() => {}
                () = self.inputs.surroundings.changed() => {}
                Ok(()) = record.changed() => is_written_anew = true,
                () = tokio::time::sleep(wait) => {}
                never = &mut following => match never {},
            }
            // Before everything was read, an object that is not there yet would look deleted.
            if !cache.is_ready() {
                continue;
            }
            let before = std::mem::replace(&mut part, self.inputs.surroundings.part());
            if before != part {
                self.begin(part, &news);
            }
            // Once for each change: what this process writes itself is seen only later.
            if std::mem::take(&mut is_written_anew) {
                self.look_at_record(&record.borrow_and_update().clone(), part);
            }
            self.make_issuers();
            wait = match part {
                Part::Leads => self.lead(&server, &cache, &news).await,
                Part::Follows => self.follow(&server, &cache).await,
            };
        }
    }

    /// Tells `seen` what is written down, where others write it.
    fn follow_record(&self, seen: watch::Sender<Seen>) -> impl Future<Output = Infallible> + use<> {
        let following = match &self.inputs.record {
            RecordStore::File(_) => None,
            RecordStore::ConfigMap(config_map) => Some(config_map.follow(seen)),
        };
        async move {
            match following {
                Some(following) => following.await,
                None => std::future::pending().await,
            }
        }
    }

    fn take(&mut self, changes: RootObjects) {
        for (reference, object) in changes {
            let name = RootName::new(reference.namespace.as_str(), reference.name.as_str());
            let known = self.roots.entry(name).or_default();
            let object = object.map(|object| RootObject {
                parsed: self.inputs.parse(&object),
                reference: reference.clone(),
                object,
            });
            known.become_of(object);
        }
    }

    /// This process leads from now on, or follows.
    fn begin(&mut self, part: Part, news: &mpsc::UnboundedSender<RootsNews>) {
        self.confirmed = false;
        let told = std::mem::take(&mut self.told);
        match part {
            // Its proxies, and those of the others, are expected where they are.
            Part::Leads => {
                let until = self.inputs.clock.now() + self.inputs.timing.proxy_grace;
                self.watched.expect(self.written.0.proxies, until);
            }
            Part::Follows => {
                let statuses = told.into_keys().map(|reference| (reference, None)).collect();
                tell(news, RootsNews { statuses });
            }
        }
    }

    /// Takes over what another has written down. Whoever leads writes down anew what somebody deleted, broke or put back.
    fn look_at_record(&mut self, seen: &Seen, part: Part) {
        let document = seen.document();
        if part == Part::Leads && document.as_ref() != Some(&self.written.0) {
            self.confirmed = false;
        }
        if let Some(document) = document {
            self.adopt(document);
        }
    }

    /// Takes over a record if it is newer than what is in force here. It is put in force by [`Keeper::enforce`].
    fn adopt(&mut self, document: RecordDocument) {
        if document.revision <= self.written.0.revision {
            return;
        }
        let recorded = document.roots();
        if let Some((name, _)) = recorded.iter().find(|(_, (_, bundle))| bundle.is_none()) {
            tracing::error!(root = %name, "the certificates of a root in the record cannot be read; the record is not followed");
            return;
        }
        for known in self.roots.values_mut() {
            known.trusted_since = None;
        }
        for (name, (recorded, bundle)) in recorded {
            let known = self.roots.entry(name.clone()).or_default();
            known.trusted_since = OffsetDateTime::from_unix_timestamp(recorded.trusted_since).ok();
            if known.bundle() != bundle.as_ref() {
                known.built = bundle.and_then(|bundle| issuers::validating(&name, bundle));
                (known.problem, known.looked) = (None, None);
            }
        }
        self.record = document.record();
        tracing::info!(revision = document.revision, signing = ?self.record.signing.as_ref().map(ToString::to_string), "roots are in force as the replica that writes has decided");
        self.record_since = Instant::now();
        self.written = (document, Instant::now());
        self.share_bundles();
    }

    async fn lead(&mut self, server: &Server, cache: &Cache, news: &mpsc::UnboundedSender<RootsNews>) -> Duration {
        if Instant::now() >= self.try_again
            && let Err(error) = self.confirm().await
        {
            tracing::warn!(
                error = format!("{error:#}"),
                "what is in force cannot be read or written down; trying again"
            );
            self.confirmed = false;
            self.try_again = Instant::now() + TRY_AGAIN;
        }
        self.enforce().await;
        let (plan, evidence) = self.step(server).await;
        self.watched.reconnect(server, &self.record, &self.wanted(), Instant::now());
        self.forget(cache, &evidence);
        tell(news, self.news(&plan));
        let wait = if plan.is_complete() && self.watched.is_settled() { IDLE } else { BUSY };
        self.shown.store(Arc::new(Shown::Leads(plan, evidence)));
        wait
    }

    /// Makes sure that what this process goes on from is the newest, and that what it knows is written down.
    async fn confirm(&mut self) -> anyhow::Result<()> {
        if !self.confirmed {
            let found = match self.inputs.record.read().await? {
                Stored::Document(document) => Some(document),
                Stored::Nothing => None,
                Stored::Unreadable(error) => {
                    tracing::warn!(error = format!("{error:#}"), "the record of the roots in force cannot be read");
                    None
                }
            };
            if let Some(document) = &found {
                self.adopt(document.clone());
            }
            if found.as_ref() != Some(&self.written.0) {
                tracing::warn!("the record of the roots is not what is in force; it is written anew");
                self.written.0.trusted.clear();
            }
            self.confirmed = true;
        }
        let (document, at) = &self.written;
        let wanted = self.document(&self.record, document.revision)?;
        let counted_lately = at.elapsed() < self.inputs.timing.write_count_every;
        let only_counts = RecordDocument { proxies: document.proxies, ..wanted.clone() } == *document;
        if wanted != *document && !(only_counts && counted_lately) {
            self.inputs.record.write(&wanted).await?;
            self.written = (wanted, Instant::now());
        }
        Ok(())
    }

    /// Takes the steps that nothing holds.
    async fn step(&mut self, server: &Server) -> (Plan, Evidence) {
        for _ in 0..MOST_STEPS {
            let now = self.inputs.clock.now();
            let evidence = self.evidence(server, now);
            let plan = plan(&self.wanted(), &self.record, &evidence, now);
            let Some(step) = plan.step.clone().filter(|_| self.confirmed && Instant::now() >= self.try_again) else {
                return (plan, evidence);
            };
            if let Err(error) = self.put_in_force(&step, plan.record.clone()).await {
                tracing::error!(error = format!("{error:#}"), ?step, "a step of a rotation failed; trying again");
                self.confirmed = false;
                self.try_again = Instant::now() + TRY_AGAIN;
                return (plan, evidence);
            }
        }
        let now = self.inputs.clock.now();
        let evidence = self.evidence(server, now);
        (plan(&self.wanted(), &self.record, &evidence, now), evidence)
    }

    /// Writes a step down, and puts it in force: whoever goes on from here, or follows, must not be behind what proxies hold.
    async fn put_in_force(&mut self, step: &Step, record: Record) -> anyhow::Result<()> {
        let now = self.inputs.clock.now();
        for (name, known) in &mut self.roots {
            match record.trusted.contains(name) {
                true => known.trusted_since = known.trusted_since.or(Some(now)),
                false => known.trusted_since = None,
            }
        }
        let document = self.document(&record, self.written.0.revision + 1)?;
        self.inputs.record.write(&document).await?;
        self.written = (document, Instant::now());
        self.record = record;
        self.record_since = Instant::now();
        self.announce(step);
        self.enforce().await;
        Ok(())
    }

    /// Tells the store what is in force, if it was told something else.
    async fn enforce(&mut self) {
        let Some(signing) = self.record.signing.clone() else { return };
        let Some(built) = self.roots.get(&signing).and_then(|known| known.built.as_ref()) else { return };
        let is_told = self.enforced.as_ref().is_some_and(|enforced| {
            enforced.record == self.record && Arc::ptr_eq(&enforced.signer.issuer, &built.issuer.issuer)
        });
        // An issuer that is about to be there need not be told of twice.
        let is_coming = !built.signs() && self.making.is_making(&signing);
        if is_told || is_coming || Instant::now() < self.try_again {
            return;
        }
        let signer = built.issuer.clone();
        let Some(issuers) = issuers::issuers(&self.record, &self.built()) else { return };
        match self.store.set_issuers(issuers).await {
            Ok(()) => self.enforced = Some(Enforced { record: self.record.clone(), signer }),
            Err(error) => {
                tracing::warn!(%error, reason = error.reason(), "the roots in force cannot be used yet; trying again");
                self.try_again = Instant::now() + TRY_AGAIN;
            }
        }
    }

    /// Whether the store was told of what is in force.
    fn is_enforced(&self) -> bool {
        self.enforced.as_ref().is_some_and(|enforced| enforced.record == self.record)
    }

    async fn follow(&mut self, server: &Server, cache: &Cache) -> Duration {
        self.enforce().await;
        let now = self.inputs.clock.now();
        let evidence = self.own_evidence(server, now);
        self.report(&evidence);
        self.watched.reconnect(server, &self.record, &self.wanted(), Instant::now());
        self.forget(cache, &evidence);
        self.shown.store(Arc::new(Shown::Follows(self.record.clone(), evidence)));
        let is_settled = self.is_enforced() && self.record.trusted.len() == 1 && self.watched.is_settled();
        if is_settled { IDLE } else { BUSY }
    }

    fn announce(&mut self, step: &Step) {
        let (name, type_, reason, message) = match step {
            Step::Begin => return,
            Step::Trust(name) => {
                (name, EventType::Normal, "ValidatingRollout", format!("{name} is trusted from now on"))
            }
            Step::Sign(name) => {
                let message = format!("{name} signs from now on; certificates are replaced");
                (name, EventType::Normal, "IssuingRollout", message)
            }
            Step::Retire(name) => {
                let message = format!("{name} is trusted no longer; nobody used it any more");
                (name, EventType::Normal, "ValidatingRollback", message)
            }
            Step::Remove(name) => {
                let why = "as its annotation asks; requests fail until certificates are replaced";
                (name, EventType::Warning, "RemovedAtOnce", format!("{name} is removed at once, {why}"))
            }
        };
        tracing::info!(root = %name, reason, "{message}");
        if let Some(object) = self.roots.get(name).and_then(|known| known.object.as_ref()) {
            self.inputs.surroundings.record(&object.reference, type_, reason, &message);
        }
    }

    fn forget(&mut self, cache: &Cache, evidence: &Evidence) {
        let epoch = self.watched.oldest_acknowledged().unwrap_or(Epoch(0));
        self.deliveries.forget(|workload| cache.current(&snapshot_key(workload)).is_some(), epoch);
        // An object that is deleted is remembered as long as anybody uses what it stood for.
        let used: BTreeSet<RootName> = self.record.trusted.iter().chain(evidence.leaves.keys()).cloned().collect();
        let built_in = &self.inputs.built_in.name;
        self.roots.retain(|name, known| known.object.is_some() || used.contains(name) || name == built_in);
    }

    /// What is to be written down of `record`.
    fn document(&self, record: &Record, revision: u64) -> anyhow::Result<RecordDocument> {
        let mut trusted = Vec::new();
        for name in &record.trusted {
            let known = self.roots.get(name).with_context(|| format!("nothing is known of root {name}"))?;
            let bundle = known.bundle().with_context(|| format!("the certificates of root {name} are not known"))?;
            trusted.push(RecordedRoot {
                root: RecordedName::from(name),
                provider: self.source_of(name).and_then(Source::into_provider),
                certificates: bundle.pem(),
                trusted_since: known.trusted_since.unwrap_or_else(|| self.inputs.clock.now()).unix_timestamp(),
            });
        }
        let signing = record.signing.as_ref().map(RecordedName::from);
        Ok(RecordDocument { revision, signing, trusted, proxies: self.watched.expected() })
    }
}

fn tell(news: &mpsc::UnboundedSender<RootsNews>, told: RootsNews) {
    if !told.statuses.is_empty() && news.send(told).is_err() {
        tracing::debug!("the loop of the mesh has ended");
    }
}
