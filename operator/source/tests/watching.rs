//! The directory source as a whole, on a real file system: what is done to a folder is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use osm_api::{Object, ObjectRef};
use osm_source::{Problem, SourceEvent, directory};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;

/// No test waits as long unless something is broken.
const DEADLINE: Duration = Duration::from_secs(30);

/// A folder, the source that reads it, and what it has told.
struct Reader {
    temporary: TempDir,
    events: Receiver<SourceEvent>,
    objects: BTreeMap<ObjectRef, Object>,
    problems: Vec<Problem>,
    synced: bool,
}

fn account(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, labels: {{l: \"{label}\"}}}}\n")
}

impl Reader {
    /// Starts reading the folder `mesh`, which may be made before.
    fn of(temporary: TempDir) -> Self {
        let events = directory(temporary.path().join("mesh")).unwrap();
        Self { temporary, events, objects: BTreeMap::new(), problems: Vec::new(), synced: false }
    }

    async fn synced() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        fs::create_dir(temporary.path().join("mesh")).unwrap();
        let mut reader = Self::of(temporary);
        reader.until(|reader| reader.synced).await;
        reader
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.temporary.path().join("mesh").join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn labels(&self) -> Vec<String> {
        self.objects
            .iter()
            .map(|(reference, object)| {
                format!("{}={}", reference.name, object.metadata().labels.as_ref().unwrap()["l"])
            })
            .collect()
    }

    async fn step(&mut self) -> SourceEvent {
        let event = tokio::time::timeout(DEADLINE, self.events.recv())
            .await
            .unwrap_or_else(|_| panic!("nothing more was told: {:?}, {:?}", self.labels(), self.problems))
            .expect("the source goes on");
        match &event {
            SourceEvent::Changes(changes) => {
                assert!(!changes.is_empty());
                for (reference, object) in changes.clone() {
                    match object {
                        Some(object) => drop(self.objects.insert(reference, object)),
                        None => drop(self.objects.remove(&reference).expect("only what is there can go")),
                    }
                }
            }
            SourceEvent::Problems(problems) => {
                assert_ne!(*problems, self.problems, "problems are told when they change");
                self.problems.clone_from(problems);
            }
            SourceEvent::Synced => {
                assert!(!self.synced, "said once");
                self.synced = true;
            }
        }
        event
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            self.step().await;
        }
    }

    async fn until_labels(&mut self, labels: &[&str]) {
        self.until(|reader| reader.labels() == labels && reader.problems.is_empty()).await;
    }
}

#[tokio::test]
async fn first_the_content_then_synced() {
    let temporary = tempfile::tempdir().unwrap();
    fs::create_dir(temporary.path().join("mesh")).unwrap();
    fs::write(temporary.path().join("mesh/a.yaml"), account("a", "1")).unwrap();
    let mut reader = Reader::of(temporary);
    assert!(matches!(reader.step().await, SourceEvent::Changes(_)));
    assert_eq!(reader.step().await, SourceEvent::Synced);
    assert_eq!(reader.labels(), ["a=1"]);
}

