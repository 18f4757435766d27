//! What others say, made fit for an error's text.

/// Longest text of a provider that is repeated, in characters.
pub(crate) const MAX_WORDS: usize = 500;

/// A text of somebody else's on one line, and not longer than [`MAX_WORDS`].
pub(crate) fn shorten(text: &str) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = words.char_indices().nth(MAX_WORDS) {
        words.truncate(end);
    }
    words
}

/// What an error and its causes say. Those of HTTP clients hold addresses and no headers.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
