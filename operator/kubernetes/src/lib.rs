//! Kubernetes as the mesh sees it: a source of objects, and everything that is written to the API server.
//!
//! What this is: the edge towards the API server. It reads objects with no more of them than the mesh uses, says who of several
//! replicas may write, writes, and asks the API server whose a token is. What it is not: a judge of what objects mean, or of what is
//! to be written; both are its callers'.
//!
//! The path through it: [`client()`] connects. [`watch()`] runs one list and watch for each kind; what comes is pruned while it is
//! parsed (`keep`), decoded and compared (`known`), and gathered into [`SourceEvent`](osm_source::SourceEvent)s (`gather`), the same
//! that a folder gives. What the server says of status stays beside them, in [`StoredObjects`], where a [`Writer`] finds what it
//! compares with. [`Lease`] elects the replica that writes (`elector` decides, purely), [`EventRecorder`] tells people,
//! [`TokenReviewer`] proves pods, and [`rules`] says which rights all of this needs.

mod backoff;
mod client;
mod error;
mod event;
#[cfg(test)]
mod fake;
mod gather;
mod keep;
mod known;
mod lease;
mod merge_patch;
mod mesh_claim;
mod rbac;
mod request;
mod source;
mod stored;
mod target;
mod token;
mod watch;
mod writer;

pub use client::{client, missing_crds};
pub use error::RequestError;
pub use event::{EventLimits, EventRecorder, EventType, RecordedEvent};
pub use lease::{Leadership, Lease, LeaseOptions, LeaseTiming};
pub use mesh_claim::{MeshClaim, mesh_claims};
pub use rbac::{PolicyRule, RuleNames, Rules, rules};
pub use request::Throttled;
pub use source::{WatchOptions, watch};
pub use stored::{StoredObject, StoredObjects};
pub use target::{Target, WebhookConfiguration};
pub use token::{ProvenPod, ReviewError, ReviewOptions, ReviewToken, TokenReviewer};
pub use writer::{Created, FIELD_MANAGER, Writer, Written};
