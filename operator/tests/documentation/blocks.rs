//! The pages for users and the blocks of code in them.

use std::path::{Path, PathBuf};

/// Where they are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// All pages, by name.
pub(crate) fn pages() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|it| it == "md"));
    names.sort();
    assert!(names.len() >= 6, "{names:?}");
    let text = |name: &str| std::fs::read_to_string(folder().join(name)).unwrap();
    names.iter().map(|name| (name.clone(), text(name))).collect()
}

/// The blocks of one language, without their indentation.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some((indent, found)) = line.split_once("```") else { continue };
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        let block: Vec<&str> = block.map(|line| line.strip_prefix(indent).unwrap_or(line)).collect();
        if found == language {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}
