//! A folder of manifests as a source: watches, reads and tells.

use std::io;
use std::path::PathBuf;
use std::time::Instant;

use tokio::sync::mpsc;

use crate::event::SourceEvent;
use crate::folder::{Folder, Refresh};
use crate::settling::{Hint, UNCLOSED_LONGEST_WAIT};
use crate::watch::Watch;

/// Events that may wait to be taken. When there are more, the folder is not read until there are fewer.
const CHANNEL_EVENTS: usize = 16;

/// Reads a folder of manifests and goes on telling what changes in it, until the receiver is dropped.
///
/// First come the changes from nothing to the folder's content, then [`SourceEvent::Synced`]; if something is wrong at first,
/// [`SourceEvent::Problems`] come before them and the rest when it is mended. Problems are told when they change. The folder may
/// be missing, at first or later: that is a problem like any other, and the last good state stays.
///
/// Files are read on tokio's threads for blocking work, one refresh at a time; a caller need not do so.
///
/// # Errors
/// The kernel gives no file events at all. Must be called within a tokio runtime.
pub fn directory(root: impl Into<PathBuf>) -> io::Result<mpsc::Receiver<SourceEvent>> {
    let watch = Watch::new()?;
    let (events, receiver) = mpsc::channel(CHANNEL_EVENTS);
    let folder = Folder::new(root);
    tokio::spawn(run(folder, watch, events));
    Ok(receiver)
}

async fn run(folder: Folder, watch: Watch, events: mpsc::Sender<SourceEvent>) {
    let root = folder.root().to_owned();
    tokio::select! {
        () = events.closed() => {}
        result = tell(folder, watch, &events) => if let Err(error) = result {
            tracing::error!(folder = %root.display(), %error, "no longer watching the folder");
        }
    }
}

async fn tell(mut folder: Folder, mut watch: Watch, events: &mpsc::Sender<SourceEvent>) -> io::Result<()> {
    let mut hint = Hint::Everything;
    let mut teller = Teller::default();
    let mut unsettled_since = None;
    loop {
        let directories;
        (folder, hint, directories) = tokio::task::spawn_blocking(move || {
            let directories = folder.look(&hint);
            (folder, hint, directories)
        })
        .await?;
        if let Some(directories) = &directories {
            watch.cover(directories);
        }
        // What was read while it was being written is not told, but read again; not for ever, though.
        if watch.is_outdated(&hint)?
            && unsettled_since.get_or_insert_with(Instant::now).elapsed() < UNCLOSED_LONGEST_WAIT
        {
            hint = watch.next().await?;
            continue;
        }
        unsettled_since = None;
        let refresh = folder.settle();
        for kind in &refresh.newly_ignored {
            tracing::info!(%kind, count = folder.ignored().get(kind), "ignoring objects of a kind that the mesh does not read");
        }
        for event in teller.events(refresh) {
            if events.send(event).await.is_err() {
                return Ok(());
            }
        }
        hint = watch.next().await?;
    }
}

/// What has been told.
#[derive(Debug, Default)]
struct Teller {
    synced: bool,
    problems: Vec<crate::Problem>,
}

impl Teller {
    fn events(&mut self, refresh: Refresh) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        let good = refresh.problems.is_empty();
        if !refresh.changes.is_empty() {
            events.push(SourceEvent::Changes(refresh.changes));
        }
        if refresh.problems != self.problems {
            self.problems.clone_from(&refresh.problems);
            events.push(SourceEvent::Problems(refresh.problems));
        }
        if good && !self.synced {
            self.synced = true;
            events.push(SourceEvent::Synced);
        }
        events
    }
}
