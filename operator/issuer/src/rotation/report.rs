//! How far a root has come, in OSM's words.

use std::collections::BTreeSet;

use super::evidence::{Evidence, Holding, Participant};
use super::root::{Availability, Record, Root, RootName};
use super::wait::Wait;

/// What a root is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// Certificates are signed by it.
    Issuing,
    /// Certificates are verified against it.
    Validating,
    /// Neither.
    Unused,
    /// Not known yet.
    Unknown,
}

/// How far a root has come (MeshRootCertificate `status.state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RootState {
    /// Everyone is being told to trust it, or trusts it already and it is not to sign.
    ValidatingRollout,
    /// Certificates of it are taking the place of another root's.
    IssuingRollout,
    /// All certificates are its.
    Active,
    /// Its certificates are being replaced.
    IssuingRollback,
    /// Everyone is being told to trust it no longer.
    ValidatingRollback,
    /// Nobody uses it.
    Inactive,
    /// It cannot be used.
    Error,
}

/// The state of one root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootReport {
    /// What has been decided: the root's part in the record.
    pub usage: Usage,
    /// How far it has come.
    pub state: RootState,
    /// What its next step waits for, ordered; empty when nothing is to be done.
    pub waits: Vec<Wait>,
    /// Connected proxies.
    pub targeted: usize,
    /// Of those, how many are known to use the root as it was decided.
    pub acknowledged: usize,
    /// What proxies use it for.
    pub proxies: Usage,
    /// What the xDS server uses it for.
    pub control_plane: Usage,
    /// What the files that proxies verify the control plane against say.
    pub trust_bundles: Usage,
    /// What the webhooks' `caBundle` says; `None` where there are none.
    pub webhooks: Option<Usage>,
    /// What the ingress gateway uses it for; `None` where there is none.
    pub ingress_gateway: Option<Usage>,
}

pub(super) fn report(
    name: &RootName,
    root: &Root,
    record: &Record,
    target: Option<&RootName>,
    evidence: &Evidence,
    waits: Vec<Wait>,
) -> RootReport {
    let usage = match (record.signing.as_ref() == Some(name), record.trusted.contains(name)) {
        (true, _) => Usage::Issuing,
        (false, true) => Usage::Validating,
        (false, false) => Usage::Unused,
    };
    let of = |wanted: fn(&Participant) -> bool| -> Vec<&Holding> {
        let holdings = evidence.holdings.iter().filter(|(participant, _)| wanted(participant));
        holdings.map(|(_, holding)| &**holding).collect()
    };
    let proxies = of(|participant| matches!(participant, Participant::Proxy(_)));
    let control_plane = of(|participant| matches!(participant, Participant::ControlPlane(_)));
    let trust_bundles = of(|participant| *participant == Participant::TrustBundles);
    let webhooks = of(|participant| *participant == Participant::Webhooks);
    let ingress_gateway = of(|participant| *participant == Participant::IngressGateway);
    RootReport {
        usage,
        state: state(name, root, usage, target, evidence),
        waits,
        targeted: proxies.len(),
        acknowledged: proxies.iter().filter(|holding| is_as_decided(holding, name, usage)).count(),
        proxies: usage_of(&proxies, name),
        control_plane: usage_of(&control_plane, name),
        trust_bundles: usage_of(&trust_bundles, name),
        webhooks: (!webhooks.is_empty()).then(|| usage_of(&webhooks, name)),
        ingress_gateway: (!ingress_gateway.is_empty()).then(|| usage_of(&ingress_gateway, name)),
    }
}

fn state(name: &RootName, root: &Root, usage: Usage, target: Option<&RootName>, evidence: &Evidence) -> RootState {
    let anyone = |says: fn(&Holding, &RootName) -> bool| evidence.holdings.values().any(|holding| says(holding, name));
    match usage {
        Usage::Issuing if target != Some(name) || !root.is_wanted() => RootState::IssuingRollback,
        Usage::Issuing => {
            let others = evidence.holdings.values().any(|holding| shows_another(holding, name));
            if others { RootState::IssuingRollout } else { RootState::Active }
        }
        Usage::Validating if anyone(Holding::is_known_to_show) || !root.is_wanted() => RootState::IssuingRollback,
        Usage::Validating => RootState::ValidatingRollout,
        Usage::Unused | Usage::Unknown if anyone(Holding::is_known_to_trust) => RootState::ValidatingRollback,
        Usage::Unused | Usage::Unknown => match root.availability {
            Availability::Unusable if root.is_wanted() => RootState::Error,
            _ if root.is_wanted() => RootState::ValidatingRollout,
            _ => RootState::Inactive,
        },
    }
}

fn shows_another(holding: &Holding, name: &RootName) -> bool {
    matches!(holding, Holding::Known { may_show, .. } if may_show.iter().any(|root| root != name))
}

fn is_as_decided(holding: &Holding, name: &RootName, usage: Usage) -> bool {
    let Holding::Known { trusts, may_trust, may_show, .. } = holding else { return false };
    match usage {
        // A proxy that serves and calls nobody shows nothing.
        Usage::Issuing => trusts.contains(name) && may_show.iter().all(|root| root == name),
        Usage::Validating => trusts.contains(name) && !may_show.contains(name),
        Usage::Unused | Usage::Unknown => !may_trust.contains(name),
    }
}

fn usage_of(holdings: &[&Holding], name: &RootName) -> Usage {
    let mut known: BTreeSet<Usage> = BTreeSet::new();
    for holding in holdings {
        known.insert(match holding {
            Holding::Unknown => continue,
            _ if holding.is_known_to_show(name) => Usage::Issuing,
            _ if holding.is_known_to_trust(name) => Usage::Validating,
            Holding::Known { .. } => Usage::Unused,
        });
    }
    // The strongest use by anyone counts: only what nobody uses is unused.
    match known.first() {
        Some(usage) => *usage,
        None if holdings.is_empty() => Usage::Unused,
        None => Usage::Unknown,
    }
}
