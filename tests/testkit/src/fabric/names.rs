//! Names for all pods: the sandbox's `/etc/hosts`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Result;

use crate::sandbox::STATE_DIRECTORY;

/// Written in place: the file is mounted over `/etc/hosts`, and a mount follows the file, not its name.
pub(super) fn replace(names: &BTreeMap<String, Vec<IpAddr>>) -> Result<()> {
    fs::write(Path::new(STATE_DIRECTORY).join("hosts"), hosts(names))?;
    Ok(())
}

fn hosts(names: &BTreeMap<String, Vec<IpAddr>>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for (name, addresses) in names {
        for address in addresses {
            writeln!(text, "{address} {name}").expect("writing to a String");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_per_address() {
        let names = BTreeMap::from([(
            "bookstore.bookstore".to_owned(),
            vec!["10.96.0.5".parse().unwrap(), "fd00:96::5".parse().unwrap()],
        )]);
        assert!(hosts(&names).ends_with("10.96.0.5 bookstore.bookstore\nfd00:96::5 bookstore.bookstore\n"));
    }
}
