//! The CustomResourceDefinitions of our kinds.
//!
//! They come from the Rust types by way of `kube`'s derive macro and are then finished here: the label that OSM's have, no
//! conversion webhook, all served versions, and schemas in the manner of OSM's (no `nullable`, no formats that an API server
//! does not know).

mod columns;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceConversion, CustomResourceDefinition, CustomResourceDefinitionVersion, JSONSchemaProps,
    JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

use crate::kinds::Kind;

/// Formats that an API server knows; schemars also writes others, such as uint32.
const KNOWN_FORMATS: [&str; 4] = ["int32", "int64", "double", "date-time"];

/// The CustomResourceDefinitions of all our kinds, in the order of the list of kinds.
pub fn custom_resource_definitions() -> Vec<CustomResourceDefinition> {
    Kind::own().filter_map(custom_resource_definition).collect()
}

/// The CustomResourceDefinition of a kind; `None` for kinds that are not ours.
///
/// All versions of a kind have the same schema. Objects are stored in one version and only their `apiVersion` is rewritten for
/// the others (strategy None), so a field that one version lacked would be lost whenever a client writes by that version.
pub fn custom_resource_definition(kind: Kind) -> Option<CustomResourceDefinition> {
    let mut crd = derived(kind)?;
    crd.metadata.labels = Some([("app.kubernetes.io/name".to_owned(), "openservicemesh.io".to_owned())].into());
    crd.spec.conversion = Some(CustomResourceConversion { strategy: "None".to_owned(), webhook: None });
    crd.spec.names.list_kind = Some(format!("{kind}List"));
    let mut stored = crd.spec.versions.swap_remove(0);
    stored.additional_printer_columns = Some(columns::of(kind));
    if let Some(schema) = stored.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
        finish_root(schema, kind);
    }
    crd.spec.versions = kind.versions().iter().map(|version| served_as(&stored, kind, version)).collect();
    Some(crd)
}

/// The stored version's definition under the name of another version.
fn served_as(stored: &CustomResourceDefinitionVersion, kind: Kind, version: &str) -> CustomResourceDefinitionVersion {
    let mut served = stored.clone();
    served.name = version.to_owned();
    served.storage = version == kind.storage_version();
    if (kind, version) == (Kind::MeshConfig, "v1alpha1") {
        served.deprecated = Some(true);
        served.deprecation_warning =
            Some(format!("{}/{version} {kind} is deprecated; write {}", kind.group(), kind.api_version()));
    }
    served
}

macro_rules! define_derived {
    ($({
        kind: $kind:ident, name: $name:literal, slot: $slot:ident, object: $object:path, group: $group:literal,
        versions: $versions:tt, plural: $plural:literal, scope: $scope:ident, ownership: $ownership:ident,
    })+) => {
        /// What the derive macro makes of the Rust type of the stored version.
        fn derived(kind: Kind) -> Option<CustomResourceDefinition> {
            match kind {
                $(Kind::$kind => define_derived!(@crd $ownership $object),)+
            }
        }
    };
    (@crd Own $object:path) => { Some(<$object as CustomResourceExt>::crd()) };
    (@crd Read $object:path) => { None };
}

crate::for_each_kind!(define_derived);

/// The schema of the Rust type that this version is decoded by.
pub(crate) fn type_schema(kind: Kind, version: &str) -> Option<JSONSchemaProps> {
    let crd = if (kind, version) == (Kind::MeshConfig, "v1alpha1") {
        crate::config::v1alpha1::MeshConfig::crd()
    } else {
        derived(kind)?
    };
    crd.spec.versions.into_iter().next()?.schema?.open_api_v3_schema
}

fn finish_root(schema: &mut JSONSchemaProps, kind: Kind) {
    finish(schema);
    if kind == Kind::MeshConfig {
        // Every setting has a default, so an object without a spec is complete.
        schema.required = None;
    }
    let properties = schema.properties.get_or_insert_default();
    for (name, description) in [
        ("apiVersion", "Group and version of the object, for example config.openservicemesh.io/v1alpha2."),
        ("kind", "Kind of the object."),
    ] {
        let text = JSONSchemaProps {
            type_: Some("string".to_owned()),
            description: Some(description.to_owned()),
            ..JSONSchemaProps::default()
        };
        properties.insert(name.to_owned(), text);
    }
    // An API server knows metadata by itself and refuses anything but the type here.
    let metadata = JSONSchemaProps { type_: Some("object".to_owned()), ..JSONSchemaProps::default() };
    properties.insert("metadata".to_owned(), metadata);
    for (name, description) in
        [("spec", "What is wanted."), ("status", "What the mesh has made of it. Written by the control plane.")]
    {
        if let Some(property) = properties.get_mut(name) {
            if name == "status" {
                remove_defaults(property);
            }
            property.description.get_or_insert_with(|| description.to_owned());
        }
    }
}

/// Removes the defaults of a status: it is written whole, and what is not there is not known.
fn remove_defaults(schema: &mut JSONSchemaProps) {
    schema.default = None;
    for_each_child(schema, remove_defaults);
}

/// Removes what OSM's schemas do not have, everywhere below.
fn finish(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    schema.title = None;
    schema.format = schema.format.take().filter(|format| KNOWN_FORMATS.contains(&format.as_str()));
    schema.description = schema.description.take().map(|text| one_line(&text));
    for_each_child(schema, finish);
}

fn for_each_child(schema: &mut JSONSchemaProps, change: impl Fn(&mut JSONSchemaProps)) {
    for property in schema.properties.iter_mut().flat_map(|map| map.values_mut()) {
        change(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        change(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        change(values);
    }
}

/// Doc comments are wrapped in the source; paragraphs stay apart.
fn one_line(text: &str) -> String {
    text.split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join("\n\n")
}

#[cfg(test)]
mod tests;
