//! A figure of the report: a key, what it must reach, and what was measured.

use serde::{Deserialize, Serialize};

use crate::statistics::Summary;

/// What a figure must reach.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// At most this.
    AtMost(f64),
    /// At least this.
    AtLeast(f64),
    /// Exactly this.
    Exactly(f64),
    /// Nothing: it is written down for the record.
    Record,
}

impl Goal {
    /// Whether a value reaches the goal; none where there is nothing to reach.
    #[must_use]
    pub fn is_met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::Exactly(expected) => Some(value == expected),
            Self::Record => None,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(formatter, "≤ {limit}"),
            Self::AtLeast(limit) => write!(formatter, "≥ {limit}"),
            Self::Exactly(expected) => write!(formatter, "= {expected}"),
            Self::Record => formatter.write_str("for the record"),
        }
    }
}

/// One measured figure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name in the JSON.
    pub key: String,
    /// What it must reach.
    pub goal: Goal,
    /// What was measured; the median is the value.
    pub summary: Summary,
    /// What was measured on what, in words.
    pub meaning: String,
    /// Why it is short of its goal, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short_because: Option<String>,
}

impl Figure {
    /// A figure.
    #[must_use]
    pub fn new(key: impl Into<String>, goal: Goal, summary: Summary, meaning: impl Into<String>) -> Self {
        Self { key: key.into(), goal, summary, meaning: meaning.into(), short_because: None }
    }

    /// Says why it is short of its goal; that is told only where it is.
    #[must_use]
    pub fn short_because(self, reason: impl Into<String>) -> Self {
        Self { short_because: Some(reason.into()), ..self }
    }

    /// Whether it is a count, which depends on nothing but what the server does.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        matches!(self.goal, Goal::Exactly(_))
    }

    /// Whether it reaches its goal.
    #[must_use]
    pub fn is_met(&self) -> Option<bool> {
        self.goal.is_met(self.summary.median)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_by_what_reaches_it() {
        assert_eq!(Goal::AtMost(2.0).is_met(2.0), Some(true));
        assert_eq!(Goal::AtMost(2.0).is_met(2.01), Some(false));
        assert_eq!(Goal::AtLeast(2.0).is_met(2.0), Some(true));
        assert_eq!(Goal::AtLeast(2.0).is_met(1.99), Some(false));
        assert_eq!(Goal::Exactly(1.0).is_met(0.99), Some(false));
        assert_eq!(Goal::Record.is_met(5.0), None);
    }
}
