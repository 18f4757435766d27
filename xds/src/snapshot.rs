//! What one kind of proxy shall hold: a set of references to resources.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::layer::{Delivery, Difference, Entry, Layer};
use crate::type_url::TypeUrl;
use crate::version::{SetDigest, Version};

/// An immutable set of resources, made of layers of which a later one wins for the same type and name.
///
/// Layers are what proxies share: typically one for the whole mesh, one per workload, one per proxy. Keep each layer at
/// the same position from one snapshot of a key to the next: positions are compared with each other.
#[derive(Default)]
pub struct Snapshot {
    layers: Vec<Layer>,
    /// By position in [`TypeUrl::KNOWN`].
    digests: [OnceLock<SetDigest>; TypeUrl::KNOWN.len()],
    complete_states: Mutex<BTreeMap<TypeUrl, CompleteState>>,
}

/// Everything that a wildcard subscription receives of a type, as field 2 of `DiscoveryResponse` many times over.
#[derive(Clone)]
pub(crate) struct CompleteState {
    pub(crate) frames: Bytes,
    pub(crate) resources: usize,
}

impl Snapshot {
    /// A snapshot of these layers; a later one wins.
    #[must_use]
    pub fn new(layers: impl IntoIterator<Item = Layer>) -> Self {
        Self { layers: layers.into_iter().collect(), ..Self::default() }
    }

    /// The layers, in order.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The entry that counts for a name.
    #[must_use]
    pub fn get(&self, type_url: &TypeUrl, name: &str) -> Option<&Entry> {
        self.layers.iter().rev().find_map(|layer| layer.get(type_url, name))
    }

    /// The entries of a type that count, each name once. Sorted by name within a layer; the first layer first.
    pub fn iter_type<'a>(&'a self, type_url: &'a TypeUrl) -> impl Iterator<Item = &'a Entry> {
        self.layers.iter().enumerate().flat_map(move |(index, layer)| {
            let above = self.layers.get(index + 1..).unwrap_or_default();
            layer
                .iter_type(type_url)
                .filter(move |entry| above.iter().all(|layer| layer.get(type_url, entry.resource.name()).is_none()))
        })
    }

    /// The entries of a type that count and whose names come after this one, by name.
    pub(crate) fn iter_type_after(&self, type_url: &TypeUrl, after: Option<&str>) -> impl Iterator<Item = &Entry> {
        let mut layers: Vec<_> =
            self.layers.iter().map(|layer| layer.iter_type_after(type_url, after).peekable()).collect();
        std::iter::from_fn(move || {
            let first = layers.iter_mut().filter_map(|layer| layer.peek()).map(|entry| entry.resource.name()).min()?;
            let first = Arc::clone(first);
            let mut counts = None;
            for layer in &mut layers {
                if let Some(entry) = layer.next_if(|entry| *entry.resource.name() == first) {
                    counts = Some(entry);
                }
            }
            counts
        })
    }

