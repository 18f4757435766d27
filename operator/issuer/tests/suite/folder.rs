//! The authority in a folder: created once, whoever comes first, and whole whatever interrupts it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Barrier;

use osm_issuer::tresor::{TresorConfig, load_or_create};
use osm_issuer::{Advice, Blame, IssueError, IssuerConfig};
use tempfile::TempDir;
use time::OffsetDateTime;

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn load(folder: &Path) -> Result<osm_issuer::tresor::AuthorityMaterial, IssueError> {
    load_or_create(folder, OffsetDateTime::now_utc())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn check_usable(folder: &Path) {
    let config = TresorConfig { material: load(folder).unwrap(), origin: Blame::Folder { path: folder.to_owned() } };
    IssuerConfig::Tresor(config).build(OffsetDateTime::now_utc()).unwrap();
}

#[test]
fn an_authority_is_created_once_and_then_loaded() {
    let parent = folder();
    let folder = parent.path().join("state/authority");
    let made = load(&folder).unwrap();
    assert_eq!(mode(&folder.join("private.key")), 0o600);
    assert_eq!(mode(&folder.join("ca.crt")), 0o644);
    assert_eq!(mode(&folder), 0o700);
    let loaded = load(&folder).unwrap();
    assert_eq!(made.certificate_pem(), loaded.certificate_pem());
    assert_eq!(made.private_key().expose_private_key_pem(), loaded.private_key().expose_private_key_pem());
    assert_eq!(fs::read_to_string(folder.join("ca.crt")).unwrap(), made.certificate_pem());
    check_usable(&folder);
    let names: BTreeSet<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".lock", "ca.crt", "private.key"].map(Into::into).into());
}

/// The lock belongs to the open file, so threads that each open it compete as processes do.
#[test]
fn whoever_comes_first_creates_and_all_others_read_the_same() {
    for _ in 0..10 {
        let folder = folder();
        let start = Barrier::new(8);
        let made: BTreeSet<String> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        let material = load(folder.path()).unwrap();
                        material.certificate_pem().to_owned() + material.private_key().expose_private_key_pem()
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(made.len(), 1);
    }
}

#[test]
fn an_interrupted_creation_is_completed() {
    let folder = folder();
    load(folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name);
    // Killed between the two files.
    let key = fs::read_to_string(at("private.key")).unwrap();
    fs::remove_file(at("ca.crt")).unwrap();
    check_usable(folder.path());
    assert_eq!(fs::read_to_string(at("private.key")).unwrap(), key);
    // Killed while writing one of them.
    for name in ["ca.crt", "private.key"] {
        fs::remove_file(at(name)).unwrap();
        fs::write(at(&format!("{name}.unfinished")), "half").unwrap();
    }
    check_usable(folder.path());
    assert_eq!(mode(&at("private.key")), 0o600);
    assert!(!at("private.key.unfinished").exists());
}

#[track_caller]
fn check_refused(folder: &Path, expected: &str) {
    let error = load(folder).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(expected), "{text:?} lacks {expected:?}");
    assert!(text.contains(&folder.display().to_string()), "{text}");
    assert_eq!(error.advice(), Advice::WaitForOperator);
    assert_eq!(error.blame(), &Blame::Folder { path: folder.to_owned() });
}

#[test]
fn what_cannot_be_completed_is_refused_and_left_as_it_is() {
    let certificate_alone = folder();
    load(certificate_alone.path()).unwrap();
    fs::remove_file(certificate_alone.path().join("private.key")).unwrap();
    check_refused(certificate_alone.path(), "private.key: no private key found");
    assert!(certificate_alone.path().join("ca.crt").exists());

    let garbage_key = folder();
    fs::write(garbage_key.path().join("private.key"), "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----\n")
        .unwrap();
    check_refused(garbage_key.path(), "private.key: the PEM text is malformed");
    assert!(!garbage_key.path().join("ca.crt").exists());

    let not_text = folder();
    fs::write(not_text.path().join("ca.crt"), [0xff, 0xfe]).unwrap();
    check_refused(not_text.path(), "ca.crt: ");

    let not_a_file = folder();
    fs::create_dir(not_a_file.path().join("ca.crt")).unwrap();
    check_refused(not_a_file.path(), "ca.crt: ");

    let parent = folder();
    let not_a_folder = parent.path().join("file");
    fs::write(&not_a_folder, "").unwrap();
    check_refused(&not_a_folder, "exists");
}
