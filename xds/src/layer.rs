//! Persistent maps of resources: cheap to clone, cheap to compare with what they were made from.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use crate::resource::Resource;
use crate::type_url::TypeUrl;
use crate::version::SetDigest;

/// To whom an entry is sent. It belongs to the entry, not to the resource: the same bytes may be sent to everyone in one
/// snapshot and on demand in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    /// To wildcard subscriptions, and to those that name it.
    Wildcard,
    /// Only to subscriptions that name it, such as clusters fetched on demand.
    Named,
}

/// A resource in a layer, and to whom it is sent.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The resource.
    pub resource: Arc<Resource>,
    /// To whom it is sent.
    pub delivery: Delivery,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        #[cfg(test)]
        tests::COMPARISONS.with(|comparisons| comparisons.set(comparisons.get() + 1));
        self.delivery == other.delivery
            && (Arc::ptr_eq(&self.resource, &other.resource) || self.resource == other.resource)
    }
}

impl Eq for Entry {}

/// A set of resources by type and name. A clone shares everything with its original, and [`Layer::diff`] of two
/// layers costs what they differ by, not what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layer {
    /// Shared by the snapshots of all keys: even a small map takes a kibibyte.
    types: Arc<BTreeMap<TypeUrl, TypeLayer>>,
}

#[derive(Clone, Debug, Default)]
struct TypeLayer {
    entries: OrdMap<Arc<str>, Entry>,
    /// Of the entries delivered by wildcard.
    digest: SetDigest,
}

impl PartialEq for TypeLayer {
    fn eq(&self, other: &Self) -> bool {
        self.entries.ptr_eq(&other.entries) || (self.digest == other.digest && self.entries == other.entries)
    }
}

impl Eq for TypeLayer {}

impl Layer {
    /// A layer that holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a resource in under its own type and name; gives back the entry it replaces. Putting in an equal entry
    /// changes nothing, so that structure stays shared.
    pub fn insert(&mut self, resource: Arc<Resource>, delivery: Delivery) -> Option<Entry> {
        let name = Arc::clone(resource.name());
        let entry = Entry { resource, delivery };
        if let Some(present) = self.get(entry.resource.type_url(), &name)
            && *present == entry
        {
            return Some(present.clone());
        }
        let layer = Arc::make_mut(&mut self.types).entry(entry.resource.type_url().clone()).or_default();
        layer.count_in(&entry);
        let replaced = layer.entries.insert(name, entry);
        if let Some(replaced) = &replaced {
            layer.count_out(replaced);
        }
        replaced
    }

    /// Takes a resource out.
    pub fn remove(&mut self, type_url: &TypeUrl, name: &str) -> Option<Entry> {
        self.get(type_url, name)?;
        let types = Arc::make_mut(&mut self.types);
        let layer = types.get_mut(type_url)?;
        let removed = layer.entries.remove(name)?;
        layer.count_out(&removed);
        if layer.entries.is_empty() {
            types.remove(type_url);
        }
        Some(removed)
    }

    /// Looks a resource up.
    #[must_use]
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Entry> {
        self.types.get(type_url)?.entries.get(name)
    }

