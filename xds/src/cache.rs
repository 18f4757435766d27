//! The snapshots that are current, and who must hear of a new one.

mod interest;
mod names;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use futures::task::AtomicWaker;
use parking_lot::{Mutex, RwLock};

use self::interest::InterestIndex;
pub(crate) use self::interest::{Interest, InterestChange};
pub(crate) use self::names::NameList;
use self::names::NameLists;
use crate::layer::Difference;
use crate::policy::ProxyName;
use crate::snapshot::Snapshot;
use crate::type_url::TypeUrl;
use crate::version::Version;

/// Names the snapshot a proxy is served. Proxies with the same key are served the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotKey(Arc<str>);

impl SnapshotKey {
    /// A key of this text.
    #[must_use]
    pub fn new(key: impl Into<Arc<str>>) -> Self {
        Self(key.into())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SnapshotKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Number of a publication; grows by one with each that changes anything. Means nothing on another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(pub u64);

/// A snapshot and the publication that made it current.
#[derive(Debug)]
pub struct Published {
    /// The publication.
    pub epoch: Epoch,
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// What it changed, found once for all streams of the key. `None` where nobody asks, or where it is much.
    changes: Option<Changes>,
}

/// What differs from the snapshot that was current before.
#[derive(Debug)]
struct Changes {
    since: Epoch,
    /// By type, then name.
    differences: Vec<Difference>,
}

impl Published {
    /// A snapshot that is published as the first of its key.
    #[must_use]
    pub fn new(epoch: Epoch, snapshot: Arc<Snapshot>) -> Self {
        Self { epoch, snapshot, changes: None }
    }

    /// A snapshot that takes another's place.
    pub(crate) fn following(older: &Self, epoch: Epoch, snapshot: Arc<Snapshot>, differences: Vec<Difference>) -> Self {
        let few = differences.len() <= MOST_KEPT_DIFFERENCES;
        let changes = few.then_some(Changes { since: older.epoch, differences });
        Self { epoch, snapshot, changes }
    }

    /// What differs for a type from an older snapshot of the same key.
    pub(crate) fn differences_since(&self, older: &Self, type_url: &TypeUrl) -> Cow<'_, [Difference]> {
        match &self.changes {
            Some(changes) if changes.since == older.epoch => {
                let all = &changes.differences;
                let start = all.partition_point(|difference| difference.type_url < *type_url);
                let end = all.partition_point(|difference| difference.type_url <= *type_url);
                Cow::Borrowed(&all[start..end])
            }
            Some(_) | None => Cow::Owned(Snapshot::diff_type(&older.snapshot, &self.snapshot, type_url)),
        }
    }
}

/// What a call of [`Cache::publish`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The epoch of the snapshots it made current; of the last publication before it when it changed nothing.
    pub epoch: Epoch,
    /// How many keys have a new snapshot or lost theirs.
    pub changed_keys: usize,
    /// How many streams were woken: those that hold something that changed.
    pub woken_streams: usize,
}

/// Versions that a proxy shall not be sent, by type and name.
pub(crate) type HoldBacks = BTreeMap<(TypeUrl, Arc<str>), Version>;

/// Most differences that are kept beside a snapshot, for every key has its own. Where there are more, each stream that is to be
/// sent them finds them again, which costs it less than sending them.
const MOST_KEPT_DIFFERENCES: usize = 64;

/// How many proxies without a stream keep their held-back versions; the oldest are forgotten first.
const REMEMBERED_ABSENT_PROXIES: usize = 10_000;

/// The current snapshot of every key. A handle: clones share the content.
#[derive(Clone, Default)]
pub struct Cache {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ready: AtomicBool,
    keys: RwLock<HashMap<SnapshotKey, Arc<KeyState>>>,
    /// Serialises publications, so that epochs are published in order. The last epoch.
    publishing: Mutex<Epoch>,
    proxies: Mutex<Proxies>,
}

