//! What a step waits for.

use std::fmt;
use std::sync::Arc;

use time::OffsetDateTime;

use super::evidence::Participant;
use super::root::RootName;

/// Something that must come true before a step.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// The participant must be known to trust the root.
    Trust {
        /// Who.
        participant: Participant,
        /// Which root.
        root: RootName,
    },
    /// The participant must show no certificate of the root any more.
    Certificate {
        /// Who.
        participant: Participant,
        /// Which root.
        root: RootName,
    },
    /// Proxies that were connected a moment ago must come back, or their time must be over.
    Return {
        /// How many are missing.
        count: usize,
        /// A few of them.
        names: Vec<Arc<str>>,
        /// Until when they are waited for.
        until: OffsetDateTime,
    },
    /// A certificate of the root is in use; it must be replaced or end.
    Leaf {
        /// Which root.
        root: RootName,
        /// End of validity of the longest.
        until: OffsetDateTime,
    },
    /// The root's certificate must become valid.
    Validity {
        /// Which root.
        root: RootName,
        /// From when it is valid.
        from: OffsetDateTime,
    },
    /// The provider of the root that is to sign must become usable.
    Provider {
        /// Which root.
        root: RootName,
    },
    /// Another root must be there to sign.
    Successor {
        /// The root that signs now.
        root: RootName,
    },
}

impl Wait {
    /// The root that it is about; none for proxies that are expected back.
    pub fn root(&self) -> Option<&RootName> {
        match self {
            Self::Trust { root, .. }
            | Self::Certificate { root, .. }
            | Self::Leaf { root, .. }
            | Self::Validity { root, .. }
            | Self::Provider { root }
            | Self::Successor { root } => Some(root),
            Self::Return { .. } => None,
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trust { participant, root } => write!(f, "{participant} does not trust {root} yet"),
            Self::Certificate { participant, root } => {
                write!(f, "{participant} still uses a certificate of {root}")
            }
            Self::Return { count, names, until } => {
                let named = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
                write!(f, "{count} proxies{named} are expected back until {}", seconds(*until))
            }
            Self::Leaf { root, until } => {
                write!(f, "a certificate of {root} is not replaced yet; it ends at {}", seconds(*until))
            }
            Self::Validity { root, from } => write!(f, "{root} is not valid before {}", seconds(*from)),
            Self::Provider { root } => write!(f, "the provider of {root} cannot be used"),
            Self::Successor { root } => {
                write!(f, "{root} signs and there is no other root that could; create another MeshRootCertificate")
            }
        }
    }
}

/// RFC 3339, in whole seconds.
fn seconds(time: OffsetDateTime) -> String {
    let time = time.replace_nanosecond(0).unwrap_or(time).to_offset(time::UtcOffset::UTC);
    let (date, clock) = (time.date(), time.time());
    format!("{date}T{:02}:{:02}:{:02}Z", clock.hour(), clock.minute(), clock.second())
}
