//! Printing what a case gives, and comparing it with what is written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use osm_engine::{Delivery, LayerEntry, LayerKey};
use osm_model::{Finding, Origin};
use osm_translate::ResourceKind;
use serde_json::{Value, json};

use crate::Mesh;
use crate::fragments::Fragments;

/// Environment variable that makes tests write instead of compare.
pub const UPDATE: &str = "UPDATE_GOLDEN";

/// The file of a type.
fn file_of(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Cluster => "clusters",
        ResourceKind::Endpoints => "endpoints",
        ResourceKind::Listener => "listeners",
        ResourceKind::ScopedRoutes => "scopes",
        ResourceKind::Routes => "routes",
    }
}

/// What a layer holds, by type: resources by name, with how they are delivered and what they come from.
///
/// # Errors
/// A resource that cannot be decoded.
pub fn layer_files(mesh: &Mesh, layer: &LayerKey) -> Result<BTreeMap<&'static str, Value>> {
    let mut files: BTreeMap<&'static str, Value> = BTreeMap::new();
    for entry in mesh.engine.layer(layer) {
        let file = files.entry(file_of(entry.resource.kind)).or_insert_with(|| json!({}));
        file[&*entry.resource.name] = entry_value(entry)?;
    }
    Ok(files)
}

/// The folder of a layer. No workload's is `mesh`, which has no dot.
fn folder_of(layer: &LayerKey) -> String {
    match layer {
        LayerKey::Mesh => "mesh".to_owned(),
        LayerKey::Workload(identity) => format!("{}.{}", identity.namespace, identity.service_account),
    }
}

fn entry_value(entry: &LayerEntry) -> Result<Value> {
    let resource = &entry.resource;
    let mut json = osm_xds_json::to_json(resource.kind.type_url(), &resource.body)
        .with_context(|| format!("{:?}", entry.resource))?;
    if let Value::Object(fields) = &mut json {
        // The file says it.
        fields.remove("@type");
    }
    let delivery = match entry.delivery {
        Delivery::Ahead => "ahead",
        Delivery::OnDemand => "on demand",
    };
    let origin = |origin: &Origin| format!("{} {}", origin.object, origin.field);
    let origins = |origins: &[Origin]| origins.iter().map(origin).collect::<Vec<_>>();
    let mut value = json!({ "delivery": delivery, "resource": json });
    if !resource.origins.is_empty() {
        value["from"] = json!(origins(&resource.origins));
    }
    if !entry.because.is_empty() {
        value["because"] = json!(origins(&entry.because));
    }
    Ok(value)
}

fn finding_value(finding: &Finding) -> Value {
    json!({
        "object": finding.object.to_string(),
        "field": finding.field,
        "aspect": finding.aspect,
        "severity": finding.severity,
        "reason": finding.reason,
        "message": finding.message,
        "remedy": finding.remedy,
    })
}

/// All files of a mesh by path below `out`, with the parts that are `fragments` by name.
///
/// # Errors
/// A resource that cannot be decoded.
pub fn files(mesh: &Mesh, fragments: Option<&Fragments>) -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    for layer in [LayerKey::Mesh].into_iter().chain(mesh.workloads().into_iter().map(LayerKey::Workload)) {
        let folder = PathBuf::from(folder_of(&layer));
        for (name, mut value) in layer_files(mesh, &layer)? {
            if let Some(fragments) = fragments {
                fragments.fold(&mut value);
            }
            files.insert(folder.join(name).with_extension("yaml"), serde_saphyr::to_string(&value)?);
        }
    }
    let findings: Vec<Value> = mesh.engine.findings().into_iter().map(finding_value).collect();
    files.insert("findings.yaml".into(), serde_saphyr::to_string(&findings)?);
    Ok(files)
}

/// Compares `files` with the folder, or writes the folder when [`UPDATE`] is set. Gives a complaint per file that is
/// missing, stale or different.
///
/// # Errors
/// A file cannot be read or written.
pub fn compare(folder: &Path, files: &BTreeMap<PathBuf, String>) -> Result<Vec<String>> {
    if std::env::var_os(UPDATE).is_some_and(|value| value == "1") {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        for (path, text) in files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
            fs::write(path, text)?;
        }
        return Ok(Vec::new());
    }
    let mut written = BTreeMap::new();
    collect(folder, Path::new(""), &mut written)?;
    let mut complaints = Vec::new();
    for (path, text) in files {
        match written.remove(path) {
            None => complaints.push(format!("{} is missing", path.display())),
            Some(old) if old != *text => complaints.push(format!("{} differs:\n{}", path.display(), diff(&old, text))),
            Some(_) => {}
        }
    }
    complaints.extend(written.into_keys().map(|path| format!("{} is stale", path.display())));
    Ok(complaints)
}

fn collect(folder: &Path, below: &Path, files: &mut BTreeMap<PathBuf, String>) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder.join(below)) else { return Ok(()) };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(folder, &path, files)?;
        } else {
            files.insert(path.clone(), fs::read_to_string(folder.join(&path))?);
        }
    }
    Ok(())
}

/// The lines between the common start and the common end of two texts.
fn diff(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let start = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - start;
    let end = old.iter().rev().zip(new.iter().rev()).take(rest).take_while(|(old, new)| old == new).count();
    let lines = |sign, lines: &[&str]| lines.iter().map(|line| format!("{sign} {line}\n")).collect::<String>();
    format!(
        "line {}:\n{}{}",
        start + 1,
        lines('-', &old[start..old.len() - end]),
        lines('+', &new[start..new.len() - end])
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(files: &[(&str, &str)]) -> BTreeMap<PathBuf, String> {
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect()
    }

    #[test]
    fn different_missing_and_stale_files_are_told() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/same.yaml"), "1\n").unwrap();
        fs::write(folder.path().join("a/other.yaml"), "1\n2\n3\n").unwrap();
        fs::write(folder.path().join("stale.yaml"), "1\n").unwrap();
        let files = texts(&[("a/same.yaml", "1\n"), ("a/other.yaml", "1\nX\n3\n"), ("new.yaml", "1\n")]);
        let complaints = compare(folder.path(), &files).unwrap();
        assert_eq!(
            complaints,
            ["a/other.yaml differs:\nline 2:\n- 2\n+ X\n", "new.yaml is missing", "stale.yaml is stale"]
        );
    }
}
