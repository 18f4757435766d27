//! The objects of one kind as they were last told, compared with what a list or a watch shows. Pure.

use std::collections::{HashMap, HashSet};

use osm_api::{DecodeError, Kind, Object, ObjectRef, Ownership, Scope, Strictness, decode};
use osm_source::{Change, Problem};
use serde_json::Value;

use crate::stored::StoredObject;

/// The objects of one kind.
#[derive(Debug)]
pub(crate) struct Known {
    kind: Kind,
    /// Those that were told, in their last good state.
    objects: HashMap<ObjectRef, Object>,
    /// Those that could not be decoded when last shown.
    faulty: HashSet<ObjectRef>,
    /// Every object that is there, good or not, if its kind is ours: for the others the union of the former is enough.
    present: HashSet<ObjectRef>,
    /// Set while objects are listed: those shown so far.
    shown: Option<HashSet<ObjectRef>>,
}

/// What one object, or the end of a list, means.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct News {
    /// New, changed and gone objects.
    pub(crate) changes: Vec<Change>,
    /// Problems that are new or have changed, and, with `None`, those that are no more.
    pub(crate) problems: Vec<(ObjectRef, Option<Problem>)>,
    /// What the server holds beside, of kinds of ours; `None` for objects that are gone.
    pub(crate) stored: Vec<(ObjectRef, Option<StoredObject>)>,
}

impl News {
    /// Adds what came later.
    pub(crate) fn extend(&mut self, later: Self) {
        self.changes.extend(later.changes);
        self.problems.extend(later.problems);
        self.stored.extend(later.stored);
    }
}

impl Known {
    /// None are known.
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, objects: HashMap::new(), faulty: HashSet::new(), present: HashSet::new(), shown: None }
    }

    /// A list begins. What it does not show is gone when it ends; a list that was begun before counts for nothing.
    pub(crate) fn begin_list(&mut self) {
        self.shown = Some(HashSet::new());
    }

    /// A list has shown all that is there.
    pub(crate) fn end_list(&mut self) -> News {
        let mut news = News::default();
        let Some(shown) = self.shown.take() else { return news };
        let known = self.objects.keys().chain(&self.faulty).chain(&self.present);
        let gone: HashSet<ObjectRef> = known.filter(|object| !shown.contains(*object)).cloned().collect();
        for object in gone {
            self.forget(object, &mut news);
        }
        news
    }

    /// An object is there in this state.
    pub(crate) fn apply(&mut self, mut value: Value) -> News {
        let mut news = News::default();
        let Some(reference) = self.name(&value) else {
            tracing::warn!(kind = %self.kind, "an object without a name is left out");
            return news;
        };
        if let Some(shown) = &mut self.shown {
            shown.insert(reference.clone());
        }
        if self.kind.ownership() == Ownership::Own {
            self.present.insert(reference.clone());
            news.stored.push((reference.clone(), Some(StoredObject::take(&mut value))));
        }
        // Written by the control plane, never read by the mesh.
        if self.kind == Kind::ProxySnapshot {
            return news;
        }
        self.complete(&mut value);
        match decode(value, Strictness::Lenient) {
            Ok(object) => {
                if self.faulty.remove(&reference) {
                    news.problems.push((reference.clone(), None));
                }
                // What is told again unchanged would be computed again.
                if self.objects.get(&reference) != Some(&object) {
                    self.objects.insert(reference.clone(), object.clone());
                    news.changes.push((reference, Some(object)));
                }
            }
            Err(error) => {
                self.faulty.insert(reference.clone());
                let problem = problem(&reference, &error, self.objects.contains_key(&reference));
                news.problems.push((reference, Some(problem)));
            }
        }
        news
    }

    /// An object is gone.
    pub(crate) fn delete(&mut self, value: &Value) -> News {
        let mut news = News::default();
        if let Some(reference) = self.name(value) {
            self.forget(reference, &mut news);
        }
        news
    }

    fn forget(&mut self, reference: ObjectRef, news: &mut News) {
        if self.faulty.remove(&reference) {
            news.problems.push((reference.clone(), None));
        }
        if self.present.remove(&reference) {
            news.stored.push((reference.clone(), None));
        }
        if self.objects.remove(&reference).is_some() {
            news.changes.push((reference, None));
        }
    }

    fn name(&self, value: &Value) -> Option<ObjectRef> {
        let metadata = &value["metadata"];
        let name = metadata["name"].as_str().filter(|name| !name.is_empty())?;
        let namespace = metadata["namespace"].as_str().filter(|namespace| !namespace.is_empty());
        match (self.kind.scope(), namespace) {
            (Scope::Namespaced, None) => None,
            (Scope::Namespaced, Some(namespace)) => Some(ObjectRef::new(self.kind, namespace, name)),
            (Scope::Cluster, _) => Some(ObjectRef::new(self.kind, "", name)),
        }
    }

    /// Says what the object is, which lists leave out, and takes out what changes without a meaning for the mesh.
    fn complete(&self, value: &mut Value) {
        let Value::Object(fields) = value else { return };
        fields.insert("apiVersion".to_owned(), self.kind.api_version().into());
        fields.insert("kind".to_owned(), self.kind.as_str().into());
        if let Some(Value::Object(metadata)) = fields.get_mut("metadata") {
            metadata.remove("resourceVersion");
            // Without labels or annotations of the mesh it is as if there were none at all.
            for field in ["labels", "annotations"] {
                if metadata.get(field).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty) {
                    metadata.remove(field);
                }
            }
        }
    }
}

fn problem(reference: &ObjectRef, error: &DecodeError, has_good_state: bool) -> Problem {
    let (field, value, text) = match error {
        DecodeError::InvalidField { field, value, problem, .. } => {
            (Some(field.as_str()), value.clone(), problem.clone())
        }
        other => (other.field(), None, other.to_string()),
    };
    let (message, remedy) = text.split_once("; ").unwrap_or((&text, "write a value that fits"));
    let stays = if has_good_state {
        "; until then its last good state stays in force"
    } else {
        "; until then it has no effect"
    };
    Problem {
        field: field.map(str::to_owned),
        value,
        ..Problem::of_object(reference.clone(), message, format!("{remedy}{stays}"))
    }
}

#[cfg(test)]
mod tests;
