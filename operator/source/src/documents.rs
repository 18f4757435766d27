//! From a file's text to its documents as JSON values, each with its line. Pure.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting of a YAML document. The stack of a thread bounds it: a level takes up to 30 KiB in a build without optimisation.
const MAX_DEPTH: usize = 64;

/// Most nodes (scalars, lists and maps) of a document: more than a file of the largest size that means anything has.
const MAX_NODES: usize = 2_000_000;

/// Most nodes that aliases of a document may stand for, all together. It keeps a short text from becoming a huge document.
const MAX_ALIASED_NODES: usize = 100_000;

/// What to do about a document that exceeds a limit.
const TOO_MUCH: &str = "write it with less nesting and fewer aliases, or split it";

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// YAML, with documents between `---`.
    Yaml,
    /// JSON, one value or several in sequence.
    Json,
}

/// A document that is not empty.
#[derive(Debug, PartialEq)]
pub(crate) struct Document<'a> {
    /// Line of its first content, counted from 1.
    pub(crate) line: u64,
    /// The part of the file that it is in.
    pub(crate) text: &'a str,
    /// The line on which that part starts.
    pub(crate) text_line: u64,
    /// Its content, or why it has none.
    pub(crate) value: Result<Value, SyntaxFault>,
}

/// Why a text is no document.
#[derive(Debug, PartialEq)]
pub(crate) struct SyntaxFault {
    /// Line of the file, counted from 1.
    pub(crate) line: u64,
    pub(crate) message: String,
    pub(crate) remedy: &'static str,
}

/// The documents of a text, in order, lazily. Empty ones are left out. After a fault in JSON nothing more is given; in YAML the
/// next document is.
pub(crate) fn documents(text: &str, syntax: Syntax) -> Box<dyn Iterator<Item = Document<'_>> + '_> {
    match syntax {
        Syntax::Yaml => Box::new(chunks(text).flat_map(yaml_documents)),
        Syntax::Json => Box::new(json_documents(text)),
    }
}

/// A part of a YAML text that the markers `---` and `...` delimit.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Chunk<'a> {
    text: &'a str,
    /// Line on which `text` starts.
    line: u64,
    /// Line of the first content in it.
    content: u64,
}

/// Cuts at the markers, which in YAML mean the end of a document wherever they start a line. Parts without content are left out.
fn chunks(text: &str) -> impl Iterator<Item = Chunk<'_>> {
    let mut cutter = Cutter { text, start: 0, start_line: 1, content: None, directives: false, marker_seen: false };
    let mut lines = text.split_inclusive('\n').zip(1u64..).scan(0, |offset, (line, number)| {
        let at = *offset;
        *offset += line.len();
        Some((at, number, line))
    });
    let mut ended = false;
    std::iter::from_fn(move || {
        for (at, number, line) in lines.by_ref() {
            if let Some(chunk) = cutter.line(at, number, line) {
                return Some(chunk);
            }
        }
        if std::mem::replace(&mut ended, true) {
            return None;
        }
        cutter.cut(text.len(), 0, text.len())
    })
}

struct Cutter<'a> {
    text: &'a str,
    start: usize,
    start_line: u64,
    content: Option<u64>,
    /// Lines such as `%YAML 1.2` belong to the document after the marker that follows them.
    directives: bool,
    marker_seen: bool,
}

impl<'a> Cutter<'a> {
    fn line(&mut self, at: usize, number: u64, line: &str) -> Option<Chunk<'a>> {
        if let Some(rest) = after_marker(line, "---") {
            let directives_only = self.directives && self.content.is_none();
            let before = if directives_only { None } else { self.cut(at, number, at) };
            self.marker_seen = true;
            self.directives = false;
            self.note_content(rest, number);
            return before;
        }
        if after_marker(line, "...").is_some() {
            return self.cut(at, number + 1, at + line.len());
        }
        if line.starts_with('%') && !self.marker_seen && self.content.is_none() {
            self.directives = true;
        } else {
            self.note_content(line, number);
        }
        None
    }

    fn note_content(&mut self, text: &str, number: u64) {
        let text = text.trim();
        if !text.is_empty() && !text.starts_with('#') {
            self.content.get_or_insert(number);
        }
    }

    /// Ends the chunk at `end`; the next one starts at `next`, on line `next_line`.
    fn cut(&mut self, end: usize, next_line: u64, next: usize) -> Option<Chunk<'a>> {
        let line = std::mem::replace(&mut self.start_line, next_line);
        let start = std::mem::replace(&mut self.start, next);
        self.marker_seen = false;
        self.directives = false;
        let content = self.content.take()?;
        Some(Chunk { text: &self.text[start..end], line, content })
    }
}

fn after_marker<'a>(line: &'a str, marker: &str) -> Option<&'a str> {
    line.strip_prefix(marker).filter(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
}

fn yaml_documents(chunk: Chunk<'_>) -> Vec<Document<'_>> {
    let document = |value| Document { line: chunk.content, text: chunk.text, text_line: chunk.line, value };
    match serde_saphyr::from_multiple_with_options::<Value>(chunk.text, yaml_options()) {
        Ok(values) => values.into_iter().filter(|value| !value.is_null()).map(|value| document(Ok(value))).collect(),
        Err(error) => vec![document(Err(yaml_fault(&error, chunk)))],
    }
}

/// How documents are read.
pub(crate) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 2 * MAX_NODES,
            max_nodes: MAX_NODES,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_ALIASED_NODES },
        with_snippet: false,
        emit_comments: false,
    }
}

fn yaml_fault(error: &serde_saphyr::Error, chunk: Chunk<'_>) -> SyntaxFault {
    use serde_saphyr::Error;
    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    let text = error.without_snippet().to_string();
    let message = text.split_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let remedy = match error.without_snippet() {
        Error::DuplicateMappingKey { .. } => "remove one of the two",
        // Where an alias is concerned, the limit that it exceeds is only in the text.
        _ if message.contains("limit exceeded") => TOO_MUCH,
        Error::Budget { .. } => TOO_MUCH,
        _ => "correct the YAML there",
    };
    SyntaxFault {
        line: line.map_or(chunk.content, |line| chunk.line + line - 1),
        message: format!("is no valid YAML: {message}"),
        remedy,
    }
}

fn json_documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Unique>();
    let mut seen = 0;
    let mut line = 1;
    std::iter::from_fn(move || {
        loop {
            let gap = text[seen..].find(|letter: char| !letter.is_whitespace()).map_or(text.len(), |gap| seen + gap);
            line += line_breaks(&text[seen..gap]);
            let start = line;
            let value = values.next()?;
            seen = values.byte_offset().max(gap);
            line += line_breaks(&text[gap..seen]);
            let value = match value {
                Ok(Unique(Value::Null)) => continue,
                Ok(Unique(value)) => Ok(value),
                Err(error) => Err(json_fault(&error)),
            };
            return Some(Document { line: start, text: &text[gap..seen], text_line: start, value });
        }
    })
}

fn line_breaks(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
}

fn json_fault(error: &serde_json::Error) -> SyntaxFault {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let duplicate = message.starts_with("duplicate key");
    SyntaxFault {
        line: error.line() as u64,
        message: format!("is no valid JSON: {message}"),
        remedy: if duplicate { "remove one of the two" } else { "correct the JSON there" },
    }
}

/// A JSON value in which no object has a key twice.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(element)) = elements.next_element()? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if fields.contains_key(&key) {
                return Err(A::Error::custom(format_args!("duplicate key {key:?}")));
            }
            let Unique(value) = entries.next_value()?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests;
