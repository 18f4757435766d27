use std::fs;
use std::os::unix::fs::symlink;

use osm_api::Object;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;

use super::*;
use crate::manifest::MAX_FILE_BYTES;

/// A folder of manifests in a temporary directory.
struct Fixture {
    temporary: TempDir,
    folder: Folder,
}

fn account(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, labels: {{l: \"{label}\"}}}}\n")
}

impl Fixture {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().canonicalize().unwrap().join("mesh");
        fs::create_dir(&root).unwrap();
        Self { temporary, folder: Folder::new(root) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.root().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    fn everything(&mut self) -> Refresh {
        self.folder.refresh(&Hint::Everything)
    }

    /// After something happened to these names.
    fn hinted(&mut self, names: &[&str]) -> Refresh {
        let paths = names.iter().map(|name| self.path(name)).collect();
        self.folder.refresh(&Hint::Paths(paths))
    }
}

/// The changes as `name=label`, or `name` alone for objects that are gone. Fails if there are problems.
fn changes(refresh: &Refresh) -> Vec<String> {
    assert_eq!(refresh.problems, []);
    refresh
        .changes
        .iter()
        .map(|(reference, object)| match object {
            Some(Object::ServiceAccount(account)) => {
                format!("{}={}", reference.name, account.metadata.labels.as_ref().unwrap()["l"])
            }
            Some(other) => format!("{:?}", other.reference()),
            None => reference.name.clone(),
        })
        .collect()
}

/// The problems as lines, with paths relative to the folder. Fails if there are changes beside them.
fn problems(fixture: &Fixture, refresh: &Refresh) -> Vec<String> {
    assert_eq!(refresh.changes, []);
    let above = format!("{}/", fixture.folder.root().parent().unwrap().display());
    refresh.problems.iter().map(|problem| problem.to_string().replace(&above, "")).collect()
}

#[test]
fn files_below_the_folder_are_read_and_others_are_not() {
    let mut fixture = Fixture::new();
    for name in ["a.yaml", "b.yml", "deep/er/c.json", ".hidden.yaml", ".hidden/d.yaml", "e.txt", "yaml", "f.yaml~"] {
        let object = name.replace(['.', '/', '~'], "-");
        let text = account(object.trim_matches('-'), "1");
        let json = format!(
            "{{\"apiVersion\": \"v1\", \"kind\": \"ServiceAccount\", \"metadata\": {{\"name\": \"{object}\", \"labels\": {{\"l\": \"1\"}}}}}}"
        );
        fixture.write(name, if name.ends_with("json") { json } else { text });
    }
    let refresh = fixture.everything();
    assert_eq!(changes(&refresh), ["a-yaml=1", "b-yml=1", "deep-er-c-json=1"]);
    let directories = refresh.directories.unwrap();
    let root = fixture.folder.root();
    for watched in [root.to_owned(), root.join("deep"), root.join("deep/er")] {
        assert_eq!(directories.get(&watched), Some(&Interest::Everything), "{watched:?}");
    }
    let above = Interest::Names(["mesh".into()].into());
    assert_eq!(directories.get(root.parent().unwrap()), Some(&above));
    assert_eq!(directories.len(), 4, "{directories:?}");
    assert_eq!(changes(&fixture.everything()), [""; 0]);
}

#[test]
fn a_hint_reads_the_file_and_nothing_else() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    fixture.write("b.yaml", account("b", "1"));
    fixture.everything();
    fixture.write("a.yaml", account("a", "2"));
    fixture.write("b.yaml", account("b", "2"));
    fixture.write("c.yaml", account("c", "2"));
    let refresh = fixture.hinted(&["a.yaml"]);
    assert_eq!(changes(&refresh), ["a=2"]);
    assert_eq!(refresh.directories, None, "the folder was not walked");
    let refresh = fixture.hinted(&["b.yaml", "c.yaml", "unknown.yaml", "a.yaml.swp", ".b.yaml.swp"]);
    assert_eq!(changes(&refresh), ["b=2", "c=2"]);
    assert_eq!(refresh.directories, None);
    fixture.remove("b.yaml");
    fixture.write("a.txt", "");
    fixture.write(".a.yaml", "[");
    let refresh = fixture.hinted(&["b.yaml", "a.txt", ".a.yaml"]);
    assert_eq!((changes(&refresh), refresh.directories), (vec!["b".to_owned()], None));
    fixture.write("b.yaml", account("b", "3"));
    let refresh = fixture.hinted(&["b.yaml"]);
    assert_eq!((changes(&refresh), refresh.directories), (vec!["b=3".to_owned()], None));
}

#[test]
fn a_hint_of_something_unknown_looks_at_everything() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    assert_eq!(changes(&fixture.hinted(&[])), ["a=1"], "nothing was read before");
    fixture.write("sub/b.yaml", account("b", "1"));
    let refresh = fixture.hinted(&["sub"]);
    assert_eq!(changes(&refresh), ["b=1"]);
    assert!(refresh.directories.unwrap().contains_key(&fixture.path("sub")));
    fs::rename(fixture.path("sub"), fixture.path("other")).unwrap();
    assert_eq!(changes(&fixture.hinted(&["sub", "other"])), [""; 0], "the object is where it was, but in another file");
    fs::remove_dir_all(fixture.path("other")).unwrap();
    assert_eq!(changes(&fixture.hinted(&["other"])), ["b"]);
}

