//! Where objects come from: a folder of manifests today, an API server beside it later, in the same shapes.
//!
//! What this is: the edge that reads. It turns files into decoded objects and says what changed since the last good state. What it
//! is not: a judge of what the objects mean together, or a place that debounces for the mesh; both are its reader's.
//!
//! The path through it: [`directory()`] runs all of it and gives a channel of [`SourceEvent`]s. Inside, [`Watch`] turns file events
//! into a [`Hint`] of what to look at; [`Folder::refresh`] walks and reads (the only blocking I/O), the pure `manifest` decodes
//! one file, and the pure `ledger` compares the objects of all files with the last good state, giving a [`Refresh`]: either
//! changes, or [`Problem`]s and no change at all.

mod directory;
mod documents;
mod event;
mod folder;
mod ledger;
mod locate;
mod manifest;
mod problem;
mod read;
mod settling;
mod walk;
mod watch;

pub use directory::directory;
pub use event::{Change, SourceEvent};
pub use folder::{Folder, Refresh};
pub use manifest::{IgnoredKind, MAX_FILE_BYTES};
pub use problem::Problem;
pub use settling::{Hint, LONGEST_WAIT, QUIET_PERIOD, UNCLOSED_LONGEST_WAIT, UNCLOSED_QUIET_PERIOD};
pub use walk::Interest;
pub use watch::Watch;
