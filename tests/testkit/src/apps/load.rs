//! Load: attempts at a steady rate or as fast as they are answered, that never stop on failure.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attempt::{Attempter, ConnectionUse, Target};
use super::report::{Recorder, Report};

/// What load to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRequest {
    /// What to reach.
    pub target: Target,
    /// How many attempts are under way at most.
    pub concurrency: u32,
    /// Attempts per second, of all together; none: as fast as they are answered.
    pub rate: Option<u32>,
    /// Time limit of each attempt, in milliseconds.
    pub timeout_milliseconds: u64,
    /// Whether attempts share connections.
    #[serde(default)]
    pub connections: ConnectionUse,
}

impl LoadRequest {
    /// Four at a time on shared connections, 5 seconds each, as fast as they are answered.
    pub fn new(target: Target) -> Self {
        Self { target, concurrency: 4, rate: None, timeout_milliseconds: 5000, connections: ConnectionUse::Reuse }
    }
}

/// Load that is being made, until it is told to stop.
#[derive(Debug)]
pub(crate) struct Load {
    recorder: Arc<Mutex<Recorder>>,
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(headers: &BTreeMap<String, String>, request: &LoadRequest) -> Self {
        let recorder = Arc::new(Mutex::new(Recorder::default()));
        let (stop, stopped) = watch::channel(false);
        let attempter = Attempter::new(headers.clone(), request.connections);
        let started = Arc::new(AtomicU64::new(0));
        let begin = tokio::time::Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..request.concurrency.max(1) {
            let (recorder, request, headers) = (Arc::clone(&recorder), request.clone(), headers.clone());
            let (shared, mut stopped, started) = (attempter.clone(), stopped.clone(), Arc::clone(&started));
            workers.spawn(async move {
                let limit = Duration::from_millis(request.timeout_milliseconds);
                while !*stopped.borrow() {
                    if let Some(rate) = request.rate {
                        let number = started.fetch_add(1, Ordering::Relaxed);
                        let due = begin + Duration::from_secs_f64(number as f64 / f64::from(rate.max(1)));
                        tokio::select! {
                            () = tokio::time::sleep_until(due) => {}
                            _ = stopped.changed() => break,
                        }
                    }
                    let attempter = match request.connections {
                        ConnectionUse::New => Attempter::new(headers.clone(), ConnectionUse::New),
                        ConnectionUse::Reuse => shared.clone(),
                    };
                    let started = Instant::now();
                    let outcome = attempter.once(&request.target, limit).await;
                    let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                    recorder.record(&outcome, started.elapsed());
                }
            });
        }
        Self { recorder, stop, workers }
    }

    /// What has come so far.
    pub(crate) fn report(&self) -> Report {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner).report()
    }

    /// Lets the attempts under way end, and reports.
    pub(crate) async fn finish(mut self) -> Report {
        // Fails only when every worker has already ended.
        let _ = self.stop.send(true);
        while self.workers.join_next().await.is_some() {}
        self.report()
    }
}