#[test]
fn equal_content_is_no_change() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", format!("{}---\n{}", account("a", "1"), account("b", "1")));
    assert_eq!(changes(&fixture.everything()), ["a=1", "b=1"]);
    fixture.write("a.yaml", format!("# a comment\n{}---\n---\n{}", account("b", "1"), account("a", "1")));
    assert_eq!(changes(&fixture.hinted(&["a.yaml"])), [""; 0]);
    fixture.write("b.yaml", account("b", "1"));
    fixture.write("a.yaml", account("a", "1"));
    assert_eq!(changes(&fixture.everything()), [""; 0]);
}

#[test]
fn all_or_nothing_and_when_mended_relative_to_the_last_good_state() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    fixture.write("b.yaml", account("b", "1"));
    fixture.everything();
    fixture.write("a.yaml", account("a", "2"));
    fixture.write("b.yaml", "kind: [");
    let refresh = fixture.hinted(&["a.yaml", "b.yaml"]);
    let told = problems(&fixture, &refresh);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("mesh/b.yaml:1: is no valid YAML: "), "{told:?}");
    fixture.write("c.yaml", account("c", "1"));
    let refresh = fixture.hinted(&["c.yaml"]);
    assert_eq!(problems(&fixture, &refresh), told, "still wrong");
    fixture.write("a.yaml", account("a", "3"));
    fixture.hinted(&["a.yaml"]);
    fixture.write("b.yaml", account("b", "1"));
    let refresh = fixture.hinted(&["b.yaml"]);
    assert_eq!(changes(&refresh), ["a=3", "c=1"]);
    let generations: Vec<_> =
        refresh.changes.iter().map(|(_, object)| object.as_ref().unwrap().metadata().generation).collect();
    assert_eq!(generations, [Some(2), Some(1)], "what was never given does not count");
}

#[test]
fn everything_that_is_wrong_is_told_in_the_order_of_files() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", "- 1\n---\nkind: [\n");
    fixture.write("b.yaml", account("x", "1"));
    fixture.write("c.yaml", account("x", "2"));
    fixture.write("d.yaml", b"\xff");
    symlink("nowhere", fixture.path("e")).unwrap();
    let refresh = fixture.everything();
    let told = problems(&fixture, &refresh);
    let files: Vec<_> = told.iter().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(files, ["mesh/a.yaml:1", "mesh/a.yaml:3", "mesh/c.yaml:1", "mesh/d.yaml:1", "mesh/e"], "{told:#?}");
    assert_eq!(
        told[2],
        format!(
            "mesh/c.yaml:1: serviceaccount/default/x: is declared already at {}:1 (document 1); \
             remove one of the two or rename it",
            fixture.path("b.yaml").display()
        )
        .replace(&format!("{}/", fixture.folder.root().parent().unwrap().display()), "")
    );
}

