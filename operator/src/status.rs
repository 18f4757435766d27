//! What is written about objects: a pure function of findings, counts and the time.

use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{
    Condition, ConditionStatus, ConditionType, DesiredCondition, Kind, Propagation, ProxyCounts, ProxySnapshot,
    ProxySnapshotSpec, ProxySnapshotStatus, Refusal, ResourceCounts, Seconds, merge, with_summary,
};
use osm_model::{Aspect, Finding, Identity, ObjectId, Severity};
use osm_xds::{Snapshot, TypeUrl};
use serde_json::{Value, json};

use crate::account::WorkloadAccount;
use crate::progress::ObjectCounts;

/// What is wrong with an object of ours: `Accepted` and `ResolvedRefs`.
pub(crate) fn details(findings: &[&Finding]) -> Vec<DesiredCondition> {
    vec![
        aspect(ConditionType::Accepted, Aspect::Accepted, findings, "Accepted", "The object is well formed."),
        aspect(
            ConditionType::ResolvedRefs,
            Aspect::ResolvedRefs,
            findings,
            "ResolvedRefs",
            "All references are there.",
        ),
    ]
}

/// Conditions of an object of ours: what is wrong with it, and which proxies run it. `behind` replicas of the control plane have
/// not read it yet.
pub(crate) fn conditions(details: &[DesiredCondition], counts: &ObjectCounts, behind: usize) -> Vec<DesiredCondition> {
    let mut conditions = details.to_vec();
    conditions.push(programmed(counts, behind));
    with_summary(conditions, PENDING)
}

/// Conditions of a MeshRootCertificate: what is wrong with it, and how far its role has come.
pub(crate) fn root_conditions(details: &[DesiredCondition], programmed: DesiredCondition) -> Vec<DesiredCondition> {
    with_summary(details.iter().cloned().chain([programmed]).collect(), PENDING)
}

/// Conditions of an object of which nothing is known yet.
pub(crate) fn unknown() -> Vec<DesiredCondition> {
    with_summary(Vec::new(), PENDING)
}

/// The reason of what is not known yet.
const PENDING: &str = "Pending";

/// An aspect is false if any error belongs to it, and mentions warnings if there are only those.
fn aspect(
    type_: ConditionType,
    aspect: Aspect,
    findings: &[&Finding],
    good_reason: &'static str,
    good_message: &'static str,
) -> DesiredCondition {
    let concerned: Vec<&&Finding> = findings.iter().filter(|finding| finding.aspect == aspect).collect();
    let worst = concerned.iter().max_by_key(|finding| finding.severity);
    let Some(worst) = worst else {
        return DesiredCondition::new(type_, ConditionStatus::True, good_reason, good_message);
    };
    let lines: Vec<String> = concerned.iter().map(|finding| sentence(finding)).collect();
    let status = match worst.severity {
        Severity::Error => ConditionStatus::False,
        Severity::Warning => ConditionStatus::True,
    };
    DesiredCondition::new(type_, status, worst.reason, lines.join(" "))
}

/// `field: message; remedy.`
pub(crate) fn sentence(finding: &Finding) -> String {
    format!("{}: {}; {}.", finding.field, finding.message, finding.remedy)
}

fn programmed(counts: &ObjectCounts, behind: usize) -> DesiredCondition {
    let ObjectCounts { targeted, acknowledged, refused, .. } = *counts;
    let condition = |status, reason: &'static str, message: String| {
        DesiredCondition::new(ConditionType::Programmed, status, reason, message)
    };
    if let Some((proxy, resource, words)) = counts.refusals.first() {
        let message = format!("{refused} of {targeted} proxies refuse it; {proxy} says of {resource:?}: {words}");
        return condition(ConditionStatus::False, "RefusedByProxies", message);
    }
    match targeted {
        _ if behind > 0 => condition(
            ConditionStatus::Unknown,
            "WaitingForProxies",
            format!(
                "{acknowledged} of {targeted} proxies have acknowledged it; {behind} replicas of the control plane have not \
                 read it yet."
            ),
        ),
        0 => condition(ConditionStatus::True, "NoProxies", "No connected proxy is concerned.".to_owned()),
        _ if acknowledged < targeted => condition(
            ConditionStatus::Unknown,
            "WaitingForProxies",
            format!("{acknowledged} of {targeted} proxies have acknowledged it."),
        ),
        _ => condition(ConditionStatus::True, "Programmed", format!("All {targeted} proxies run it.")),
    }
}

/// The counters of an object.
pub(crate) fn propagation(counts: &ObjectCounts) -> Propagation {
    let refusals = counts.refusals.iter().map(|(proxy, resource, message)| Refusal {
        proxy: proxy.to_string(),
        resource: Some(resource.to_string()),
        message: message.to_string(),
    });
    let mut propagation =
        Propagation::new(counts.targeted, counts.acknowledged, counts.refused).with_refusals(refusals);
    propagation.seconds_to_propagate = counts.took.map(Seconds::from);
    propagation
}

