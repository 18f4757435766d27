//! What is known of one root.

use std::time::Duration;

use osm_api::{MeshRootCertificate, MeshRootCertificateReason as Reason, ObjectRef, Role as ApiRole};
use osm_issuer::TrustBundle;
use osm_issuer::rotation::{Availability, Role, Root, RootName, Standing};
use osm_mesh::{Parsed, RootFacts, RootRemoval, mesh_root_certificate};
use osm_model::{Aspect, Finding, Severity};
use time::OffsetDateTime;

use super::KeeperInputs;
use crate::roots::provider::{Built, RootProblem, TRY_AGAIN};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its object; `None` for the built-in authority and for objects that were deleted.
    pub(super) object: Option<RootObject>,
    /// The issuer that is used, or could be.
    pub(super) built: Option<Built>,
    /// What was wrong when its provider was looked at last: it cannot be used, or will not be if nobody acts.
    pub(super) problem: Option<RootProblem>,
    /// When that was; `None` when it is to be looked at now.
    pub(super) looked: Option<OffsetDateTime>,
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
        self.built.as_ref().is_some_and(Built::signs)
    }

    pub(super) fn bundle(&self) -> Option<&TrustBundle> {
        self.built.as_ref().map(|built| &built.bundle)
    }

    /// Its object is another now, or gone. An edit may have mended whatever was wrong; what is only told of it, in its status,
    /// has not.
    pub(super) fn become_of(&mut self, object: Option<RootObject>) {
        let edited =
            |RootObject { object, .. }: &RootObject| (object.spec.clone(), object.metadata.annotations.clone());
        if self.object.as_ref().map(edited) != object.as_ref().map(edited) {
            self.looked = None;
        }
        if object.is_none() {
            self.problem = None;
        }
        self.object = object;
    }

    /// Whether its provider is to be looked at now. One in use is every once in a while (`every`), sooner when something was
    /// wrong, or when requests for certificates fail (`is_failing`); one that is not in use until it is seen to be able to sign.
    pub(super) fn is_due(&self, is_in_force: bool, is_failing: bool, every: Duration, now: OffsetDateTime) -> bool {
        let role = self.object.as_ref().map_or(ApiRole::Inactive, |object| object.object.spec.role());
        let is_in_use = is_in_force || role != ApiRole::Inactive;
        let is_well = self.signs() && self.problem.is_none() && self.looked.is_some();
        let takes_part = is_in_use || (self.object.is_some() && !is_well);
        let is_understood = self.object.as_ref().is_none_or(|object| object.parsed.value.is_some());
        let wait = match self.problem.as_ref().map(|problem| problem.retry) {
            Some(Some(retry)) => retry,
            Some(None) => TRY_AGAIN.min(every),
            None if is_failing => TRY_AGAIN.min(every),
            None => every,
        };
        // A clock that was set back is no reason to wait.
        let is_time = self.looked.is_none_or(|at| now < at || at + wait <= now);
        takes_part && is_understood && is_time
    }

    /// Takes over what came of a look at `now`. The last good issuer stays, whatever is wrong.
    pub(super) fn take(&mut self, name: &RootName, looked: Result<Built, RootProblem>, now: OffsetDateTime) {
        self.looked = Some(now);
        match looked {
            Ok(built) => {
                if self.problem.is_some() || !self.built.as_ref().is_some_and(|before| before.is(&built)) {
                    tracing::info!(root = %name, not_after = %built.not_after, "the root can be used");
                }
                (self.built, self.problem) = (Some(built), None);
            }
            Err(problem) => {
                if self.problem.as_ref().is_none_or(|before| before.message != problem.message) {
                    let RootProblem { field, message, remedy, .. } = &problem;
                    let goes_on = self.signs();
                    tracing::error!(root = %name, field, message, remedy, goes_on, "the root cannot be used");
                }
                self.problem = Some(problem);
            }
        }
    }

    /// The root as its object wants it. The one that signs goes on with what it has when its provider fails; to another such
    /// nobody changes over.
    pub(super) fn wanted(&self, signs_now: bool) -> Root {
        let facts = self.object.as_ref().and_then(|object| object.parsed.value.as_ref());
        let availability = match &self.built {
            Some(built) if built.signs() && (signs_now || self.problem.is_none()) => {
                Availability::Usable { not_before: built.not_before }
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial};
    use osm_issuer::{Blame, NamedIssuer};

    use super::*;
    use crate::roots::mark::Marking;

    const EVERY: Duration = Duration::from_secs(60);

    /// Seconds from a look at `at` until the next.
    fn wait(known: &Known, is_failing: bool, at: OffsetDateTime) -> Option<i64> {
        (0..=600).find(|seconds| known.is_due(true, is_failing, EVERY, at + time::Duration::seconds(*seconds)))
    }

    #[test]
    fn a_provider_in_use_is_looked_at_once_in_a_while_and_sooner_when_something_is_wrong() {
        let now = OffsetDateTime::now_utc();
        let mut known = Known::default();
        assert!(known.is_due(true, false, EVERY, now), "nobody has looked yet");
        assert!(!known.is_due(false, false, EVERY, now), "what was deleted and is not in force takes no part");
        known.looked = Some(now);
        assert_eq!((wait(&known, false, now), wait(&known, true, now)), (Some(60), Some(10)));
        for (retry, expected) in [(None, 10), (Some(2), 2), (Some(300), 300)] {
            let problem = RootProblem::local("spec.provider.vault", "it is down");
            known.problem = Some(RootProblem { retry: retry.map(Duration::from_secs), ..problem });
            assert_eq!(wait(&known, true, now), Some(expected));
        }
        assert!(known.is_due(true, false, EVERY, now - time::Duration::days(1)), "the clock was set back");
    }

    #[test]
    fn the_last_good_issuer_stays_and_only_the_root_that_signs_is_usable_while_its_provider_fails() {
        let (name, now) = (RootName::new("osm-system", "vault"), OffsetDateTime::now_utc());
        let mut known = Known::default();
        let failed = || Err(RootProblem::local("spec.provider.vault", "it is down"));
        known.take(&name, failed(), now);
        assert_eq!((known.looked, known.wanted(true).availability), (Some(now), Availability::Unusable));
        known.take(&name, Ok(signing()), now);
        assert!(known.problem.is_none() && known.wanted(false).availability != Availability::ValidatingOnly);
        known.take(&name, failed(), now);
        assert!(known.signs() && matches!(known.wanted(true).availability, Availability::Usable { .. }));
        assert_eq!(known.wanted(false).availability, Availability::ValidatingOnly);
    }

    #[test]
    fn an_edit_is_a_reason_to_look_at_once_and_a_written_status_is_none() {
        let now = OffsetDateTime::now_utc();
        let object = |role: &str, annotation: &str, seen: i64| {
            let object: MeshRootCertificate = serde_saphyr::from_str(&format!(
                "apiVersion: config.openservicemesh.io/v1alpha2\nkind: MeshRootCertificate\n\
                 metadata: {{ name: a, namespace: b, annotations: {{ touched: '{annotation}' }} }}\n\
                 spec: {{ role: {role}, provider: {{ tresor: {{ ca: {{ secretRef: {{ name: a, namespace: b }} }} }} }} }}\n\
                 status: {{ observedGeneration: {seen} }}\n"
            ))
            .unwrap();
            let (parsed, reference) = (mesh_root_certificate(&object), osm_api::MeshObject::reference(&object));
            Some(RootObject { parsed, reference, object })
        };
        let mut known = Known::default();
        for (changed, looks) in [
            (object("active", "", 0), true),
            (object("active", "", 1), false),
            (object("passive", "", 1), true),
            (object("passive", "now", 1), true),
            (object("inactive", "now", 1), true),
        ] {
            known.looked = Some(now);
            known.become_of(changed);
            assert_eq!(known.is_due(false, false, EVERY, now), looks);
        }
        known.take(&RootName::new("b", "a"), Ok(signing()), now);
        let later = now + time::Duration::days(1);
        assert!(!known.is_due(false, false, EVERY, later), "nobody uses it, and it was seen to be well");
        known.problem = Some(RootProblem::local("spec.provider", "it was down"));
        assert!(known.is_due(false, false, EVERY, later), "what its status says must not get old");
    }

    fn signing() -> Built {
        let material = AuthorityMaterial::generate(AuthorityKey::default(), OffsetDateTime::now_utc()).unwrap();
        let bundle = TrustBundle::from_pem(material.certificate_pem()).unwrap();
        let issuer = NamedIssuer::validating(Blame::Process, bundle.clone());
        Built { mark: Some(Marking::new().finish()), ..Built::validating(issuer, bundle).unwrap() }
    }
}