#[test]
fn kinds_that_are_not_read_are_named_once() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", "{apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: apps/v1, kind: Deployment}\n");
    let refresh = fixture.everything();
    let kind = IgnoredKind { api_version: "apps/v1".to_owned(), kind: "Deployment".to_owned() };
    assert_eq!(refresh.newly_ignored, std::slice::from_ref(&kind));
    assert_eq!(fixture.folder.ignored().get(&kind), Some(&2));
    fixture.write("b.yaml", "{apiVersion: apps/v1, kind: Deployment}");
    assert_eq!(fixture.everything().newly_ignored, []);
    assert_eq!(fixture.folder.ignored().get(&kind), Some(&3));
}

#[test]
fn a_file_that_is_too_large_is_told_without_reading_it() {
    let mut fixture = Fixture::new();
    let large = fs::File::create(fixture.path("large.yaml")).unwrap();
    large.set_len(10 * 1024 * 1024).unwrap();
    fixture.write("fits.yaml", " ".repeat(usize::try_from(MAX_FILE_BYTES).unwrap()));
    let refresh = fixture.everything();
    assert_eq!(problems(&fixture, &refresh), ["mesh/large.yaml: is larger than 8 MiB; split it into smaller files"]);
    fixture.write("large.yaml", account("a", "1"));
    assert_eq!(changes(&fixture.hinted(&["large.yaml"])), ["a=1"]);
}

#[test]
fn what_has_the_name_of_a_manifest_but_is_no_file_is_told_and_never_waited_for() {
    let mut fixture = Fixture::new();
    fs::create_dir(fixture.path("folder.yaml")).unwrap();
    mknodat(CWD, fixture.path("pipe.yaml"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(fixture.path("socket.json")).unwrap();
    symlink("/dev/zero", fixture.path("zero.yml")).unwrap();
    let refresh = fixture.everything();
    let wrong = |name: &str, what: &str| {
        format!("mesh/{name}: has the name of a manifest but is {what}; rename it or put a file in its place")
    };
    assert_eq!(
        problems(&fixture, &refresh),
        [
            wrong("folder.yaml", "a folder"),
            wrong("pipe.yaml", "a pipe"),
            wrong("socket.json", "a socket"),
            wrong("zero.yml", "a device")
        ]
    );
    fs::remove_dir(fixture.path("folder.yaml")).unwrap();
    for name in ["pipe.yaml", "socket.json", "zero.yml"] {
        fixture.remove(name);
    }
    fixture.write("pipe.yaml", account("a", "1"));
    assert_eq!(changes(&fixture.hinted(&["folder.yaml", "pipe.yaml", "socket.json", "zero.yml"])), ["a=1"]);
}

#[test]
fn links_that_lead_nowhere_are_told_until_they_lead_somewhere() {
    let mut fixture = Fixture::new();
    let target = fixture.temporary.path().canonicalize().unwrap().join("target.yaml");
    symlink(&target, fixture.path("a.yaml")).unwrap();
    symlink("b.yaml", fixture.path("b.yaml")).unwrap();
    let refresh = fixture.everything();
    let told = problems(&fixture, &refresh);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].starts_with("mesh/a.yaml: is a symbolic link to ") && told[0].contains("does not exist"),
        "{told:?}"
    );
    assert!(told[1].starts_with("mesh/b.yaml: is a symbolic link that leads back to itself; "), "{told:?}");
    let outside = refresh.directories.unwrap()[target.parent().unwrap()].clone();
    assert_eq!(outside, Interest::Names(["mesh".into(), "target.yaml".into()].into()));
    fs::write(&target, account("a", "1")).unwrap();
    fixture.remove("b.yaml");
    assert_eq!(changes(&fixture.folder.refresh(&Hint::Paths([target.clone()].into()))), ["a=1"]);
    fs::write(&target, account("a", "2")).unwrap();
    let refresh = fixture.folder.refresh(&Hint::Paths([target.clone()].into()));
    assert_eq!((changes(&refresh), refresh.directories), (vec!["a=2".to_owned()], None));
    fs::remove_file(&target).unwrap();
    let refresh = fixture.folder.refresh(&Hint::Paths([target].into()));
    assert_eq!(problems(&fixture, &refresh).len(), 1);
}

