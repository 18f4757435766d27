//! Responses of one type that the client has not answered yet, and those it refused.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::resource::Resource;
use crate::version::Version;

/// What a response says of one name.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) name: Arc<str>,
    /// `None`: it is removed.
    pub(crate) resource: Option<Arc<Resource>>,
}

/// One response.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) nonce: u64,
    /// Sorted by name.
    pub(crate) items: Vec<Item>,
    /// The version text it carries.
    pub(crate) set: Version,
}

impl Part {
    fn position(&self, name: &str) -> Option<usize> {
        self.items.binary_search_by(|item| item.name.as_ref().cmp(name)).ok()
    }
}

/// The responses that bring a client to one snapshot. There is at most one flight for each type of a stream; a large
/// delta is cut in several parts, which are sent one after the other without waiting.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Those sent and not answered.
    pub(crate) parts: Vec<Part>,
    /// There may be more parts to send.
    pub(crate) sending: bool,
    /// The last name sent; parts go by name.
    pub(crate) cursor: Option<Arc<str>>,
    /// When its first part was sent.
    pub(crate) since: Instant,
}

impl Flight {
    pub(crate) fn new(now: Instant) -> Self {
        Self { parts: Vec::new(), sending: false, cursor: None, since: now }
    }

    /// Takes an answered part out.
    pub(crate) fn take(&mut self, nonce: u64) -> Option<Part> {
        let position = self.parts.iter().position(|part| part.nonce == nonce)?;
        Some(self.parts.remove(position))
    }

    /// Whether a resource of this name is on its way.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.parts
            .iter()
            .any(|part| part.position(name).is_some_and(|position| part.items[position].resource.is_some()))
    }

    /// An answer no longer says anything about this name.
    pub(crate) fn forget(&mut self, name: &str) {
        for part in &mut self.parts {
            if let Some(position) = part.position(name) {
                part.items.remove(position);
            }
        }
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        for part in &mut self.parts {
            part.items.retain(|item| keep(&item.name));
        }
    }
}

/// What a client refused and that has not changed since.
#[derive(Debug, Default)]
pub(crate) struct Rejected {
    /// Version by name; `None` for a removal.
    pub(crate) items: BTreeMap<Arc<str>, Option<Version>>,
    /// The complete state it refused.
    pub(crate) set: Option<Version>,
    /// Those to be sent once more, one at a time.
    pub(crate) isolate: VecDeque<Arc<str>>,
}
