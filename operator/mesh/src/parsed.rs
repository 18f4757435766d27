//! The result of reading one object: what is usable of it, and what was wrong.

use std::sync::Arc;

use osm_api::{MeshObject, Scope};
use osm_model::{Aspect, Finding, ObjectId, Origin, Severity};

/// What one object says, as far as it could be understood. A bad object has no value and at least one finding; an object
/// with a bad part has both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed<T> {
    /// The usable content; `None` if the object has no effect.
    pub value: Option<T>,
    /// What the author should know, in order of the fields.
    pub findings: Vec<Finding>,
}

/// Collects findings about one object while it is read.
#[derive(Debug)]
pub struct Report {
    object: ObjectId,
    generation: i64,
    findings: Vec<Finding>,
}

impl Report {
    /// Starts a report on `object` as of `generation`.
    pub fn new(object: ObjectId, generation: i64) -> Self {
        Self { object, generation, findings: Vec::new() }
    }

    /// Starts a report on `object`.
    pub fn of<T: MeshObject>(object: &T) -> Self {
        let name = object.reference();
        let id = match name.kind.scope() {
            Scope::Cluster => ObjectId::cluster_scoped(name.kind.as_str(), &name.name),
            Scope::Namespaced => ObjectId::new(name.kind.as_str(), &name.namespace, &name.name),
        };
        Self::new(id, object.metadata().generation.unwrap_or_default())
    }

    /// The object at `field`, for attribution.
    pub fn origin(&self, field: impl Into<Arc<str>>) -> Origin {
        Origin { object: self.object.clone(), field: field.into(), generation: self.generation }
    }

    /// The object, or the part at `field`, has no effect because it is malformed or conflicts.
    pub fn refuse(
        &mut self,
        field: impl Into<Arc<str>>,
        reason: impl Into<&'static str>,
        message: impl Into<Arc<str>>,
        remedy: impl Into<Arc<str>>,
    ) {
        self.add(Aspect::Accepted, Severity::Error, field.into(), reason.into(), message.into(), remedy.into());
    }

    /// Something that `field` refers to is missing or unsuitable.
    pub fn dangling(
        &mut self,
        field: impl Into<Arc<str>>,
        reason: impl Into<&'static str>,
        message: impl Into<Arc<str>>,
        remedy: impl Into<Arc<str>>,
    ) {
        self.add(Aspect::ResolvedRefs, Severity::Error, field.into(), reason.into(), message.into(), remedy.into());
    }

    /// Works, but probably not as meant.
    pub fn warn(
        &mut self,
        field: impl Into<Arc<str>>,
        reason: impl Into<&'static str>,
        message: impl Into<Arc<str>>,
        remedy: impl Into<Arc<str>>,
    ) {
        self.add(Aspect::Accepted, Severity::Warning, field.into(), reason.into(), message.into(), remedy.into());
    }

    /// A value that the API accepts and the mesh cannot use.
    pub fn complain(&mut self, reason: impl Into<&'static str>, complaint: osm_api::Complaint) {
        let message = format!("{:?} {}", complaint.value, complaint.problem);
        self.refuse(complaint.field, reason, message, complaint.remedy);
    }

    /// Ends the report with what is usable.
    pub fn finish<T>(self, value: Option<T>) -> Parsed<T> {
        Parsed { value, findings: self.findings }
    }

    /// Ends the report of a step that only checks.
    pub fn into_findings(self) -> Vec<Finding> {
        self.findings
    }

    fn add(
        &mut self,
        aspect: Aspect,
        severity: Severity,
        field: Arc<str>,
        reason: &'static str,
        message: Arc<str>,
        remedy: Arc<str>,
    ) {
        let object = self.object.clone();
        self.findings.push(Finding { object, field, aspect, severity, reason, message, remedy });
    }
}
