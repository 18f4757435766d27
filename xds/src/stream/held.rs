//! What a client holds under one name.

use std::sync::Arc;

use crate::resource::Resource;
use crate::version::Version;

/// What the client holds under a name, where that differs from what `base` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Whatever it is, the name must be answered: it was just subscribed to.
    Unanswered,
    /// The same, and the client may still hold what it was sent before.
    Reasked,
    /// Something that it waits to be sent again, because what refers to it was sent again.
    Awaited,
    /// Nothing.
    Absent,
    /// This resource.
    Resource(Arc<Resource>),
    /// A resource of this version, as the client said when it connected.
    Claimed(Box<Version>),
    /// A resource of whatever version: what it held before it refused another.
    Something,
}

impl Held {
    /// Whether the client subscribed to the name and waits for an answer.
    pub(crate) const fn is_asked(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Reasked)
    }

    /// Whether the name must be sent whatever the client holds.
    pub(crate) const fn must_be_answered(&self) -> bool {
        matches!(self, Self::Unanswered | Self::Reasked | Self::Awaited)
    }

    /// Whether the client holds exactly this, for sure.
    pub(crate) fn is(&self, resource: Option<&Arc<Resource>>) -> bool {
        match (self, resource) {
            (Self::Unanswered | Self::Reasked | Self::Awaited, _) => false,
            (Self::Absent, None) => true,
            (Self::Resource(held), Some(resource)) => held.version() == resource.version(),
            (Self::Claimed(held), Some(resource)) => **held == resource.version(),
            (Self::Absent, Some(_)) | (Self::Resource(_) | Self::Claimed(_), None) | (Self::Something, _) => false,
        }
    }
}
