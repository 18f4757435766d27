//! What every proxy of a fleet is held to: the versions seen so far, the state they must reach, and the counts.

use std::collections::HashMap;

use serde::Serialize;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::wire::WireResource;
use crate::control::ResourceKind;
use crate::world::{self, Revision};

/// The kinds of resource that a fleet can subscribe to, in the order in which it asks for them.
pub(super) const KINDS: [ResourceKind; 2] = [ResourceKind::Cluster, ResourceKind::Endpoints];

pub(super) fn type_url(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => world::CLUSTER_TYPE,
        ResourceKind::Endpoints => world::ENDPOINTS_TYPE,
    }
}

pub(super) fn kind_of(type_url: &str) -> Option<ResourceKind> {
    KINDS.into_iter().find(|kind| self::type_url(*kind) == type_url)
}

/// Exact counts of what a fleet received and answered, for one kind of resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindCounters {
    /// Responses, however many resources they carried.
    pub responses: u64,
    /// Resources delivered.
    pub resources: u64,
    /// Of those, how many the proxy held at the very version.
    pub unchanged: u64,
    /// Names reported as removed.
    pub removed: u64,
    /// Bytes of response messages, without framing.
    pub bytes: u64,
    /// Responses acknowledged.
    pub acknowledged: u64,
    /// Responses refused.
    pub refused: u64,
}

impl KindCounters {
    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            responses: self.responses - earlier.responses,
            resources: self.resources - earlier.resources,
            unchanged: self.unchanged - earlier.unchanged,
            removed: self.removed - earlier.removed,
            bytes: self.bytes - earlier.bytes,
            acknowledged: self.acknowledged - earlier.acknowledged,
            refused: self.refused - earlier.refused,
        }
    }
}

/// Exact counts of what a fleet received and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Clusters.
    pub clusters: KindCounters,
    /// Endpoints of clusters.
    pub endpoints: KindCounters,
}

impl Counters {
    pub(super) fn of(&mut self, kind: ResourceKind) -> &mut KindCounters {
        match kind {
            ResourceKind::Cluster => &mut self.clusters,
            ResourceKind::Endpoints => &mut self.endpoints,
        }
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { clusters: self.clusters.since(earlier.clusters), endpoints: self.endpoints.since(earlier.endpoints) }
    }
}

/// A resource at a version, as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct VersionId(u32);

/// What is known of a resource at a version.
#[derive(Debug)]
pub(super) struct Version {
    /// The service it belongs to.
    pub(super) service: u32,
    /// The revision written in its content.
    pub(super) revision: Revision,
    /// The version text, which a reconnecting proxy reports.
    pub(super) text: Box<str>,
    /// Hash of the content, to notice two contents under one version.
    content: u64,
}

/// At most this many violations are kept in words; all are counted.
const VIOLATIONS_KEPT: usize = 20;

/// Shared by the proxies of one fleet.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    services: HashMap<Box<str>, u32>,
    /// The revision at which each service's resource must be, by kind.
    expected: [Vec<Revision>; KINDS.len()],
    /// By hash of kind, name and version.
    by_version: HashMap<u64, VersionId>,
    /// By hash of kind, name and content.
    by_content: HashMap<u64, VersionId>,
    versions: Vec<Version>,
    pub(super) counters: Counters,
    violations: Vec<String>,
    violation_count: u64,
}

fn key(kind: ResourceKind, name: &str, rest: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[kind as u8]);
    hasher.update(name.as_bytes());
    // A byte that no name contains keeps the parts apart.
    hasher.update(&[0xff]);
    hasher.update(rest);
    hasher.digest()
}

impl Ledger {
    pub(super) fn version(&self, id: VersionId) -> &Version {
        &self.versions[id.0 as usize]
    }

    pub(super) fn service(&self, name: &str) -> Option<u32> {
        self.services.get(name).copied()
    }

    pub(super) fn expected(&self, kind: ResourceKind) -> &[Revision] {
        &self.expected[kind as usize]
    }

    pub(super) fn expected_mut(&mut self, kind: ResourceKind) -> &mut Vec<Revision> {
        &mut self.expected[kind as usize]
    }

    /// Learns the names of services below `count`.
    pub(super) fn know_services(&mut self, count: u32) {
        for index in self.services.len()..count as usize {
            let index = u32::try_from(index).expect("below a count of 32 bits");
            self.services.insert(world::service_name(index).into(), index);
        }
    }

    pub(super) fn violate(&mut self, what: impl FnOnce() -> String) {
        self.violation_count += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            self.violations.push(what());
        }
    }

    /// Everything that a server did wrong, in words, and how often in all.
    pub(super) fn violations(&self) -> (&[String], u64) {
        (&self.violations, self.violation_count)
    }

    /// Identifies a delivered resource, reading its content in full when it is seen for the first time.
    pub(super) fn identify(&mut self, kind: ResourceKind, resource: &WireResource<'_>) -> Option<VersionId> {
        let content = xxh3_64(resource.body);
        let version_key = key(kind, resource.name, resource.version.as_bytes());
        if let Some(&id) = self.by_version.get(&version_key) {
            if self.version(id).content != content {
                self.violate(|| format!("{}: two contents under version {:?}", resource.name, resource.version));
                return None;
            }
            return Some(id);
        }
        match self.read(kind, resource, content) {
            Ok(version) => {
                let id = VersionId(u32::try_from(self.versions.len()).expect("fewer versions than 32 bits count"));
                self.versions.push(version);
                self.by_version.insert(version_key, id);
                let content_key = key(kind, resource.name, &content.to_le_bytes());
                if let Some(earlier) = self.by_content.insert(content_key, id) {
                    let earlier = self.version(earlier).text.clone();
                    self.violate(|| {
                        format!("{}: one content under versions {earlier:?} and {:?}", resource.name, resource.version)
                    });
                }
                Some(id)
            }
            Err(error) => {
                self.violate(|| error);
                None
            }
        }
    }

    fn read(&self, kind: ResourceKind, resource: &WireResource<'_>, content: u64) -> Result<Version, String> {
        let name = resource.name;
        if resource.version.is_empty() {
            return Err(format!("{name}: delivered without a version"));
        }
        if resource.type_url != type_url(kind) {
            return Err(format!("{name}: a {} wraps a {:?}", type_url(kind), resource.type_url));
        }
        let identity = world::identify(resource.type_url, resource.body)?;
        if identity.name != name {
            return Err(format!("{name}: the content is named {:?}", identity.name));
        }
        let service = self.service(name).ok_or_else(|| format!("{name}: no such service was ever loaded"))?;
        Ok(Version { service, revision: identity.revision, text: resource.version.into(), content })
    }
}
