//! The tables in the README.md of the charts.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::Files;
use crate::documents::sorted;
use crate::repository::Repository;
use crate::values::{documented, retired};

pub(super) fn readme(repository: &Repository) -> Result<Files> {
    let mut files = Files::new();
    for chart in [repository.operator_chart(), repository.crds_chart()] {
        let read = |name: &str| {
            let path = chart.join(name);
            fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
        };
        let mut text = replace(&read("README.md")?, "values", &values_table(&read("values.yaml")?)?)?;
        if chart == repository.operator_chart() {
            text = replace(&text, "retired", &retired_table(&read("files/retired-values.yaml")?)?)?;
        }
        files.insert(chart.join("README.md"), text);
    }
    Ok(files)
}

fn values_table(values: &str) -> Result<String> {
    let mut table = "| value | default | meaning |\n|---|---|---|\n".to_owned();
    for value in documented(values)? {
        // A group says what its values are about; they follow.
        let (path, default) = match value.default {
            None => (format!("**{}**", value.path), String::new()),
            Some(default) => (format!("`{}`", value.path), code(&sorted(default))),
        };
        table.push_str(&format!("| {path} | {default} | {} |\n", cell(&value.comment)));
    }
    Ok(table)
}

fn retired_table(list: &str) -> Result<String> {
    let mut table = "| value | instead |\n|---|---|\n".to_owned();
    for value in retired(list)? {
        table.push_str(&format!("| `{}` | {} |\n", value.path, cell(&value.instead)));
    }
    Ok(table)
}

fn code(value: &Value) -> String {
    format!("`{}`", cell(&value.to_string()))
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The text with what is between the two marks of this name replaced.
fn replace(text: &str, name: &str, content: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- {name}:begin -->\n"), format!("<!-- {name}:end -->"));
    let missing = || format!("README.md lacks {} or {end}", begin.trim_end());
    let (before, rest) = text.split_once(&begin).with_context(missing)?;
    let (_, after) = rest.split_once(&end).with_context(missing)?;
    Ok(format!("{before}{begin}{content}{end}{after}"))
}
