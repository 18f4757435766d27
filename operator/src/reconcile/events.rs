//! Which changes of an outcome people are told of by an Event.

use osm_api::{Condition, ConditionStatus, ConditionType};
use osm_kubernetes::EventType;
use serde_json::Value;

use crate::driver::conditions_of;

/// Something to tell about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flip {
    /// Whether it is bad.
    pub(super) severity: EventType,
    /// One word, the reason of the condition.
    pub(super) reason: String,
    /// A sentence, the message of the condition.
    pub(super) message: String,
}

/// What a status says that the one before did not: a detail that became false, or false for another reason; and that everything is
/// well, if it was not before. Work under way is no news.
pub(super) fn flips(before: Option<&Value>, after: &Value) -> Vec<Flip> {
    let (before, after) = (before.map(conditions_of).unwrap_or_default(), conditions_of(after));
    let find = |conditions: &[Condition], type_: ConditionType| {
        conditions.iter().find(|condition| condition.type_ == type_.as_str()).cloned()
    };
    let details = [ConditionType::Accepted, ConditionType::ResolvedRefs, ConditionType::Programmed];
    let bad = details.into_iter().filter_map(|type_| {
        let now = find(&after, type_).filter(|condition| condition.status == ConditionStatus::False)?;
        let same =
            find(&before, type_).is_some_and(|was| was.status == ConditionStatus::False && was.reason == now.reason);
        (!same).then_some(Flip { severity: EventType::Warning, reason: now.reason, message: now.message })
    });
    let ready = |conditions: &[Condition]| {
        find(conditions, ConditionType::Ready).filter(|condition| condition.status == ConditionStatus::True)
    };
    let good = match (ready(&before), ready(&after)) {
        (None, Some(now)) => Some(Flip { severity: EventType::Normal, reason: now.reason, message: now.message }),
        _ => None,
    };
    bad.chain(good).collect()
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use osm_api::k8s_openapi::jiff::Timestamp;
    use osm_api::{DesiredCondition, merge, with_summary};
    use serde_json::json;

    use super::*;

    fn status(accepted: ConditionStatus, reason: &'static str) -> Value {
        let detail = DesiredCondition {
            type_: ConditionType::Accepted,
            status: accepted,
            reason,
            message: Cow::Borrowed("words"),
        };
        json!({ "conditions": merge(&[], &with_summary(vec![detail], "Pending"), 1, Timestamp::UNIX_EPOCH) })
    }

    #[test]
    fn turning_bad_turning_good_and_another_reason_are_told_once() {
        let good = status(ConditionStatus::True, "Accepted");
        let bad = status(ConditionStatus::False, "InvalidField");
        let worse = status(ConditionStatus::False, "NoRules");
        let open = status(ConditionStatus::Unknown, "Pending");
        let reasons = |before: Option<&Value>, after: &Value| {
            flips(before, after).into_iter().map(|flip| (flip.severity, flip.reason)).collect::<Vec<_>>()
        };
        assert_eq!(reasons(None, &open), []);
        assert_eq!(reasons(Some(&open), &good), [(EventType::Normal, "Accepted".to_owned())]);
        assert_eq!(reasons(Some(&good), &good), []);
        assert_eq!(reasons(Some(&good), &bad), [(EventType::Warning, "InvalidField".to_owned())]);
        assert_eq!(reasons(Some(&bad), &bad), []);
        assert_eq!(reasons(Some(&bad), &worse), [(EventType::Warning, "NoRules".to_owned())]);
        assert_eq!(reasons(Some(&worse), &good), [(EventType::Normal, "Accepted".to_owned())]);
    }
}
