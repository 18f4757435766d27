//! Every rule of the protocol that a server must obey, checked by a scripted client on the wire.
//!
//! Tests are named by the rule they check; `../README.md` has the table of rules. A rule that holds in several variants
//! of the protocol is one function, run in each of them.
//!
//! No test waits for time to pass. That nothing is sent is shown by asking for something that must be answered and
//! seeing its answer come first; where the rule itself speaks of time, the limit is set so short that the test waits
//! for the event it causes.

mod content;
mod flow;
mod node;
mod order;
mod readme;
mod reconnect;
mod subscription;
mod version;
