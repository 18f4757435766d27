//! Going through what is left to do, and gathering one response of it.

use std::sync::Arc;

use super::flight::Item;
use super::held::Held;
use crate::resource::Resource;

/// What is to be done about an exception.
pub(crate) enum Step {
    /// Nothing, and it is none any more.
    Forget,
    /// Nothing, and the client is known to hold nothing under the name.
    NoteAbsent,
    /// Nothing for now, and nothing is owed.
    Keep,
    /// A removal that must wait for other types.
    Wait,
    /// The client refused exactly this.
    Refused,
    /// The client refused exactly this, which is to hold nothing under the name.
    RemovalRefused,
    Send(Arc<Resource>),
    Remove,
}

/// What going through the exceptions found.
#[derive(Default)]
pub(crate) struct Scan {
    pub(crate) items: Vec<Item>,
    /// There is more than fits in one response.
    pub(crate) more: bool,
    pub(crate) removal_waits: bool,
    pub(crate) refused: bool,
    /// An item answers a new subscription.
    pub(crate) unanswered: bool,
    /// Exceptions that are none any more.
    pub(crate) forget: Vec<Arc<str>>,
    /// Names under which the client is known to hold nothing.
    pub(crate) absent: Vec<Arc<str>>,
    bytes: usize,
    budget: usize,
}

impl Scan {
    pub(crate) fn new(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Nothing is owed but removals.
    pub(crate) const fn is_done(&self) -> bool {
        self.items.is_empty() && !self.refused
    }

    /// Takes up what is to be done under a name; `false` when the response is full, and the name is for the next.
    pub(crate) fn take(&mut self, name: &Arc<str>, held: &Held, step: Step) -> bool {
        let resource = match step {
            Step::Forget => {
                self.forget.push(Arc::clone(name));
                return true;
            }
            Step::NoteAbsent => {
                self.absent.push(Arc::clone(name));
                return true;
            }
            Step::Keep => return true,
            // Nothing that others build on.
            Step::Wait | Step::RemovalRefused => {
                self.removal_waits = true;
                return true;
            }
            Step::Refused => {
                self.refused = true;
                return true;
            }
            Step::Send(resource) => Some(resource),
            Step::Remove => None,
        };
        let size = resource.as_ref().map_or(name.len(), |resource| resource.delta_frame().len());
        if self.bytes > 0 && self.bytes.saturating_add(size) > self.budget {
            self.more = true;
            return false;
        }
        self.bytes += size;
        self.unanswered |= held.must_be_answered();
        self.items.push(Item { name: Arc::clone(name), resource });
        true
    }
}

/// A name, what is held under it, and whether that is known only from its being part of a first answer.
pub(crate) type Candidate<'a> = (&'a Arc<str>, &'a Held, bool);

/// Merges two lists sorted by name; a name in both counts as in the first.
pub(crate) fn merge<'a>(
    exceptions: impl Iterator<Item = Candidate<'a>>,
    first_answers: impl Iterator<Item = Candidate<'a>>,
) -> impl Iterator<Item = Candidate<'a>> {
    let (mut exceptions, mut first_answers) = (exceptions.peekable(), first_answers.peekable());
    std::iter::from_fn(move || {
        let exception = exceptions.peek().map(|candidate| candidate.0);
        let Some(exception) = exception else {
            return first_answers.next();
        };
        if let Some(first) = first_answers.next_if(|candidate| candidate.0 < exception) {
            return Some(first);
        }
        first_answers.next_if(|candidate| candidate.0 == exception);
        exceptions.next()
    })
}
