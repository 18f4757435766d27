//! An authority in a folder of two files, as standalone mode keeps it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{AuthorityKey, AuthorityMaterial, private_key};
use crate::authority_error::AuthorityError;
use crate::error::{Blame, IssueError};
use crate::secret::PrivateKeyPem;

const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "private.key";
/// Held while the folder is read or written. Never removed: removing a lock file is itself a race.
const LOCK_FILE: &str = ".lock";

/// Reads the authority from `folder`, or creates it there: `ca.crt`, and `private.key` with mode 0600.
///
/// Safe when several processes do so at once (one creates, the others read what it created) and when one is killed in
/// the middle: the certificate is written last and makes the pair complete; a key without a certificate is what an
/// interrupted creation leaves, and is completed. A certificate without its key is refused, because the key is lost.
/// Each file appears whole or not at all. Blocks on the file system.
///
/// # Errors
/// [`IssueError::UnusableAuthority`] naming the folder and the file. Whether the material is any good is found out by
/// [`Tresor::new`](super::Tresor::new).
pub fn load_or_create(folder: &Path, now: OffsetDateTime) -> Result<AuthorityMaterial, IssueError> {
    let blame = |problem| IssueError::UnusableAuthority { origin: Blame::Folder { path: folder.to_owned() }, problem };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(folder).map_err(|error| blame(file_error(".", &error)))?;
    // Released when dropped, also when the process dies.
    let _lock = lock(folder).map_err(blame)?;
    let certificate = read(folder, CERTIFICATE_FILE).map_err(blame)?;
    let key = read(folder, KEY_FILE).map_err(blame)?;
    if key.is_some() {
        warn_if_readable_by_others(folder);
    }
    match (certificate, key) {
        (Some(mut certificate), Some(mut key)) => {
            Ok(AuthorityMaterial::new(std::mem::take(&mut *certificate), PrivateKeyPem::new(std::mem::take(&mut *key))))
        }
        (Some(_), None) => Err(blame(AuthorityError::NoPrivateKey)),
        (None, Some(mut key)) => {
            let pem = PrivateKeyPem::new(std::mem::take(&mut *key));
            let pair = private_key::read_key(&pem).map_err(blame)?;
            let made = AuthorityMaterial::self_signed(&pair, now)?;
            write(folder, CERTIFICATE_FILE, made.certificate_pem(), 0o644).map_err(blame)?;
            Ok(AuthorityMaterial::new(made.certificate_pem, pem))
        }
        (None, None) => {
            let made = AuthorityMaterial::generate(AuthorityKey::default(), now)?;
            let key = made.private_key().expose_private_key_pem();
            write(folder, KEY_FILE, key, 0o600).map_err(blame)?;
            write(folder, CERTIFICATE_FILE, made.certificate_pem(), 0o644).map_err(blame)?;
            Ok(made)
        }
    }
}

/// Not refused: folders mounted from a Secret are often readable by a group.
fn warn_if_readable_by_others(folder: &Path) {
    let mode = fs::metadata(folder.join(KEY_FILE)).map(|metadata| metadata.permissions().mode());
    if mode.is_ok_and(|mode| mode & 0o077 != 0) {
        tracing::warn!(folder = %folder.display(), file = KEY_FILE, "the certificate authority's key is readable by others; set its mode to 0600");
    }
}

fn lock(folder: &Path) -> Result<File, AuthorityError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join(LOCK_FILE))
        .map_err(|error| file_error(LOCK_FILE, &error))?;
    file.lock().map_err(|error| file_error(LOCK_FILE, &error))?;
    Ok(file)
}

/// `None` when there is no such file.
fn read(folder: &Path, name: &str) -> Result<Option<Zeroizing<String>>, AuthorityError> {
    match fs::read_to_string(folder.join(name)) {
        Ok(text) => Ok(Some(Zeroizing::new(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(file_error(name, &error)),
    }
}

/// Writes beside, syncs, renames: the file is never seen half written. Only the holder of the lock comes here, so one
/// name for the unfinished file is enough, and what a killed process left of it is overwritten.
fn write(folder: &Path, name: &str, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let unfinished = folder.join(format!("{name}.unfinished"));
    let attempt = || -> io::Result<()> {
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, folder.join(name))?;
        File::open(folder)?.sync_all()
    };
    attempt().map_err(|error| file_error(name, &error))
}

fn file_error(file: &str, error: &io::Error) -> AuthorityError {
    AuthorityError::File { file: file.to_owned(), message: error.to_string() }
}
