//! What is to be written for one object: a pure function of what is stored, what is known, and the time.

use std::time::Instant;

use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Condition, ConditionStatus, ConditionType, DesiredCondition, ObjectRef, Propagation, Seconds};
use osm_kubernetes::StoredObject;
use serde_json::{Value, json};

use super::ledger::Entry;
use crate::account::{Account, ObjectAccount};
use crate::driver::conditions_of;
use crate::status;

/// One object at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Situation<'a> {
    /// Which object.
    pub(crate) object: &'a ObjectRef,
    /// The object as the API server has it; `None` when it is not there.
    pub(crate) stored: Option<&'a StoredObject>,
    /// What is known of it.
    pub(crate) entry: &'a Entry,
    /// Pods whose sidecars are from settings of before; only a MeshConfig asks.
    pub(crate) pods_behind: &'a [String],
    /// The time for waiting.
    pub(crate) now: Instant,
    /// The time for writing.
    pub(crate) time: Timestamp,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Plan {
    /// Nothing: all is as it should be, or there is nothing to say yet.
    Nothing,
    /// Look again then: only counts differ, and proxies are on their way.
    LookAgain(Instant),
    /// Make this its status.
    Status(Value),
    /// Make the object, then give it this status.
    Create {
        /// The object without its status.
        object: Value,
        /// The status.
        status: Value,
    },
    /// Delete it.
    Delete,
}

/// The status of an object of ours; `extend` adds what only its kind has.
pub(super) fn status(situation: &Situation<'_>, extend: impl FnOnce(&mut Value)) -> Plan {
    let Some(stored) = situation.stored else { return Plan::Nothing };
    let entry = situation.entry;
    let previous = stored.status.as_ref();
    let conditions = previous.map(conditions_of).unwrap_or_default();
    let account = match &entry.account {
        Some(Account::Object(account)) if account.generation >= stored.generation => Some(account),
        _ => None,
    };
    let (desired, generation, propagation) = match (&entry.problem, account) {
        (Some(problem), _) => (undecodable(problem), stored.generation, propagation_of(previous)),
        (None, Some(account)) => {
            let desired = match &account.root {
                Some(root) => status::root_conditions(&account.details, root.programmed.clone()),
                None => status::conditions(&account.details, &account.counts, entry.behind),
            };
            (desired, account.generation, propagation(previous, account))
        }
        // Its observed generation says that it is not up to date.
        (None, None) if !conditions.is_empty() => return Plan::Nothing,
        (None, None) => (status::unknown(), stored.generation, Propagation::default()),
    };
    let mut wanted = previous.cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    if let Some(next) = status::object_status(previous, &conditions, &desired, &propagation, generation, situation.time)
    {
        wanted = next;
    }
    extend(&mut wanted);
    if previous == Some(&wanted) {
        return Plan::Nothing;
    }
    let only_counts = account.is_some_and(|account| {
        entry.problem.is_none() && says(previous, generation) && account.details.iter().all(|it| holds(&conditions, it))
    });
    if only_counts && situation.now < entry.settled_at {
        return Plan::LookAgain(entry.settled_at);
    }
    Plan::Status(wanted)
}

/// Whether a status is of this generation.
fn says(status: Option<&Value>, generation: i64) -> bool {
    status.and_then(|status| status["observedGeneration"].as_i64()) == Some(generation)
}

fn holds(conditions: &[Condition], wanted: &DesiredCondition) -> bool {
    conditions.iter().any(|it| {
        it.type_ == wanted.type_.as_str()
            && it.status == wanted.status
            && it.reason == wanted.reason
            && it.message == wanted.message
    })
}

fn undecodable(problem: &str) -> Vec<DesiredCondition> {
    let accepted =
        DesiredCondition::new(ConditionType::Accepted, ConditionStatus::False, "Undecodable", problem.to_owned());
    osm_api::with_summary(vec![accepted], "Pending")
}

fn propagation_of(status: Option<&Value>) -> Propagation {
    let stored = status.and_then(|status| serde_json::from_value(status["propagation"].clone()).ok());
    stored.unwrap_or_default()
}

