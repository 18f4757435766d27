//! What an application counts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// An application's counters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersReport {
    /// Which application.
    pub name: String,
    /// Its counters.
    pub counters: BTreeMap<String, u64>,
}

/// Counters shared by an application's tasks.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counters(Arc<Mutex<BTreeMap<String, u64>>>);

impl Counters {
    /// Adds one and returns the sum.
    pub(crate) fn add(&self, name: &str) -> u64 {
        self.add_many(name, 1)
    }

    pub(crate) fn add_many(&self, name: &str, amount: u64) -> u64 {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let value = counters.entry(name.to_owned()).or_default();
        *value += amount;
        *value
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.all().get(name).copied().unwrap_or_default()
    }

    pub(crate) fn reset(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn all(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
