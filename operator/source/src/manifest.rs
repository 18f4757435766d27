//! From one file's bytes to the objects that it declares. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use osm_api::{DecodeError, Kind, Object, ObjectRef, Strictness, decode};
use serde_json::Value;

use crate::documents::{Document, Syntax, documents, yaml_options};
use crate::locate::line_of;
use crate::problem::{Problem, one_line};

/// Largest size of a file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Most problems that are told of one file; nobody reads more, and a file of the largest size can have a million.
const MAX_PROBLEMS: usize = 20;

/// Largest document in which fields are searched for their line, in bytes: the search reads the document once more.
const MAX_SEARCHED_BYTES: usize = 1024 * 1024;

/// What a file declares.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) objects: Vec<Declared>,
    /// How many objects are of which kind that the mesh does not read.
    pub(crate) ignored: BTreeMap<IgnoredKind, usize>,
    /// Empty for a file of which every object is usable.
    pub(crate) problems: Vec<Problem>,
}

/// An object and where it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Declared {
    pub(crate) reference: ObjectRef,
    pub(crate) object: Object,
    pub(crate) place: Place,
}

/// Where in its file an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// Number of the document, from 1, without empty ones.
    pub(crate) document: usize,
    /// Line of the document's first content, from 1.
    pub(crate) line: u64,
}

/// A kind that the mesh does not read, as manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct IgnoredKind {
    /// Its `apiVersion`.
    pub api_version: String,
    /// Its `kind`.
    pub kind: String,
}

impl fmt::Display for IgnoredKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", one_line(&self.api_version), one_line(&self.kind))
    }
}

impl Manifest {
    /// A file of which nothing can be used.
    pub(crate) fn unusable(problem: Problem) -> Self {
        Self { problems: vec![problem], ..Self::default() }
    }

    /// Decodes a file. Its name tells the syntax and stands in the problems.
    pub(crate) fn parse(file: &Path, bytes: &[u8]) -> Self {
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
            Err(error) => return Self::unusable(not_utf8(file, bytes, error.valid_up_to())),
        };
        let is_json = file.extension().is_some_and(|extension| extension == "json");
        let mut manifest = Self::default();
        for (document, number) in documents(text, if is_json { Syntax::Json } else { Syntax::Yaml }).zip(1..) {
            manifest.document(file, document, number);
            if manifest.problems.len() > MAX_PROBLEMS {
                manifest.problems.truncate(MAX_PROBLEMS);
                let more = Problem::of_file(file, "has more problems than these", "correct these first");
                manifest.problems.push(more);
                break;
            }
        }
        manifest
    }

    fn document(&mut self, file: &Path, document: Document<'_>, number: usize) {
        let Document { line, text, text_line, value } = document;
        let place = Place { document: number, line };
        match value {
            Ok(value) => Reading { manifest: self, file, place, text, text_line, items: Vec::new() }.value(value),
            Err(fault) => self.problems.push(Problem {
                document: Some(number),
                line: Some(fault.line),
                ..Problem::of_file(file, fault.message, fault.remedy)
            }),
        }
    }
}

fn not_utf8(file: &Path, bytes: &[u8], valid: usize) -> Problem {
    let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
    Problem {
        line: Some(line as u64),
        ..Problem::of_file(file, format!("is not UTF-8 (byte {valid})"), "save the file in the encoding UTF-8")
    }
}

/// Takes one document apart.
struct Reading<'a> {
    manifest: &'a mut Manifest,
    file: &'a Path,
    place: Place,
    /// The text that holds the document, and the line of the file on which it starts.
    text: &'a str,
    text_line: u64,
    /// Where in lists, from the outermost, the object is that is being read.
    items: Vec<usize>,
}