/// The status of an object of ours; `None` when nothing differs from `previous`.
pub(crate) fn object_status(
    previous: Option<&Value>,
    previous_conditions: &[Condition],
    desired: &[DesiredCondition],
    propagation: &Propagation,
    generation: i64,
    now: Timestamp,
) -> Option<Value> {
    let merged = merge(previous_conditions, desired, generation, now);
    let conditions = merged.as_deref().unwrap_or(previous_conditions);
    let mut status = previous.cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    status["observedGeneration"] = json!(generation);
    status["conditions"] = json!(conditions);
    status["propagation"] = json!(propagation);
    (previous != Some(&status)).then_some(status)
}

/// What is known of the proxies of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkloadCounts {
    /// Connected.
    pub connected: u32,
    /// Those that run the snapshot.
    pub synced: u32,
    /// Those that refuse a part of it.
    pub rejected: u32,
    /// Who refuses what, in whose words.
    pub rejections: Vec<Refusal>,
}

/// What one replica knows of a workload: its snapshot, what made it, and its proxies.
pub(crate) fn workload_account<'a>(
    workload: &Identity,
    snapshot: &Snapshot,
    counts: WorkloadCounts,
    contributors: impl ExactSizeIterator<Item = &'a ObjectId>,
) -> WorkloadAccount {
    let count = |type_url: &TypeUrl| {
        let entries: usize = snapshot.layers().iter().map(|layer| layer.len_of(type_url)).sum();
        u32::try_from(entries).unwrap_or(u32::MAX)
    };
    let resources = ResourceCounts {
        listeners: count(&TypeUrl::Listener),
        scoped_routes: count(&TypeUrl::ScopedRouteConfiguration),
        routes: count(&TypeUrl::RouteConfiguration),
        clusters: count(&TypeUrl::Cluster),
        endpoints: count(&TypeUrl::ClusterLoadAssignment),
        secrets: count(&TypeUrl::Secret),
    };
    WorkloadAccount {
        service_account: workload.service_account.to_string(),
        version: snapshot_version(snapshot),
        resources,
        contributor_count: u32::try_from(contributors.len()).unwrap_or(u32::MAX),
        contributors: contributors.take(osm_api::MAX_CONTRIBUTORS).map(ToString::to_string).collect(),
        counts,
    }
}

/// The ProxySnapshot of a workload: what its proxies are sent and what became of it.
pub(crate) fn proxy_snapshot(
    namespace: &str,
    account: &WorkloadAccount,
    previous: &[Condition],
    now: Timestamp,
) -> ProxySnapshot {
    let counts = &account.counts;
    let mut status = ProxySnapshotStatus {
        version: Some(account.version.clone()),
        resources: account.resources.clone(),
        proxies: ProxyCounts::new(counts.connected, counts.synced, counts.rejected),
        contributor_count: account.contributor_count,
        contributors: account.contributors.clone(),
        ..ProxySnapshotStatus::default()
    };
    status.set_rejections(counts.rejections.iter().cloned());
    let ready = with_summary(vec![synced(counts)], PENDING);
    status.conditions = merge(previous, &ready, 1, now).unwrap_or_else(|| previous.to_vec());
    status.observed_generation = Some(1);
    let spec = ProxySnapshotSpec { service_account: account.service_account.clone() };
    let mut object = ProxySnapshot::new(&account.service_account, spec);
    object.metadata.namespace = Some(namespace.to_owned());
    object.metadata.generation = Some(1);
    object.status = Some(status);
    object
}

fn synced(counts: &WorkloadCounts) -> DesiredCondition {
    let WorkloadCounts { connected, synced, rejected, .. } = *counts;
    let (status, reason, message) = if rejected > 0 {
        (ConditionStatus::False, "RefusedByProxies", format!("{rejected} of {connected} proxies refuse a part of it."))
    } else if connected == 0 {
        (ConditionStatus::True, "NoProxies", "No proxy is connected.".to_owned())
    } else if synced < connected {
        (ConditionStatus::Unknown, "WaitingForProxies", format!("{synced} of {connected} proxies run it."))
    } else {
        (ConditionStatus::True, "Programmed", format!("All {connected} proxies run it."))
    };
    DesiredCondition::new(ConditionType::Programmed, status, reason, message)
}

/// A hash of the content, equal on every replica: of the versions of all types but secrets and endpoints, so that neither a
/// renewed certificate nor a restarted pod looks like a change of policy, and pods that come and go cause no writes.
fn snapshot_version(snapshot: &Snapshot) -> String {
    let versions = snapshot
        .types()
        .into_iter()
        .filter(|type_url| !matches!(type_url, TypeUrl::Secret | TypeUrl::ClusterLoadAssignment));
    let text: Vec<String> = versions.map(|type_url| snapshot.type_version(type_url).to_string()).collect();
    osm_xds::Version::of(text.join(" ").as_bytes()).to_string()
}

/// Whether an object gets a status, and with it counts of proxies.
pub(crate) fn is_counted(object: &ObjectId) -> bool {
    Kind::own().any(|own| has_status(own) && own.as_str().eq_ignore_ascii_case(&object.kind))
}

/// Kinds whose objects get a status.
pub(crate) fn has_status(kind: Kind) -> bool {
    Kind::own().any(|own| own == kind) && kind != Kind::ProxySnapshot
}
