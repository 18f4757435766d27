use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn desired(type_: ConditionType, status: ConditionStatus) -> DesiredCondition {
    DesiredCondition::new(type_, status, "Because", "a message")
}

fn first(desired: &[DesiredCondition]) -> Vec<Condition> {
    merge(&[], desired, 1, at(100)).expect("a first status is a change")
}

#[test]
fn a_first_status_has_generation_and_time() {
    let written = first(&[desired(ConditionType::Ready, ConditionStatus::Unknown)]);
    assert_eq!(
        serde_json::to_value(&written).unwrap(),
        serde_json::json!([{
            "type": "Ready",
            "status": "Unknown",
            "observedGeneration": 1,
            "lastTransitionTime": "1970-01-01T00:01:40Z",
            "reason": "Because",
            "message": "a message",
        }])
    );
}

#[test]
fn nothing_changed_means_nothing_to_write() {
    let wanted =
        [desired(ConditionType::Ready, ConditionStatus::True), desired(ConditionType::Accepted, ConditionStatus::True)];
    let written = first(&wanted);
    assert_eq!(merge(&written, &wanted, 1, at(999)), None);
    let reversed: Vec<_> = written.into_iter().rev().collect();
    assert_eq!(merge(&reversed, &wanted, 1, at(999)), None, "order does not matter");
    assert_eq!(merge(&[], &[], 1, at(999)), None);
}

#[test]
fn the_transition_time_moves_only_when_the_status_flips() {
    let before = first(&[desired(ConditionType::Ready, ConditionStatus::True)]);
    let mut wanted = desired(ConditionType::Ready, ConditionStatus::True);
    wanted.reason = "AnotherReason";
    wanted.message = "another message".into();
    let after = merge(&before, std::slice::from_ref(&wanted), 2, at(200)).expect("reason changed");
    assert_eq!(after[0].last_transition_time, Time(at(100)));
    assert_eq!(after[0].observed_generation, Some(2));
    assert_eq!((after[0].reason.as_str(), after[0].message.as_str()), ("AnotherReason", "another message"));

    wanted.status = ConditionStatus::False;
    let flipped = merge(&after, &[wanted], 2, at(300)).expect("status flipped");
    assert_eq!(flipped[0].last_transition_time, Time(at(300)));
}

#[test]
fn a_new_generation_alone_is_written() {
    let wanted = [desired(ConditionType::Ready, ConditionStatus::True)];
    let after = merge(&first(&wanted), &wanted, 2, at(200)).expect("generation changed");
    assert_eq!(after[0].observed_generation, Some(2));
}

#[test]
fn abnormal_conditions_disappear_when_they_are_no_longer_true() {
    let before = first(&[
        desired(ConditionType::Ready, ConditionStatus::False),
        desired(ConditionType::Stalled, ConditionStatus::True),
    ]);
    let after = merge(&before, &[desired(ConditionType::Ready, ConditionStatus::False)], 1, at(200))
        .expect("one condition less");
    assert_eq!(after.len(), 1);
    assert_eq!(after[0].type_, "Ready");
}

#[test]
fn conditions_of_others_stay_as_they_are() {
    let mut before = first(&[desired(ConditionType::Ready, ConditionStatus::True)]);
    let foreign = Condition {
        type_: "example.com/Reviewed".to_owned(),
        status: ConditionStatus::False,
        observed_generation: None,
        last_transition_time: Time(at(7)),
        reason: "Somebody".to_owned(),
        message: "x".repeat(5000),
    };
    before.insert(0, foreign.clone());
    let wanted = desired(ConditionType::Ready, ConditionStatus::False);
    let after = merge(&before, &[wanted], 9, at(200)).expect("status flipped");
    assert_eq!(after.len(), 2);
    assert!(after.contains(&foreign));
}

#[test]
fn long_messages_are_cut_at_a_character_and_stay_cut() {
    let wanted =
        [DesiredCondition::new(ConditionType::Programmed, ConditionStatus::False, "Refused", "ü".repeat(2000))];
    let written = first(&wanted);
    let message = &written[0].message;
    assert!(message.len() <= MAX_MESSAGE_BYTES, "{}", message.len());
    assert!(message.ends_with('…'));
    assert_eq!(merge(&written, &wanted, 1, at(999)), None, "cutting again changes nothing");
}

#[test]
fn the_time_is_written_in_whole_seconds() {
    let now = Timestamp::from_nanosecond(1_999_999_999).unwrap();
    let wanted = [desired(ConditionType::Ready, ConditionStatus::True)];
    let written = merge(&[], &wanted, 1, now).expect("a first status is a change");
    let text = serde_json::to_string(&written).unwrap();
    assert!(text.contains("1970-01-01T00:00:01Z"), "{text}");
    let read: Vec<Condition> = serde_json::from_str(&text).unwrap();
    assert_eq!(merge(&read, &wanted, 1, at(50)), None, "writing and reading back changes nothing");
}

fn summary_of(details: Vec<DesiredCondition>) -> Vec<(ConditionType, ConditionStatus, &'static str)> {
    with_summary(details, "Pending")
        .into_iter()
        .map(|condition| (condition.type_, condition.status, condition.reason))
        .collect()
}

fn detail(type_: ConditionType, status: ConditionStatus, reason: &'static str) -> DesiredCondition {
    DesiredCondition::new(type_, status, reason, "")
}

#[test]
fn the_summary_is_true_only_when_every_detail_is() {
    use ConditionStatus::{False, True, Unknown};
    use ConditionType::{Accepted, Programmed, Ready, Reconciling, ResolvedRefs, Stalled};
    assert_eq!(
        summary_of(vec![
            detail(Programmed, True, "Programmed"),
            detail(Accepted, True, "Accepted"),
            detail(ResolvedRefs, True, "ResolvedRefs"),
        ]),
        [
            (Ready, True, "Programmed"),
            (Accepted, True, "Accepted"),
            (ResolvedRefs, True, "ResolvedRefs"),
            (Programmed, True, "Programmed"),
        ]
    );
    assert_eq!(
        summary_of(vec![detail(Accepted, True, "Accepted"), detail(Programmed, Unknown, "WaitingForProxies")]),
        [
            (Ready, Unknown, "WaitingForProxies"),
            (Accepted, True, "Accepted"),
            (Programmed, Unknown, "WaitingForProxies"),
            (Reconciling, True, "WaitingForProxies"),
        ]
    );
    assert_eq!(
        summary_of(vec![
            detail(Accepted, Unknown, "Pending"),
            detail(ResolvedRefs, False, "RouteNotFound"),
            detail(Programmed, False, "RefusedByProxies"),
        ]),
        [
            (Ready, False, "RouteNotFound"),
            (Accepted, Unknown, "Pending"),
            (ResolvedRefs, False, "RouteNotFound"),
            (Programmed, False, "RefusedByProxies"),
            (Stalled, True, "RouteNotFound"),
        ]
    );
    assert_eq!(summary_of(vec![]), [(Ready, Unknown, "Pending"), (Reconciling, True, "Pending")]);
}

#[test]
fn conditions_that_osm_wrote_can_be_read() {
    let text = r#"{"type": "Ready", "status": "True"}"#;
    let condition: Condition = serde_json::from_str(text).unwrap();
    assert_eq!(condition.reason, "");
}
