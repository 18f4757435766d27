//! Files of source code.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Every `.rs` file below a folder, without folders that `skip` names and without hidden ones.
///
/// # Errors
/// A folder cannot be read.
pub fn rust_files(folder: &Path, skip: &dyn Fn(&Path) -> bool) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            if path.is_dir() && !hidden && !skip(&path) {
                open.push(path);
            } else if path.is_file() && path.extension().is_some_and(|extension| extension == "rs") {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

/// The files that `root` reaches by `mod name;`, itself included.
///
/// # Errors
/// A file cannot be read.
pub fn modules(root: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let folder = root.parent().unwrap_or(Path::new("")).to_path_buf();
    let mut seen = BTreeSet::from([root.to_path_buf()]);
    let mut open = vec![(root.to_path_buf(), folder)];
    while let Some((file, folder)) = open.pop() {
        for (name, path) in declared(&fs::read_to_string(&file)?) {
            let child = match path {
                Some(path) => file.with_file_name(path),
                None => folder.join(&name).with_extension("rs"),
            };
            if child.is_file() && seen.insert(child.clone()) {
                open.push((child, folder.join(&name)));
            }
        }
    }
    Ok(seen)
}

/// The names in `mod name;` of a file, with the file's path where an attribute gives it.
fn declared(text: &str) -> Vec<(String, Option<String>)> {
    let mut names = Vec::new();
    let mut path = None;
    for line in text.lines().map(str::trim) {
        if let Some(given) = line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]")) {
            path = Some(given.to_owned());
            continue;
        }
        let line = line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub ")).unwrap_or(line);
        if let Some(name) = line.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            names.push((name.to_owned(), path.take()));
        }
    }
    names
}

/// The lines of a file without its comments and without its tests, which stand at its end.
///
/// # Errors
/// The file cannot be read.
pub fn code(file: &Path) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(file)?;
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]");
    Ok(lines.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect())
}
