//! What the admin endpoint shows of roots and certificates; without keys.

use std::collections::BTreeSet;

use osm_issuer::rotation::{Evidence, Holding, Plan, Record, RootName};
use osm_issuer::{CertificateStatus, CertificateStore, PeerIdentity};
use serde_json::{Value, json};

use super::deliveries::{Bundles, names_of};
use super::status::{state_word, time, word};

/// What was found when roots were looked at last. It is looked at much more often than anybody asks to see it.
#[derive(Debug, Default)]
pub(super) enum Shown {
    /// Nobody has looked yet.
    #[default]
    Nothing,
    /// By the one that leads.
    Leads(Plan, Evidence),
    /// By one that follows: what is in force there, and what its participants hold.
    Follows(Record, Evidence),
}

impl Shown {
    /// The page `/debug/roots`.
    pub(super) fn page(&self) -> Value {
        match self {
            Self::Nothing => Value::Null,
            Self::Leads(plan, evidence) => roots(plan, evidence),
            Self::Follows(record, own) => followed(record, own),
        }
    }
}

/// What is in force, how far each root has come, and what every participant holds.
fn roots(plan: &Plan, evidence: &Evidence) -> Value {
    let reports: Vec<Value> = plan
        .reports
        .iter()
        .map(|(name, report)| {
            json!({
                "root": name.to_string(),
                "state": state_word(report.state),
                "usage": word(report.usage),
                "acknowledged": report.acknowledged,
                "targeted": report.targeted,
                "waitsFor": report.waits.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({
        "leads": true,
        "signing": plan.record.signing.as_ref().map(ToString::to_string),
        "trusted": plan.record.trusted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "complete": plan.is_complete(),
        "roles": plan.roles.as_ref().err().map(ToString::to_string),
        "roots": reports,
        "participants": participants(evidence),
    })
}

/// What is in force here, and what the participants of this replica hold. The one that leads knows the rest.
fn followed(record: &Record, own: &Evidence) -> Value {
    json!({
        "leads": false,
        "signing": record.signing.as_ref().map(ToString::to_string),
        "trusted": record.trusted.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "participants": participants(own),
    })
}

fn participants(evidence: &Evidence) -> Vec<Value> {
    let names = |roots: &BTreeSet<RootName>| -> Vec<String> { roots.iter().map(ToString::to_string).collect() };
    let holdings = evidence.holdings.iter();
    let participants = holdings.map(|(participant, holding)| match &**holding {
        Holding::Unknown => json!({ "participant": participant.to_string(), "known": false }),
        Holding::Known { trusts, may_trust, may_show, connected_with } => json!({
            "participant": participant.to_string(),
            "known": true,
            "trusts": names(trusts),
            "mayTrust": names(may_trust),
            "mayShow": names(may_show),
            "connectedWith": names(connected_with),
        }),
    });
    participants.collect()
}

/// The page `/debug/certificates`: every leaf that the store keeps.
pub(super) fn certificates(store: &CertificateStore, bundles: &Bundles) -> Value {
    store.status().iter().map(|status| certificate(status, bundles)).collect()
}

fn certificate(status: &CertificateStatus, bundles: &Bundles) -> Value {
    let kind = match &status.identity {
        PeerIdentity::Workload(_) => "workload",
        PeerIdentity::Proxy(_) => "proxy",
        PeerIdentity::ControlPlane(_) => "controlPlane",
        PeerIdentity::IngressGateway(_) => "ingressGateway",
    };
    let leaf = status.leaf.as_ref().map(|leaf| {
        json!({
            "serial": leaf.serial,
            "issuedAt": time(leaf.issued_at),
            "notAfter": time(leaf.not_after),
            "renewAt": time(leaf.renew_at),
            "root": names_of(&leaf.roots, bundles).first().map(ToString::to_string),
        })
    });
    let failure = status.failure.as_ref().map(|failure| {
        json!({
            "reason": failure.error.reason(),
            "message": failure.error.to_string(),
            "failures": failure.failures,
            "retryAt": failure.retry_at.and_then(time),
        })
    });
    json!({ "identity": status.identity.uri(), "kind": kind, "leaf": leaf, "failure": failure })
}