#[tokio::test]
async fn nothing_is_synced_before_the_folder_is_good() {
    let temporary = tempfile::tempdir().unwrap();
    let mut reader = Reader::of(temporary);
    assert!(matches!(reader.step().await, SourceEvent::Problems(_)));
    assert!(reader.problems[0].message.contains("no such folder"), "{:?}", reader.problems);
    fs::create_dir(reader.path("")).unwrap();
    reader.write("a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    reader.until(|reader| reader.synced).await;
    assert!(reader.problems.is_empty());
}

#[tokio::test]
async fn writing_replacing_renaming_and_removing_are_told() {
    let mut reader = Reader::synced().await;
    reader.write("a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    reader.write("a.yaml", account("a", "2"));
    reader.until_labels(&["a=2"]).await;
    reader.write(".next", account("a", "3"));
    fs::rename(reader.path(".next"), reader.path("a.yaml")).unwrap();
    reader.until_labels(&["a=3"]).await;
    fs::rename(reader.path("a.yaml"), reader.path("a.off")).unwrap();
    reader.until_labels(&[]).await;
    fs::rename(reader.path("a.off"), reader.path("b.yaml")).unwrap();
    reader.until_labels(&["a=3"]).await;
    fs::hard_link(reader.path("b.yaml"), reader.path("c.yaml")).unwrap();
    reader.until(|reader| !reader.problems.is_empty()).await;
    fs::remove_file(reader.path("b.yaml")).unwrap();
    reader.until_labels(&["a=3"]).await;
    fs::remove_file(reader.path("c.yaml")).unwrap();
    reader.until_labels(&[]).await;
}

#[tokio::test]
async fn folders_within_come_move_and_go() {
    let mut reader = Reader::synced().await;
    fs::create_dir_all(reader.path("x/y")).unwrap();
    reader.write("x/y/a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    reader.write("x/y/b.yaml", account("b", "1"));
    reader.until_labels(&["a=1", "b=1"]).await;
    fs::rename(reader.path("x"), reader.path("z")).unwrap();
    reader.write("z/y/a.yaml", account("a", "2"));
    reader.until_labels(&["a=2", "b=1"]).await;
    fs::rename(reader.path("z/y"), reader.temporary.path().join("elsewhere")).unwrap();
    reader.until_labels(&[]).await;
    fs::rename(reader.temporary.path().join("elsewhere"), reader.path("back")).unwrap();
    reader.until_labels(&["a=2", "b=1"]).await;
    fs::remove_dir_all(reader.path("back")).unwrap();
    reader.until_labels(&[]).await;
}

#[tokio::test]
async fn many_folders_at_once_are_all_seen() {
    let mut reader = Reader::synced().await;
    for number in 0..100 {
        let folder = format!("f{number}/deep");
        fs::create_dir_all(reader.path(&folder)).unwrap();
        reader.write(&format!("{folder}/a.yaml"), account(&format!("a{number}"), "1"));
    }
    reader.until(|reader| reader.objects.len() == 100).await;
}

#[tokio::test]
async fn what_is_wrong_is_told_and_the_last_good_state_stays() {
    let mut reader = Reader::synced().await;
    reader.write("a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    reader.write("a.yaml", "kind: [");
    reader.until(|reader| reader.problems.iter().any(|problem| problem.message.contains("no valid YAML"))).await;
    assert_eq!(reader.labels(), ["a=1"]);
    reader.write("b.yaml", account("b", "1"));
    reader.write("a.yaml", account("a", "2"));
    reader.until_labels(&["a=2", "b=1"]).await;
}

#[tokio::test]
async fn a_folder_that_is_moved_away_keeps_its_last_good_state_and_may_come_back() {
    let mut reader = Reader::synced().await;
    reader.write("a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    let aside = reader.temporary.path().join("aside");
    for label in ["2", "3"] {
        fs::rename(reader.path(""), &aside).unwrap();
        reader.until(|reader| !reader.problems.is_empty()).await;
        assert!(reader.problems[0].message.contains("no such folder"), "{:?}", reader.problems);
        assert_eq!(reader.labels().len(), 1);
        fs::write(aside.join("a.yaml"), account("a", label)).unwrap();
        fs::rename(&aside, reader.path("")).unwrap();
        reader.until_labels(&[&format!("a={label}")]).await;
    }
    reader.write("a.yaml", account("a", "4"));
    reader.until_labels(&["a=4"]).await;
}

#[tokio::test]
async fn attributes_of_files_and_folders_and_the_folder_itself_may_change() {
    use std::os::unix::fs::PermissionsExt;
    let mut reader = Reader::synced().await;
    fs::create_dir(reader.path("sub")).unwrap();
    reader.write("sub/a.yaml", account("a", "1"));
    reader.until_labels(&["a=1"]).await;
    for path in [reader.path("sub/a.yaml"), reader.path("sub"), reader.path("")] {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    }
    reader.write("sub/a.yaml", account("a", "2"));
    reader.until_labels(&["a=2"]).await;
}

#[tokio::test]
async fn a_write_that_is_not_closed_is_read_in_the_end() {
    let mut reader = Reader::synced().await;
    let mut file = fs::File::create(reader.path("a.yaml")).unwrap();
    file.write_all(account("a", "1").as_bytes()).unwrap();
    reader.until_labels(&["a=1"]).await;
    file.write_all(format!("---\n{}", account("b", "1")).as_bytes()).unwrap();
    reader.until_labels(&["a=1", "b=1"]).await;
}

#[tokio::test]
async fn a_config_map_is_swapped_as_one_change() {
    let mut reader = Reader::synced().await;
    let version = |reader: &Reader, number: &str| {
        fs::create_dir(reader.path(format!("..{number}"))).unwrap();
        reader.write(&format!("..{number}/a.yaml"), account("a", number));
        reader.write(&format!("..{number}/b.yaml"), account("b", number));
        symlink(format!("..{number}"), reader.path("..data_tmp")).unwrap();
        fs::rename(reader.path("..data_tmp"), reader.path("..data")).unwrap();
    };
    version(&reader, "1");
    symlink("..data/a.yaml", reader.path("a.yaml")).unwrap();
    symlink("..data/b.yaml", reader.path("b.yaml")).unwrap();
    reader.until_labels(&["a=1", "b=1"]).await;
    version(&reader, "2");
    let event = reader.step().await;
    assert!(matches!(&event, SourceEvent::Changes(changes) if changes.len() == 2), "{event:?}");
    assert_eq!(reader.labels(), ["a=2", "b=2"]);
}

#[tokio::test]
async fn the_target_of_a_link_is_watched_wherever_it_is() {
    let mut reader = Reader::synced().await;
    let target = reader.temporary.path().join("target.yaml");
    fs::write(&target, account("a", "1")).unwrap();
    symlink(&target, reader.path("a.yaml")).unwrap();
    reader.until_labels(&["a=1"]).await;
    fs::write(&target, account("a", "2")).unwrap();
    reader.until_labels(&["a=2"]).await;
}

#[tokio::test]
async fn the_source_ends_with_its_reader() {
    let mut reader = Reader::synced().await;
    reader.events.close();
    let end = tokio::time::timeout(DEADLINE, async { while reader.events.recv().await.is_some() {} });
    end.await.unwrap();
}
