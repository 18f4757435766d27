//! How the replica that writes learns what the proxies of the others have acknowledged.
//!
//! Proxies are spread over all replicas, and each replica knows the acknowledgements of its own streams only. The holder of the
//! Lease finds the other replicas as pods of the control plane, and reads from each ([`TELLS_PATH`] on its admin port) first
//! everything that it counts and knows of roots, then what is new, one JSON document a line, as long as both live. While nothing
//! changes nothing is sent but an empty line now and then; nothing of it goes through the API server.

mod follow;
mod serve;

pub(crate) use self::follow::{Books, Replica, follow};
pub(crate) use self::serve::{TELLS_PATH, Telling, tells};

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::reconcile::News;
use crate::roots::RootsReport;

/// How often a line comes at least, so that a connection that broke is noticed.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    /// Everything; what was told before is forgotten.
    All(Vec<Told>),
    /// What is new.
    News(Vec<Told>),
    /// All that is known of roots, in place of what was told before.
    Roots(RootsReport),
}

/// Of one object: its name as `kind/namespace/name`, and what is counted; `null` when it is gone.
#[derive(Debug, Serialize, Deserialize)]
struct Told(String, Option<crate::reconcile::Tally>);

fn told(news: &[News]) -> Vec<Told> {
    news.iter().map(|(name, tally)| Told(name.to_string(), tally.clone())).collect()
}

/// Objects of kinds that this version does not know are passed over: another replica may be newer.
fn read(told: Vec<Told>) -> Vec<News> {
    told.into_iter().filter_map(|Told(name, tally)| Some((name.parse().ok()?, tally))).collect()
}
