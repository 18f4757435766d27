//! Conditions: what they are, how they are summed up, and how a new set is merged into the one an object already has.
//!
//! All of it is pure: the time is an argument.

use std::borrow::Cow;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Longest message that is stored, in bytes. Envoy's words on a refused resource can be much longer.
pub const MAX_MESSAGE_BYTES: usize = 1024;

/// The condition types that this operator owns. Conditions of any other type belong to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// Everything below holds: the object does what its spec says, on every proxy it concerns.
    Ready,
    /// The object makes sense by itself.
    Accepted,
    /// Everything the object refers to exists and can be used.
    ResolvedRefs,
    /// Every proxy that the object concerns has acknowledged what came of it.
    Programmed,
    /// Abnormal, present only while true: work on the newest generation is under way.
    Reconciling,
    /// Abnormal, present only while true: nothing will change until somebody changes an object.
    Stalled,
}

impl ConditionType {
    /// All types, in the order in which they are written.
    pub const ALL: [Self; 6] =
        [Self::Ready, Self::Accepted, Self::ResolvedRefs, Self::Programmed, Self::Reconciling, Self::Stalled];

    /// The type as it is written in a condition.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::value::plain_enum)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

/// One condition in the status of an object; the shape is Kubernetes' `metav1.Condition`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["lastTransitionTime", "message", "reason", "status", "type"]))]
pub struct Condition {
    /// What the condition is about: Ready, Accepted, ResolvedRefs, Programmed, Reconciling or Stalled; others belong to other
    /// controllers.
    #[serde(rename = "type")]
    #[schemars(length(max = 316))]
    pub type_: String,
    /// Whether the condition holds: True, False or Unknown.
    pub status: ConditionStatus,
    /// The generation of the object (metadata.generation) that the condition was computed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When the status last changed from one value to another.
    #[serde(default = "epoch")]
    #[schemars(schema_with = "time_schema")]
    pub last_transition_time: Time,
    /// Why, in one word for programs.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub reason: String,
    /// Why, in a sentence for people.
    #[serde(default)]
    #[schemars(length(max = 32768))]
    pub message: String,
}

fn epoch() -> Time {
    Time(Timestamp::UNIX_EPOCH)
}

/// How a time is written.
pub(crate) fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time" })
}

/// A condition that an object should have; [`merge`] adds generation and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// What it is about.
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// One word of the kind's reason enum.
    pub reason: &'static str,
    /// A sentence that names the field, the value and the remedy.
    pub message: Cow<'static, str>,
}

impl DesiredCondition {
    /// A desired condition. `reason` is a member of a kind's reason enum.
    pub fn new(
        type_: ConditionType,
        status: ConditionStatus,
        reason: impl Into<&'static str>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { type_, status, reason: reason.into(), message: message.into() }
    }
}

/// Adds `Ready`, and `Reconciling` or `Stalled` where they are true, to the detailed conditions of an object.
///
/// The first detail that is not true, in the order `Accepted`, `ResolvedRefs`, `Programmed`, decides and lends its reason and
/// message. `Unknown` means that work is under way (`Reconciling`), `False` that somebody has to change something
/// (`Stalled`). `Ready` never says more than the details do. Without any detail `Ready` is unknown, for the given reason.
pub fn with_summary(mut details: Vec<DesiredCondition>, unknown_reason: &'static str) -> Vec<DesiredCondition> {
    details.retain(|condition| {
        matches!(condition.type_, ConditionType::Accepted | ConditionType::ResolvedRefs | ConditionType::Programmed)
    });
    details.sort_by_key(|condition| condition.type_);
    let deciding = details
        .iter()
        .find(|condition| condition.status == ConditionStatus::False)
        .or_else(|| details.iter().find(|condition| condition.status == ConditionStatus::Unknown))
        .or_else(|| details.last());
    let (status, reason, message) = match deciding {
        Some(condition) => (condition.status, condition.reason, condition.message.clone()),
        None => (ConditionStatus::Unknown, unknown_reason, Cow::Borrowed("Nothing is known of this object yet.")),
    };
    let abnormal = match status {
        ConditionStatus::True => None,
        ConditionStatus::False => Some(ConditionType::Stalled),
        ConditionStatus::Unknown => Some(ConditionType::Reconciling),
    };
    let summary = DesiredCondition { type_: ConditionType::Ready, status, reason, message };
    let abnormal = abnormal.map(|type_| DesiredCondition { type_, status: ConditionStatus::True, ..summary.clone() });
    std::iter::once(summary).chain(details).chain(abnormal).collect()
}

/// The conditions to write to an object whose status holds `previous`, or `None` when nothing has to be written.
///
/// - A condition keeps its transition time as long as its status stays the same, whatever else changes.
/// - Each condition of ours carries `generation` as its observed generation; messages longer than [`MAX_MESSAGE_BYTES`] are cut.
/// - `desired` is the whole set: conditions of our types that are not in it disappear. If a type is given twice, the first counts.
/// - Conditions of types that are not ours are left as they are.
/// - `now` is written in whole seconds, as Kubernetes does.
pub fn merge(
    previous: &[Condition],
    desired: &[DesiredCondition],
    generation: i64,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
    let mut merged = Vec::with_capacity(desired.len());
    for type_ in ConditionType::ALL {
        let Some(wanted) = desired.iter().find(|condition| condition.type_ == type_) else {
            continue;
        };
        let kept_since = previous
            .iter()
            .find(|old| old.type_ == type_.as_str() && old.status == wanted.status)
            .map(|old| old.last_transition_time.clone());
        merged.push(Condition {
            type_: type_.as_str().to_owned(),
            status: wanted.status,
            observed_generation: Some(generation),
            last_transition_time: kept_since.unwrap_or_else(|| now.clone()),
            reason: wanted.reason.to_owned(),
            message: truncate(&wanted.message),
        });
    }
    merged.extend(previous.iter().filter(|old| !is_ours(old)).cloned());
    let unchanged = merged.len() == previous.len() && merged.iter().all(|condition| previous.contains(condition));
    (!unchanged).then_some(merged)
}

fn is_ours(condition: &Condition) -> bool {
    ConditionType::ALL.iter().any(|type_| type_.as_str() == condition.type_)
}

fn truncate(message: &str) -> String {
    const ELLIPSIS: &str = "…";
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_owned();
    }
    let mut end = MAX_MESSAGE_BYTES - ELLIPSIS.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &message[..end])
}

#[cfg(test)]
mod tests;
