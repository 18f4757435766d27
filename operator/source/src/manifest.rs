//! From one file's bytes to the objects that it declares. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use osm_api::{DecodeError, Kind, Object, ObjectRef, Strictness, decode};
use serde_json::Value;

use crate::documents::{Document, Syntax, documents};
use crate::problem::{Problem, one_line};

/// Largest size of a file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 8 * 1024 * 1024;

/// Most problems that are told of one file; nobody reads more, and a file of the largest size can have a million.
const MAX_PROBLEMS: usize = 20;

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
        let mut parsing = Parsing { file, manifest: Self::default() };
        for (document, number) in documents(text, if is_json { Syntax::Json } else { Syntax::Yaml }).zip(1..) {
            parsing.document(document, number);
            if parsing.manifest.problems.len() > MAX_PROBLEMS {
                parsing.manifest.problems.truncate(MAX_PROBLEMS);
                let more = Problem::of_file(file, "has more problems than these", "correct these first");
                parsing.manifest.problems.push(more);
                break;
            }
        }
        parsing.manifest
    }
}

fn not_utf8(file: &Path, bytes: &[u8], valid: usize) -> Problem {
    let line = 1 + bytes[..valid].iter().filter(|byte| **byte == b'\n').count();
    Problem {
        line: Some(line as u64),
        ..Problem::of_file(file, format!("is not UTF-8 (byte {valid})"), "save the file in the encoding UTF-8")
    }
}

struct Parsing<'a> {
    file: &'a Path,
    manifest: Manifest,
}

impl Parsing<'_> {
    fn document(&mut self, document: Document, number: usize) {
        let place = Place { document: number, line: document.line };
        match document.value {
            Ok(value) => self.value(value, place),
            Err(fault) => self.manifest.problems.push(Problem {
                document: Some(number),
                line: Some(fault.line),
                ..Problem::of_file(self.file, fault.message, fault.remedy)
            }),
        }
    }

    /// One object, or a list of them as `kubectl get` writes it. A list may hold lists; the depth of documents is limited.
    fn value(&mut self, mut value: Value, place: Place) {
        let Some(element) = ListOf::of(&value) else {
            return self.object(value, place);
        };
        match value.get_mut("items").map(Value::take) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) => {
                for mut item in items {
                    element.complete(&mut item);
                    self.value(item, place);
                    if self.manifest.problems.len() > MAX_PROBLEMS {
                        return;
                    }
                }
            }
            Some(_) => self.manifest.problems.push(Problem {
                field: Some("items".to_owned()),
                ..self.at(place, "is not a list", "write the objects as elements of a list")
            }),
        }
    }

    fn object(&mut self, value: Value, place: Place) {
        match decode(value, Strictness::Strict) {
            Ok(object) => {
                let reference = object.reference();
                self.manifest.objects.push(Declared { reference, object, place });
            }
            Err(DecodeError::UnknownKind { api_version, kind }) => {
                *self.manifest.ignored.entry(IgnoredKind { api_version, kind }).or_default() += 1;
            }
            Err(error) => self.refused(error, place),
        }
    }

    fn refused(&mut self, error: DecodeError, place: Place) {
        let (text, object) = (error.to_string(), error.object().cloned());
        let field = error.field().map(str::to_owned);
        let problem = match error {
            DecodeError::UnknownFields { fields, .. } => {
                for unknown in fields {
                    let remedy = match (&unknown.newer_version, &unknown.suggestion) {
                        (Some(version), _) => format!("write apiVersion: {version}, which has it"),
                        (None, Some(name)) => format!("did you mean {name}?"),
                        (None, None) => "remove it".to_owned(),
                    };
                    self.manifest.problems.push(Problem {
                        object: object.clone(),
                        field: Some(unknown.path),
                        ..self.at(place, "there is no such field", &remedy)
                    });
                }
                return;
            }
            DecodeError::InvalidField { field, value, problem, .. } => {
                let (message, remedy) = problem.split_once("; ").unwrap_or((&problem, "write a value that fits"));
                Problem { object, field: Some(field), value, ..self.at(place, message, remedy) }
            }
            _ => {
                let (message, remedy) = text.split_once("; ").unwrap_or((&text, "correct or remove the object"));
                Problem { object, field, ..self.at(place, message, remedy) }
            }
        };
        self.manifest.problems.push(problem);
    }

    fn at(&self, place: Place, message: &str, remedy: &str) -> Problem {
        Problem {
            document: Some(place.document),
            line: Some(place.line),
            ..Problem::of_file(self.file, message, remedy)
        }
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
