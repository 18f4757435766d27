//! Which names a client's words mention.

use std::sync::Arc;

/// Those of the names that a client's text mentions as words of their own.
pub(super) fn mentioned<'a>(names: impl Iterator<Item = &'a Arc<str>>, text: &str) -> Vec<Arc<str>> {
    names.filter(|name| is_mentioned(name, text)).cloned().collect()
}

pub(super) fn is_mentioned(name: &str, text: &str) -> bool {
    let is_part_of_name = |character: char| character.is_alphanumeric() || "-_./|@".contains(character);
    text.match_indices(name).any(|(start, matched)| {
        let before = text[..start].chars().next_back();
        let mut after = text[start + matched.len()..].chars();
        let next = after.next();
        let ends = match next {
            // The full stop that ends a sentence.
            Some('.') => after.next().is_none_or(|character| !is_part_of_name(character)),
            Some(character) => !is_part_of_name(character),
            None => true,
        };
        ends && before.is_none_or(|character| !is_part_of_name(character))
    })
}