    /// Every entry, by type in send order, then by name.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.types.values().flat_map(|layer| layer.entries.values())
    }

    /// The entries of a type, by name.
    pub fn iter_type(&self, type_url: &TypeUrl) -> impl Iterator<Item = &Entry> + use<'_> {
        self.types.get(type_url).into_iter().flat_map(|layer| layer.entries.values())
    }

    /// The entries of a type whose names come after this one, by name.
    pub(crate) fn iter_type_after<'a>(
        &'a self,
        type_url: &TypeUrl,
        after: Option<&str>,
    ) -> impl Iterator<Item = &'a Entry> + use<'a> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.types.get(type_url).map(|layer| layer.entries.range::<_, str>((start, Bound::Unbounded)));
        range.into_iter().flatten().map(|(_, entry)| entry)
    }

    /// The types present, in send order.
    pub fn types(&self) -> impl Iterator<Item = &TypeUrl> {
        self.types.keys()
    }

    /// How many entries there are of a type.
    #[must_use]
    pub fn len_of(&self, type_url: &TypeUrl) -> usize {
        self.types.get(type_url).map_or(0, |layer| layer.entries.len())
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.types.values().map(|layer| layer.entries.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// What differs between two layers, by type in send order, then by name. Layers made from each other are compared
    /// only where they differ.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Difference> {
        let types: BTreeSet<&TypeUrl> = old.types.keys().chain(new.types.keys()).collect();
        types.into_iter().flat_map(|type_url| Self::diff_type(old, new, type_url)).collect()
    }

    /// [`Layer::diff`] of one type.
    #[must_use]
    pub fn diff_type(old: &Self, new: &Self, type_url: &TypeUrl) -> Vec<Difference> {
        let empty = OrdMap::new();
        let entries =
            |layer: &Self| layer.types.get(type_url).map_or_else(|| empty.clone(), |layer| layer.entries.clone());
        let (old, new) = (entries(old), entries(new));
        old.diff(&new)
            .map(|item| {
                let (name, old, new) = match item {
                    DiffItem::Add(name, new) => (name, None, Some(new.clone())),
                    DiffItem::Remove(name, old) => (name, Some(old.clone()), None),
                    DiffItem::Update { old, new } => (new.0, Some(old.1.clone()), Some(new.1.clone())),
                };
                Difference { type_url: type_url.clone(), name: Arc::clone(name), old, new }
            })
            .collect()
    }

    /// Whether two layers hold the very same map of a type, which costs nothing to find out. `false` says nothing.
    pub(crate) fn shares_type(&self, other: &Self, type_url: &TypeUrl) -> bool {
        match (self.types.get(type_url), other.types.get(type_url)) {
            (Some(one), Some(other)) => one.entries.ptr_eq(&other.entries),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    pub(crate) fn digest(&self, type_url: &TypeUrl) -> SetDigest {
        self.types.get(type_url).map_or_else(SetDigest::default, |layer| layer.digest)
    }
}

impl FromIterator<(Arc<Resource>, Delivery)> for Layer {
    fn from_iter<I: IntoIterator<Item = (Arc<Resource>, Delivery)>>(entries: I) -> Self {
        let mut layer = Self::new();
        for (resource, delivery) in entries {
            layer.insert(resource, delivery);
        }
        layer
    }
}

impl TypeLayer {
    fn count_in(&mut self, entry: &Entry) {
        if entry.delivery == Delivery::Wildcard {
            self.digest.add(entry.resource.name(), entry.resource.version());
        }
    }

    fn count_out(&mut self, entry: &Entry) {
        if entry.delivery == Delivery::Wildcard {
            self.digest.remove(entry.resource.name(), entry.resource.version());
        }
    }
}

/// One name whose entry differs between two layers or snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The resource's type.
    pub type_url: TypeUrl,
    /// The resource's name.
    pub name: Arc<str>,
    /// The entry before; `None` when it was not there.
    pub old: Option<Entry>,
    /// The entry after; `None` when it is no longer there.
    pub new: Option<Entry>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use envoy_types::pb::envoy::config::cluster::v3::Cluster;
    use std::cell::Cell;

    thread_local! {
        /// How many entries this thread has compared.
        pub(super) static COMPARISONS: Cell<usize> = const { Cell::new(0) };
    }

    fn cluster(name: &str, content: u32) -> Arc<Resource> {
        let message = Cluster { name: name.to_owned(), alt_stat_name: content.to_string(), ..Cluster::default() };
        Arc::new(Resource::new(name, &message).unwrap())
    }

    /// How many entries are compared to find one change among so many.
    fn comparisons_among(count: u32) -> usize {
        let old: Layer = (0..count).map(|number| (cluster(&format!("c{number:06}"), 0), Delivery::Wildcard)).collect();
        let mut new = old.clone();
        new.insert(cluster(&format!("c{:06}", count / 2), 1), Delivery::Wildcard);
        COMPARISONS.set(0);
        assert_eq!(Layer::diff(&old, &new).len(), 1);
        COMPARISONS.get()
    }

    #[test]
    fn finding_one_change_does_not_cost_more_among_more() {
        let (few, many) = (comparisons_among(100), comparisons_among(20_000));
        assert!(few > 0 && many <= few.max(64), "{few} among 100, {many} among 20,000");
    }
}
