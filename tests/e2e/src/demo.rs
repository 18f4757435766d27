//! The bookstore, stage by stage: what the manifests promise, compared with what the applications see.
//!
//! [`story`] says which stages there are and who should reach whom in each → [`run`] applies a stage's manifests, watches until
//! the promise is kept, and then checks it again with many attempts → [`Record`] is what came of it. It is told in a [`Scene`]:
//! network namespaces and a folder of manifests ([`namespaces`]), or a Kubernetes cluster ([`crate::ClusterWorld`]).

mod evidence;
mod flow;
mod namespaces;
mod record;
mod run;
mod scene;
mod story;
mod view;

pub use flow::{Expectation, Flow, Judgement, judge};
pub use namespaces::namespaces;
pub use record::{FlowRecord, Record, StageRecord};
pub use run::{observe, run};
pub use scene::Scene;
pub use story::{OUTSIDER, Stage, story};
pub use view::View;
