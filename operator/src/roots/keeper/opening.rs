//! What is in force when a process starts: what was written down, or what is put in force where nothing is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use osm_issuer::rotation::{Record, RootName, Roots, check_roles};
use time::OffsetDateTime;

use super::known::{Known, RootObject};
use super::{KeeperInputs, RootObjects};
use crate::roots::issuers;
use crate::roots::provider::Built;
use crate::roots::record::{RecordDocument, RecordedName, RecordedRoot, Stored};
use crate::roots::secrets::Missing;
use crate::roots::surroundings::Part;

/// What a keeper begins with.
#[derive(Debug)]
pub(crate) struct InForce {
    pub(super) document: RecordDocument,
    pub(super) built: BTreeMap<RootName, Built>,
}

impl KeeperInputs {
    /// Takes up what is in force according to the record. Without a record the MeshRootCertificates in `objects` are, or else the
    /// built-in authority, which also is when it was there before; that is written down first. Of several replicas the one that
    /// writes does that; for the others there is nothing yet then.
    ///
    /// # Errors
    /// No root can sign, or the record cannot be read or written. Nothing is in force then, and trying again does no harm.
    pub(crate) async fn take_up(&mut self, objects: &RootObjects) -> anyhow::Result<Option<InForce>> {
        let now = self.clock.now();
        match self.record.read().await? {
            Stored::Document(document) => {
                let built = issuers::of_record(&document, &BTreeMap::new(), &self.built_in, &self.factory, now).await?;
                Ok(Some(InForce { document, built }))
            }
            Stored::Unreadable(error) => Err(error),
            Stored::Nothing if self.surroundings.part() == Part::Follows => Ok(None),
            Stored::Nothing => {
                let (record, built) = self.first(objects, now).await?;
                let document = begun(&record, objects, &built, now);
                self.record.write(&document).await?;
                Ok(Some(InForce { document, built }))
            }
        }
    }

    /// What is put in force where no record is.
    async fn first(
        &self,
        objects: &RootObjects,
        now: OffsetDateTime,
    ) -> anyhow::Result<(Record, BTreeMap<RootName, Built>)> {
        // An authority that was there before may have signed already what proxies hold.
        let exists = self.built_in.exists().await.map_err(|problem| anyhow::anyhow!("{problem}"))?;
        let roots = if exists { BTreeMap::new() } else { self.known(objects, now).await };
        let wanted: Roots = roots.iter().map(|(name, known)| (name.clone(), known.wanted(false))).collect();
        let roles = wanted.iter().map(|(name, root)| (name.clone(), root.role)).collect();
        let record = Record::initial(&wanted);
        if record.signing.is_some() && check_roles(&roles).is_ok() {
            let built = roots.into_iter().filter_map(|(name, known)| Some((name, known.built?)));
            let trusted = record.trusted.clone();
            return Ok((record, built.filter(|(name, _)| trusted.contains(name)).collect()));
        }
        let name = self.built_in.name.clone();
        let built = self.built_in.renew(None, Missing::Make, now).await;
        let built = built.map_err(|problem| anyhow::anyhow!("{problem}")).context("use the certificate authority")?;
        let record = Record { signing: Some(name.clone()), trusted: BTreeSet::from([name.clone()]) };
        Ok((record, BTreeMap::from([(name, built)])))
    }

    async fn known(&self, objects: &RootObjects, now: OffsetDateTime) -> BTreeMap<RootName, Known> {
        let mut roots = BTreeMap::new();
        for (reference, object) in objects {
            let Some(object) = object else { continue };
            let parsed = self.parse(object);
            let mut known = Known::default();
            if parsed.value.is_some() {
                match self.factory.renew(&object.spec.provider, None, Missing::Make, now).await {
                    Ok(built) => known.built = Some(built),
                    Err(problem) => tracing::error!(object = %reference, %problem, "the root cannot be used"),
                }
            }
            known.object = Some(RootObject { reference: reference.clone(), object: object.clone(), parsed });
            roots.insert(RootName::new(reference.namespace.as_str(), reference.name.as_str()), known);
        }
        roots
    }
}

/// The first record of a mesh.
fn begun(
    record: &Record,
    objects: &RootObjects,
    built: &BTreeMap<RootName, Built>,
    now: OffsetDateTime,
) -> RecordDocument {
    let provider = |name: &RootName| {
        let is_its = |reference: &osm_api::ObjectRef| {
            (reference.namespace.as_str(), reference.name.as_str()) == (name.namespace(), name.name())
        };
        let (_, object) = objects.iter().find(|(reference, _)| is_its(reference))?;
        object.as_ref().map(|object| object.spec.provider.clone())
    };
    let trusted = built.iter().map(|(name, built)| RecordedRoot {
        root: RecordedName::from(name),
        provider: provider(name),
        certificates: built.bundle.pem(),
        trusted_since: now.unix_timestamp(),
    });
    RecordDocument {
        revision: 1,
        signing: record.signing.as_ref().map(RecordedName::from),
        trusted: trusted.collect(),
        proxies: 0,
    }
}
