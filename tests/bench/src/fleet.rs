//! A fleet of synthetic proxies: many delta ADS streams that subscribe as Envoy does, answer every response, and check
//! everything they are sent while they load the server.
//!
//! A proxy asks for all clusters, then by name for the endpoints of those it learnt. The fleet knows which state the mesh
//! is in ([`Fleet::expect`]) and tells when every proxy holds exactly that ([`Fleet::converged`]).

mod ledger;
mod proxy;
mod sidecar;
mod stream;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub use ledger::{Counters, KindCounters};
pub use proxy::Verdict;
pub use sidecar::{Sidecar, Sidecars};

use crate::control::Command;
use ledger::{KINDS, Ledger};
use proxy::Proxy;
use stream::{AdsStream, Stall};

/// What each proxy of a fleet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Subscription {
    /// All clusters.
    Clusters,
    /// All clusters, and the endpoints of each by name.
    ClustersAndEndpoints,
}

/// Shape of a fleet.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Where the server listens.
    pub address: SocketAddr,
    /// Number of proxies.
    pub proxies: u32,
    /// Streams that share one HTTP/2 connection; 1 is what real proxies do.
    pub streams_per_connection: u32,
    /// What each proxy asks for.
    pub subscription: Subscription,
}

struct State {
    ledger: Ledger,
    proxies: Vec<Proxy>,
    /// Sum of what is wrong in all proxies that are waited for.
    wrong: u64,
    /// The proxies that are waited for: connected, accepting and reading.
    counted: std::ops::Range<usize>,
    /// When `wrong` last became zero.
    converged_at: Option<Instant>,
    failure: Option<String>,
    /// Whether somebody waits for a count, and so for every response.
    counting: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Rings when the fleet converged, failed, or answered a response while somebody watches.
    progress: Notify,
}

impl Shared {
    fn fail(&self, error: &anyhow::Error, number: u32) {
        self.state.lock().failure.get_or_insert_with(|| format!("proxy {number}: {error:#}"));
        self.progress.notify_waiters();
    }
}

struct Connection {
    stall: Arc<Stall>,
    tasks: Vec<JoinHandle<()>>,
}

