//! What the status of a MeshRootCertificate says.

use std::collections::BTreeSet;

use osm_api::k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{
    ComponentStatuses, ConditionStatus, ConditionType, DesiredCondition, MeshRootCertificateReason as Reason,
    MeshRootCertificateState as State, ObjectRef,
};
use osm_issuer::rotation::{RootReport, RootState, Usage, Wait};
use osm_model::Finding;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

/// Most things that a status says a step waits for; `waitsForCount` tells how many there are.
const MAX_WAITS: usize = 5;

/// What is known of one MeshRootCertificate.
#[derive(Debug, Clone, PartialEq)]
pub struct RootStatus {
    /// The generation of the object that it is about.
    pub generation: i64,
    /// What is wrong with it, beyond what its text says.
    pub findings: Vec<Finding>,
    /// `Programmed`.
    pub programmed: DesiredCondition,
    /// Connected proxies.
    pub targeted: u32,
    /// Of those, how many use the root as was decided.
    pub acknowledged: u32,
    /// Further fields of the status.
    pub fields: Map<String, Value>,
}

impl RootStatus {
    /// Of an object that takes no part.
    pub(super) fn without_effect(generation: i64, findings: Vec<Finding>) -> Self {
        let message = "The object has no effect; the other conditions say why.";
        let programmed =
            DesiredCondition::new(ConditionType::Programmed, ConditionStatus::False, Reason::NotInUse, message);
        Self { generation, findings, programmed, targeted: 0, acknowledged: 0, fields: Map::new() }
    }
}

/// News from the [`Keeper`](super::Keeper).
#[derive(Debug, Default)]
pub(crate) struct RootsNews {
    /// What differs; `None` for objects that are gone.
    pub statuses: Vec<(ObjectRef, Option<RootStatus>)>,
}

/// What a status is made from beside the plan's report.
pub(super) struct Circumstances {
    pub(super) expires: Option<OffsetDateTime>,
    pub(super) next_renewal: Option<OffsetDateTime>,
    pub(super) waived: BTreeSet<std::sync::Arc<str>>,
}

/// The further fields of a status.
pub(super) fn fields(report: &RootReport, circumstances: &Circumstances) -> Map<String, Value> {
    let component = |usage: Usage| Some(word(usage).to_owned());
    let components = ComponentStatuses {
        validating_webhook: report.webhooks.and_then(component),
        mutating_webhook: report.webhooks.and_then(component),
        xds_control_plane: component(report.control_plane),
        sidecar: component(report.proxies),
        bootstrap: component(report.trust_bundles),
        gateway: report.ingress_gateway.and_then(component),
    };
    let waits: Vec<String> = report.waits.iter().take(MAX_WAITS).map(ToString::to_string).collect();
    let after = report.waits.iter().filter_map(|wait| match wait {
        Wait::Return { until, .. } | Wait::Leaf { until, .. } => Some(*until),
        Wait::Validity { from, .. } => Some(*from),
        _ => None,
    });
    let fields = json!({
        "state": state_word(report.state),
        "usage": word(report.usage),
        "componentStatuses": components,
        "waitsFor": (!waits.is_empty()).then_some(waits),
        "waitsForCount": (!report.waits.is_empty()).then_some(report.waits.len()),
        "transitionAfter": after.max().and_then(time),
        "expires": circumstances.expires.and_then(time),
        "nextRenewal": circumstances.next_renewal.and_then(time),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// `Programmed`: whether the root is used as its role says, by everyone.
pub(super) fn programmed(report: &RootReport, circumstances: &Circumstances) -> DesiredCondition {
    let condition = |status, reason: Reason, message: String| {
        DesiredCondition::new(ConditionType::Programmed, status, reason, message)
    };
    let waived = match circumstances.waived.len() {
        0 => String::new(),
        _ => {
            let names: Vec<&str> = circumstances.waived.iter().take(MAX_WAITS).map(|name| &**name).collect();
            format!(" Not waited for, as asked: {}.", names.join(", "))
        }
    };
    let RootReport { targeted, acknowledged, waits, state, .. } = report;
    if !waits.is_empty() {
        let named: Vec<String> = waits.iter().take(MAX_WAITS).map(ToString::to_string).collect();
        let more = waits.len().saturating_sub(MAX_WAITS);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let message = format!("The next step waits: {}{more}.{waived}", named.join("; "));
        return condition(ConditionStatus::Unknown, Reason::Rotating, message);
    }
    if *state == RootState::Error {
        let message = "The root cannot be used; the other conditions say why.".to_owned();
        return condition(ConditionStatus::False, Reason::ProviderUnavailable, message);
    }
    let does = match report.usage {
        Usage::Issuing => "have certificates of this root",
        Usage::Validating => "trust this root",
        Usage::Unused | Usage::Unknown => "do without this root",
    };
    match (*acknowledged, *targeted) {
        (_, 0) => condition(ConditionStatus::True, Reason::NoProxies, format!("No proxy is connected.{waived}")),
        (done, all) if done < all => {
            let message = format!("{done} of {all} proxies {does}.{waived}");
            condition(ConditionStatus::Unknown, Reason::WaitingForProxies, message)
        }
        (_, all) => condition(ConditionStatus::True, Reason::Programmed, format!("All {all} proxies {does}.{waived}")),
    }
}

pub(super) fn word(usage: Usage) -> &'static str {
    match usage {
        Usage::Issuing => "issuing",
        Usage::Validating => "validating",
        Usage::Unused => "unused",
        Usage::Unknown => "unknown",
    }
}

/// OSM's word for a state.
pub(super) fn state_word(state: RootState) -> &'static str {
    let state = match state {
        RootState::ValidatingRollout => State::ValidatingRollout,
        RootState::IssuingRollout => State::IssuingRollout,
        RootState::Active => State::Active,
        RootState::IssuingRollback => State::IssuingRollback,
        RootState::ValidatingRollback => State::ValidatingRollback,
        RootState::Inactive => State::Inactive,
        RootState::Error => State::Error,
    };
    state.as_str()
}

/// In whole seconds, as Kubernetes writes times.
pub(crate) fn time(time: OffsetDateTime) -> Option<Time> {
    Timestamp::from_second(time.unix_timestamp()).ok().map(Time)
}