#[derive(Default)]
struct KeyState {
    current: ArcSwapOption<Published>,
    names: Mutex<NameLists>,
    watchers: Mutex<Watchers>,
}

#[derive(Default)]
struct Watchers {
    slots: Vec<Option<Arc<Watcher>>>,
    free: Vec<u32>,
    interest: InterestIndex,
}

/// One stream's part in the cache.
#[derive(Default)]
struct Watcher {
    waker: AtomicWaker,
    hold_backs: ArcSwap<HoldBacks>,
    /// The epoch up to which the stream is synced; 0 for none.
    synced: AtomicU64,
}

#[derive(Default)]
struct Proxies {
    by_name: HashMap<ProxyName, ProxyState>,
    /// Proxies that lost their last stream, oldest first; may name some that came back.
    absent: std::collections::VecDeque<ProxyName>,
}

#[derive(Default)]
struct ProxyState {
    hold_backs: Arc<HoldBacks>,
    watchers: Vec<Arc<Watcher>>,
}

impl Cache {
    /// A cache that is not ready and holds nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that the inputs are complete. Until then every stream is refused, because an empty world must never be
    /// served.
    pub fn set_ready(&self) {
        self.shared.ready.store(true, Ordering::Release);
    }

    /// Whether [`Cache::set_ready`] was called.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Acquire)
    }

    /// What is current for a key.
    #[must_use]
    pub fn current(&self, key: &SnapshotKey) -> Option<Arc<Published>> {
        self.shared.keys.read().get(key)?.current.load_full()
    }

    /// The keys that have a snapshot, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<SnapshotKey> {
        let keys = self.shared.keys.read();
        let mut published: Vec<SnapshotKey> =
            keys.iter().filter(|(_, state)| state.current.load().is_some()).map(|(key, _)| key.clone()).collect();
        published.sort();
        published
    }

    /// Makes snapshots current, or withdraws them (`None`: streams of the key are closed). A snapshot that delivers
    /// what the current one delivers changes nothing. Only streams that hold something that changed are woken.
    pub fn publish(&self, snapshots: impl IntoIterator<Item = (SnapshotKey, Option<Arc<Snapshot>>)>) -> Publication {
        let mut last_epoch = self.shared.publishing.lock();
        let epoch = Epoch(last_epoch.0 + 1);
        let mut publication = Publication { epoch: *last_epoch, changed_keys: 0, woken_streams: 0 };
        for (key, snapshot) in snapshots {
            let woken = match snapshot {
                Some(snapshot) => self.state_of(&key).replace(epoch, snapshot),
                None => self.withdraw(&key),
            };
            if let Some(woken) = woken {
                publication.changed_keys += 1;
                publication.woken_streams += woken;
                publication.epoch = epoch;
            }
        }
        *last_epoch = publication.epoch;
        publication
    }

    /// Does not send this proxy this exact version of a resource: the proxy keeps the version it acknowledged last, or
    /// nothing. Ends by itself once the resource has another version.
    pub fn hold_back(&self, proxy: &ProxyName, type_url: &TypeUrl, name: impl Into<Arc<str>>, version: Version) {
        let key = (type_url.clone(), name.into());
        self.change_hold_backs(proxy, |hold_backs| hold_backs.insert(key.clone(), version) != Some(version));
    }

    /// Ends a [`Cache::hold_back`].
    pub fn release(&self, proxy: &ProxyName, type_url: &TypeUrl, name: &str) {
        let key = (type_url.clone(), Arc::from(name));
        self.change_hold_backs(proxy, |hold_backs| hold_backs.remove(&key).is_some());
    }

    /// The versions held back for a proxy, by type and name.
    #[must_use]
    pub fn held_back(&self, proxy: &ProxyName) -> Vec<(TypeUrl, Arc<str>, Version)> {
        let proxies = self.shared.proxies.lock();
        proxies
            .by_name
            .get(proxy)
            .into_iter()
            .flat_map(|state| state.hold_backs.iter())
            .map(|((type_url, name), version)| (type_url.clone(), Arc::clone(name), *version))
            .collect()
    }

    fn change_hold_backs(&self, proxy: &ProxyName, mut change: impl FnMut(&mut HoldBacks) -> bool) {
        let mut proxies = self.shared.proxies.lock();
        let state = proxies.by_name.entry(proxy.clone()).or_default();
        let mut hold_backs = HoldBacks::clone(&state.hold_backs);
        if change(&mut hold_backs) {
            state.hold_backs = Arc::new(hold_backs);
            for watcher in &state.watchers {
                watcher.hold_backs.store(Arc::clone(&state.hold_backs));
                watcher.waker.wake();
            }
        }
        proxies.forget_if_idle(proxy);
    }

    fn state_of(&self, key: &SnapshotKey) -> Arc<KeyState> {
        if let Some(state) = self.shared.keys.read().get(key) {
            return Arc::clone(state);
        }
        let mut keys = self.shared.keys.write();
        Arc::clone(keys.entry(key.clone()).or_default())
    }

    fn withdraw(&self, key: &SnapshotKey) -> Option<usize> {
        let state = self.shared.keys.write().remove(key)?;
        state.current.swap(None)?;
        Some(state.watchers.lock().wake_all())
    }

    /// Joins a stream to its key; `None` when nothing is published for it.
    pub(crate) fn subscribe(&self, key: &SnapshotKey, proxy: &ProxyName) -> Option<Subscriber> {
        let state = Arc::clone(self.shared.keys.read().get(key)?);
        let watcher = Arc::new(Watcher::default());
        let slot = state.watchers.lock().insert(Arc::clone(&watcher));
        let subscriber = Subscriber { cache: self.clone(), state, slot, watcher, proxy: proxy.clone() };
        let mut proxies = self.shared.proxies.lock();
        let proxy_state = proxies.by_name.entry(proxy.clone()).or_default();
        subscriber.watcher.hold_backs.store(Arc::clone(&proxy_state.hold_backs));
        proxy_state.watchers.push(Arc::clone(&subscriber.watcher));
        drop(proxies);
        // Withdrawn meanwhile: dropping the subscriber undoes the above.
        subscriber.current().is_some().then_some(subscriber)
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Cache")
            .field("ready", &self.is_ready())
            .field("keys", &self.shared.keys.read().len())
            .finish_non_exhaustive()
    }
}

