//! What a replica tells the leader of the roots: what is in force there, and what its proxies hold.

use std::collections::{BTreeMap, BTreeSet};

use osm_api::MeshRootCertificateReason as Reason;
use osm_issuer::rotation::{Holding, RootName};
use serde::{Deserialize, Serialize};

use super::provider::RootProblem;

/// A root as `namespace/name`. Neither part can contain a slash.
type Named = String;

/// What one replica knows. Names of roots are `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RootsReport {
    /// The revision of the record that is in force there; none before there is one.
    pub(crate) record: Option<u64>,
    /// What the replica serves with, and verifies proxies against.
    pub(crate) control_plane: ReportedHolding,
    /// What connected proxies hold. Those that hold the same are told of together: they are many, and alike.
    pub(crate) proxies: Vec<Alike>,
    /// The latest end of validity of a certificate in use, in seconds since 1970, by the root that signed it.
    pub(crate) leaves: BTreeMap<Named, i64>,
    /// What is wrong there with the root that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<Box<ReportedProblem>>,
}

/// As a [`RootProblem`]: why one replica cannot have certificates issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportedProblem {
    reason: String,
    field: String,
    message: String,
    remedy: String,
}

impl From<&RootProblem> for ReportedProblem {
    fn from(problem: &RootProblem) -> Self {
        let RootProblem { reason, field, message, remedy, retry: _ } = problem;
        let (field, message, remedy) = (field.clone(), message.clone(), remedy.clone());
        Self { reason: (*reason).to_owned(), field, message, remedy }
    }
}

impl ReportedProblem {
    /// The problem, as the replica `pod` has it.
    pub(super) fn of(&self, pod: &str) -> RootProblem {
        let Self { reason, field, message, remedy } = self;
        let reason = Reason::OWN.iter().find(|known| known.as_str() == reason);
        let reason = reason.copied().unwrap_or(Reason::ProviderUnavailable);
        RootProblem::new(reason, field, format!("control plane {pod}: {message}"), remedy.clone())
    }
}

/// Proxies that hold the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alike {
    /// What each holds.
    pub(crate) holding: ReportedHolding,
    /// Their names, as status has them.
    pub(crate) names: BTreeSet<String>,
}

/// As [`Holding`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum ReportedHolding {
    /// Not known yet.
    #[default]
    Unknown,
    /// What is known.
    Known {
        /// Roots that it surely trusts.
        trusts: BTreeSet<Named>,
        /// Roots that it may trust.
        may_trust: BTreeSet<Named>,
        /// Roots whose certificates it may show.
        may_show: BTreeSet<Named>,
        /// Roots of the certificates with which it reaches the control plane.
        connected_with: BTreeSet<Named>,
    },
}

/// Proxies by what they hold.
pub(super) fn alike<'a>(proxies: impl IntoIterator<Item = (&'a str, &'a Holding)>) -> Vec<Alike> {
    let mut by_holding: BTreeMap<&Holding, BTreeSet<String>> = BTreeMap::new();
    for (name, holding) in proxies {
        by_holding.entry(holding).or_default().insert(name.to_owned());
    }
    let alike = by_holding.into_iter();
    alike.map(|(holding, names)| Alike { holding: ReportedHolding::from(holding), names }).collect()
}

impl From<&Holding> for ReportedHolding {
    fn from(holding: &Holding) -> Self {
        let names = |roots: &BTreeSet<RootName>| roots.iter().map(ToString::to_string).collect();
        match holding {
            Holding::Unknown => Self::Unknown,
            Holding::Known { trusts, may_trust, may_show, connected_with } => Self::Known {
                trusts: names(trusts),
                may_trust: names(may_trust),
                may_show: names(may_show),
                connected_with: names(connected_with),
            },
        }
    }
}

impl From<&ReportedHolding> for Holding {
    /// A name that cannot be read could hide a use of a root: then nothing is known.
    fn from(reported: &ReportedHolding) -> Self {
        let ReportedHolding::Known { trusts, may_trust, may_show, connected_with } = reported else {
            return Self::Unknown;
        };
        let names = |named: &BTreeSet<Named>| named.iter().map(|name| root_name(name)).collect::<Option<BTreeSet<_>>>();
        match (names(trusts), names(may_trust), names(may_show), names(connected_with)) {
            (Some(trusts), Some(may_trust), Some(may_show), Some(connected_with)) => {
                Self::Known { trusts, may_trust, may_show, connected_with }
            }
            _ => Self::Unknown,
        }
    }
}

/// The root that `namespace/name` names.
pub(super) fn root_name(named: &str) -> Option<RootName> {
    let (namespace, name) = named.split_once('/')?;
    Some(RootName::new(namespace, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_understood() {
        let roots = |names: &[&str]| names.iter().map(|name| RootName::new("osm-system", *name)).collect();
        let holding = Holding::Known {
            trusts: roots(&["a"]),
            may_trust: roots(&["a", "b"]),
            may_show: roots(&["b"]),
            connected_with: roots(&["(built in)"]),
        };
        let problem = RootProblem::new(Reason::InvalidAnswer, "spec.provider.vault", "it is not JSON", "look at it");
        let report = RootsReport {
            record: Some(7),
            control_plane: ReportedHolding::from(&holding),
            proxies: alike([("shop/web/1", &Holding::Unknown), ("shop/web/2", &holding), ("shop/web/3", &holding)]),
            leaves: [("osm-system/a".to_owned(), 9)].into(),
            problem: Some(Box::new(ReportedProblem::from(&problem))),
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains("\"connectedWith\"") && text.contains("\"controlPlane\""), "{text}");
        let read: RootsReport = serde_json::from_str(&text).unwrap();
        assert_eq!((&read, Holding::from(&read.control_plane)), (&report, holding.clone()));
        let told = read.problem.as_ref().map(|problem| problem.of("b"));
        assert_eq!(told, Some(RootProblem { message: "control plane b: it is not JSON".to_owned(), ..problem }));
        let of_others: RootsReport = serde_json::from_str(&text.replace("InvalidAnswer", "Newer")).unwrap();
        let reason = of_others.problem.map(|problem| problem.of("b").reason);
        assert_eq!(reason, Some("ProviderUnavailable"), "of a version that knows more reasons");
        let [unknown, known] = &*read.proxies else { panic!("{:?}", read.proxies) };
        assert_eq!((Holding::from(&unknown.holding), unknown.names.len()), (Holding::Unknown, 1));
        assert_eq!((Holding::from(&known.holding), known.names.len()), (holding, 2));
        assert_ne!(RootsReport::default().record, report.record, "what is in force nowhere");
    }

    #[test]
    fn a_name_that_cannot_be_read_is_no_knowledge() {
        let names = || BTreeSet::from(["nonsense".to_owned()]);
        let none = BTreeSet::new;
        let known =
            |may_show| ReportedHolding::Known { trusts: none(), may_trust: none(), may_show, connected_with: none() };
        assert_eq!(Holding::from(&known(names())), Holding::Unknown);
        assert_eq!(Holding::from(&known(none())), Holding::settled(BTreeSet::new(), BTreeSet::new()));
    }
}
