//! The measures. Each returns the figures it is named for; none of them judges.

pub mod admission;
pub mod api_server;
pub mod core;
pub mod counts;
pub mod envoy;
pub mod footprint;
pub mod issuing;
pub mod memory;
pub mod operator;
pub mod pods;
pub mod push;
pub mod reconnect;
pub mod requests;
pub mod stalled;

/// How thorough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Rounds of the interleaved measures.
    pub rounds: usize,
    /// Proxies of the large fleets.
    pub proxies: u32,
    /// Services of the large mesh.
    pub services: u32,
}

impl Effort {
    /// What the committed report is made with.
    pub const FULL: Self = Self { rounds: 7, proxies: 1000, services: 1000 };
    /// The same sizes, fewer rounds.
    pub const QUICK: Self = Self { rounds: 3, proxies: 1000, services: 1000 };
}

/// Tells on standard error how far a run is.
pub fn progress(text: &str) {
    use std::io::Write;
    // A closed standard error must not end the run.
    let _result = writeln!(std::io::stderr(), "bench: {text}");
}