    /// Every entry that counts, by type in send order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        let types: Vec<&TypeUrl> = self.types().into_iter().collect();
        types.into_iter().flat_map(move |type_url| self.iter_type(type_url))
    }

    /// The types present, in send order.
    #[must_use]
    pub fn types(&self) -> BTreeSet<&TypeUrl> {
        self.layers.iter().flat_map(Layer::types).collect()
    }

    /// The version of what a wildcard subscription of this type receives: a function of names and contents alone,
    /// equal on every replica.
    #[must_use]
    pub fn type_version(&self, type_url: &TypeUrl) -> Version {
        self.digest(type_url).version()
    }

    /// What differs between two snapshots, by type in send order, then by name.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Vec<Difference> {
        let mut types = old.types();
        types.extend(new.types());
        types.into_iter().flat_map(|type_url| Self::diff_type(old, new, type_url)).collect()
    }

    /// [`Snapshot::diff`] of one type. Costs what differs when the snapshots share layers.
    #[must_use]
    pub fn diff_type(old: &Self, new: &Self, type_url: &TypeUrl) -> Vec<Difference> {
        let empty = Layer::new();
        let mut differences = Vec::new();
        let mut layers_that_differ = 0;
        for index in 0..old.layers.len().max(new.layers.len()) {
            let old_layer = old.layers.get(index).unwrap_or(&empty);
            let new_layer = new.layers.get(index).unwrap_or(&empty);
            if !old_layer.shares_type(new_layer, type_url) {
                layers_that_differ += 1;
                differences.extend(Layer::diff_type(old_layer, new_layer, type_url));
            }
        }
        if old.layers.len().max(new.layers.len()) > 1 {
            if layers_that_differ > 1 {
                differences.sort_by(|one, other| one.name.cmp(&other.name));
                differences.dedup_by(|one, other| one.name == other.name);
            }
            // What changed in a layer need not have changed in the whole.
            differences.retain_mut(|difference| {
                difference.old = old.get(type_url, &difference.name).cloned();
                difference.new = new.get(type_url, &difference.name).cloned();
                difference.old != difference.new
            });
        }
        differences
    }

    /// Whether the two deliver the same.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        let mut types = self.types();
        types.extend(other.types());
        types.into_iter().all(|type_url| Self::diff_type(self, other, type_url).is_empty())
    }

    /// Whether a wildcard subscription of the type receives anything.
    pub(crate) fn has_wildcard_entries(&self, type_url: &TypeUrl) -> bool {
        self.iter_type(type_url).any(|entry| entry.delivery == Delivery::Wildcard)
    }

    /// What a wildcard subscription of a type receives, put together once for all streams that need it whole.
    pub(crate) fn complete_state(&self, type_url: &TypeUrl) -> CompleteState {
        let mut states = self.complete_states.lock();
        if let Some(state) = states.get(type_url) {
            return state.clone();
        }
        let entries = || self.iter_type(type_url).filter(|entry| entry.delivery == Delivery::Wildcard);
        let bytes = entries().map(|entry| entry.resource.any_frame().len()).sum();
        let mut frames = BytesMut::with_capacity(bytes);
        let mut resources = 0;
        for entry in entries() {
            frames.extend_from_slice(entry.resource.any_frame());
            resources += 1;
        }
        let state = CompleteState { frames: frames.freeze(), resources };
        states.insert(type_url.clone(), state.clone());
        state
    }

    /// Drops what [`Snapshot::complete_state`] keeps: the snapshot is current no more.
    pub(crate) fn forget_complete_states(&self) {
        self.complete_states.lock().clear();
    }

    fn digest(&self, type_url: &TypeUrl) -> SetDigest {
        match TypeUrl::KNOWN.iter().position(|known| known == type_url) {
            Some(position) => *self.digests[position].get_or_init(|| self.compute_digest(type_url)),
            None => self.compute_digest(type_url),
        }
    }

    fn compute_digest(&self, type_url: &TypeUrl) -> SetDigest {
        let mut digest = SetDigest::default();
        for layer in &self.layers {
            digest.add_all(layer.digest(type_url));
        }
        // Count out what a later layer hides. Walk the smaller side: per-proxy layers are small.
        for (index, upper) in self.layers.iter().enumerate() {
            for entry in self.hidden_by(index, upper, type_url) {
                digest.remove(entry.resource.name(), entry.resource.version());
            }
        }
        digest
    }

    /// The wildcard entries below layer `index` that it hides and that no layer between hides already.
    fn hidden_by<'a>(&'a self, index: usize, upper: &'a Layer, type_url: &'a TypeUrl) -> Vec<&'a Entry> {
        let below = self.layers.get(..index).unwrap_or_default();
        let below_len: usize = below.iter().map(|layer| layer.len_of(type_url)).sum();
        let topmost = |name: &str| below.iter().rev().find_map(|layer| layer.get(type_url, name));
        let hidden: Vec<&Entry> = if below_len == 0 {
            Vec::new()
        } else if upper.len_of(type_url) <= below_len {
            upper.iter_type(type_url).filter_map(|entry| topmost(entry.resource.name())).collect()
        } else {
            let names: BTreeSet<&Arc<str>> = below
                .iter()
                .flat_map(|layer| layer.iter_type(type_url))
                .map(|entry| entry.resource.name())
                .filter(|name| upper.get(type_url, name).is_some())
                .collect();
            names.into_iter().filter_map(|name| topmost(name)).collect()
        };
        hidden.into_iter().filter(|entry| entry.delivery == Delivery::Wildcard).collect()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Snapshot").field("layers", &self.layers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