impl Connection {
    fn abort(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A running fleet. Dropping it closes its streams.
pub struct Fleet {
    config: Config,
    shared: Arc<Shared>,
    connections: Vec<Connection>,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Fleet").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.connections.iter().for_each(Connection::abort);
    }
}

async fn run_proxy(shared: &Shared, number: u32, requests: SendRequest<Bytes>) -> anyhow::Result<()> {
    let first = {
        let state = &mut *shared.state.lock();
        state.proxies[number as usize].first_requests(&state.ledger)
    };
    let mut stream = AdsStream::open(requests, first).await?;
    loop {
        let message = stream.message().await?;
        let (answers, converged, counting) = {
            let state = &mut *shared.state.lock();
            let proxy = &mut state.proxies[number as usize];
            let before = proxy.wrong;
            let answers = proxy.respond(&mut state.ledger, &message);
            let after = proxy.wrong;
            if state.counted.contains(&(number as usize)) {
                state.wrong = state.wrong + after - before;
            }
            (answers, before != after && state.wrong == 0, state.counting)
        };
        for answer in answers {
            stream.send(answer)?;
        }
        if converged {
            shared.state.lock().converged_at = Some(Instant::now());
        }
        if converged || counting {
            shared.progress.notify_waiters();
        }
    }
}

impl Fleet {
    /// A fleet of proxies that are not connected yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let state = State {
            ledger: Ledger::default(),
            proxies: (0..config.proxies).map(|number| Proxy::new(number, config.subscription)).collect(),
            wrong: 0,
            counted: 0..0,
            converged_at: None,
            failure: None,
            counting: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), progress: Notify::new() });
        Self { config, shared, connections: Vec::new() }
    }

    /// Connects every proxy, or connects it anew: a proxy keeps what it holds and says so on its new stream.
    ///
    /// # Errors
    /// When the server cannot be reached. What fails later is told by [`Self::converged`].
    pub async fn connect(&mut self) -> anyhow::Result<()> {
        self.disconnect();
        self.connect_up_to(self.config.proxies).await
    }

    /// Connects the proxies below `count` that are not connected yet; whole connections only.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub async fn connect_up_to(&mut self, count: u32) -> anyhow::Result<()> {
        let per_connection = self.config.streams_per_connection.max(1);
        while (self.connections.len() as u32) * per_connection < count {
            let first = self.connections.len() as u32 * per_connection;
            let stall = Arc::new(Stall::default());
            let (requests, driver) = stream::connect(self.config.address, stall.clone()).await?;
            let shared = self.shared.clone();
            let mut tasks = vec![tokio::spawn(async move {
                if let Err(error) = driver.await {
                    shared.fail(&error.into(), first);
                }
            })];
            for number in first..count.min(first + per_connection) {
                let shared = self.shared.clone();
                let requests = requests.clone();
                tasks.push(tokio::spawn(async move {
                    if let Err(error) = run_proxy(&shared, number, requests).await {
                        shared.fail(&error, number);
                    }
                }));
            }
            self.connections.push(Connection { stall, tasks });
        }
        let state = &mut *self.shared.state.lock();
        state.counted.end = count as usize;
        state.count_wrong();
        Ok(())
    }

    /// Closes every stream.
    pub fn disconnect(&mut self) {
        self.connections.iter().for_each(Connection::abort);
        self.connections.clear();
        let state = &mut *self.shared.state.lock();
        state.counted = 0..0;
        state.count_wrong();
    }

    /// Says which state the mesh will be in after `command`; to be called before the server is told.
    pub fn expect(&self, command: &Command) {
        let state = &mut *self.shared.state.lock();
        state.converged_at = None;
        match command {
            Command::Services(count) => {
                state.ledger.know_services(*count);
                for kind in KINDS {
                    state.ledger.expected_mut(kind).resize(*count as usize, 0);
                }
                for proxy in &mut state.proxies {
                    proxy.compare(&state.ledger);
                }
            }
            Command::Change { kind, first, count, revision } => {
                for service in *first..first + count {
                    let expected = state.ledger.expected_mut(*kind).get_mut(service as usize);
                    let earlier = expected.map(|expected| std::mem::replace(expected, *revision));
                    for proxy in &mut state.proxies {
                        proxy.expectation_changed(&state.ledger, *kind, service, earlier);
                    }
                }
            }
            Command::Rebuild | Command::Counters => {}
        }
        state.count_wrong();
    }

    /// Waits until every connected proxy that counts holds exactly the expected state; answers when it came to that.
    ///
    /// # Errors
    /// When that did not happen before `limit`, a stream ended, or the server broke a rule.
    pub async fn converged(&self, limit: Duration) -> anyhow::Result<Instant> {
        self.wait(limit, |state| (state.wrong == 0).then(|| state.converged_at.unwrap_or_else(Instant::now))).await
    }

    /// Waits until the counters satisfy `reached`.
    ///
    /// # Errors
    /// As for [`Self::converged`].
    pub async fn counted(&self, limit: Duration, reached: impl Fn(&Counters) -> bool) -> anyhow::Result<()> {
        self.shared.state.lock().counting = true;
        let result = self.wait(limit, |state| reached(&state.ledger.counters).then_some(())).await;
        self.shared.state.lock().counting = false;
        result
    }

    async fn wait<T>(&self, limit: Duration, reached: impl Fn(&State) -> Option<T>) -> anyhow::Result<T> {
        let waiting = async {
            loop {
                let progress = self.shared.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                {
                    let state = self.shared.state.lock();
                    if let Some(failure) = &state.failure {
                        bail!("{failure}");
                    }
                    if let Some(value) = reached(&state) {
                        return Ok(value);
                    }
                }
                progress.await;
            }
        };
        let result = tokio::time::timeout(limit, waiting).await.unwrap_or_else(|_| {
            let state = self.shared.state.lock();
            Err(anyhow::anyhow!(
                "not reached within {limit:?}: {} resources are not as expected; {:?}",
                state.wrong,
                state.ledger.counters
            ))
        });
        self.verified().and(result)
    }

    /// Whether the server kept every rule so far.
    ///
    /// # Errors
    /// The first violations, in words.
    pub fn verified(&self) -> anyhow::Result<()> {
        let state = self.shared.state.lock();
        let (violations, count) = state.ledger.violations();
        if count > 0 {
            bail!("the server broke {count} rules, first:\n  {}", violations.join("\n  "));
        }
        Ok(())
    }

    /// The counts so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.shared.state.lock().ledger.counters
    }

    /// Lets the proxies below `count` answer with `verdict`; those that refuse are not waited for.
    pub fn set_verdict(&self, count: u32, verdict: Verdict) {
        let state = &mut *self.shared.state.lock();
        for proxy in state.proxies.iter_mut().take(count as usize) {
            proxy.verdict = verdict;
        }
        state.counted.start = match verdict {
            Verdict::Refuse => count as usize,
            Verdict::Accept => 0,
        };
        state.count_wrong();
    }

    /// Stops reading the sockets of the first `count` connections; their proxies are not waited for.
    ///
    /// # Errors
    /// When there are fewer connections.
    pub fn stall(&self, count: usize) -> anyhow::Result<()> {
        for connection in self.connections.get(..count).context("more connections to stall than there are")? {
            connection.stall.stop();
        }
        let state = &mut *self.shared.state.lock();
        state.counted.start = count * self.config.streams_per_connection as usize;
        state.count_wrong();
        Ok(())
    }

    /// Reads all sockets again and waits for all proxies again.
    pub fn resume(&self) {
        for connection in &self.connections {
            connection.stall.resume();
        }
        let state = &mut *self.shared.state.lock();
        state.counted.start = 0;
        state.count_wrong();
    }

    /// Number of proxies.
    #[must_use]
    pub fn proxies(&self) -> u32 {
        self.config.proxies
    }
}

impl State {
    fn count_wrong(&mut self) {
        self.wrong = self.proxies[self.counted.clone()].iter().map(|proxy| proxy.wrong).sum();
    }
}
