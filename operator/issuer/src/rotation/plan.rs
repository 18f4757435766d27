//! The next step of a rotation, and what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use time::OffsetDateTime;

use super::admission::{InadmissibleRoles, check_roles};
use super::evidence::{Evidence, Holding, Participant};
use super::report::{RootReport, report};
use super::root::{Availability, Record, Role, Root, RootName, Roots, Standing, oldest};
use super::wait::Wait;

/// A change of what is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing was in force; all that is wanted is, at once.
    Begin,
    /// The root is trusted from now on.
    Trust(RootName),
    /// The root signs from now on, and every leaf is replaced.
    Sign(RootName),
    /// The root is trusted no longer.
    Retire(RootName),
    /// A compromised root is trusted no longer and signs no longer, whoever still uses it.
    Remove(RootName),
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The next step, if nothing holds it.
    pub step: Option<Step>,
    /// What is in force after the step; what is in force now when there is none.
    pub record: Record,
    /// Why the roles of the roots are no step of a rotation; everything stays as it is until they are.
    pub roles: Result<(), InadmissibleRoles>,
    /// The state of each root, as of now, before the step.
    pub reports: BTreeMap<RootName, RootReport>,
}

impl Plan {
    /// Whether nothing is left to do or to wait for: what is in force is what the roles say.
    pub fn is_complete(&self) -> bool {
        self.step.is_none() && self.roles.is_ok() && self.reports.values().all(|report| report.waits.is_empty())
    }
}

/// What shall be in force in the end.
struct Target {
    signing: Option<RootName>,
    trusted: BTreeSet<RootName>,
}

/// The next step from what is in force (`record`) to what `roots` want, given what is known.
///
/// One step at a time: put the plan's record in force, gather evidence again, and ask again. Steps that nothing holds
/// come one after the other until [`Plan::step`] is `None`.
pub fn plan(roots: &Roots, record: &Record, evidence: &Evidence, now: OffsetDateTime) -> Plan {
    let wanted: BTreeMap<RootName, Role> = roots.iter().map(|(name, root)| (name.clone(), root.role)).collect();
    let roles = check_roles(&wanted);
    let target = match &roles {
        Ok(()) => target(roots, record),
        Err(_) => Target { signing: record.signing.clone(), trusted: record.trusted.clone() },
    };
    let mut waits: BTreeMap<RootName, Vec<Wait>> = BTreeMap::new();
    let planner = Planner { roots, record, evidence, now, target: &target };
    let step = planner.step(&mut waits);
    let reports = roots
        .iter()
        .map(|(name, root)| {
            let waits = waits.remove(name).unwrap_or_default();
            (name.clone(), report(name, root, record, target.signing.as_ref(), evidence, waits))
        })
        .collect();
    let record = match &step {
        Some(step) => planner.after(step),
        None => record.clone(),
    };
    Plan { step, record, roles, reports }
}

fn target(roots: &Roots, record: &Record) -> Target {
    let is = |name: &RootName, eligible: fn(&Root) -> bool| roots.get(name).is_some_and(eligible);
    let active: fn(&Root) -> bool = |root| root.role == Role::Active && root.can_sign();
    // Of two active roots the one that signs goes on (OSM's third step).
    let current = record.signing.clone().filter(|name| is(name, active));
    let signing = current.or_else(|| oldest(roots, active)).or_else(|| record.signing.clone());
    let new = roots.iter().filter(|(_, root)| root.is_wanted() && root.can_be_trusted()).map(|(name, _)| name);
    // A root that became unusable is trusted as long as it is wanted.
    let kept = record.trusted.iter().filter(|name| is(name, Root::is_wanted));
    let trusted = new.chain(kept).chain(&signing).cloned().collect();
    Target { signing, trusted }
}

struct Planner<'a> {
    roots: &'a Roots,
    record: &'a Record,
    evidence: &'a Evidence,
    now: OffsetDateTime,
    target: &'a Target,
}

