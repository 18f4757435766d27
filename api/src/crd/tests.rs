use super::*;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON;

fn schemas() -> Vec<(String, JSONSchemaProps)> {
    let mut schemas = Vec::new();
    for crd in custom_resource_definitions() {
        for version in crd.spec.versions {
            let name = format!("{}/{}", crd.spec.names.plural, version.name);
            schemas.push((name, version.schema.unwrap().open_api_v3_schema.unwrap()));
        }
    }
    schemas
}

/// Calls `visit` with every schema below and its path.
fn walk(path: &str, schema: &JSONSchemaProps, visit: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    visit(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, visit);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), values, visit);
    }
}

fn problems(find: impl Fn(&str, &JSONSchemaProps) -> Option<String>) -> Vec<String> {
    let mut found = Vec::new();
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut |path, schema| {
            found.extend(find(path, schema).map(|problem| format!("{path}: {problem}")));
        });
    }
    found
}

#[test]
fn every_field_has_a_description() {
    let found = problems(|path, schema| {
        let is_field = !path.ends_with("[]") && !path.ends_with("{}") && !path.ends_with(".metadata");
        let missing = schema.description.as_ref().is_none_or(|text| text.trim().is_empty());
        (is_field && missing).then(|| "no description".to_owned())
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn every_schema_is_structural() {
    let found = problems(|_, schema| {
        let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        if schema.type_.is_none() && !open {
            return Some("no type".to_owned());
        }
        let logic = [&schema.any_of, &schema.one_of, &schema.all_of].iter().any(|list| list.is_some());
        (logic || schema.not.is_some() || schema.ref_path.is_some()).then(|| "not a plain type".to_owned())
    });
    assert_eq!(found, [""; 0]);
}

/// An API server refuses a definition that says more about metadata than its type.
#[test]
fn metadata_has_a_type_and_nothing_else() {
    let expected = JSONSchemaProps { type_: Some("object".to_owned()), ..JSONSchemaProps::default() };
    for (name, schema) in schemas() {
        assert_eq!(schema.properties.unwrap()["metadata"], expected, "{name}");
    }
}

/// The cost of a rule must be bounded: an API server refuses a rule over a list or text without a maximum. Our rules look at
/// scalars and at the provider only, and all texts of the provider have a maximum.
#[test]
fn every_text_that_a_rule_compares_has_a_maximum() {
    let found = problems(|path, schema| {
        let unbounded =
            schema.type_.as_deref() == Some("string") && schema.enum_.is_none() && schema.max_length.is_none();
        (unbounded && path.contains(".spec.provider.")).then(|| "no maxLength".to_owned())
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn only_quantities_take_any_value() {
    let found = problems(|path, schema| {
        let open = schema.x_kubernetes_preserve_unknown_fields == Some(true);
        (open && !path.contains(".sidecar.resources.")).then(|| "takes any value".to_owned())
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn schemas_have_nothing_that_an_api_server_does_not_know() {
    let found = problems(|_, schema| {
        let format = schema.format.as_deref().filter(|format| !KNOWN_FORMATS.contains(format));
        let null = schema.enum_.iter().flatten().any(|value| value.0.is_null());
        (schema.nullable.is_some() || null || format.is_some()).then(|| "nullable or unknown format".to_owned())
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn defaults_are_those_of_osm() {
    let mut defaults = Vec::new();
    for (name, schema) in schemas() {
        walk(&name, &schema, &mut |path, schema| {
            defaults.extend(schema.default.as_ref().map(|JSON(value)| format!("{path} = {value}")));
        });
    }
    let of_mesh_config = |version: &str| {
        [
            "sidecar.localProxyMode = \"Localhost\"",
            "sidecar.tlsMaxProtocolVersion = \"TLSv1_3\"",
            "sidecar.tlsMinProtocolVersion = \"TLSv1_2\"",
            "traffic.inboundExternalAuthorization.statPrefix = \"inboundExtAuthz\"",
            "traffic.inboundExternalAuthorization.timeout = \"1s\"",
        ]
        .map(|default| format!("meshconfigs/{version}.spec.{default}"))
    };
    let mut expected: Vec<String> = Vec::new();
    expected.extend(of_mesh_config("v1alpha2"));
    expected.extend(of_mesh_config("v1alpha1"));
    expected.push("meshrootcertificates/v1alpha2.spec.spiffeEnabled = false".to_owned());
    expected.push("meshrootcertificates/v1alpha2.spec.trustDomain = \"cluster.local\"".to_owned());
    assert_eq!(defaults, expected);
}

#[test]
fn all_versions_of_a_kind_have_the_same_schema_and_one_is_stored() {
    for crd in custom_resource_definitions() {
        let name = &crd.spec.names.kind;
        assert_eq!(crd.spec.conversion.as_ref().unwrap().strategy, "None", "{name}");
        assert_eq!(crd.spec.versions.iter().filter(|version| version.storage).count(), 1, "{name}");
        for version in &crd.spec.versions {
            assert!(version.served, "{name}");
            assert_eq!(version.schema, crd.spec.versions[0].schema, "{name} {}", version.name);
            assert!(version.subresources.as_ref().unwrap().status.is_some(), "{name}");
        }
    }
}

#[test]
fn definitions_agree_with_the_list_of_kinds() {
    let crds = custom_resource_definitions();
    assert_eq!(crds.len(), Kind::own().count());
    for (crd, kind) in crds.iter().zip(Kind::own()) {
        assert_eq!(crd.spec.group, kind.group());
        assert_eq!(crd.spec.names.kind, kind.as_str());
        assert_eq!(crd.spec.names.plural, kind.plural());
        assert_eq!(crd.spec.names.singular.as_deref(), Some(kind.as_str().to_lowercase().as_str()));
        assert_eq!(crd.metadata.name.as_deref(), Some(format!("{}.{}", kind.plural(), kind.group()).as_str()));
        assert_eq!(crd.spec.names.categories.as_deref(), Some(&["mesh".to_owned()][..]), "{kind}");
        assert_eq!(crd.spec.names.short_names.as_ref().map(Vec::len), Some(1), "{kind}");
        assert_eq!(crd.metadata.labels.as_ref().unwrap()["app.kubernetes.io/name"], "openservicemesh.io");
        let versions: Vec<_> = crd.spec.versions.iter().map(|version| version.name.as_str()).collect();
        assert_eq!(versions, kind.versions());
    }
}

#[test]
fn every_kind_has_the_columns_ready_and_age_and_conditions_by_type() {
    for crd in custom_resource_definitions() {
        let version = &crd.spec.versions[0];
        let columns: Vec<_> =
            version.additional_printer_columns.iter().flatten().map(|column| column.name.as_str()).collect();
        let name = &crd.spec.names.kind;
        assert!(columns.contains(&"Ready"), "{name} {columns:?}");
        assert_eq!(columns.last(), Some(&"Age"), "{name}");
        let schema = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        let status = &schema.properties.as_ref().unwrap()["status"].properties.as_ref().unwrap();
        assert!(status.contains_key("observedGeneration"), "{name}");
        let conditions = &status["conditions"];
        assert_eq!(conditions.x_kubernetes_list_type.as_deref(), Some("map"), "{name}");
        assert_eq!(conditions.x_kubernetes_list_map_keys.as_deref(), Some(&["type".to_owned()][..]), "{name}");
    }
}

/// Osm's defect: its schema held the boolean false in place of the text off.
#[test]
fn the_log_level_off_is_a_text_in_the_schema() {
    let crd = custom_resource_definition(Kind::MeshConfig).unwrap();
    for version in crd.spec.versions {
        let schema = version.schema.unwrap().open_api_v3_schema.unwrap();
        let field = ["spec", "sidecar", "logLevel"]
            .iter()
            .fold(schema, |schema, name| schema.properties.unwrap().remove(*name).unwrap());
        let values: Vec<_> = field.enum_.unwrap().into_iter().map(|JSON(value)| value).collect();
        assert_eq!(values, ["trace", "debug", "info", "warning", "warn", "error", "critical", "off"]);
    }
}

#[test]
fn the_older_mesh_config_has_no_field_that_the_newer_lacks() {
    fn fields(schema: &JSONSchemaProps) -> std::collections::BTreeSet<String> {
        let mut fields = std::collections::BTreeSet::new();
        walk("", schema, &mut |path, _| {
            if path.starts_with(".spec") {
                fields.insert(path.to_owned());
            }
        });
        fields
    }
    let old = fields(&type_schema(Kind::MeshConfig, "v1alpha1").unwrap());
    let new = fields(&type_schema(Kind::MeshConfig, "v1alpha2").unwrap());
    assert!(old.is_subset(&new), "{:?}", old.difference(&new));
    let added: Vec<_> = new.difference(&old).filter(|path| !path.ends_with("[]")).cloned().collect();
    assert_eq!(
        added,
        [
            ".spec.featureFlags.enableMeshRootCertificate",
            ".spec.sidecar.cipherSuites",
            ".spec.sidecar.ecdhCurves",
            ".spec.sidecar.localProxyMode",
            ".spec.sidecar.tlsMaxProtocolVersion",
            ".spec.sidecar.tlsMinProtocolVersion",
            ".spec.traffic.networkInterfaceExclusionList",
            ".spec.traffic.outboundIPRangeInclusionList",
        ]
    );
}
