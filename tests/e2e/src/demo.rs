//! The bookstore, stage by stage: what the manifests promise, compared with what the applications see.
//!
//! [`story`] says which stages there are and who should reach whom in each → [`run`] copies a stage's files, watches until
//! the promise is kept, and then checks it again with many attempts → [`Record`] is what came of it.

mod evidence;
mod flow;
mod record;
mod run;
mod story;
mod view;

pub use flow::{Expectation, Flow, Judgement, judge};
pub use record::{FlowRecord, Record, StageRecord};
pub use run::run;
pub use story::{Stage, story};
pub use view::View;
