//! What a source tells its reader, whatever it reads.

use osm_api::{Object, ObjectRef};

use crate::problem::Problem;

/// One object that is new or has changed, or, with `None`, is gone.
pub type Change = (ObjectRef, Option<Object>);

/// What a source tells its reader.
///
/// Any source of objects speaks this: a folder of manifests, and a watch on an API server. The reader keeps a map of objects and
/// applies changes in the order in which they come.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// Changes that belong together: applied at once, they lead from one good state to the next. Sorted by object; never empty.
    Changes(Vec<Change>),
    /// All that is wrong now, in place of what was said before; empty when nothing is wrong any more. While something is wrong,
    /// the last good state stays.
    Problems(Vec<Problem>),
    /// All objects that were there at the start have been given. Said once; nothing may be served before.
    Synced,
}
