//! Telling subscribers what changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::identity::PeerIdentity;

/// Something that a subscriber should read again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// The trust bundle. Sorts first: who must trust a new root learns of it before leaves that it signed.
    TrustBundle,
    /// The leaf of this identity.
    Leaf(PeerIdentity),
}

/// The changes that one subscriber has not read yet. A set, so its size is bounded by the number of identities however
/// slowly it is read, and nothing is ever lost.
#[derive(Debug)]
pub struct Changes(Arc<Mailbox>);

#[derive(Debug, Default)]
struct Mailbox {
    unread: Mutex<BTreeSet<Change>>,
    arrived: Notify,
}

impl Changes {
    /// The next change; waits for one. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.0.unread.lock().pop_first() {
                return change;
            }
            self.0.arrived.notified().await;
        }
    }

    /// All changes that are there now, in order; does not wait.
    pub fn drain(&mut self) -> BTreeSet<Change> {
        std::mem::take(&mut *self.0.unread.lock())
    }
}

/// All subscribers; those that are gone are dropped when something is published.
#[derive(Debug, Default)]
pub(super) struct Subscribers(Mutex<Vec<Weak<Mailbox>>>);

impl Subscribers {
    pub(super) fn subscribe(&self) -> Changes {
        let mailbox = Arc::new(Mailbox::default());
        self.0.lock().push(Arc::downgrade(&mailbox));
        Changes(mailbox)
    }

    pub(super) fn publish(&self, change: &Change) {
        self.0.lock().retain(|mailbox| {
            let Some(mailbox) = mailbox.upgrade() else {
                return false;
            };
            mailbox.unread.lock().insert(change.clone());
            // Kept for a reader that is not waiting at this moment.
            mailbox.arrived.notify_one();
            true
        });
    }
}
