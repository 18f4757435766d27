//! Lists of names that many streams have in common.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

/// A sorted list of names, as a stream keeps it. Equal lists are kept once.
pub(crate) type NameList = Arc<Vec<Arc<str>>>;

/// The lists in use, by their hash.
#[derive(Default)]
pub(super) struct NameLists {
    lists: HashMap<u64, Weak<Vec<Arc<str>>>>,
    hasher: RandomState,
    /// How many lists there may be before those out of use are looked for.
    limit: usize,
}

impl NameLists {
    /// The list to keep in place of an equal one.
    pub(super) fn share(&mut self, list: &NameList) -> NameList {
        let hash = self.hasher.hash_one(&**list);
        match self.lists.get(&hash).and_then(Weak::upgrade) {
            Some(present) if present == *list => present,
            // Another list with the same hash is in use: this one is kept on its own.
            Some(_) => Arc::clone(list),
            None => {
                self.lists.insert(hash, Arc::downgrade(list));
                self.forget_unused();
                Arc::clone(list)
            }
        }
    }

    fn forget_unused(&mut self) {
        const FEW: usize = 64;
        if self.lists.len() > self.limit.max(FEW) {
            self.lists.retain(|_, list| list.strong_count() > 0);
            self.limit = self.lists.len() * 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> NameList {
        Arc::new(names.iter().map(|name| Arc::from(*name)).collect())
    }

    #[test]
    fn equal_lists_become_one_and_unused_ones_are_forgotten() {
        let mut lists = NameLists::default();
        let first = lists.share(&list(&["a", "b"]));
        assert!(Arc::ptr_eq(&first, &lists.share(&list(&["a", "b"]))));
        assert!(!Arc::ptr_eq(&first, &lists.share(&list(&["a"]))));
        for number in 0..1000 {
            lists.share(&list(&[&number.to_string()]));
        }
        assert!(lists.lists.len() <= 129, "{}", lists.lists.len());
        assert!(Arc::ptr_eq(&first, &lists.share(&list(&["a", "b"]))));
    }
}
