//! What a rotation is about: roots with their roles, and what is in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

/// Names a root: namespace and name of its MeshRootCertificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootName {
    namespace: Arc<str>,
    name: Arc<str>,
}

impl RootName {
    /// The root `name` in `namespace`.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The part a root is to play (MeshRootCertificate `spec.role`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Signs, and is trusted. Of two active roots, the one that signs already goes on.
    Active,
    /// Is trusted.
    Passive,
    /// Neither.
    Inactive,
}

/// Whether a root's provider can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It gives its roots and signs; its certificate is valid from then on.
    Usable {
        /// Start of validity of the certificates that sign.
        not_before: OffsetDateTime,
    },
    /// Its roots are known, so it can be trusted; it cannot sign.
    ValidatingOnly,
    /// Nothing of it is known.
    Unusable,
}

/// Whether a root's key is still its owner's alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// As far as anybody knows.
    Good,
    /// It must go at once, whatever breaks.
    Compromised,
}

/// A root as its MeshRootCertificate wants it. One that was deleted while it was trusted is here as inactive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The part it is to play.
    pub role: Role,
    /// When the object was created: of several candidates the oldest signs.
    pub created: OffsetDateTime,
    /// Whether its provider can be used.
    pub availability: Availability,
    /// Whether it must go at once.
    pub standing: Standing,
    /// Proxies that no step waits for.
    pub waived: BTreeSet<Arc<str>>,
}

impl Root {
    /// Whether it is to sign or to be trusted.
    pub(super) fn is_wanted(&self) -> bool {
        self.role != Role::Inactive && self.standing == Standing::Good
    }

    pub(super) fn can_sign(&self) -> bool {
        self.standing == Standing::Good && matches!(self.availability, Availability::Usable { .. })
    }

    pub(super) fn can_be_trusted(&self) -> bool {
        self.standing == Standing::Good && self.availability != Availability::Unusable
    }
}

/// All roots, by name.
pub type Roots = BTreeMap<RootName, Root>;

/// What is in force.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Record {
    /// The root that signs; `None` before there was any.
    pub signing: Option<RootName>,
    /// The roots that are trusted, the signing one among them.
    pub trusted: BTreeSet<RootName>,
}

impl Record {
    /// What is put in force where nothing is yet: nobody holds a certificate, so nothing has to be waited for.
    pub fn initial(roots: &Roots) -> Self {
        let signing = oldest(roots, |root| root.role == Role::Active && root.can_sign())
            .or_else(|| oldest(roots, |root| root.is_wanted() && root.can_sign()));
        let wanted = roots.iter().filter(|(_, root)| root.is_wanted() && root.can_be_trusted());
        let trusted = wanted.map(|(name, _)| name.clone()).collect();
        Self { signing, trusted }
    }
}

/// The oldest root of these; of equally old ones the smallest name.
pub(super) fn oldest(roots: &Roots, eligible: impl Fn(&Root) -> bool) -> Option<RootName> {
    let candidates = roots.iter().filter(|(_, root)| eligible(root));
    candidates.min_by_key(|(name, root)| (root.created, (*name).clone())).map(|(name, _)| name.clone())
}
