//! Finds the fields of a value that its kind does not have, by the kind's own schema.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Map, Value};

use super::error::{UnknownField, push_name};
use crate::kinds::Kind;

/// The fields below one place of a schema.
enum Shape {
    /// Any value: a scalar, or a place whose content is not described.
    Anything,
    /// An object with these fields and no others.
    Fields(BTreeMap<String, Self>),
    /// An object with any fields, each of this shape.
    Map(Box<Self>),
    /// A list of elements of this shape.
    List(Box<Self>),
}

/// Schemas by kind and version, as the Rust types have them.
static SHAPES: LazyLock<BTreeMap<(Kind, &'static str), Shape>> = LazyLock::new(|| {
    let mut shapes = BTreeMap::new();
    for kind in Kind::own() {
        for version in kind.versions() {
            let schema = crate::crd::type_schema(kind, version);
            shapes.insert((kind, *version), root_shape(schema.as_ref()));
        }
    }
    shapes
});

static METADATA: LazyLock<Value> = LazyLock::new(|| schemars::schema_for!(ObjectMeta).to_value());

/// All fields of the object that its kind does not have in this version. Status is not looked at: it is ours to write.
pub(super) fn find(kind: Kind, version: &str, object: &Map<String, Value>) -> Vec<UnknownField> {
    let mut finder = Finder { newest: (version != kind.storage_version()).then_some(kind), unknown: Vec::new() };
    for name in object.keys() {
        if !["apiVersion", "kind", "metadata", "spec", "status"].contains(&name.as_str()) {
            finder.report("", name, ["spec", "status", "metadata"].into_iter());
        }
    }
    finder.metadata(object.get("metadata"));
    let shape = SHAPES
        .iter()
        .find(|((of_kind, of_version), _)| *of_kind == kind && *of_version == version)
        .map(|(_, shape)| shape);
    if let (Some(Shape::Fields(fields)), Some(spec)) = (shape, object.get("spec"))
        && let Some(shape) = fields.get("spec")
    {
        finder.walk("spec", shape, spec);
    }
    finder.unknown
}

struct Finder {
    /// Set when the object is of an older version: a field may exist in the stored one.
    newest: Option<Kind>,
    unknown: Vec<UnknownField>,
}

impl Finder {
    fn walk(&mut self, path: &str, shape: &Shape, value: &Value) {
        match (shape, value) {
            (Shape::Fields(fields), Value::Object(members)) => {
                for (name, value) in members {
                    match fields.get(name) {
                        Some(shape) => self.walk(&child(path, name), shape, value),
                        None => self.report(path, name, fields.keys().map(String::as_str)),
                    }
                }
            }
            (Shape::Map(shape), Value::Object(members)) => {
                for (name, value) in members {
                    self.walk(&child(path, name), shape, value);
                }
            }
            (Shape::List(shape), Value::Array(elements)) => {
                for (index, element) in elements.iter().enumerate() {
                    self.walk(&format!("{path}[{index}]"), shape, element);
                }
            }
            // A value of another type than the schema's is for the typed decoder to refuse.
            _ => {}
        }
    }

    fn metadata(&mut self, metadata: Option<&Value>) {
        let (Some(Value::Object(members)), Some(Value::Object(known))) = (metadata, METADATA.get("properties")) else {
            return;
        };
        for name in members.keys().filter(|name| !known.contains_key(*name)) {
            self.report("metadata", name, known.keys().map(String::as_str));
        }
    }

    fn report<'a>(&mut self, parent: &str, name: &str, known: impl Iterator<Item = &'a str>) {
        let path = child(parent, name);
        let newer_version = self.newest.filter(|kind| exists(*kind, &path)).map(Kind::api_version);
        self.unknown.push(UnknownField { path, suggestion: closest(name, known), newer_version });
    }
}

/// Whether the stored version of the kind has the field.
fn exists(kind: Kind, path: &str) -> bool {
    let mut shape = SHAPES.get(&(kind, kind.storage_version()));
    for name in path.split('.') {
        let name = name.split('[').next().unwrap_or(name);
        while let Some(Shape::List(element)) = shape {
            shape = Some(element);
        }
        shape = match shape {
            Some(Shape::Fields(fields)) => fields.get(name),
            _ => None,
        };
    }
    shape.is_some()
}

fn child(parent: &str, name: &str) -> String {
    let mut path = parent.to_owned();
    push_name(&mut path, name);
    path
}

/// The known name that differs least, if it differs little.
fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    const MOST_LETTERS: usize = 64;
    if name.len() > MOST_LETTERS {
        return None;
    }
    let lower = name.to_lowercase();
    let allowed = (name.len() / 3).max(1);
    known
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// How many letters have to be inserted, removed or replaced to get from one text to the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[to.len()]
}

fn root_shape(schema: Option<&JSONSchemaProps>) -> Shape {
    schema.map_or(Shape::Anything, shape_of)
}

fn shape_of(schema: &JSONSchemaProps) -> Shape {
    if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
        return Shape::Anything;
    }
    if let Some(properties) = &schema.properties {
        return Shape::Fields(properties.iter().map(|(name, schema)| (name.clone(), shape_of(schema))).collect());
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        return Shape::Map(Box::new(shape_of(values)));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(elements)) = &schema.items {
        return Shape::List(Box::new(shape_of(elements)));
    }
    Shape::Anything
}
