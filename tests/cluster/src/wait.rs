//! Waiting for a state.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// For anything that a loaded machine does slowly.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until `check`, which blocks and so runs on a thread of its own, gives a value; `what` says what never came.
pub(crate) async fn until<T: Send + 'static>(
    what: &str,
    limit: Duration,
    check: impl Fn() -> Result<T> + Send + 'static,
) -> Result<T> {
    let task = tokio::task::spawn_blocking(move || blocking(limit, check));
    task.await.context("a check does not panic")?.with_context(|| format!("{what}: not within {limit:?}"))
}

/// Like [`until`], on this thread.
pub(crate) fn blocking<T>(limit: Duration, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= deadline || error.is::<Hopeless>() => return Err(error),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// An error after which nothing will come.
#[derive(Debug)]
pub(crate) struct Hopeless(pub(crate) String);

impl std::fmt::Display for Hopeless {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}