impl Planner<'_> {
    fn step(&self, waits: &mut BTreeMap<RootName, Vec<Wait>>) -> Option<Step> {
        if self.record.signing.is_none() {
            return Record::initial(self.roots).signing.map(|_| Step::Begin);
        }
        if let Some(step) = self.removal(waits) {
            return Some(step);
        }
        if let Some(root) = self.target.trusted.difference(&self.record.trusted).next() {
            return Some(Step::Trust(root.clone()));
        }
        self.signing(waits).or_else(|| self.retirement(waits))
    }

    /// A compromised root goes before anything else is looked at.
    fn removal(&self, waits: &mut BTreeMap<RootName, Vec<Wait>>) -> Option<Step> {
        let compromised = self.roots.iter().filter(|(_, root)| root.standing == Standing::Compromised);
        for (name, _) in compromised.filter(|(name, _)| self.record.trusted.contains(name)) {
            if self.record.signing.as_ref() != Some(name) || self.successor().is_some() {
                return Some(Step::Remove(name.clone()));
            }
            waits.entry(name.clone()).or_default().push(Wait::Successor { root: name.clone() });
        }
        None
    }

    /// Who signs when the signing root must go at once.
    fn successor(&self) -> Option<RootName> {
        oldest(self.roots, |root| root.role == Role::Active && root.can_sign())
            .or_else(|| oldest(self.roots, |root| root.is_wanted() && root.can_sign()))
    }

    fn signing(&self, waits: &mut BTreeMap<RootName, Vec<Wait>>) -> Option<Step> {
        let (current, next) = (self.record.signing.as_ref()?, self.target.signing.as_ref()?);
        let held_by = if current == next { self.unusable_successor() } else { self.holds_signing(next) };
        if held_by.is_empty() {
            return (current != next).then(|| Step::Sign(next.clone()));
        }
        let concerned: BTreeSet<&RootName> = [current, next]
            .into_iter()
            .chain(held_by.iter().map(Wait::root).map(|root| root.unwrap_or(next)))
            .collect();
        for root in concerned {
            waits.entry(root.clone()).or_default().extend(held_by.iter().cloned());
        }
        None
    }

    /// The root that is to sign in place of one that is not active any more, but cannot.
    fn unusable_successor(&self) -> Vec<Wait> {
        let goes_on = self.record.signing.as_ref().and_then(|name| self.roots.get(name));
        if goes_on.is_some_and(|root| root.role == Role::Active) {
            return Vec::new();
        }
        let good = self.roots.iter().filter(|(_, root)| root.standing == Standing::Good);
        let unusable = good.filter(|(_, root)| root.role == Role::Active && !root.can_sign());
        unusable.map(|(name, _)| Wait::Provider { root: name.clone() }).collect()
    }

    fn holds_signing(&self, next: &RootName) -> Vec<Wait> {
        let mut held_by = Vec::new();
        match self.roots.get(next).map(|root| root.availability) {
            Some(Availability::Usable { not_before }) if not_before > self.now => {
                held_by.push(Wait::Validity { root: next.clone(), from: not_before });
            }
            Some(Availability::Usable { .. }) => {}
            Some(Availability::ValidatingOnly | Availability::Unusable) | None => {
                held_by.push(Wait::Provider { root: next.clone() });
            }
        }
        held_by.extend(self.missing());
        let ignorant = self.awaited().filter(|(_, holding)| !holding.surely_trusts(next));
        held_by.extend(
            ignorant.map(|(participant, _)| Wait::Trust { participant: participant.clone(), root: next.clone() }),
        );
        held_by
    }

    fn retirement(&self, waits: &mut BTreeMap<RootName, Vec<Wait>>) -> Option<Step> {
        let mut step = None;
        for root in self.record.trusted.difference(&self.target.trusted) {
            if self.record.signing.as_ref() == Some(root) {
                continue;
            }
            let held_by = self.holds_retirement(root);
            if held_by.is_empty() {
                step = step.or_else(|| Some(Step::Retire(root.clone())));
            } else {
                waits.entry(root.clone()).or_default().extend(held_by);
            }
        }
        step
    }

    fn holds_retirement(&self, root: &RootName) -> Vec<Wait> {
        let mut held_by: Vec<Wait> = self.missing().into_iter().collect();
        let users = self.awaited().filter(|(_, holding)| holding.may_use(root));
        held_by.extend(
            users.map(|(participant, _)| Wait::Certificate { participant: participant.clone(), root: root.clone() }),
        );
        let longest = self.evidence.leaves.get(root).filter(|until| **until > self.now);
        held_by.extend(longest.map(|until| Wait::Leaf { root: root.clone(), until: *until }));
        held_by
    }

    fn missing(&self) -> Option<Wait> {
        let absent = self.evidence.absent.as_ref().filter(|absent| absent.until > self.now)?;
        Some(Wait::Return { count: absent.count, names: absent.names.clone(), until: absent.until })
    }

    /// Everyone but proxies that are waived, on whichever object.
    fn awaited(&self) -> impl Iterator<Item = (&Participant, &Holding)> {
        let everyone = self.evidence.holdings.iter().map(|(participant, holding)| (participant, &**holding));
        everyone.filter(|(participant, _)| match participant {
            Participant::Proxy(name) => !self.roots.values().any(|root| root.waived.contains(name)),
            _ => true,
        })
    }

    fn after(&self, step: &Step) -> Record {
        let mut record = self.record.clone();
        match step {
            Step::Begin => return Record::initial(self.roots),
            Step::Trust(root) => drop(record.trusted.insert(root.clone())),
            Step::Sign(root) => record.signing = Some(root.clone()),
            Step::Retire(root) => drop(record.trusted.remove(root)),
            Step::Remove(root) => {
                record.trusted.remove(root);
                if record.signing.as_ref() == Some(root) {
                    record.signing = self.successor();
                    record.trusted.extend(record.signing.clone());
                }
            }
        }
        record
    }
}
