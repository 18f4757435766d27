//! Sets of node ids, and the comparison of sorted lists.

use std::cmp::Ordering;
use std::collections::BTreeSet;

/// A key's number within one engine. Numbers are reused, so their order means nothing and must not reach an output.
pub(crate) type Id = u32;

/// Above this many members, insertion and removal in a sorted list would cost more than in a tree.
const FEW: usize = 32;

/// A set of ids: most nodes have a handful of readers, a few have as many as there are nodes.
#[derive(Debug)]
pub(crate) enum EdgeSet {
    Few(Vec<Id>),
    Many(BTreeSet<Id>),
}

impl Default for EdgeSet {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl EdgeSet {
    pub(crate) fn insert(&mut self, id: Id) {
        match self {
            Self::Few(ids) => {
                if let Err(position) = ids.binary_search(&id) {
                    ids.insert(position, id);
                    if ids.len() > FEW {
                        *self = Self::Many(ids.iter().copied().collect());
                    }
                }
            }
            Self::Many(ids) => {
                ids.insert(id);
            }
        }
    }

    pub(crate) fn remove(&mut self, id: Id) {
        match self {
            Self::Few(ids) => {
                if let Ok(position) = ids.binary_search(&id) {
                    ids.remove(position);
                }
            }
            Self::Many(ids) => {
                ids.remove(&id);
                // Half of the limit, so that a set that hovers around the limit is not converted over and over.
                if ids.len() <= FEW / 2 {
                    *self = Self::Few(ids.iter().copied().collect());
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Few(ids) => ids.is_empty(),
            Self::Many(ids) => ids.is_empty(),
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Id> + '_ {
        let (few, many) = match self {
            Self::Few(ids) => (Some(ids), None),
            Self::Many(ids) => (None, Some(ids)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten()).copied()
    }
}

/// How an entry of one sorted list relates to another sorted list.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Difference<'a, T> {
    Removed(&'a T),
    Added(&'a T),
    /// The former entry and the new one, equal in order.
    Kept(&'a T, &'a T),
}

/// Walks two lists, both sorted by `order` and without duplicates, side by side.
pub(crate) fn differences<'a, T>(
    mut old: &'a [T],
    mut new: &'a [T],
    order: impl Fn(&T, &T) -> Ordering,
) -> impl Iterator<Item = Difference<'a, T>> {
    std::iter::from_fn(move || {
        let side = match (old.first(), new.first()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(former), Some(next)) => order(former, next),
        };
        Some(match side {
            Ordering::Less => Difference::Removed(take_first(&mut old)?),
            Ordering::Greater => Difference::Added(take_first(&mut new)?),
            Ordering::Equal => Difference::Kept(take_first(&mut old)?, take_first(&mut new)?),
        })
    })
}

fn take_first<'a, T>(list: &mut &'a [T]) -> Option<&'a T> {
    let (first, rest) = list.split_first()?;
    *list = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_edge_set_is_a_set(operations in proptest::collection::vec((any::<bool>(), 0..100_u32), 0..400)) {
            let mut edges = EdgeSet::default();
            let mut expected = BTreeSet::new();
            for (insert, id) in operations {
                if insert {
                    edges.insert(id);
                    expected.insert(id);
                } else {
                    edges.remove(id);
                    expected.remove(&id);
                }
                prop_assert_eq!(edges.is_empty(), expected.is_empty());
                prop_assert!(edges.iter().eq(expected.iter().copied()));
            }
        }

        #[test]
        fn differences_partition_both_lists(
            old in proptest::collection::btree_set(0..20_u32, 0..12),
            new in proptest::collection::btree_set(0..20_u32, 0..12),
        ) {
            let old_list: Vec<_> = old.iter().copied().collect();
            let new_list: Vec<_> = new.iter().copied().collect();
            let (mut removed, mut added, mut kept) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            for difference in differences(&old_list, &new_list, u32::cmp) {
                match difference {
                    Difference::Removed(id) => removed.insert(*id),
                    Difference::Added(id) => added.insert(*id),
                    Difference::Kept(id, _) => kept.insert(*id),
                };
            }
            prop_assert_eq!(removed, &old - &new);
            prop_assert_eq!(added, &new - &old);
            prop_assert_eq!(kept, &old & &new);
        }
    }
}
