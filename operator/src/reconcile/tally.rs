//! What replicas tell each other of an object or workload, and the sum of it.
//!
//! A count says something only of the generation (of a workload: the version) that it was taken of. Proxies of a replica that has
//! not read the newest one yet count as proxies that have not acknowledged it.

use std::sync::Arc;
use std::time::Duration;

use osm_api::{MAX_REFUSALS, Refusal};
use osm_xds::ProxyName;
use serde::{Deserialize, Serialize};

use crate::account::{Account, ObjectAccount, WorkloadAccount};

/// Counts of one replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Tally {
    /// Of an object.
    Object {
        /// The generation in force on that replica.
        generation: i64,
        /// Its proxies that the object concerns.
        targeted: u32,
        /// Those that run it.
        acknowledged: u32,
        /// Those that refuse it.
        refused: u32,
        /// From reading the change to its last proxy's acknowledgement.
        took: Option<Duration>,
        /// A few refusals.
        refusals: Vec<Refusal>,
    },
    /// Of a workload.
    Workload {
        /// The version of its snapshot on that replica.
        version: String,
        /// Its proxies there.
        connected: u32,
        /// Those that run the version.
        synced: u32,
        /// Those that refuse a part of it.
        rejected: u32,
        /// A few refusals.
        rejections: Vec<Refusal>,
    },
}

impl Tally {
    /// What is told of an account.
    pub(crate) fn of(account: &Account) -> Self {
        match account {
            Account::Object(ObjectAccount { generation, counts, .. }) => Self::Object {
                generation: *generation,
                targeted: counts.targeted,
                acknowledged: counts.acknowledged,
                refused: counts.refused,
                took: counts.took,
                refusals: counts.refusals.iter().take(MAX_REFUSALS).map(refusal).collect(),
            },
            Account::Workload(WorkloadAccount { version, counts, .. }) => Self::Workload {
                version: version.clone(),
                connected: counts.connected,
                synced: counts.synced,
                rejected: counts.rejected,
                rejections: counts.rejections.iter().take(MAX_REFUSALS).cloned().collect(),
            },
        }
    }
}

fn refusal((proxy, resource, message): &(ProxyName, Arc<str>, Arc<str>)) -> Refusal {
    Refusal { proxy: proxy.to_string(), resource: Some(resource.to_string()), message: message.to_string() }
}

/// Adds what other replicas told to what this one knows. `None` is a replica that has told nothing of it. The second value is how
/// many replicas have not read the object's generation yet.
pub(crate) fn sum<'a>(own: &Account, others: impl IntoIterator<Item = Option<&'a Tally>>) -> (Account, usize) {
    let mut behind = 0;
    let mut sum = own.clone();
    for told in others {
        match (&mut sum, told) {
            (Account::Object(own), Some(Tally::Object { .. }) | None) => behind += usize::from(!add(own, told)),
            (Account::Workload(own), Some(Tally::Workload { version, connected, synced, rejected, rejections })) => {
                own.counts.connected += connected;
                own.counts.synced += if *version == own.version { *synced } else { 0 };
                own.counts.rejected += rejected;
                own.counts.rejections.extend(rejections.iter().cloned());
            }
            // Nothing is told of a workload that has no proxy there, and nothing else can be of this name.
            (Account::Workload(_), _) | (Account::Object(_), Some(Tally::Workload { .. })) => {}
        }
    }
    (sum, behind)
}

/// Adds counts of an object; whether they are of its generation.
fn add(own: &mut ObjectAccount, told: Option<&Tally>) -> bool {
    let Some(Tally::Object { generation, targeted, acknowledged, refused, took, refusals }) = told else {
        return false;
    };
    let counts = &mut own.counts;
    counts.targeted += targeted;
    if *generation < own.generation {
        return false;
    }
    counts.acknowledged += acknowledged;
    counts.refused += refused;
    counts.refusals.extend(refusals.iter().map(|refusal| {
        let resource = refusal.resource.as_deref().unwrap_or_default();
        (ProxyName::new(refusal.proxy.as_str()), resource.into(), refusal.message.as_str().into())
    }));
    counts.took = match (counts.took, took) {
        _ if counts.acknowledged < counts.targeted => None,
        (own, Some(took)) => own.max(Some(*took)),
        (own, None) => own,
    };
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::ObjectCounts;
    use crate::status::WorkloadCounts;

    fn object(generation: i64, targeted: u32, acknowledged: u32) -> Account {
        let took = (acknowledged == targeted && targeted > 0).then_some(Duration::from_millis(3));
        let counts = ObjectCounts { targeted, acknowledged, took, ..ObjectCounts::default() };
        Account::Object(ObjectAccount {
            generation,
            details: Vec::new(),
            counts,
            root: None,
            gateway: Some(serde_json::Value::Null),
        })
    }

    fn counts(account: Account) -> (u32, u32, Option<Duration>) {
        let Account::Object(account) = account else { panic!("an object") };
        (account.counts.targeted, account.counts.acknowledged, account.counts.took)
    }

    #[test]
    fn proxies_of_all_replicas_are_counted() {
        let told = [Tally::of(&object(2, 3, 3)), Tally::of(&object(2, 1, 1))];
        let (sum, behind) = sum(&object(2, 2, 2), told.iter().map(Some));
        assert_eq!((counts(sum), behind), ((6, 6, Some(Duration::from_millis(3))), 0));
    }

    #[test]
    fn what_a_replica_says_of_an_older_generation_is_no_acknowledgement_of_this_one() {
        let told = Tally::of(&object(1, 3, 3));
        let (sum, behind) = sum(&object(2, 2, 2), [Some(&told)]);
        assert_eq!((counts(sum).0, counts(sum_again(&told)).1, behind), (5, 2, 1));
    }

    fn sum_again(told: &Tally) -> Account {
        sum(&object(2, 2, 2), [Some(told)]).0
    }

    #[test]
    fn a_replica_that_knows_nothing_of_an_object_is_behind() {
        let (sum, behind) = sum(&object(1, 2, 2), [None]);
        assert_eq!((counts(sum), behind), ((2, 2, Some(Duration::from_millis(3))), 1));
    }

    #[test]
    fn proxies_that_run_another_version_of_a_workload_are_not_in_sync() {
        let workload = |version: &str, connected, synced| {
            Account::Workload(WorkloadAccount {
                service_account: "api".to_owned(),
                version: version.to_owned(),
                resources: osm_api::ResourceCounts::default(),
                contributors: Vec::new(),
                contributor_count: 0,
                counts: WorkloadCounts { connected, synced, ..WorkloadCounts::default() },
            })
        };
        let told = [Tally::of(&workload("a", 2, 2)), Tally::of(&workload("b", 4, 4))];
        let (sum, behind) = sum(&workload("a", 1, 1), [Some(&told[0]), None, Some(&told[1])]);
        let Account::Workload(sum) = sum else { panic!("a workload") };
        assert_eq!((sum.counts.connected, sum.counts.synced, behind), (7, 3, 0));
    }

    #[test]
    fn what_is_told_is_read_as_it_was_meant() {
        let mut account = object(2, 3, 1);
        if let Account::Object(account) = &mut account {
            account.counts.refused = 1;
            account.counts.refusals = vec![(ProxyName::new("a/b/c"), "rds".into(), "words".into())];
        }
        let told = Tally::of(&account);
        let text = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), told);
    }
}
