//! The state of a folder of manifests, kept up to date by reading what changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_128;

use crate::event::Change;
use crate::ledger::Ledger;
use crate::manifest::{IgnoredKind, Manifest};
use crate::problem::Problem;
use crate::read::{Content, Stamp, read};
use crate::settling::Hint;
use crate::walk::{Interest, Walk, is_manifest_name, walk};

/// A folder of manifests as it was last read, and the last state in which nothing was wrong with it.
///
/// Read are all files below it whose names end in `.yaml`, `.yml` or `.json`, except those with a name that starts with a dot or
/// in folders with such a name. Symbolic links are followed, also to such names, as in the mount of a ConfigMap.
///
/// All or nothing: while anything is wrong with any file, nothing changes. Not judged is whether objects fit each other.
///
/// An object without `metadata.generation` is given one: 1 when it first appears, and one more with each change of its content.
/// It starts anew when the object goes and comes back.
#[derive(Debug)]
pub struct Folder {
    root: PathBuf,
    files: HashMap<Arc<Path>, FileState>,
    /// Of the last walk: folders by real path, and who depends on a real path.
    folders: HashMap<PathBuf, PathBuf>,
    dependents: HashMap<PathBuf, BTreeSet<Arc<Path>>>,
    /// What is wrong outside files, found by the last walk.
    walk_problems: Vec<Problem>,
    walked: bool,
    ledger: Ledger,
    named: BTreeSet<IgnoredKind>,
}

/// A file as it was last read.
#[derive(Debug)]
struct FileState {
    /// Set if an equal stamp means equal content.
    stamp: Option<Stamp>,
    /// Hash of the content, unless it could not be read.
    content: Option<u128>,
}

/// What a look at the folder gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Refresh {
    /// What changed since the last good state, sorted by object. Empty if there are problems.
    pub changes: Vec<Change>,
    /// All that is wrong now, sorted by file.
    pub problems: Vec<Problem>,
    /// Kinds that the mesh does not read and that were not seen before.
    pub newly_ignored: Vec<IgnoredKind>,
    /// Set if the folder was walked: in which directories, by real path, changes matter from now on.
    pub directories: Option<BTreeMap<PathBuf, Interest>>,
}

/// What is known of a path that something happened to.
enum Meaning {
    /// None of our business.
    Nothing,
    /// These files are to be read.
    Files(Vec<Arc<Path>>),
    /// The folder has to be walked.
    Unclear,
}

/// Whether a file could be brought up to date alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loaded {
    Done,
    /// The file's surroundings are not as they were.
    WalkNeeded,
}

