//! What is in a folder: its manifests, and where to look out for changes. Reads directories, never files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::problem::Problem;
use crate::read::{Stamp, unreadable};

/// Longest chain of symbolic links that is looked at, as in Linux.
const MAX_LINKS: usize = 40;

/// Which entries of a directory matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// All.
    Everything,
    /// Those with these names, in a directory outside the folder.
    Names(BTreeSet<OsString>),
}

/// Directories, by real path, in which changes matter.
pub(crate) type Directories = BTreeMap<PathBuf, Interest>;

/// What a folder holds.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// The manifests, by path below the folder as it was named, and their stamps where they are regular files.
    pub(crate) files: BTreeMap<Arc<Path>, Option<Stamp>>,
    /// Where to look out for changes.
    pub(crate) directories: Directories,
    /// Folders that were read: real path, and path below the folder as it was named.
    pub(crate) folders: HashMap<PathBuf, PathBuf>,
    /// Which files depend on a real path: their own, and those that links lead over.
    pub(crate) dependents: HashMap<PathBuf, BTreeSet<Arc<Path>>>,
    /// Links that lead nowhere or in circles, and folders that cannot be read.
    pub(crate) problems: Vec<Problem>,
}

/// Why there is no folder, and where to look out for it.
#[derive(Debug)]
pub(crate) struct NoFolder {
    pub(crate) problem: Box<Problem>,
    pub(crate) directories: Directories,
}

/// Walks the folder and everything below it, following links. Names that start with a dot are skipped; links may lead to them.
pub(crate) fn walk(root: &Path) -> Result<Walk, NoFolder> {
    try_walk(root).map_err(|problem| NoFolder { problem, directories: surroundings(root) })
}

fn try_walk(root: &Path) -> Result<Walk, Box<Problem>> {
    let directories = surroundings(root);
    let real = real_folder(root)?;
    let walk = Walk { directories, ..Walk::default() };
    let topmost = Step { shown: root.to_owned(), real: real.clone() };
    let mut walker = Walker { walk, folders: Vec::new(), links: Vec::new() };
    walker.folder(&topmost).map_err(|error| unreadable_root(root, &error))?;
    walker.run();
    // A folder that went away meanwhile looks like one that lost its files.
    if real_folder(root)? != real {
        let problem = Problem::of_file(root, "was exchanged while it was read", "wait; it is read again");
        return Err(Box::new(problem));
    }
    Ok(walker.walk)
}

/// Whether an entry of this name is a manifest, if it is a file.
pub(crate) fn is_manifest_name(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().and_then(OsStr::to_str);
    !is_hidden(name) && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

/// Whatever is done with the folder, it may go at that moment.
fn unreadable_root(root: &Path, error: &std::io::Error) -> Box<Problem> {
    Box::new(match error.kind() {
        ErrorKind::NotFound => {
            Problem::of_file(root, "there is no such folder", "create it, or name the folder that holds the manifests")
        }
        _ => unreadable(root, error),
    })
}

fn real_folder(root: &Path) -> Result<PathBuf, Box<Problem>> {
    let real = root.canonicalize().map_err(|error| unreadable_root(root, &error))?;
    match real.metadata() {
        Ok(found) if found.is_dir() => Ok(real),
        Ok(_) => Err(Box::new(Problem::of_file(root, "is not a folder", "name the folder that holds the manifests"))),
        Err(error) => Err(unreadable_root(root, &error)),
    }
}

/// Where the folder itself can come, go or be exchanged: the directories that hold its name and those that links lead over or, as
/// long as they do not exist, the nearest ones that do.
fn surroundings(root: &Path) -> Directories {
    let mut directories = Directories::new();
    let Ok(mut path) = std::path::absolute(root) else { return directories };
    if path.file_name().is_none() {
        path = path.canonicalize().unwrap_or(path);
    }
    for place in trail(&path) {
        watch_name(&mut directories, &place);
    }
    directories
}

/// The path and those that it leads over if it is a symbolic link, each with a real parent.
fn trail(path: &Path) -> Vec<PathBuf> {
    let mut places = Vec::new();
    let mut next = path.to_owned();
    for _ in 0..MAX_LINKS {
        let (Some(parent), Some(name)) = (next.parent(), next.file_name()) else { break };
        let place = match parent.canonicalize() {
            Ok(parent) => parent.join(name),
            Err(_) => {
                places.extend(nearest(parent));
                break;
            }
        };
        let target = fs::read_link(&place);
        let parent = place.parent().unwrap_or(&place).to_owned();
        places.push(place);
        match target {
            Ok(target) => next = parent.join(target),
            Err(_) => break,
        }
    }
    places
}

/// The first part of a path that does not exist, in a directory that does.
fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find_map(|part| Some(part.parent()?.canonicalize().ok()?.join(part.file_name()?)))
}

