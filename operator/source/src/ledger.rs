//! The objects of all files, compared with the last good state. Pure, and as much work as there is change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use osm_api::{Object, ObjectRef};

use crate::event::Change;
use crate::manifest::{Declared, IgnoredKind, Manifest, Place};
use crate::problem::Problem;

/// What all files declare now, and the last state in which nothing was wrong.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    files: BTreeMap<Arc<Path>, Entry>,
    /// Who declares an object; more than one is a problem.
    claims: HashMap<ObjectRef, Vec<Claim>>,
    live: HashMap<ObjectRef, Live>,
    /// Objects whose claims changed since the last good state.
    dirty: BTreeSet<ObjectRef>,
    /// Objects with more than one claim.
    contested: BTreeSet<ObjectRef>,
    /// Files with problems.
    faulty: BTreeSet<Arc<Path>>,
    ignored: BTreeMap<IgnoredKind, usize>,
}

/// A file, without its objects, which are among the claims.
#[derive(Debug)]
struct Entry {
    objects: Vec<ObjectRef>,
    ignored: BTreeMap<IgnoredKind, usize>,
    problems: Vec<Problem>,
}

#[derive(Debug)]
struct Claim {
    file: Arc<Path>,
    place: Place,
    object: Object,
    generation: Generation,
}

/// An object of the last good state.
#[derive(Debug)]
struct Live {
    object: Object,
    /// The generation that was given out with it.
    generation: i64,
}

/// Where an object's generation comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    /// The manifest has one.
    Written,
    /// We count changes, as an API server does.
    Counted,
}

impl Ledger {
    /// Replaces what the file declares.
    pub(crate) fn put(&mut self, file: &Arc<Path>, manifest: Manifest) {
        self.remove(file);
        let mut objects = Vec::with_capacity(manifest.objects.len());
        for Declared { reference, object, place } in manifest.objects {
            let generation = match object.metadata().generation {
                Some(_) => Generation::Written,
                None => Generation::Counted,
            };
            let claims = self.claims.entry(reference.clone()).or_default();
            claims.push(Claim { file: file.clone(), place, object, generation });
            if claims.len() > 1 {
                self.contested.insert(reference.clone());
            }
            self.dirty.insert(reference.clone());
            objects.push(reference);
        }
        for (kind, count) in &manifest.ignored {
            *self.ignored.entry(kind.clone()).or_default() += count;
        }
        if !manifest.problems.is_empty() {
            self.faulty.insert(file.clone());
        }
        self.files.insert(file.clone(), Entry { objects, ignored: manifest.ignored, problems: manifest.problems });
    }

    /// Forgets the file and what it declares.
    pub(crate) fn remove(&mut self, file: &Path) {
        let Some(entry) = self.files.remove(file) else { return };
        self.faulty.remove(file);
        for reference in entry.objects {
            if let Some(claims) = self.claims.get_mut(&reference) {
                claims.retain(|claim| *claim.file != *file);
                if claims.len() <= 1 {
                    self.contested.remove(&reference);
                }
                if claims.is_empty() {
                    self.claims.remove(&reference);
                }
            }
            self.dirty.insert(reference);
        }
        for (kind, count) in entry.ignored {
            if let Some(total) = self.ignored.get_mut(&kind) {
                *total -= count;
                if *total == 0 {
                    self.ignored.remove(&kind);
                }
            }
        }
    }

    /// How many objects are of which kind that the mesh does not read.
    pub(crate) fn ignored(&self) -> &BTreeMap<IgnoredKind, usize> {
        &self.ignored
    }

    /// All that is wrong in files and between them, in the order of files.
    pub(crate) fn problems(&self) -> Vec<Problem> {
        let in_files = self.faulty.iter().filter_map(|file| self.files.get(file)).flat_map(|entry| &entry.problems);
        in_files.cloned().chain(self.contested.iter().flat_map(|reference| self.duplicates(reference))).collect()
    }

    /// One problem for each place but the first that declares the object.
    fn duplicates(&self, reference: &ObjectRef) -> Vec<Problem> {
        let mut claims: Vec<_> = self.claims.get(reference).into_iter().flatten().collect();
        claims.sort_by_key(|claim| (&claim.file, claim.place));
        let Some((first, others)) = claims.split_first() else { return Vec::new() };
        others
            .iter()
            .map(|claim| Problem {
                document: Some(claim.place.document),
                line: Some(claim.place.line),
                object: Some(reference.clone()),
                ..Problem::of_file(
                    &claim.file,
                    format!(
                        "is declared already at {}:{} (document {})",
                        first.file.display(),
                        first.place.line,
                        first.place.document
                    ),
                    "remove one of the two or rename it",
                )
            })
            .collect()
    }

    /// Makes what the files declare the last good state. Only to be called when nothing is wrong.
    pub(crate) fn settle(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for reference in std::mem::take(&mut self.dirty) {
            let Some(claim) = self.claims.get_mut(&reference).and_then(|claims| claims.first_mut()) else {
                if self.live.remove(&reference).is_some() {
                    changes.push((reference, None));
                }
                continue;
            };
            let live = self.live.get(&reference);
            let current = match (claim.generation, live) {
                (Generation::Counted, Some(live)) => with_generation(claim.object.clone(), live.generation),
                (Generation::Counted, None) => with_generation(claim.object.clone(), 1),
                (Generation::Written, _) => claim.object.clone(),
            };
            if let Some(live) = live
                && live.object == current
            {
                // Both are the same allocation from now on.
                claim.object = live.object.clone();
                continue;
            }
            let object = match (claim.generation, live) {
                (Generation::Counted, Some(live)) => with_generation(current, live.generation.saturating_add(1)),
                (Generation::Counted, None) | (Generation::Written, _) => current,
            };
            claim.object = object.clone();
            let generation = object.metadata().generation.unwrap_or_default();
            self.live.insert(reference.clone(), Live { object: object.clone(), generation });
            changes.push((reference, Some(object)));
        }
        changes
    }
}

macro_rules! define_with_generation {
    ($({ kind: $kind:ident, $($rest:tt)* })+) => {
        /// The object with this generation; a copy only if it is shared.
        fn with_generation(mut object: Object, generation: i64) -> Object {
            if object.metadata().generation != Some(generation) {
                match &mut object {
                    $(Object::$kind(object) => Arc::make_mut(object).metadata.generation = Some(generation),)+
                }
            }
            object
        }
    };
}

osm_api::for_each_kind!(define_with_generation);

#[cfg(test)]
mod tests;
