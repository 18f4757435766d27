//! Counting: who of the connected proxies runs an object, who waits, who refuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_engine::LayerKey;
use osm_model::{Identity, ObjectId};
use osm_xds::{Epoch, ProxyName};

use super::Progress;

/// The streams of one proxy, as the driver reads them from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyState {
    /// The epoch of the snapshot that is current for it.
    pub current: Epoch,
    /// The epoch up to which all its streams have acknowledged everything; `None` before the first time.
    pub synced: Option<Epoch>,
}

/// All that is known of connected proxies, by workload.
pub type Proxies = BTreeMap<Identity, BTreeMap<ProxyName, ProxyState>>;

/// Counts for one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ObjectCounts {
    /// Connected proxies it concerns.
    pub targeted: u32,
    /// Those that run it.
    pub acknowledged: u32,
    /// Those that refused what it caused.
    pub refused: u32,
    /// From reading the change to the last acknowledgement, once all proxies have acknowledged.
    pub took: Option<Duration>,
    /// Whether this count was the first to see all of them have it.
    pub arrived: bool,
    /// Who refused what, in whose words.
    pub refusals: Vec<(ProxyName, Arc<str>, Arc<str>)>,
}

impl Progress {
    /// Counts one object among `proxies`, and notes when the last one has acknowledged.
    pub fn count(&mut self, object: &ObjectId, proxies: &Proxies, now: Instant) -> ObjectCounts {
        let mut counts = ObjectCounts::default();
        let mut last_acknowledgement = None;
        for workload in self.concerned_workloads(object, proxies) {
            let held_back = self.held_back.get(&(object.clone(), workload.clone()));
            let epoch = self.effective_epoch(object, workload);
            for (name, proxy) in proxies.get(workload).into_iter().flatten() {
                counts.targeted += 1;
                let refusals = self.refusals.get(name).into_iter().flatten();
                let blamed = refusals.filter(|(_, refusal)| refusal.objects.contains(object));
                let blamed =
                    blamed.map(|((_, resource), refusal)| (Arc::clone(resource), Arc::clone(&refusal.message)));
                let blamed: BTreeSet<_> = blamed.chain(held_back.cloned()).collect();
                if !blamed.is_empty() {
                    counts.refused += 1;
                    counts.refusals.extend(blamed.into_iter().map(|(resource, words)| (name.clone(), resource, words)));
                } else if let (Some(synced), Some(epoch)) = (proxy.synced, epoch)
                    // A publication that did not change this proxy's snapshot is nothing to acknowledge.
                    && synced >= epoch.min(proxy.current)
                {
                    counts.acknowledged += 1;
                    last_acknowledgement = last_acknowledgement.max(self.acknowledged_at.get(name).copied());
                }
            }
        }
        let Some(progress) = self.objects.get_mut(object) else { return counts };
        if counts.acknowledged < counts.targeted {
            // Also after it had arrived everywhere: another proxy may have come since.
            self.pending.insert(object.clone());
        } else if counts.targeted > 0 {
            self.pending.remove(object);
            if progress.took.is_none() {
                let until = last_acknowledgement.unwrap_or(now);
                progress.took = Some(until.saturating_duration_since(progress.since));
                counts.arrived = true;
            }
        }
        counts.took = progress.took;
        counts
    }

    /// Workloads of connected proxies that an object has an effect on, or is held back from.
    fn concerned_workloads<'a>(&'a self, object: &ObjectId, proxies: &'a Proxies) -> BTreeSet<&'a Identity> {
        let Some(progress) = self.objects.get(object) else { return self.held_back_from(object).collect() };
        if progress.layers.contains_key(&LayerKey::Mesh) {
            return proxies.keys().collect();
        }
        let own = progress.layers.keys().filter_map(|layer| match layer {
            LayerKey::Workload(workload) => Some(workload),
            LayerKey::Mesh => None,
        });
        own.chain(self.held_back_from(object)).collect()
    }

    fn held_back_from(&self, object: &ObjectId) -> impl Iterator<Item = &Identity> {
        self.held_back.keys().filter(move |(held, _)| held == object).map(|(_, workload)| workload)
    }
}
