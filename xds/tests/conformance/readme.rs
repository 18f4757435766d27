//! The table of rules in the README tells the truth.