impl KeyState {
    /// Makes a snapshot current; how many streams that woke, or `None` when it changes nothing.
    fn replace(&self, epoch: Epoch, snapshot: Arc<Snapshot>) -> Option<usize> {
        let before = self.current.load_full();
        let differences = match &before {
            Some(before) if Arc::ptr_eq(&before.snapshot, &snapshot) => return None,
            Some(before) => {
                let differences = Snapshot::diff(&before.snapshot, &snapshot);
                if differences.is_empty() {
                    return None;
                }
                differences
            }
            None => Vec::new(),
        };
        let watchers = self.watchers.lock();
        let affected = watchers.interest.affected_by(&differences);
        let published = match &before {
            Some(before) if affected.len() > 0 => Published::following(before, epoch, snapshot, differences),
            Some(_) | None => Published::new(epoch, snapshot),
        };
        self.current.store(Some(Arc::new(published)));
        let Some(before) = before else {
            return Some(watchers.wake_all());
        };
        before.snapshot.forget_complete_states();
        for (slot, watcher) in watchers.slots.iter().enumerate() {
            let Some(watcher) = watcher else { continue };
            if affected.contains(slot) {
                watcher.waker.wake();
            } else {
                // What it holds is what the new snapshot says: it is as synced as it was.
                let _ = watcher.synced.compare_exchange(before.epoch.0, epoch.0, Ordering::SeqCst, Ordering::SeqCst);
            }
        }
        Some(affected.len())
    }
}

