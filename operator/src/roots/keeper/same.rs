//! Roots with equal certificates are one root: nobody who verifies a certificate can tell them apart. OSM's own
//! MeshRootCertificate names the Secret of the authority that a control plane is started with, for instance.

use std::collections::BTreeMap;
use std::sync::Arc;

use osm_issuer::rotation::{Availability, Role, Root, RootName, Roots, Standing};

use super::Keeper;
use super::known::Known;
use crate::roots::deliveries::Bundles;
use crate::roots::provider::Built;

impl Keeper {
    /// For each root whose certificates are known, the one that stands for all with the same: the one in force, if one is, and
    /// else one that has an object, which people know by name.
    fn representatives(&self) -> BTreeMap<&RootName, &RootName> {
        let mut groups: Vec<Vec<&RootName>> = Vec::new();
        let bundle = |name: &RootName| self.roots.get(name).and_then(Known::bundle);
        for (name, known) in self.roots.iter().filter(|(_, known)| self.takes_part(known)) {
            let Some(own) = known.bundle() else { continue };
            match groups.iter_mut().find(|group| bundle(group[0]) == Some(own)) {
                Some(group) => group.push(name),
                None => groups.push(vec![name]),
            }
        }
        let mut representatives = BTreeMap::new();
        for group in groups {
            let in_force = group.iter().find(|name| self.record.trusted.contains(**name));
            let has_object = || group.iter().find(|name| **name != &self.inputs.built_in.name);
            let representative = in_force.or_else(has_object).copied().unwrap_or(group[0]);
            representatives.extend(group.into_iter().map(|name| (name, representative)));
        }
        representatives
    }

    /// The root that stands for `name`.
    pub(super) fn representative(&self, name: &RootName) -> RootName {
        self.representatives().get(name).copied().unwrap_or(name).clone()
    }

    /// The issuers of all roots, by name.
    pub(super) fn built(&self) -> BTreeMap<RootName, Built> {
        self.roots.iter().filter_map(|(name, known)| Some((name.clone(), known.built.clone()?))).collect()
    }

    /// Shows the certificates of all roots to whoever asks, those that are the same once.
    pub(super) fn share_bundles(&self) {
        let representatives = self.representatives();
        let stands_for_itself = |name: &RootName| representatives.get(name).is_none_or(|other| **other == *name);
        let known = self.roots.iter().filter(|(name, _)| stands_for_itself(name));
        let bundles: Bundles =
            known.filter_map(|(name, known)| Some((name.clone(), known.bundle()?.clone()))).collect();
        if **self.bundles.load() != bundles {
            self.bundles.store(Arc::new(bundles));
        }
    }

    /// The roots as their objects want them, those that are the same together.
    pub(super) fn wanted(&self) -> Roots {
        let known = self.roots.iter().filter(|(_, known)| self.takes_part(known));
        let signs_now = |name: &RootName| self.record.signing.as_ref() == Some(name);
        let mut each: Roots = known.map(|(name, known)| (name.clone(), known.wanted(signs_now(name)))).collect();
        let built_in = &self.inputs.built_in.name;
        let of_objects = || each.iter().filter(|(name, _)| *name != built_in).map(|(_, root)| root.role);
        // Once another root has taken its place it comes back only when no object is left that could be used.
        let comes_back = self.record.trusted.contains(built_in) || of_objects().all(|role| role == Role::Inactive);
        let role = match comes_back && of_objects().all(|role| role != Role::Active) {
            true => Role::Active,
            false => Role::Inactive,
        };
        if let Some(root) = each.get_mut(built_in) {
            root.role = role;
        }
        let representatives = self.representatives();
        let mut wanted = Roots::new();
        for (name, root) in each {
            let name = representatives.get(&name).copied().cloned().unwrap_or(name);
            let both = match wanted.remove(&name) {
                Some(other) => together(other, root),
                None => root,
            };
            wanted.insert(name, both);
        }
        wanted
    }

    /// Objects of other namespaces take no part.
    fn takes_part(&self, known: &Known) -> bool {
        known.object.as_ref().is_none_or(|object| object.reference.namespace == self.inputs.namespace)
    }
}

/// What two roots want that are the same.
fn together(one: Root, other: Root) -> Root {
    let usable = |root: &Root| matches!(root.availability, Availability::Usable { .. });
    let compromised = [&one, &other].iter().any(|root| root.standing == Standing::Compromised);
    Root {
        // An active one comes before a passive one.
        role: one.role.min(other.role),
        created: one.created.min(other.created),
        availability: if usable(&one) { one.availability } else { other.availability },
        standing: if compromised { Standing::Compromised } else { Standing::Good },
        waived: one.waived.into_iter().chain(other.waived).collect(),
    }
}
