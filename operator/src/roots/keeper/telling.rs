//! What is told of each MeshRootCertificate.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use osm_api::{MeshRootCertificateReason as Reason, Role};
use osm_issuer::rotation::{Plan, RootName};
use osm_mesh::RootRemoval;
use osm_model::{Aspect, Finding, Severity};
use time::OffsetDateTime;

use super::Keeper;
use super::known::{Known, RootObject};
use crate::roots::provider::RootProblem;
use crate::roots::status::{self, Circumstances, RootStatus, RootsNews};

/// How often a status tells of another time of renewal at the most.
const TELL_RENEWAL_EVERY: Duration = Duration::from_secs(600);

/// What the store, and the other replicas, say.
struct Said {
    next_renewal: Option<OffsetDateTime>,
    /// What is wrong with the root that signs.
    failing: Option<RootProblem>,
}

impl Keeper {
    fn is_ours(&self, object: &RootObject) -> bool {
        object.reference.namespace == self.inputs.namespace
    }

    /// What differs from what was told.
    pub(super) fn news(&mut self, plan: &Plan) -> RootsNews {
        let elsewhere = || self.inputs.surroundings.problem_elsewhere(self.written.0.revision);
        let failing = self.failing().or_else(elsewhere);
        let said = Said { next_renewal: self.next_renewal(), failing };
        let mut told = BTreeMap::new();
        for (name, known) in &self.roots {
            if let Some(object) = &known.object {
                told.insert(object.reference.clone(), self.status_of(name, known, object, plan, &said));
            }
        }
        let differs = told.iter().filter(|(reference, status)| self.told.get(*reference) != Some(*status));
        let differs = differs.map(|(reference, status)| (reference.clone(), Some(status.clone())));
        let gone = self.told.keys().filter(|reference| !told.contains_key(*reference));
        let news = RootsNews { statuses: differs.chain(gone.map(|reference| (reference.clone(), None))).collect() };
        self.told = told;
        news
    }

    fn status_of(&self, name: &RootName, known: &Known, object: &RootObject, plan: &Plan, said: &Said) -> RootStatus {
        let generation = object.object.metadata.generation.unwrap_or_default();
        let representative = self.representative(name);
        let is_signing = self.record.signing.as_ref() == Some(&representative);
        let problem = known.problem.as_ref().or(said.failing.as_ref().filter(|_| is_signing));
        let findings = self.findings(name, known, object, problem, plan);
        let Some(report) = plan.reports.get(&representative).filter(|_| self.is_ours(object)) else {
            return RootStatus::without_effect(generation, findings);
        };
        let circumstances = Circumstances {
            expires: known.built.as_ref().map(|built| built.not_after),
            next_renewal: said.next_renewal.filter(|_| is_signing),
            waived: object.parsed.value.as_ref().map(|facts| facts.waived.clone()).unwrap_or_default(),
        };
        RootStatus {
            generation,
            findings,
            programmed: status::programmed(report, &circumstances),
            targeted: u32::try_from(report.targeted).unwrap_or(u32::MAX),
            acknowledged: u32::try_from(report.acknowledged).unwrap_or(u32::MAX),
            fields: status::fields(report, &circumstances),
        }
    }

    /// Why the root that signs does not, as whoever waits for a certificate was told.
    fn failing(&self) -> Option<RootProblem> {
        let (identity, failure) = self.store.first_failure()?;
        let built = self.roots.get(self.record.signing.as_ref()?)?.built.as_ref()?;
        let problem = RootProblem::of_issuer(built.field, &failure.error);
        let message = format!("no certificate can be issued for {identity}: {}", problem.message);
        Some(RootProblem { message, ..problem })
    }

    /// What is wrong with the root that signs, at this replica.
    pub(super) fn own_problem(&self) -> Option<RootProblem> {
        let signing = self.record.signing.as_ref().and_then(|name| self.roots.get(name))?;
        signing.problem.clone().or_else(|| self.failing())
    }

    /// What is wrong with a root beyond what its text says.
    fn findings(
        &self,
        name: &RootName,
        known: &Known,
        object: &RootObject,
        problem: Option<&RootProblem>,
        plan: &Plan,
    ) -> Vec<Finding> {
        let finding = |aspect, severity, field: &str, reason: &'static str, message: &str, remedy: &str| Finding {
            object: osm_engine::object_id(&object.reference),
            field: field.into(),
            aspect,
            severity,
            reason,
            message: message.into(),
            remedy: remedy.into(),
        };
        let mut findings = object.parsed.findings.clone();
        if let Some(RootProblem { reason, field, message, remedy, .. }) = problem {
            // For one that is only trusted its certificates are enough.
            let is_active = object.object.spec.role() == Role::Active;
            let signs = is_active || self.record.signing.as_ref() == Some(&self.representative(name));
            let severity = if known.built.is_some() && !signs { Severity::Warning } else { Severity::Error };
            findings.push(finding(Aspect::ResolvedRefs, severity, field, reason, message, remedy));
        }
        if let (Err(error), true) = (&plan.roles, self.is_ours(object)) {
            let message = error.to_string();
            let message = message.strip_prefix("spec.role: ").unwrap_or(&message);
            let (what, remedy) = message.split_once("; ").unwrap_or((message, "change the roles"));
            let reason = Reason::InvalidRoles.as_str();
            findings.push(finding(Aspect::Accepted, Severity::Error, "spec.role", reason, what, remedy));
        }
        let now = self.inputs.clock.now();
        if let Some(built) = known.built.as_ref().filter(|built| built.not_after <= now) {
            let message = format!("the root certificate ended at {}", built.not_after);
            let (reason, remedy) = (Reason::Expired.as_str(), "create another MeshRootCertificate and rotate to it");
            findings.push(finding(Aspect::Accepted, Severity::Error, "spec.provider", reason, &message, remedy));
        }
        let removed = object.parsed.value.as_ref().is_some_and(|facts| facts.removal == RootRemoval::Now);
        if removed && !self.record.trusted.contains(&self.representative(name)) {
            let (reason, message) = (Reason::Removed.as_str(), "the root is removed for good, as asked for");
            let field = format!("metadata.annotations[{}]", osm_api::REMOVE_ROOT_NOW_ANNOTATION);
            let remedy = "delete the object when every proxy has a certificate of another root";
            findings.push(finding(Aspect::Accepted, Severity::Warning, &field, reason, message, remedy));
        }
        findings
    }

    /// When the next certificate is due; told anew only when that time is over, and not too often.
    fn next_renewal(&mut self) -> Option<OffsetDateTime> {
        let now = self.inputs.clock.now();
        let stale = match self.next_renewal {
            Some((at, since)) => at <= now && since.elapsed() >= TELL_RENEWAL_EVERY,
            None => true,
        };
        if stale {
            self.next_renewal = self.store.next_renewal().map(|at| (at, Instant::now()));
        }
        self.next_renewal.map(|(at, _)| at)
    }
}
