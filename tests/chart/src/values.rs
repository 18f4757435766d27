//! What `values.yaml` says about its values, and the values of OSM that do nothing any more.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

/// A value that has a comment.
#[derive(Debug, Clone, PartialEq)]
pub struct Documented {
    /// Its path, such as `osm.image.tag`.
    pub path: String,
    /// The comment above it, as one line.
    pub comment: String,
    /// Its default; `None` for a group of values that have comments of their own.
    pub default: Option<Value>,
}

/// A value of OSM v1.2 that is accepted and does nothing.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetiredValue {
    /// Its path.
    pub path: String,
    /// The value that needs no warning.
    pub was: Value,
    /// What to do instead.
    pub instead: String,
}

/// The values of OSM v1.2 in `files/retired-values.yaml`.
///
/// # Errors
/// The text is no such list.
pub fn retired(text: &str) -> Result<Vec<RetiredValue>> {
    serde_saphyr::from_str(text).context("the list of retired values")
}

/// The values of a `values.yaml` that have a comment, in its order.
///
/// # Errors
/// The text is no mapping written in blocks, or a value has no comment, nor does a group it is part of.
pub fn documented(text: &str) -> Result<Vec<Documented>> {
    let defaults: Value = serde_saphyr::from_str(text).context("values are YAML")?;
    let comments = comments(text);
    let mut found = Vec::new();
    for (path, comment) in &comments {
        let default = path.split('.').try_fold(&defaults, |value, key| value.get(key));
        let default = default.with_context(|| format!("{path} has a comment and is not there"))?;
        let is_group = comments.iter().any(|(other, _)| is_below(other, path));
        let default = (!is_group).then(|| default.clone());
        found.push(Documented { path: path.clone(), comment: comment.clone(), default });
    }
    let explained: BTreeMap<&str, bool> =
        found.iter().map(|value| (value.path.as_str(), value.default.is_some())).collect();
    for leaf in leaves(&defaults) {
        let is_explained = explained.iter().any(|(path, whole)| *whole && (leaf == *path || is_below(&leaf, path)));
        ensure!(is_explained, "{leaf} has no comment");
    }
    Ok(found)
}

fn is_below(path: &str, group: &str) -> bool {
    path.strip_prefix(group).is_some_and(|rest| rest.starts_with('.'))
}

/// Paths of values and the comment right above each, in the order of the text.
fn comments(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut keys: Vec<(usize, &str)> = Vec::new();
    let mut comment: Vec<&str> = Vec::new();
    for line in text.lines() {
        let content = line.trim_start();
        let indentation = line.len() - content.len();
        if let Some(words) = content.strip_prefix('#') {
            comment.push(words.trim());
            continue;
        }
        if let Some((key, _)) = content.split_once(':').filter(|_| !content.starts_with('-')) {
            keys.retain(|(outer, _)| *outer < indentation);
            keys.push((indentation, key));
            if !comment.is_empty() {
                let path: Vec<_> = keys.iter().map(|(_, key)| *key).collect();
                found.push((path.join("."), comment.join(" ")));
            }
        }
        comment.clear();
    }
    found
}

/// Paths of everything that is not a group of other values; an empty mapping is a value.
fn leaves(value: &Value) -> Vec<String> {
    match value.as_object().filter(|fields| !fields.is_empty()) {
        None => Vec::new(),
        Some(fields) => fields
            .iter()
            .flat_map(|(key, value)| {
                let below = leaves(value);
                let is_leaf = below.is_empty();
                let below = below.into_iter().map(move |path| format!("{key}.{path}"));
                below.chain(is_leaf.then(|| key.clone())).collect::<Vec<_>>()
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use serde_json::json;

    use super::*;

    const TEXT: &str = "\
# About the file.

# A group.
a:
  # First, on
  # two lines.
  b: 1
  # Whole.
  c:
    d: x
    e: []
";

    #[test]
    fn comments_belong_to_what_is_below_them() {
        let values = documented(TEXT).unwrap();
        let expected = [
            ("a", "A group.", None),
            ("a.b", "First, on two lines.", Some(json!(1))),
            ("a.c", "Whole.", Some(json!({ "d": "x", "e": [] }))),
        ];
        let expected = expected.map(|(path, comment, default)| Documented {
            path: path.to_owned(),
            comment: comment.to_owned(),
            default,
        });
        assert_eq!(values, expected);
    }

    #[test]
    fn a_value_without_a_comment_is_named() {
        let error = documented("# A group.\na:\n  # One.\n  b: 1\n  c: 2\n").unwrap_err();
        assert_eq!(error.to_string(), "a.c has no comment");
    }
}
