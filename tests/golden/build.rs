//! Makes a test of every folder below `cases`, so that a case cannot be forgotten.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=cases");
    let mut names = BTreeSet::new();
    for entry in fs::read_dir("cases")? {
        let name = entry?.file_name().into_string().map_err(|name| format!("{} is not UTF-8", name.display()))?;
        names.insert(name);
    }
    let mut tests = String::new();
    for name in names {
        let function = name.replace('-', "_");
        writeln!(tests, "#[test]\nfn {function}() {{\n    check({name:?});\n}}")?;
    }
    fs::write(Path::new(&env::var("OUT_DIR")?).join("cases.rs"), tests)?;
    Ok(())
}
