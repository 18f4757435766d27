//! What is known of one root.

use osm_api::{MeshRootCertificate, MeshRootCertificateReason as Reason, ObjectRef, Role as ApiRole};
use osm_issuer::TrustBundle;
use osm_issuer::rotation::{Availability, Role, Root, RootName, Standing};
use osm_mesh::{Parsed, RootFacts, RootRemoval, mesh_root_certificate};
use osm_model::{Aspect, Finding, Severity};
use time::OffsetDateTime;

use super::KeeperInputs;
use crate::roots::provider::{Built, RootProblem};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its object; `None` for the built-in authority and for objects that were deleted.
    pub(super) object: Option<RootObject>,
    /// The issuer that is used, or could be.
    pub(super) built: Option<Built>,
    /// Why it cannot be used, or could not be renewed; and when to look again.
    pub(super) problem: Option<(RootProblem, OffsetDateTime)>,
    pub(super) trusted_since: Option<OffsetDateTime>,
}

/// A MeshRootCertificate, and what it says.
#[derive(Debug)]
pub(super) struct RootObject {
    pub(super) reference: ObjectRef,
    pub(super) object: MeshRootCertificate,
    pub(super) parsed: Parsed<RootFacts>,
}

impl Known {
    pub(super) fn signs(&self) -> bool {
        self.built.as_ref().is_some_and(|built| built.signs)
    }

    pub(super) fn bundle(&self) -> Option<&TrustBundle> {
        self.built.as_ref().map(|built| &built.bundle)
    }

    /// Whether an issuer should be made of it now: it has none that signs, its text can be understood, and what failed last is
    /// to be tried again.
    pub(super) fn wants_issuer(&self, now: OffsetDateTime) -> bool {
        let is_due = self.problem.as_ref().is_none_or(|(_, at)| *at <= now);
        let is_understood = self.object.as_ref().is_none_or(|object| object.parsed.value.is_some());
        !self.signs() && is_understood && is_due
    }

    pub(super) fn fail(&mut self, name: &RootName, problem: RootProblem, now: OffsetDateTime) {
        let again = self.problem.as_ref().is_some_and(|(before, _)| before.message == problem.message);
        if !again {
            tracing::error!(root = %name, field = problem.field, message = problem.message, remedy = problem.remedy, "the root cannot be used");
        }
        let at = now + problem.retry;
        self.problem = Some((problem, at));
    }

    /// The root as its object wants it.
    pub(super) fn wanted(&self) -> Root {
        let facts = self.object.as_ref().and_then(|object| object.parsed.value.as_ref());
        let availability = match &self.built {
            Some(built) if built.signs => Availability::Usable { not_before: built.not_before },
            Some(_) => Availability::ValidatingOnly,
            None => Availability::Unusable,
        };
        let created = self.object.as_ref().and_then(|object| object.object.metadata.creation_timestamp.as_ref());
        let created = created.and_then(|at| OffsetDateTime::from_unix_timestamp(at.0.as_second()).ok());
        // What cannot be understood keeps the role that its text has, so that it is not retired for a mistake.
        let role = self.object.as_ref().map(|object| object.object.spec.role());
        Root {
            role: match role {
                Some(ApiRole::Active) => Role::Active,
                Some(ApiRole::Passive) => Role::Passive,
                Some(ApiRole::Inactive) | None => Role::Inactive,
            },
            created: created.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            availability,
            standing: match facts.map(|facts| facts.removal) {
                Some(RootRemoval::Now) => Standing::Compromised,
                Some(RootRemoval::WhenUnused) | None => Standing::Good,
            },
            waived: facts.map(|facts| facts.waived.clone()).unwrap_or_default(),
        }
    }
}

impl KeeperInputs {
    /// Reads an object, with what can be said of it only here.
    pub(super) fn parse(&self, object: &MeshRootCertificate) -> Parsed<RootFacts> {
        let mut parsed = mesh_root_certificate(object);
        let mut refuse = |field: &str, reason: Reason, message: String, remedy: String| {
            parsed.findings.push(Finding {
                object: osm_engine::object_id(&osm_api::MeshObject::reference(object)),
                field: field.into(),
                aspect: Aspect::Accepted,
                severity: Severity::Error,
                reason: reason.as_str(),
                message: message.into(),
                remedy: remedy.into(),
            });
            parsed.value = None;
        };
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        if namespace != self.namespace {
            let message = format!("{namespace:?} is not the namespace of the control plane");
            let remedy = format!("create the object in {}", self.namespace);
            refuse("metadata.namespace", Reason::NotInUse, message, remedy);
        }
        let domain = object.spec.trust_domain();
        if domain != self.trust_domain {
            let message = format!("{domain:?} is not the trust domain of the mesh, {:?}", self.trust_domain);
            let remedy = "use that trust domain, or start the control plane with --trust-domain".to_owned();
            refuse("spec.trustDomain", Reason::TrustDomainMismatch, message, remedy);
        }
        parsed
    }
}