impl Reading<'_> {
    /// One object, or a list of them as `kubectl get` writes it. A list may hold lists; the depth of documents is limited.
    fn value(&mut self, mut value: Value) {
        let Some(element) = ListOf::of(&value) else {
            return self.object(value);
        };
        match value.get_mut("items").map(Value::take) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for (mut item, index) in items.into_iter().zip(0..) {
                    element.complete(&mut item);
                    self.items.push(index);
                    self.value(item);
                    self.items.pop();
                    if self.manifest.problems.len() > MAX_PROBLEMS {
                        return;
                    }
                }
            }
            Some(_) => {
                let problem = self.problem(Some("items"), "is not a list", "write the objects as elements of a list");
                self.manifest.problems.push(problem);
            }
        }
    }

    fn object(&mut self, value: Value) {
        match decode(value, Strictness::Strict) {
            Ok(object) => {
                let reference = object.reference();
                self.manifest.objects.push(Declared { reference, object, place: self.place });
            }
            Err(DecodeError::UnknownKind { api_version, kind }) => {
                *self.manifest.ignored.entry(IgnoredKind { api_version, kind }).or_default() += 1;
            }
            Err(error) => {
                let problems = self.refused(&error);
                self.manifest.problems.extend(problems);
            }
        }
    }

    fn refused(&self, error: &DecodeError) -> Vec<Problem> {
        let object = error.object().cloned();
        match error {
            DecodeError::UnknownFields { fields, .. } => fields
                .iter()
                .map(|unknown| {
                    let remedy = match (&unknown.newer_version, &unknown.suggestion) {
                        (Some(version), _) => format!("write apiVersion: {version}, which has it"),
                        (None, Some(name)) => format!("did you mean {name}?"),
                        (None, None) => "remove it".to_owned(),
                    };
                    Problem {
                        object: object.clone(),
                        ..self.problem(Some(&unknown.path), "there is no such field", &remedy)
                    }
                })
                .collect(),
            DecodeError::InvalidField { field, value, problem, .. } => {
                let (message, remedy) = problem.split_once("; ").unwrap_or((problem, "write a value that fits"));
                vec![Problem { object, value: value.clone(), ..self.problem(Some(field), message, remedy) }]
            }
            _ => {
                let text = error.to_string();
                let (message, remedy) = text.split_once("; ").unwrap_or((&text, "correct or remove the object"));
                vec![Problem { object, ..self.problem(error.field(), message, remedy) }]
            }
        }
    }

    /// A problem at a field of the object that is being read, or with all of it.
    fn problem(&self, field: Option<&str>, message: &str, remedy: &str) -> Problem {
        Problem {
            document: Some(self.place.document),
            line: Some(self.line(field).unwrap_or(self.place.line)),
            field: field.map(str::to_owned),
            ..Problem::of_file(self.file, message, remedy)
        }
    }

    fn line(&self, field: Option<&str>) -> Option<u64> {
        if self.text.len() > MAX_SEARCHED_BYTES || (field.is_none() && self.items.is_empty()) {
            return None;
        }
        let mut path: Vec<_> = self.items.iter().map(|index| format!("items[{index}]")).collect();
        path.extend(field.map(str::to_owned));
        line_of(self.text, &path.join("."), yaml_options()).map(|line| self.text_line + line - 1)
    }
}

/// What the elements of a list are.
enum ListOf {
    /// Each says so itself: `v1` `List`.
    Anything,
    /// All are of one kind that the mesh reads, for example in a `TrafficTargetList`; elements may leave it out.
    Kind { api_version: String, kind: &'static str },
}

impl ListOf {
    fn of(value: &Value) -> Option<Self> {
        let api_version = value.get("apiVersion")?.as_str()?;
        let element = value.get("kind")?.as_str()?.strip_suffix("List")?;
        if element.is_empty() {
            return (api_version == "v1").then_some(Self::Anything);
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let kind = Kind::of(group, element)?;
        Some(Self::Kind { api_version: api_version.to_owned(), kind: kind.as_str() })
    }

    fn complete(&self, item: &mut Value) {
        if let (Self::Kind { api_version, kind }, Value::Object(fields)) = (self, item) {
            fields.entry("apiVersion").or_insert_with(|| api_version.as_str().into());
            fields.entry("kind").or_insert_with(|| (*kind).into());
        }
    }
}

#[cfg(test)]
mod tests;