#[test]
fn links_in_circles_are_told_by_name() {
    let mut fixture = Fixture::new();
    fixture.write("sub/a.yaml", account("a", "1"));
    symlink("..", fixture.path("sub/up")).unwrap();
    symlink("sub", fixture.path("again")).unwrap();
    symlink(fixture.temporary.path(), fixture.path("outside")).unwrap();
    let refresh = fixture.everything();
    let told = problems(&fixture, &refresh);
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told[0].starts_with("mesh/again: is a symbolic link to a folder that is read already as "), "{told:#?}");
    assert!(told[1].starts_with("mesh/outside: is a symbolic link to a folder that contains it"), "{told:#?}");
    assert!(told[2].starts_with("mesh/sub/up: is a symbolic link to a folder that contains it"), "{told:#?}");
    for name in ["sub/up", "again", "outside"] {
        fixture.remove(name);
    }
    assert_eq!(changes(&fixture.hinted(&["sub/up", "again", "outside"])), ["a=1"]);
}

#[test]
fn a_config_map_mount_is_read_once_and_swapped_as_one_change() {
    let mut fixture = Fixture::new();
    fixture.write("..2024_1/a.yaml", account("a", "1"));
    fixture.write("..2024_1/b.yaml", account("b", "1"));
    symlink("..2024_1", fixture.path("..data")).unwrap();
    symlink("..data/a.yaml", fixture.path("a.yaml")).unwrap();
    symlink("..data/b.yaml", fixture.path("b.yaml")).unwrap();
    assert_eq!(changes(&fixture.everything()), ["a=1", "b=1"]);
    fixture.write("..2024_2/a.yaml", account("a", "2"));
    fixture.write("..2024_2/b.yaml", account("b", "2"));
    symlink("..2024_2", fixture.path("..data_tmp")).unwrap();
    fs::rename(fixture.path("..data_tmp"), fixture.path("..data")).unwrap();
    assert_eq!(changes(&fixture.hinted(&["..data_tmp", "..data"])), ["a=2", "b=2"]);
}

#[test]
fn linked_folders_outside_are_read_and_watched() {
    let mut fixture = Fixture::new();
    let outside = fixture.temporary.path().canonicalize().unwrap().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("a.yaml"), account("a", "1")).unwrap();
    symlink(&outside, fixture.path("sub")).unwrap();
    let refresh = fixture.everything();
    assert_eq!(changes(&refresh), ["a=1"]);
    assert_eq!(refresh.directories.unwrap()[&outside], Interest::Everything);
    fs::write(outside.join("b.yaml"), account("b", "1")).unwrap();
    let refresh = fixture.folder.refresh(&Hint::Paths([outside.join("b.yaml")].into()));
    assert_eq!((changes(&refresh), refresh.directories), (vec!["b=1".to_owned()], None));
    fs::write(outside.join("b.yaml"), "[").unwrap();
    let refresh = fixture.folder.refresh(&Hint::Paths([outside.join("b.yaml")].into()));
    assert!(problems(&fixture, &refresh)[0].starts_with("mesh/sub/b.yaml:1: "), "{:?}", refresh.problems);
}

