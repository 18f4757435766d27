//! Replacing one root by another without one failed request: a pure plan over the roots, what is in force, and what is
//! known of everyone who verifies or shows a certificate.
//!
//! Two things are in force at any time, and they are the [`Record`]: which root signs, and which roots are trusted. A
//! rotation is a walk of that record in single [`Step`]s:
//!
//! 1. [`Step::Trust`]: one more root is trusted. Trusting more never breaks a connection, so this waits for nothing.
//! 2. [`Step::Sign`]: another root signs. It waits until everyone is *known* to trust that root.
//! 3. [`Step::Retire`]: a root is trusted no longer. It waits until nobody *may* still show a certificate of it.
//!
//! What is known is [`Evidence`]: for each [`Participant`] a [`Holding`] that errs on the safe side. Of what is still on
//! its way to a proxy, only what all of it agrees on counts as trusted, and everything in it counts as shown. So between
//! any two participants the one's certificate is always verified by the other, in whatever order messages arrive. Who
//! is unknown holds every step.
//!
//! Nothing here remembers anything: roles, record and evidence decide, so that whoever edits the roles pauses, resumes
//! and rolls back at every step, and a process that starts again goes on where another ended.

mod admission;
mod evidence;
mod history;
mod plan;
mod report;
mod root;
mod wait;

pub use admission::{InadmissibleRoles, RoleChange, admissible, check_roles};
pub use evidence::{Absent, Evidence, Holding, Participant};
pub use history::History;
pub use plan::{Plan, Step, plan};
pub use report::{RootReport, RootState, Usage};
pub use root::{Availability, Record, Role, Root, RootName, Roots, Standing};
pub use wait::Wait;

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