/// The counters. How long a generation took is measured once: what a later start of the control plane would measure is how long
/// it took to start.
fn propagation(previous: Option<&Value>, account: &ObjectAccount) -> Propagation {
    let mut propagation = status::propagation(&account.counts);
    let measured = says(previous, account.generation).then(|| propagation_of(previous).seconds_to_propagate).flatten();
    let now: Option<Seconds> = propagation.seconds_to_propagate.take();
    propagation.seconds_to_propagate = measured.or(now);
    propagation
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use osm_api::Kind;

    use super::*;
    use crate::progress::ObjectCounts;

    pub(in crate::reconcile) fn stored(generation: i64, status: Option<Value>) -> StoredObject {
        StoredObject { uid: "u".to_owned(), resource_version: "7".to_owned(), generation, status }
    }

    pub(in crate::reconcile) fn known(generation: i64, targeted: u32, acknowledged: u32, now: Instant) -> Entry {
        let took = (targeted == acknowledged).then_some(Duration::from_millis(4));
        let counts = ObjectCounts { targeted, acknowledged, took, ..ObjectCounts::default() };
        let details = status::details(&[]);
        let account = ObjectAccount { generation, details, counts, root: None, gateway: Some(Value::Null) };
        Entry { account: Some(Account::Object(account)), behind: 0, problem: None, complete: true, settled_at: now }
    }

    pub(in crate::reconcile) fn nothing_known(now: Instant) -> Entry {
        Entry { account: None, behind: 0, problem: None, complete: true, settled_at: now }
    }

    pub(in crate::reconcile) fn target() -> ObjectRef {
        ObjectRef::new(Kind::TrafficTarget, "shop", "buyer")
    }

    fn plan(stored: Option<&StoredObject>, entry: &Entry, now: Instant) -> Plan {
        let object = target();
        let time = Timestamp::UNIX_EPOCH;
        status(&Situation { object: &object, stored, entry, pods_behind: &[], now, time }, |_| {})
    }

    fn written(plan: Plan) -> Value {
        let Plan::Status(status) = plan else { panic!("a status: {plan:?}") };
        status
    }

    /// The rules of kstatus, as Flux and Helm apply them to a custom resource.
    fn kstatus(generation: i64, status: Option<&Value>) -> &'static str {
        let conditions = status.map(conditions_of).unwrap_or_default();
        let is = |type_: &str, wanted| conditions.iter().any(|it| it.type_ == type_ && it.status == wanted);
        let observed = status.and_then(|status| status["observedGeneration"].as_i64());
        if observed.is_some_and(|observed| observed < generation) || is("Reconciling", ConditionStatus::True) {
            return "InProgress";
        }
        if is("Stalled", ConditionStatus::True) {
            return "Failed";
        }
        if is("Ready", ConditionStatus::False) || is("Ready", ConditionStatus::Unknown) {
            "InProgress"
        } else {
            "Current"
        }
    }

    #[test]
    fn kstatus_reads_create_wait_done_change_refusal_and_repair() {
        let now = Instant::now();
        // Created: nothing is known yet.
        let first = written(plan(Some(&stored(1, None)), &nothing_known(now), now));
        assert_eq!(kstatus(1, Some(&first)), "InProgress");
        assert_eq!(first["conditions"][0]["type"], "Ready");
        assert_eq!(first["conditions"][0]["status"], "Unknown");
        // Two of three proxies have it.
        let waiting = written(plan(Some(&stored(1, Some(first))), &known(1, 3, 2, now), now));
        assert_eq!(kstatus(1, Some(&waiting)), "InProgress");
        let done = written(plan(Some(&stored(1, Some(waiting))), &known(1, 3, 3, now), now));
        assert_eq!(kstatus(1, Some(&done)), "Current");
        let types = |status: &Value| conditions_of(status).into_iter().map(|it| it.type_).collect::<Vec<_>>();
        assert_eq!(types(&done), ["Ready", "Accepted", "ResolvedRefs", "Programmed"], "abnormal ones are absent");
        // Changed, and not looked at yet.
        assert_eq!(kstatus(2, Some(&done)), "InProgress");
        assert_eq!(plan(Some(&stored(2, Some(done.clone()))), &known(1, 3, 3, now), now), Plan::Nothing);
        // A proxy refuses the change.
        let mut refused = known(2, 3, 2, now);
        if let Some(Account::Object(account)) = &mut refused.account {
            account.counts.refused = 1;
            account.counts.refusals = vec![(osm_xds::ProxyName::new("p"), "r".into(), "no".into())];
        }
        let bad = written(plan(Some(&stored(2, Some(done))), &refused, now));
        assert_eq!(kstatus(2, Some(&bad)), "Failed");
        assert!(types(&bad).contains(&"Stalled".to_owned()) && !types(&bad).contains(&"Reconciling".to_owned()));
        let good = written(plan(Some(&stored(3, Some(bad))), &known(3, 3, 3, now), now));
        assert_eq!(kstatus(3, Some(&good)), "Current");
    }

    #[test]
    fn an_unchanged_world_is_written_once() {
        let now = Instant::now();
        let status = written(plan(Some(&stored(1, None)), &known(1, 3, 3, now), now));
        assert_eq!(plan(Some(&stored(1, Some(status))), &known(1, 3, 3, now), now), Plan::Nothing);
        assert_eq!(plan(None, &known(1, 3, 3, now), now), Plan::Nothing, "there is nothing to write to");
    }

    #[test]
    fn a_start_neither_counts_while_proxies_come_nor_measures_again() {
        let now = Instant::now();
        let status = written(plan(Some(&stored(1, None)), &known(1, 3, 3, now), now));
        let mut starting = known(1, 1, 0, now);
        starting.settled_at = now + Duration::from_secs(5);
        let before = stored(1, Some(status.clone()));
        assert_eq!(plan(Some(&before), &starting, now), Plan::LookAgain(starting.settled_at));
        // All proxies are back; it took them longer to reconnect than the change had taken.
        let mut back = known(1, 3, 3, now);
        if let Some(Account::Object(account)) = &mut back.account {
            account.counts.took = Some(Duration::from_secs(2));
        }
        assert_eq!(plan(Some(&before), &back, now), Plan::Nothing);
        // What is wrong with the object does not wait.
        if let Some(Account::Object(account)) = &mut starting.account {
            account.generation = 2;
        }
        assert!(matches!(plan(Some(&stored(2, Some(status))), &starting, now), Plan::Status(_)));
    }

    #[test]
    fn other_peoples_fields_and_conditions_stay() {
        let now = Instant::now();
        let theirs = json!({
            "currentStatus": "committed",
            "conditions": [{ "type": "Audited", "status": "True", "reason": "Yes", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        });
        let status = written(plan(Some(&stored(1, Some(theirs))), &known(1, 1, 1, now), now));
        assert_eq!(status["currentStatus"], "committed");
        assert!(conditions_of(&status).iter().any(|it| it.type_ == "Audited"));
    }

    #[test]
    fn an_object_that_cannot_be_read_says_why() {
        let now = Instant::now();
        let mut entry = nothing_known(now);
        entry.problem = Some("spec.sources: not a list; write a list.".to_owned());
        let status = written(plan(Some(&stored(4, None)), &entry, now));
        let accepted = conditions_of(&status).into_iter().find(|it| it.type_ == "Accepted").unwrap();
        assert_eq!((accepted.status, accepted.reason.as_str()), (ConditionStatus::False, "Undecodable"));
        assert!(accepted.message.contains("not a list"));
        assert_eq!(kstatus(4, Some(&status)), "Failed");
    }

    #[test]
    fn a_replica_that_has_not_read_it_leaves_it_open() {
        let now = Instant::now();
        let mut entry = known(1, 2, 2, now);
        entry.behind = 1;
        let status = written(plan(Some(&stored(1, None)), &entry, now));
        assert_eq!(kstatus(1, Some(&status)), "InProgress");
    }
}
