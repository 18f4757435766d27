//! On which line of a document a field is. Only asked when something is wrong with the field.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// One step of a path into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Element(usize),
}

/// The line, counted from 1 in the text, of the field with this path, for example `spec.rules[0].kind`, or of the nearest field
/// above it that the document has. JSON is found as the YAML that it is.
pub(crate) fn line_of(text: &str, path: &str, options: serde_saphyr::Options) -> Option<u64> {
    let steps = steps(path)?;
    let line = Cell::new(None);
    let search = Search { steps: &steps, line: &line };
    // What is wrong with the document is told elsewhere; what has been found until then stands.
    let _ =
        serde_saphyr::with_deserializer_from_str_with_options(text, options, |document| search.deserialize(document));
    line.get()
}

/// The steps of a path as the decoder writes it: names after dots, numbers and quoted names in brackets.
fn steps(path: &str) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let end = quoted.find("\"]")?;
            let name = serde_json::from_str(&format!("\"{}\"", &quoted[..end])).ok()?;
            steps.push(Step::Field(name));
            rest = &quoted[end + 2..];
        } else if let Some(number) = rest.strip_prefix('[') {
            let (number, after) = number.split_once(']')?;
            steps.push(Step::Element(number.parse().ok()?));
            rest = after;
        } else {
            let name = rest.strip_prefix('.').unwrap_or(rest);
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 {
                return None;
            }
            steps.push(Step::Field(name[..end].to_owned()));
            rest = &name[end..];
        }
    }
    Some(steps)
}

/// Goes down the steps and notes the line of each field that it meets.
#[derive(Clone, Copy)]
struct Search<'a> {
    steps: &'a [Step],
    line: &'a Cell<Option<u64>>,
}

impl<'de> DeserializeSeed<'de> for Search<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.steps {
            [] => deserializer.deserialize_ignored_any(IgnoredAny).map(drop),
            [Step::Field(_), ..] => deserializer.deserialize_map(self),
            [Step::Element(_), ..] => deserializer.deserialize_seq(self),
        }
    }
}

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            match self.steps {
                [Step::Field(name), rest @ ..] if *name == key.value => {
                    self.line.set(Some(key.referenced.line()).filter(|line| *line > 0).or(self.line.get()));
                    entries.next_value_seed(Search { steps: rest, ..self })?;
                }
                _ => entries.next_value::<IgnoredAny>().map(drop)?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let [Step::Element(wanted), rest @ ..] = self.steps else { return Ok(()) };
        for _ in 0..*wanted {
            if elements.next_element::<IgnoredAny>()?.is_none() {
                return Ok(());
            }
        }
        elements.next_element_seed(Search { steps: rest, ..self })?;
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_the_line_of_its_name_and_a_missing_one_that_of_what_should_hold_it() {
        let text = "kind: A\nspec:\n  # a comment\n  rules:\n  - kind: x\n    a.b: 1\n  -\n    kind: y\n    matches: [m,\n      n]\n";
        for (path, line) in [
            ("kind", 1),
            ("spec", 2),
            ("spec.rules", 4),
            ("spec.rules[0].kind", 5),
            ("spec.rules[0][\"a.b\"]", 6),
            ("spec.rules[1].kind", 8),
            ("spec.rules[1].matches[1]", 9),
            ("spec.rules[1].absent", 4),
            ("spec.rules[7].kind", 4),
            ("spec.absent.deeper", 2),
        ] {
            assert_eq!(line_of(text, path, serde_saphyr::Options::default()), Some(line), "{path}");
        }
        for path in ["absent", "[0]", "", "[", "a..b", "[x]", "[\"a"] {
            assert_eq!(line_of(text, path, serde_saphyr::Options::default()), None, "{path}");
        }
    }

    #[test]
    fn json_is_searched_too() {
        let text = "{\n\t\"spec\": {\n\t\t\"rules\": [\n\t\t\t{\"kind\": 1},\n\t\t\t{\"kind\": 2}\n\t\t]\n\t}\n}";
        assert_eq!(line_of(text, "spec.rules[1].kind", serde_saphyr::Options::default()), Some(5));
    }
}
