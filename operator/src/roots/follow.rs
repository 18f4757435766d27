//! A store that follows what another process has put in force: `osm-operator bootstrap`, which issues proxies' own
//! certificates beside a control plane without a cluster.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use osm_issuer::rotation::{Record, RootName};
use osm_issuer::{CertificateStore, Clock, Issuers, StoreConfig};

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
    signing: Option<(RootName, Built)>,
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
    let (record, built) = in_force(&file, text.as_deref(), &built_in, &factory, &clock).await?;
    let issuers = issuers::issuers(&record, &built).context("find out who signs")?;
    let store = Arc::new(CertificateStore::new(issuers, StoreConfig::default(), clock.clone()));
    let signing = signing_of(&record, &built);
    Ok(Followed { store, file, built_in, factory, clock, text, signing })
}

async fn in_force(
    file: &RecordFile,
    text: Option<&str>,
    built_in: &BuiltIn,
    factory: &Factory,
    clock: &Clock,
) -> anyhow::Result<(Record, BTreeMap<RootName, Built>)> {
    let now = clock.now();
    match text {
        Some(text) => {
            let document = file.parse(text)?;
            Ok((document.record(), issuers::of_record(&document, built_in, factory, now).await?))
        }
        None => {
            let name = built_in.name.clone();
            let record = Record { signing: Some(name.clone()), trusted: [name.clone()].into() };
            let built = built_in.build(Missing::Make, now).await;
            let built =
                built.map_err(|problem| anyhow::anyhow!("{problem}")).context("use the certificate authority")?;
            Ok((record, BTreeMap::from([(name, built)])))
        }
    }
}

fn signing_of(record: &Record, built: &BTreeMap<RootName, Built>) -> Option<(RootName, Built)> {
    let name = record.signing.clone()?;
    let built = built.get(&name)?.clone();
    Some((name, built))
}

/// Follows the record for ever. What cannot be read is looked at again.
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

async fn take_up(followed: &mut Followed) -> anyhow::Result<()> {
    let Followed { store, file, built_in, factory, clock, text, signing } = followed;
    let now_text = file.text()?;
    if now_text.is_none() || now_text == *text {
        return Ok(());
    }
    let (record, mut built) = in_force(file, now_text.as_deref(), built_in, factory, clock).await?;
    // The same issuer as before, or every certificate would be taken for another's.
    if let (Some((name, before)), Some(now)) = (signing.as_ref(), record.signing.as_ref())
        && name == now
        && built.get(now).is_some_and(|built| built.bundle == before.bundle && built.signs == before.signs)
    {
        built.insert(name.clone(), before.clone());
    }
    let issuers: Issuers = issuers::issuers(&record, &built).context("find out who signs")?;
    store.set_issuers(issuers).await?;
    *signing = signing_of(&record, &built);
    *text = now_text;
    Ok(())
}
