//! MeshRootCertificate: a root of trust. Its status says whether it makes sense, what it is used for, and what the next step of a
//! rotation waits for. The keeper of the roots knows; until it has told, the status stays as it is.

use osm_api::Kind;
use serde_json::Value;

use super::Reconciler;
use super::plan::{self, Plan, Situation};
use crate::account::Account;

/// Reconciles [`Kind::MeshRootCertificate`].
#[derive(Debug)]
pub(super) struct MeshRootCertificate;

impl Reconciler for MeshRootCertificate {
    fn kind(&self) -> Kind {
        Kind::MeshRootCertificate
    }

    fn plan(&self, situation: &Situation<'_>) -> Plan {
        let root = match &situation.entry.account {
            Some(Account::Object(account)) => account.root.as_ref(),
            _ => None,
        };
        match root {
            Some(root) => plan::status(situation, |status| {
                for (field, value) in &root.fields {
                    match value {
                        Value::Null => drop(status.as_object_mut().and_then(|status| status.remove(field))),
                        value => status[field] = value.clone(),
                    }
                }
            }),
            None if situation.entry.problem.is_some() => plan::status(situation, |_| {}),
            None => Plan::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use osm_api::k8s_openapi::jiff::Timestamp;
    use osm_api::{ConditionStatus, ConditionType, DesiredCondition, MeshRootCertificateReason as Reason, ObjectRef};
    use serde_json::json;

    use super::super::plan::tests::{known, stored};
    use super::*;
    use crate::account::RootAccount;

    #[test]
    fn what_the_keeper_says_is_written_and_nothing_before() {
        let (object, now) = (ObjectRef::new(Kind::MeshRootCertificate, "osm-system", "new"), Instant::now());
        let before = stored(1, Some(json!({ "state": "inactive", "transitionAfter": "2026-01-01T00:00:00Z" })));
        let mut entry = known(1, 0, 0, now);
        let plan = |entry: &super::super::ledger::Entry| {
            let time = Timestamp::UNIX_EPOCH;
            let situation = Situation { object: &object, stored: Some(&before), entry, pods_behind: &[], now, time };
            MeshRootCertificate.plan(&situation)
        };
        assert_eq!(plan(&entry), Plan::Nothing, "the keeper has not told yet");
        let Some(Account::Object(account)) = &mut entry.account else { panic!("an object") };
        let rotating = ("Rotating", ConditionStatus::Unknown);
        account.root = Some(RootAccount {
            programmed: DesiredCondition::new(ConditionType::Programmed, rotating.1, Reason::Rotating, "It waits."),
            fields: json!({ "state": "issuingRollout", "transitionAfter": null }).as_object().cloned().unwrap(),
        });
        let Plan::Status(status) = plan(&entry) else { panic!("a status") };
        assert_eq!(status["state"], "issuingRollout");
        assert!(status.get("transitionAfter").is_none(), "{status}");
        let conditions = status["conditions"].as_array().unwrap();
        let programmed = conditions.iter().find(|condition| condition["type"] == "Programmed").unwrap();
        assert_eq!(programmed["reason"], rotating.0);
    }
}
