//! The demo and test applications, all in one program (`osm-bookstore`), and the client of their control socket.
//!
//! Applications are what a mesh must not disturb, so they know nothing of it: they dial names and addresses of Services in clear
//! text. Each has a *control socket* (HTTP on a Unix socket, out of reach of any redirect rule): the runner asks an
//! application to try something, and gets told what the application saw ([`ControlClient`]).

mod attempt;
mod bookstore;
mod checks;
mod control;
mod control_client;
mod counters;
mod echo;
mod grpc;
mod health;
mod ledger;
mod load;
mod program;
mod report;
mod tcp;
mod websocket;

pub use checks::Health;
pub use control_client::{ControlClient, RunningLoad};
pub use counters::CountersReport;
pub use load::LoadRequest;
pub use program::{Program, run};
pub use report::{AttemptFailure, FailureKind, Latency, Report};

pub use attempt::{ConnectionUse, GrpcMode, Target, TryRequest};
