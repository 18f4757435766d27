//! Something wrong with what is read, said so that a person can find and mend it.

use std::fmt;
use std::path::{Path, PathBuf};

use osm_api::ObjectRef;
use serde::Serialize;

/// Something wrong with a file or folder of manifests, or with an object of an API server.
///
/// Displays as one line: `file:line: object: field: value: message; remedy`, without the parts that are not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// The file or folder, below the path that was given as the source; empty if it is none.
    #[serde(serialize_with = "display_path", skip_serializing_if = "is_empty")]
    pub file: PathBuf,
    /// Which document of the file, counted from 1 and without empty ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// Line of the file, counted from 1: of the fault where it is known, else of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The object.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_object")]
    pub object: Option<ObjectRef>,
    /// Path of the field in the object, for example `spec.rules[0].kind`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The field's value as JSON, shortened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Problem {
    /// Something wrong with an object that comes from no file.
    pub fn of_object(object: ObjectRef, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { object: Some(object), ..Self::of_source(message, remedy) }
    }

    /// Something wrong with a source that is no file.
    pub fn of_source(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::of_file(Path::new(""), message, remedy)
    }

    /// Something wrong with a file as a whole.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            document: None,
            line: None,
            object: None,
            field: None,
            value: None,
            message: one_line(&message.into()),
            remedy: one_line(&remedy.into()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut place = one_line(&self.file.to_string_lossy());
        if let Some(line) = self.line {
            place = format!("{place}:{line}");
        }
        let object = self.object.as_ref().map(|object| one_line(&object.to_string()));
        let details = [&self.field, &self.value].into_iter().flatten().map(|part| one_line(part));
        for part in std::iter::once(place).chain(object).chain(details).filter(|part| !part.is_empty()) {
            write!(f, "{part}: ")?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// The text without line breaks and other control characters: what comes from a file must not forge lines of a log.
pub(crate) fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

fn display_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

fn display_object<S: serde::Serializer>(object: &Option<ObjectRef>, serializer: S) -> Result<S::Ok, S::Error> {
    match object {
        Some(object) => serializer.collect_str(object),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use osm_api::Kind;

    use super::*;

    #[test]
    fn a_problem_is_one_line_that_names_place_object_field_value_and_remedy() {
        let problem = Problem {
            document: Some(2),
            line: Some(14),
            object: Some(ObjectRef::new(Kind::TrafficTarget, "bookstore", "buyer")),
            field: Some("spec.rules[0].kind".to_owned()),
            value: Some("\"HTTPRoute\"".to_owned()),
            ..Problem::of_file(Path::new("mesh/a\nb.yaml"), "unknown\nvariant", "use HTTPRouteGroup")
        };
        assert_eq!(
            problem.to_string(),
            "mesh/a b.yaml:14: traffictarget/bookstore/buyer: spec.rules[0].kind: \"HTTPRoute\": unknown variant; \
             use HTTPRouteGroup"
        );
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["object"], "traffictarget/bookstore/buyer");
        assert_eq!(json["line"], 14);
        let of_object = Problem::of_object(ObjectRef::new(Kind::Pod, "shop", "a"), "is bad", "mend it");
        assert_eq!(of_object.to_string(), "pod/shop/a: is bad; mend it");
        let of_source = Problem::of_source("is away", "wait");
        assert_eq!(of_source.to_string(), "is away; wait");
        assert_eq!(
            serde_json::to_value(&of_source).unwrap(),
            serde_json::json!({"message": "is away", "remedy": "wait"})
        );
        let plain = serde_json::to_value(Problem::of_file(Path::new("mesh"), "is gone", "restore it")).unwrap();
        assert_eq!(plain, serde_json::json!({"file": "mesh", "message": "is gone", "remedy": "restore it"}));
    }
}
