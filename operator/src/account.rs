//! What one replica of the control plane knows of an object or a workload: what is wrong with it, and how the proxies that are
//! connected to this replica have taken it.

use osm_api::{DesiredCondition, ResourceCounts};
use serde_json::{Map, Value};

use crate::progress::ObjectCounts;
use crate::status::WorkloadCounts;

/// An account of an object of ours, or of a workload.
#[derive(Debug, Clone, PartialEq)]
pub enum Account {
    /// Of an object that gets a status.
    Object(ObjectAccount),
    /// Of a workload identity, which gets a ProxySnapshot.
    Workload(WorkloadAccount),
}

/// An account of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct ObjectAccount {
    /// The generation that is in force here.
    pub generation: i64,
    /// `Accepted` and `ResolvedRefs`, which say the same on every replica.
    pub details: Vec<DesiredCondition>,
    /// How the proxies connected here have taken it.
    pub counts: ObjectCounts,
    /// Of a MeshRootCertificate, what the replica that decides about roots says of it.
    pub root: Option<RootAccount>,
    /// Of the MeshConfig in use, what the replica that writes says of the ingress gateway's certificate: `None` as long as it says
    /// nothing, null where there is none. Null of every other object.
    pub gateway: Option<Value>,
}

/// What is said of a root of trust, of all proxies together.
#[derive(Debug, Clone, PartialEq)]
pub struct RootAccount {
    /// `Programmed`.
    pub programmed: DesiredCondition,
    /// Further fields of the status; `null` for those that it has not.
    pub fields: Map<String, Value>,
}

/// An account of a workload identity.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadAccount {
    /// Its ServiceAccount.
    pub service_account: String,
    /// The version of its snapshot, equal on every replica that has read the same objects.
    pub version: String,
    /// How many resources the snapshot has.
    pub resources: ResourceCounts,
    /// The first of the objects that made it, by name.
    pub contributors: Vec<String>,
    /// How many made it.
    pub contributor_count: u32,
    /// Its proxies that are connected here.
    pub counts: WorkloadCounts,
}
