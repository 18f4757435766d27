//! ProxySnapshot: what the proxies of one workload identity are sent. Unlike the other kinds its objects are made and deleted
//! here; one that no workload accounts for was left behind by an end of the control plane, and goes.

use std::time::Duration;

use osm_api::Kind;
use serde_json::{Value, json};

use super::Reconciler;
use super::plan::{Plan, Situation};
use crate::account::{Account, WorkloadAccount};
use crate::driver::conditions_of;
use crate::{labels, status};

/// How often to look whether everything was read.
const READING_PAUSE: Duration = Duration::from_millis(500);

/// Reconciles [`Kind::ProxySnapshot`].
#[derive(Debug)]
pub(super) struct ProxySnapshot {
    /// Label of what it creates. Those of another mesh are not watched.
    pub(super) mesh_name: String,
}

impl Reconciler for ProxySnapshot {
    fn kind(&self) -> Kind {
        Kind::ProxySnapshot
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        let entry = situation.entry;
        let account = match &entry.account {
            Some(Account::Workload(account)) => account,
            _ if situation.stored.is_none() => return Plan::Nothing,
            _ if entry.complete => return Plan::Delete,
            // Whether its workload is there is not known before everything was read.
            _ => return Plan::LookAgain(situation.now + READING_PAUSE),
        };
        let previous = situation.stored.and_then(|stored| stored.status.as_ref());
        let conditions = previous.map(conditions_of).unwrap_or_default();
        let snapshot = status::proxy_snapshot(&situation.object.namespace, account, &conditions, situation.time);
        let status = json!(snapshot.status);
        if situation.stored.is_none() {
            return Plan::Create { object: self.manifest(situation, account), status };
        }
        if previous == Some(&status) {
            return Plan::Nothing;
        }
        let same_version = previous.is_some_and(|previous| previous["version"] == json!(account.version));
        if same_version && situation.now < entry.settled_at {
            return Plan::LookAgain(entry.settled_at);
        }
        Plan::Status(status)
    }
}

impl ProxySnapshot {
    /// The object without its status.
    fn manifest(&self, situation: &Situation<'_>, account: &WorkloadAccount) -> Value {
        let object = situation.object;
        json!({
            "apiVersion": object.kind.api_version(),
            "kind": object.kind.as_str(),
            "metadata": {
                "namespace": object.namespace,
                "name": object.name,
                "labels": labels::of_mesh(&self.mesh_name),
            },
            "spec": { "serviceAccount": account.service_account },
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use osm_api::k8s_openapi::jiff::Timestamp;
    use osm_api::{ObjectRef, ResourceCounts};
    use osm_kubernetes::StoredObject;

    use super::super::ledger::Entry;
    use super::super::plan::tests::{nothing_known, stored};
    use super::*;
    use crate::status::WorkloadCounts;

    fn known(version: &str, connected: u32, now: Instant) -> Entry {
        let counts = WorkloadCounts { connected, synced: connected, ..WorkloadCounts::default() };
        let account = WorkloadAccount {
            service_account: "api".to_owned(),
            version: version.to_owned(),
            resources: ResourceCounts::default(),
            contributors: vec!["traffictarget/shop/a".to_owned()],
            contributor_count: 1,
            counts,
        };
        Entry { account: Some(Account::Workload(account)), ..nothing_known(now) }
    }

    fn plan(stored: Option<&StoredObject>, entry: &Entry, now: Instant) -> Plan {
        let object = ObjectRef::new(Kind::ProxySnapshot, "shop", "api");
        let time = Timestamp::UNIX_EPOCH;
        let reconciler = ProxySnapshot { mesh_name: "osm".to_owned() };
        reconciler.plan(&Situation { object: &object, stored, entry, pods_behind: &[], now, time })
    }

    #[test]
    fn it_is_made_with_the_workload_kept_current_and_deleted_with_it() {
        let now = Instant::now();
        let Plan::Create { object, status } = plan(None, &known("v1", 2, now), now) else { panic!("created") };
        assert_eq!(object["spec"]["serviceAccount"], "api");
        assert_eq!(object["metadata"]["labels"]["app.kubernetes.io/instance"], "osm");
        assert_eq!((&status["version"], &status["proxies"]["summary"]), (&json!("v1"), &json!("2/2")));
        let there = stored(1, Some(status));
        assert_eq!(plan(Some(&there), &known("v1", 2, now), now), Plan::Nothing);
        let Plan::Status(next) = plan(Some(&there), &known("v2", 2, now), now) else { panic!("updated") };
        assert_eq!(next["version"], "v2");
        assert_eq!(plan(Some(&there), &nothing_known(now), now), Plan::Delete);
        assert_eq!(plan(None, &nothing_known(now), now), Plan::Nothing);
    }

    #[test]
    fn nothing_is_deleted_before_everything_was_read() {
        let now = Instant::now();
        let reading = Entry { complete: false, ..nothing_known(now) };
        assert!(matches!(plan(Some(&stored(1, None)), &reading, now), Plan::LookAgain(at) if at > now));
    }

    #[test]
    fn while_proxies_are_on_their_way_only_a_new_version_is_written() {
        let now = Instant::now();
        let Plan::Create { status, .. } = plan(None, &known("v1", 2, now), now) else { panic!("created") };
        let there = stored(1, Some(status));
        let settled_at = now + Duration::from_secs(5);
        let moving = |version| Entry { settled_at, ..known(version, 1, now) };
        assert_eq!(plan(Some(&there), &moving("v1"), now), Plan::LookAgain(settled_at));
        assert!(matches!(plan(Some(&there), &moving("v2"), now), Plan::Status(_)));
    }
}