impl Folder {
    /// The folder at this path, not read yet. It need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            files: HashMap::new(),
            folders: HashMap::new(),
            dependents: HashMap::new(),
            walk_problems: Vec::new(),
            walked: false,
            ledger: Ledger::default(),
            named: BTreeSet::new(),
        }
    }

    /// Its path as it was given.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// How many objects are of which kind that the mesh does not read.
    pub fn ignored(&self) -> &BTreeMap<IgnoredKind, usize> {
        self.ledger.ignored()
    }

    /// Reads what may have changed and says what did. Blocks on file I/O, never on pipes or locks.
    ///
    /// A hint of paths costs as much as these files and their objects; a look at everything also lists the folder, but reads only
    /// files whose size, times or identity changed.
    pub fn refresh(&mut self, hint: &Hint) -> Refresh {
        let directories = self.look(hint);
        Refresh { directories, ..self.settle() }
    }

    /// The reading half of [`refresh`](Self::refresh): in which directories changes matter, if the folder was walked.
    pub(crate) fn look(&mut self, hint: &Hint) -> Option<BTreeMap<PathBuf, Interest>> {
        match hint {
            Hint::Everything => Some(self.walk(&BTreeSet::new())),
            Hint::Paths(paths) => self.look_at(paths),
        }
    }

    /// The telling half of [`refresh`](Self::refresh): what was read becomes the state that is told, if nothing is wrong with it.
    pub(crate) fn settle(&mut self) -> Refresh {
        let mut problems = self.walk_problems.clone();
        problems.extend(self.ledger.problems());
        problems.sort();
        let changes = if problems.is_empty() { self.ledger.settle() } else { Vec::new() };
        let newly_ignored: Vec<_> =
            self.ledger.ignored().keys().filter(|kind| !self.named.contains(*kind)).cloned().collect();
        self.named.extend(newly_ignored.iter().cloned());
        Refresh { changes, problems, newly_ignored, directories: None }
    }

    /// Reads what the paths mean, or everything if that is not clear.
    fn look_at(&mut self, paths: &BTreeSet<PathBuf>) -> Option<BTreeMap<PathBuf, Interest>> {
        // What a walk found wrong, only a walk can find right again.
        let mut unclear = !self.walked || !self.walk_problems.is_empty();
        let mut files = BTreeSet::new();
        for path in paths {
            match self.meaning(path) {
                Meaning::Nothing => {}
                Meaning::Files(meant) => files.extend(meant),
                Meaning::Unclear => unclear = true,
            }
        }
        if !unclear {
            unclear = files.iter().any(|file| self.load(file) == Loaded::WalkNeeded);
        }
        unclear.then(|| self.walk(&files))
    }

    fn meaning(&mut self, path: &Path) -> Meaning {
        let kind = path.symlink_metadata().map(|metadata| metadata.file_type());
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Meaning::Unclear };
        let file = self.folders.get(parent).map(|folder| folder.join(name));
        if let Some(dependents) = self.dependents.get(path) {
            if dependents.iter().all(|file| self.files.contains_key(file)) {
                return match kind {
                    Ok(kind) if kind.is_symlink() => Meaning::Unclear,
                    Ok(_) | Err(_) => Meaning::Files(dependents.iter().cloned().collect()),
                };
            }
            if !dependents.iter().all(|dependent| file.as_deref() == Some(&**dependent)) {
                return Meaning::Unclear;
            }
            // A file that was removed and may be back.
        }
        let Ok(kind) = kind else {
            return if self.folders.contains_key(path) { Meaning::Unclear } else { Meaning::Nothing };
        };
        if !kind.is_file() || self.folders.contains_key(path) {
            return Meaning::Unclear;
        }
        match file {
            Some(file) if is_manifest_name(name) => {
                let file: Arc<Path> = Arc::from(file);
                self.dependents.entry(path.to_owned()).or_default().insert(file.clone());
                self.files.insert(file.clone(), FileState { stamp: None, content: None });
                Meaning::Files(vec![file])
            }
            Some(_) => Meaning::Nothing,
            None => Meaning::Unclear,
        }
    }

    /// Walks the folder and reads what changed, and the files that are said to have changed in any case.
    fn walk(&mut self, changed: &BTreeSet<Arc<Path>>) -> BTreeMap<PathBuf, Interest> {
        self.walked = true;
        let Walk { files, directories, folders, dependents, problems } = match walk(&self.root) {
            Ok(walk) => walk,
            Err(no_folder) => {
                // The files are not forgotten: the folder may come back as it was.
                self.walk_problems = vec![*no_folder.problem];
                return no_folder.directories;
            }
        };
        self.folders = folders;
        self.dependents = dependents;
        self.walk_problems = problems;
        let gone: Vec<_> = self.files.keys().filter(|file| !files.contains_key(*file)).cloned().collect();
        for file in gone {
            self.forget(&file);
        }
        for (file, stamp) in &files {
            let known = self.files.get(file).and_then(|state| state.stamp);
            let same = known.is_some() && known == *stamp && !changed.contains(file);
            if !same && self.load(file) == Loaded::WalkNeeded && self.walk_problems.is_empty() {
                // Between the walk and now a link was bent or the folder went: there will be an event, which this problem makes
                // into another walk.
                self.walk_problems.push(Problem::of_file(
                    file,
                    "went away while it was read",
                    "wait; it is read again",
                ));
            }
        }
        directories
    }

    /// Reads the file and notes what it declares, unless its content is what it was.
    fn load(&mut self, file: &Arc<Path>) -> Loaded {
        match read(file) {
            Content::Bytes(bytes, stamp) => {
                let hash = xxh3_128(&bytes);
                let known = self.files.insert(file.clone(), FileState { stamp, content: Some(hash) });
                if known.and_then(|known| known.content) != Some(hash) {
                    self.ledger.put(file, Manifest::parse(file, &bytes));
                }
            }
            Content::Unusable(problem) => {
                self.files.insert(file.clone(), FileState { stamp: None, content: None });
                self.ledger.put(file, Manifest::unusable(problem));
            }
            Content::DanglingLink => return Loaded::WalkNeeded,
            // When the whole folder went, nothing in it was removed.
            Content::Gone if !self.root.is_dir() => return Loaded::WalkNeeded,
            Content::Gone => self.forget(file),
        }
        Loaded::Done
    }

    fn forget(&mut self, file: &Arc<Path>) {
        self.files.remove(file);
        self.ledger.remove(file);
    }
}

#[cfg(test)]
mod tests;
