//! The archive of an image: a tar file with a manifest, a configuration and one layer.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::path::Path;

use anyhow::Result;
use aws_lc_rs::digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use super::content::{Content, Entry};
use crate::cache::hexadecimal;

/// Where programs are looked for.
const PATH: &str = "PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How containers of an image are started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    entrypoint: Vec<String>,
    user: String,
}

impl Configuration {
    /// `user` is `uid:gid`.
    pub(super) fn new(entrypoint: &[&str], user: &str) -> Self {
        Self { entrypoint: entrypoint.iter().map(|word| (*word).to_owned()).collect(), user: user.to_owned() }
    }

    /// Everything of it, as text.
    pub(super) fn text(&self) -> Result<String> {
        Ok(serde_json::to_string(&self.value())?)
    }

    fn value(&self) -> Value {
        json!({ "Entrypoint": self.entrypoint, "User": self.user, "Env": [PATH], "WorkingDir": "/" })
    }
}

/// Writes the archive of an image that is called `reference`.
pub(super) fn write(path: &Path, reference: &str, content: &Content, configuration: &Configuration) -> Result<()> {
    let layer_path = path.with_extension("layer");
    let written = write_with_layer(path, &layer_path, reference, content, configuration);
    crate::cache::remove(&layer_path)?;
    written
}

fn write_with_layer(
    path: &Path,
    layer_path: &Path,
    reference: &str,
    content: &Content,
    configuration: &Configuration,
) -> Result<()> {
    let mut layer = File::options().create(true).truncate(true).read(true).write(true).open(layer_path)?;
    let digest = write_layer(&layer, content)?;
    let image = json!({
        "architecture": match std::env::consts::ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": configuration.value(),
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "osm-cluster images" }],
        "created": "1970-01-01T00:00:00Z",
    });
    let image = serde_json::to_vec(&image)?;
    let image_name = format!("{}.json", hexadecimal(digest::digest(&digest::SHA256, &image).as_ref()));
    let layer_name = format!("{digest}.tar");
    let manifest = json!([{ "Config": image_name, "RepoTags": [reference], "Layers": [layer_name] }]);

    let mut archive = tar::Builder::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
    append(&mut archive, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    append(&mut archive, &image_name, &image)?;
    let size = layer.stream_position()?;
    layer.rewind()?;
    let mut header = header(EntryType::Regular, 0o644, size);
    archive.append_data(&mut header, &layer_name, layer.take(size))?;
    archive.into_inner()?.flush()?;
    Ok(())
}

/// Writes the layer and gives its SHA-256.
fn write_layer(file: &File, content: &Content) -> Result<String> {
    let hashing = Hashing { inner: file, context: digest::Context::new(&digest::SHA256) };
    let mut layer = tar::Builder::new(BufWriter::with_capacity(1 << 20, hashing));
    for (path, entry) in content.entries() {
        match entry {
            Entry::File { source, mode } => {
                let source = File::open(source)?;
                let size = source.metadata()?.len();
                layer.append_data(&mut header(EntryType::Regular, *mode, size), path, source.take(size))?;
            }
            Entry::Text(text) => append(&mut layer, path, text.as_bytes())?,
            Entry::Link(target) => layer.append_link(&mut header(EntryType::Symlink, 0o777, 0), path, target)?,
            Entry::Folder(mode) => {
                layer.append_data(&mut header(EntryType::Directory, *mode, 0), path, io::empty())?;
            }
        }
    }
    let hashing = layer.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(hexadecimal(hashing.context.finish().as_ref()))
}

fn append(archive: &mut tar::Builder<impl Write>, path: &str, content: &[u8]) -> Result<()> {
    let size = u64::try_from(content.len())?;
    Ok(archive.append_data(&mut header(EntryType::Regular, 0o644, size), path, content)?)
}

/// Of root, and of no time: the same content gives the same bytes.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Passes bytes on and hashes them.
struct Hashing<'a> {
    inner: &'a File,
    context: digest::Context,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.context.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_archive_names_its_parts_by_their_hashes_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut content = Content::new();
        content.link("/bin/sh", "busybox");
        content.basics().unwrap();
        let configuration = Configuration::new(&["/bin/sh"], "1500:1500");
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        for path in [&first, &second] {
            write(path, "local/test:1", &content, &configuration).unwrap();
        }
        assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

        let mut parts = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&first).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            parts.insert(entry.path().unwrap().to_string_lossy().into_owned(), bytes);
        }
        let manifest: Value = serde_json::from_slice(&parts["manifest.json"]).unwrap();
        assert_eq!(manifest[0]["RepoTags"], json!(["local/test:1"]));
        let layer = &parts[manifest[0]["Layers"][0].as_str().unwrap()];
        let image: Value = serde_json::from_slice(&parts[manifest[0]["Config"].as_str().unwrap()]).unwrap();
        let digest = hexadecimal(digest::digest(&digest::SHA256, layer).as_ref());
        assert_eq!(image["rootfs"]["diff_ids"], json!([format!("sha256:{digest}")]));
        assert_eq!(image["config"]["User"], "1500:1500");
        let mut layer = tar::Archive::new(layer.as_slice());
        let links: Vec<_> = layer
            .entries()
            .unwrap()
            .filter_map(|entry| entry.unwrap().link_name().unwrap().map(std::borrow::Cow::into_owned))
            .collect();
        assert_eq!(links, [Path::new("busybox")]);
    }
}