#[test]
fn a_folder_that_disappears_keeps_its_last_good_state() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    fixture.everything();
    let aside = fixture.folder.root().with_file_name("aside");
    fs::rename(fixture.folder.root(), &aside).unwrap();
    for hint in [Hint::Paths([fixture.path("a.yaml")].into()), Hint::Everything] {
        let refresh = fixture.folder.refresh(&hint);
        assert_eq!(
            problems(&fixture, &refresh),
            ["mesh: there is no such folder; create it, or name the folder that holds the manifests"]
        );
        let watched = refresh.directories.unwrap();
        assert!(watched.contains_key(aside.parent().unwrap()), "{watched:?}");
    }
    fs::rename(&aside, fixture.folder.root()).unwrap();
    assert_eq!(changes(&fixture.everything()), [""; 0], "it came back as it was");
    fs::remove_dir_all(fixture.folder.root()).unwrap();
    fixture.everything();
    fixture.write("b.yaml", account("b", "1"));
    assert_eq!(changes(&fixture.everything()), ["a", "b=1"]);
    fs::remove_dir_all(fixture.folder.root()).unwrap();
    fs::write(fixture.folder.root(), "").unwrap();
    let refresh = fixture.everything();
    assert_eq!(problems(&fixture, &refresh), ["mesh: is not a folder; name the folder that holds the manifests"]);
}

#[test]
fn a_missing_folder_is_awaited_where_its_path_begins() {
    let temporary = tempfile::tempdir().unwrap();
    let above = temporary.path().canonicalize().unwrap();
    let refresh = Folder::new(above.join("x/y/mesh")).refresh(&Hint::Everything);
    assert_eq!(refresh.directories.unwrap(), BTreeMap::from([(above, Interest::Names(["x".into()].into()))]));
}

#[test]
fn a_linked_folder_is_exchanged_as_one_change() {
    let temporary = tempfile::tempdir().unwrap();
    let above = temporary.path().canonicalize().unwrap();
    for (release, label) in [("one", "1"), ("two", "2")] {
        fs::create_dir(above.join(release)).unwrap();
        fs::write(above.join(release).join("a.yaml"), account("a", label)).unwrap();
        fs::write(above.join(release).join("b.yaml"), account("b", label)).unwrap();
    }
    symlink("one", above.join("current")).unwrap();
    let mut folder = Folder::new(above.join("current"));
    let refresh = folder.refresh(&Hint::Everything);
    assert_eq!(changes(&refresh), ["a=1", "b=1"]);
    assert_eq!(refresh.directories.unwrap()[&above], Interest::Names(["current".into(), "one".into()].into()));
    symlink("two", above.join("next")).unwrap();
    fs::rename(above.join("next"), above.join("current")).unwrap();
    assert_eq!(changes(&folder.refresh(&Hint::Paths([above.join("current")].into()))), ["a=2", "b=2"]);
}

#[test]
fn a_file_that_vanishes_before_it_is_read_was_never_there() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    fixture.everything();
    let file: Arc<Path> = Arc::from(fixture.path("a.yaml"));
    fixture.remove("a.yaml");
    assert_eq!(fixture.folder.load(&file), Loaded::Done);
    assert_eq!(changes(&fixture.hinted(&[])), ["a"]);
    assert_eq!(fixture.folder.load(&file), Loaded::Done, "nor does it have to be known");
}

#[test]
fn a_look_at_everything_reads_no_file_that_is_as_it_was() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    let changed_long_ago = fixture.path("a.yaml").metadata().unwrap();
    fixture.everything();
    // As if it had been read long after its last change, and its content then replaced behind the file system's back.
    let file: Arc<Path> = Arc::from(fixture.path("a.yaml"));
    let state = FileState { stamp: Some(Stamp::of(&changed_long_ago)), content: Some(0) };
    fixture.folder.files.insert(file.clone(), state);
    assert_eq!(changes(&fixture.everything()), [""; 0]);
    assert_eq!(fixture.folder.files[&file].content, Some(0), "it was not read");
    fixture.write("a.yaml", account("a", "two"));
    assert_eq!(changes(&fixture.everything()), ["a=two"]);
}

#[test]
fn a_file_of_which_the_stamp_may_lie_is_read_again() {
    let mut fixture = Fixture::new();
    fixture.write("a.yaml", account("a", "1"));
    fixture.everything();
    let file: Arc<Path> = Arc::from(fixture.path("a.yaml"));
    assert_eq!(
        fixture.folder.files[&file].stamp, None,
        "it has changed a moment ago and may change within the same tick"
    );
}