fn watch_name(directories: &mut Directories, place: &Path) {
    let (Some(parent), Some(name)) = (place.parent(), place.file_name()) else { return };
    let interest = directories.entry(parent.to_owned()).or_insert_with(|| Interest::Names(BTreeSet::new()));
    match interest {
        Interest::Everything => {}
        Interest::Names(names) => {
            names.insert(name.to_owned());
        }
    }
}

/// A folder to read.
struct Step {
    /// Its path below the folder as it was named.
    shown: PathBuf,
    real: PathBuf,
}

/// A symbolic link to a folder.
struct FolderLink {
    shown: PathBuf,
    /// The real path of the directory that holds the link.
    held_by: PathBuf,
    target: PathBuf,
}

struct Walker {
    walk: Walk,
    folders: Vec<Step>,
    /// Followed when nothing else is left, so that a folder is known by its own path before links to it are seen.
    links: Vec<FolderLink>,
}

impl Walker {
    /// Reads all folders that are known, those that turn up, and then those that links lead to.
    fn run(&mut self) {
        loop {
            while let Some(step) = self.folders.pop() {
                match self.folder(&step) {
                    Ok(()) => {}
                    // Gone since the folder that holds it was read.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => self.walk.problems.push(unreadable(&step.shown, &error)),
                }
            }
            // The one that sorts first is read; others that lead to the same folder are told.
            self.links.sort_by(|a, b| b.shown.cmp(&a.shown));
            match self.links.pop() {
                Some(link) => self.follow(link),
                None => break,
            }
        }
        self.walk.problems.sort();
    }

    fn follow(&mut self, link: FolderLink) {
        let target = link.target.display();
        let problem = if link.held_by.starts_with(&link.target) {
            format!("is a symbolic link to a folder that contains it ({target}): a loop")
        } else if let Some(known) = self.walk.folders.get(&link.target) {
            format!("is a symbolic link to a folder that is read already as {}", known.display())
        } else {
            self.folders.push(Step { shown: link.shown, real: link.target });
            return;
        };
        self.walk.problems.push(Problem::of_file(&link.shown, problem, "remove the link"));
    }

    fn folder(&mut self, step: &Step) -> io::Result<()> {
        let entries = fs::read_dir(&step.real)?;
        self.walk.directories.insert(step.real.clone(), Interest::Everything);
        self.walk.folders.insert(step.real.clone(), step.shown.clone());
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            let (shown, real) = (step.shown.join(&name), step.real.join(&name));
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    self.walk.problems.push(unreadable(&shown, &error));
                    continue;
                }
            };
            if kind.is_symlink() {
                self.link(shown, &real, &step.real);
            } else if is_manifest_name(&name) {
                self.file(&shown, [real]);
            } else if kind.is_dir() {
                self.folders.push(Step { shown, real });
            }
        }
        Ok(())
    }

    /// Notes a manifest, or something with the name of one, and the real paths that it depends on.
    fn file(&mut self, shown: &Path, depends_on: impl IntoIterator<Item = PathBuf>) {
        let file: Arc<Path> = Arc::from(shown);
        let stamp = match shown.metadata() {
            Ok(metadata) => metadata.is_file().then(|| Stamp::of(&metadata)),
            // Gone since the directory was read, which is as good as gone before.
            Err(error) if error.kind() == ErrorKind::NotFound => return,
            Err(_) => None,
        };
        for real in depends_on {
            self.walk.dependents.entry(real).or_default().insert(file.clone());
        }
        self.walk.files.insert(file, stamp);
    }

    fn link(&mut self, shown: PathBuf, real: &Path, held_by: &Path) {
        let places = trail(real);
        for place in &places {
            watch_name(&mut self.walk.directories, place);
        }
        let name = real.file_name().unwrap_or_default();
        match real.metadata() {
            Ok(metadata) if metadata.is_dir() && !is_manifest_name(name) => match real.canonicalize() {
                Ok(target) => self.links.push(FolderLink { shown, held_by: held_by.to_owned(), target }),
                Err(error) => self.walk.problems.push(unreadable(&shown, &error)),
            },
            Ok(_) if is_manifest_name(name) => self.file(&shown, places),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // The link itself may be gone by now.
                if let Ok(target) = fs::read_link(real) {
                    self.walk.problems.push(dangling(&shown, &target));
                }
            }
            Err(error) => self.walk.problems.push(unreadable(&shown, &error)),
        }
    }
}

fn dangling(shown: &Path, target: &Path) -> Problem {
    Problem::of_file(
        shown,
        format!("is a symbolic link to {}, which does not exist", target.display()),
        "create what it leads to, or remove the link",
    )
}