impl Watchers {
    fn insert(&mut self, watcher: Arc<Watcher>) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(watcher);
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 streams");
        self.slots.push(Some(watcher));
        slot
    }

    fn remove(&mut self, slot: u32) {
        self.slots[slot as usize] = None;
        self.free.push(slot);
        self.interest.remove_wildcards(slot);
    }

    fn wake_all(&self) -> usize {
        let watchers = self.slots.iter().flatten();
        watchers.map(|watcher| watcher.waker.wake()).count()
    }
}

impl Proxies {
    /// Forgets a proxy that has no stream and nothing held back; bounds how many of those that have are remembered.
    fn forget_if_idle(&mut self, proxy: &ProxyName) {
        let Some(state) = self.by_name.get(proxy) else {
            return;
        };
        if !state.watchers.is_empty() {
            return;
        }
        if state.hold_backs.is_empty() {
            self.by_name.remove(proxy);
            return;
        }
        self.absent.push_back(proxy.clone());
        while self.absent.len() > REMEMBERED_ABSENT_PROXIES
            && let Some(oldest) = self.absent.pop_front()
        {
            if self.by_name.get(&oldest).is_some_and(|state| state.watchers.is_empty()) {
                self.by_name.remove(&oldest);
            }
        }
    }
}

/// A stream's membership of its key. Ends when dropped.
pub(crate) struct Subscriber {
    cache: Cache,
    state: Arc<KeyState>,
    slot: u32,
    watcher: Arc<Watcher>,
    proxy: ProxyName,
}

impl Subscriber {
    /// What is current; `None` once it is withdrawn.
    pub(crate) fn current(&self) -> Option<Arc<Published>> {
        self.state.current.load_full()
    }

    /// The versions held back for this proxy.
    pub(crate) fn hold_backs(&self) -> Arc<HoldBacks> {
        self.watcher.hold_backs.load_full()
    }

    /// Wakes this task when something changes that the stream must see.
    pub(crate) fn register(&self, waker: &std::task::Waker) {
        self.watcher.waker.register(waker);
    }

    /// Records what the stream now subscribes to. Must come before the snapshot is read that answers it.
    pub(crate) fn change_interest(&self, changes: impl IntoIterator<Item = InterestChange>) {
        let mut watchers = self.state.watchers.lock();
        for change in changes {
            watchers.interest.apply(self.slot, change);
        }
    }

    /// The list to keep in place of an equal one, which other streams of the key may have too.
    pub(crate) fn share_names(&self, list: &NameList) -> NameList {
        self.state.names.lock().share(list)
    }

    /// Records up to which epoch the stream is synced.
    pub(crate) fn set_synced(&self, epoch: Option<Epoch>) {
        let number = epoch.map_or(0, |epoch| epoch.0);
        self.watcher.synced.store(number, Ordering::SeqCst);
    }

    /// Up to which epoch the stream is synced, unaffecting publications included.
    pub(crate) fn synced(&self) -> Option<Epoch> {
        let number = self.watcher.synced.load(Ordering::SeqCst);
        (number > 0).then_some(Epoch(number))
    }

    /// Forgets held-back versions that no longer apply.
    pub(crate) fn forget_hold_backs(&self, lapsed: &[(TypeUrl, Arc<str>)]) {
        if !lapsed.is_empty() {
            self.cache.change_hold_backs(&self.proxy, |hold_backs| {
                let before = hold_backs.len();
                hold_backs.retain(|key, _| !lapsed.contains(key));
                hold_backs.len() != before
            });
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.state.watchers.lock().remove(self.slot);
        let mut proxies = self.cache.shared.proxies.lock();
        if let Some(state) = proxies.by_name.get_mut(&self.proxy) {
            state.watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.watcher));
        }
        proxies.forget_if_idle(&self.proxy);
    }
}

#[cfg(test)]
mod tests;
