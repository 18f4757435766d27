//! A store that follows what another process has put in force: `osm-operator bootstrap`, which issues proxies' own
//! certificates beside a control plane without a cluster.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use osm_issuer::rotation::{Record, RootName};
use osm_issuer::{CertificateStore, Clock, Issuers, StoreConfig};

use super::Timing;
use super::issuers::{self, BuiltIn};
use super::provider::{Built, Factory};
use super::record::RecordFile;
use super::secrets::Missing;

/// How often the record is looked at. Its file is small, and a change must not hold a rotation.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A store, and what it was last told.
pub(crate) struct Followed {
    /// The store.
    pub(crate) store: Arc<CertificateStore>,
    file: RecordFile,
    built_in: BuiltIn,
    factory: Factory,
    clock: Clock,
    text: Option<String>,
    /// The issuers of the roots in force, and when their providers were looked at.
    built: BTreeMap<RootName, Built>,
    looked: Instant,
    /// How often that is done.
    pub(super) look_every: Duration,
}

/// Opens a store that signs with what is in force according to the state folder: the root that the record names, or the
/// authority of the folder when there is no record.
///
/// # Errors
/// The folder cannot be used, or its authority cannot sign; the message names file and reason.
pub(crate) async fn open_store(
    folder: &Path,
    factory: Factory,
    namespace: &str,
    clock: Clock,
) -> anyhow::Result<Followed> {
    let file = RecordFile::in_folder(folder);
    let built_in = BuiltIn::in_folder(namespace, folder);
    let text = file.text()?;
    let (record, built) = in_force(&file, text.as_deref(), &BTreeMap::new(), &built_in, &factory, &clock).await?;
    let issuers = issuers::issuers(&record, &built).context("find out who signs")?;
    let store = Arc::new(CertificateStore::new(issuers, StoreConfig::default(), clock.clone()));
    let (looked, look_every) = (Instant::now(), Timing::STANDALONE.look_every);
    Ok(Followed { store, file, built_in, factory, clock, text, built, looked, look_every })
}

async fn in_force(
    file: &RecordFile,
    text: Option<&str>,
    current: &BTreeMap<RootName, Built>,
    built_in: &BuiltIn,
    factory: &Factory,
    clock: &Clock,
) -> anyhow::Result<(Record, BTreeMap<RootName, Built>)> {
    let now = clock.now();
    match text {
        Some(text) => {
            let document = file.parse(text)?;
            Ok((document.record(), issuers::of_record(&document, current, built_in, factory, now).await?))
        }
        None => {
            let name = built_in.name.clone();
            let record = Record { signing: Some(name.clone()), trusted: [name.clone()].into() };
            let current = current.get(&name);
            let missing = if current.is_some() { Missing::Report } else { Missing::Make };
            let built = built_in.renew(current, missing, now).await;
            let built = built.and_then(|built| issuers::unchanged(built, current.map(|current| &current.bundle)));
            let built =
                built.map_err(|problem| anyhow::anyhow!("{problem}")).context("use the certificate authority")?;
            Ok((record, BTreeMap::from([(name, built)])))
        }
    }
}

/// Follows the record, and the Secrets of its roots, for ever. What cannot be read is looked at again.
pub(crate) async fn follow(followed: &mut Followed) -> Infallible {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = take_up(followed).await {
            tracing::warn!(error = format!("{error:#}"), "cannot follow a change of the roots; trying again");
        }
    }
}

/// Looks once.
pub(super) async fn take_up(followed: &mut Followed) -> anyhow::Result<()> {
    let Followed { store, file, built_in, factory, clock, text, built, looked, look_every } = followed;
    let now_text = file.text()?;
    let is_new = now_text.is_some() && now_text != *text;
    if !is_new && looked.elapsed() < *look_every {
        return Ok(());
    }
    *looked = Instant::now();
    let wanted = if is_new { &now_text } else { &*text };
    let (record, now_built) = in_force(file, wanted.as_deref(), built, built_in, factory, clock).await?;
    let is_same = |(name, now): (&RootName, &Built)| built.get(name).is_some_and(|before| before.is(now));
    if is_new || !now_built.iter().all(is_same) {
        let issuers: Issuers = issuers::issuers(&record, &now_built).context("find out who signs")?;
        store.set_issuers(issuers).await?;
    }
    *text = wanted.clone();
    *built = now_built;
    Ok(())
}
