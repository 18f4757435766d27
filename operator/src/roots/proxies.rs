//! Connected proxies: what each holds, who is missing, and who has to come back with another certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_issuer::rotation::{Absent, Evidence, Holding, Participant, Record, RootName, Roots, Standing};
use osm_model::Identity;
use osm_xds::{Epoch, ProxyName, Server, StreamId, StreamProgress, TypeUrl};
use time::OffsetDateTime;

use super::deliveries::{Bundles, Deliveries};

/// How long a stream is given to ask for secrets: one that has not by then has none, and needs none.
const ASKS_WITHIN: Duration = Duration::from_secs(5);
/// How long a proxy is given to take up a new certificate before it is asked to connect again.
const FIRST_RECONNECT: Duration = Duration::from_millis(500);
/// Longest time between two requests to connect again.
const LAST_RECONNECT: Duration = Duration::from_secs(60);
/// How long after a proxy was seen its pod is known surely, if it is there.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);
/// Most names of proxies that are missing.
const MAX_NAMES: usize = 5;

/// See the module.
#[derive(Debug)]
pub(super) struct Watched {
    streams: BTreeMap<StreamId, Seen>,
    /// What holdings follow from besides what the streams have acknowledged.
    basis: Basis,
    /// What streams hold on that basis. Most hold the same.
    shared: BTreeSet<Arc<Holding>>,
    /// Proxies that are connected, or were, with the last time they were seen.
    proxies: BTreeMap<Arc<str>, OffsetDateTime>,
    connected: usize,
    /// How many were connected before this process, and until when they are expected.
    before: (usize, OffsetDateTime),
    oldest_acknowledged: Option<Epoch>,
    settled: bool,
    reconnects: BTreeMap<ProxyName, Reconnect>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    proxy: ProxyName,
    participant: Participant,
    connected_with: BTreeSet<RootName>,
    /// What it holds, on the basis, having acknowledged so much; not while that is unknown.
    held: Option<(Option<Epoch>, Arc<Holding>)>,
}

/// As long as it is the same, a stream that acknowledges nothing new holds the same.
#[derive(Debug, Default)]
struct Basis {
    bundles: Arc<Bundles>,
    /// [`Deliveries::revision`].
    deliveries: u64,
}

#[derive(Debug, Clone, Copy)]
struct Reconnect {
    at: Instant,
    wait: Duration,
}

impl Watched {
    /// Nobody is known; `expected` proxies were connected before, and are waited for until then.
    pub(super) fn new(expected: usize, until: OffsetDateTime) -> Self {
        Self {
            streams: BTreeMap::new(),
            basis: Basis::default(),
            shared: BTreeSet::new(),
            proxies: BTreeMap::new(),
            connected: 0,
            before: (expected, until),
            oldest_acknowledged: None,
            settled: false,
            reconnects: BTreeMap::new(),
        }
    }

    /// What the proxies hold that are connected to this process. There may be very many of them, and this is asked often: what a
    /// stream holds is found out when it has changed.
    pub(super) fn evidence(
        &mut self,
        server: &Server,
        deliveries: &Deliveries,
        bundles: &Arc<Bundles>,
        record: &Record,
        now: OffsetDateTime,
    ) -> Evidence {
        // Before the streams: what is published in between is seen the next time.
        self.rest_on(Basis { bundles: Arc::clone(bundles), deliveries: deliveries.revision() });
        let open = server.progress_of(&TypeUrl::Secret);
        self.oldest_acknowledged = open.iter().filter_map(|stream| stream.acknowledged).min();
        let mut streams = BTreeMap::new();
        let mut holdings: BTreeMap<Participant, Arc<Holding>> = BTreeMap::new();
        for stream in &open {
            let id = stream.identity.stream;
            let mut seen = self.streams.remove(&id).unwrap_or_else(|| Seen::new(&stream.identity.admission.proxy));
            if seen.connected_with.is_empty() {
                seen.connected_with = roots_of(stream, bundles, now);
                seen.held = seen.held.filter(|_| seen.connected_with.is_empty());
            }
            let holding = seen.holding(stream, deliveries, bundles, record, &mut self.shared);
            let both = match holdings.remove(&seen.participant) {
                Some(other) => Arc::new(joined(&other, &holding)),
                None => holding,
            };
            holdings.insert(seen.participant.clone(), both);
            streams.insert(id, seen);
        }
        self.streams = streams;
        self.settled = holdings.values().all(|holding| **holding != Holding::Unknown);
        Evidence { holdings, ..Evidence::default() }
    }

    /// Forgets what streams hold if it rested on something else.
    fn rest_on(&mut self, basis: Basis) {
        let same = Arc::ptr_eq(&basis.bundles, &self.basis.bundles) && basis.deliveries == self.basis.deliveries;
        if !same {
            self.streams.values_mut().for_each(|seen| seen.held = None);
            self.shared.clear();
            self.basis = basis;
        }
    }

    /// From `now` until then this many proxies are expected, wherever they were connected before.
    pub(super) fn expect(&mut self, proxies: usize, until: OffsetDateTime) {
        self.before = (proxies, until);
    }

    /// Which proxies are connected `now`, wherever.
    pub(super) fn see<'a>(&mut self, connected: impl IntoIterator<Item = &'a Participant>, now: OffsetDateTime) {
        self.connected = 0;
        for participant in connected {
            if let Participant::Proxy(name) = participant {
                match self.proxies.get_mut(name) {
                    Some(last) => *last = now,
                    None => drop(self.proxies.insert(Arc::clone(name), now)),
                }
                self.connected += 1;
            }
        }
    }

    /// Who was connected within `grace`, or before this process, and is not, but for those who have left for good. Ask after
    /// [`Watched::see`].
    pub(super) fn absent(
        &mut self,
        now: OffsetDateTime,
        grace: Duration,
        has_left: impl Fn(&ProxyName) -> bool,
    ) -> Option<Absent> {
        self.proxies.retain(|name, last| {
            let is_gone = *last + KNOWN_WITHIN <= now && has_left(&ProxyName::new(Arc::clone(name)));
            *last + grace > now && !is_gone
        });
        let missing: Vec<(&Arc<str>, OffsetDateTime)> =
            self.proxies.iter().filter(|(_, last)| **last < now).map(|(name, last)| (name, *last + grace)).collect();
        let (before, until_before) = self.before;
        if before <= self.connected || until_before <= now {
            self.before = (0, until_before);
        }
        let not_back = self.before.0.saturating_sub(self.connected);
        let until = missing.iter().map(|(_, until)| *until).max();
        let until = until.max((not_back > 0).then_some(until_before))?;
        let names = missing.iter().take(MAX_NAMES).map(|(name, _)| Arc::clone(name)).collect();
        Some(Absent { count: missing.len().max(not_back), names, until })
    }

    /// How many proxies a process that takes over has to expect.
    pub(super) fn expected(&self) -> usize {
        self.connected.max(self.before.0)
    }

    /// Up to where every stream has acknowledged everything.
    pub(super) fn oldest_acknowledged(&self) -> Option<Epoch> {
        self.oldest_acknowledged
    }

    /// Whether nothing is under way that would be seen by looking again soon.
    pub(super) fn is_settled(&self) -> bool {
        self.settled && self.reconnects.is_empty()
    }

    /// Asks proxies to connect again whose connection was made with a certificate of a root that is to go.
    pub(super) fn reconnect(&mut self, server: &Server, record: &Record, wanted: &Roots, now: Instant) {
        let goes = |root: &RootName| {
            let unwanted = wanted.get(root).is_none_or(|root| {
                root.standing == Standing::Compromised || root.role == osm_issuer::rotation::Role::Inactive
            });
            unwanted && record.signing.as_ref() != Some(root)
        };
        let concerned = self.streams.values().filter(|seen| seen.connected_with.iter().any(goes));
        let concerned: BTreeSet<&ProxyName> = concerned.map(|seen| &seen.proxy).collect();
        self.reconnects.retain(|proxy, _| concerned.contains(proxy));
        for proxy in concerned {
            let first = Reconnect { at: now + FIRST_RECONNECT, wait: FIRST_RECONNECT };
            let next = self.reconnects.entry(proxy.clone()).or_insert(first);
            if next.at <= now {
                next.wait = (next.wait * 2).min(LAST_RECONNECT);
                next.at = now + next.wait;
                tracing::debug!(%proxy, "asked to connect again: its certificate is of a root that is to go");
                server.reconnect(proxy);
            }
        }
    }
}

impl Seen {
    fn new(proxy: &ProxyName) -> Self {
        Self {
            since: Instant::now(),
            participant: Participant::Proxy(Arc::from(proxy.as_str())),
            proxy: proxy.clone(),
            connected_with: BTreeSet::new(),
            held: None,
        }
    }

    /// What the proxy holds by what this stream has acknowledged. Those that are alike are `shared`.
    fn holding(
        &mut self,
        stream: &StreamProgress,
        deliveries: &Deliveries,
        bundles: &Bundles,
        record: &Record,
        shared: &mut BTreeSet<Arc<Holding>>,
    ) -> Arc<Holding> {
        if let Some((acknowledged, holding)) = &self.held
            && (true, *acknowledged) == (stream.subscribed, stream.acknowledged)
        {
            return Arc::clone(holding);
        }
        let holding = match workload_of(stream.identity.admission.key.as_str()) {
            Some(_) if !stream.subscribed && self.since.elapsed() >= ASKS_WITHIN => {
                Holding::settled(record.trusted.clone(), BTreeSet::new())
            }
            Some(workload) if stream.subscribed => deliveries.holding(&workload, stream.acknowledged, bundles),
            _ => Holding::Unknown,
        };
        let holding = with_connection(holding, &self.connected_with);
        let holding = shared.get(&holding).cloned().unwrap_or_else(|| {
            let first = Arc::new(holding);
            shared.insert(Arc::clone(&first));
            first
        });
        // Time alone changes what is unknown, and what whoever does not subscribe holds.
        let lasts = *holding != Holding::Unknown && stream.subscribed;
        self.held = lasts.then(|| (stream.acknowledged, Arc::clone(&holding)));
        holding
    }
}

/// The roots that verify the certificate that a stream was opened with.
fn roots_of(stream: &StreamProgress, bundles: &Bundles, now: OffsetDateTime) -> BTreeSet<RootName> {
    let verifies = bundles.iter().filter(|(_, bundle)| bundle.verifies(&stream.certificates, now));
    verifies.map(|(name, _)| name.clone()).collect()
}

fn with_connection(holding: Holding, roots: &BTreeSet<RootName>) -> Holding {
    match holding {
        Holding::Unknown => Holding::Unknown,
        Holding::Known { trusts, may_trust, may_show, .. } => {
            Holding::Known { trusts, may_trust, may_show, connected_with: roots.clone() }
        }
    }
}

/// What a proxy holds that has two streams, as while it connects anew, perhaps elsewhere.
pub(super) fn joined(one: &Holding, other: &Holding) -> Holding {
    let both = |one: &BTreeSet<RootName>, other: &BTreeSet<RootName>| one.union(other).cloned().collect();
    match (one, other) {
        (
            Holding::Known { trusts, may_trust, may_show, connected_with },
            Holding::Known { trusts: trusts_2, may_trust: may_trust_2, may_show: shown_2, connected_with: with_2 },
        ) => Holding::Known {
            trusts: trusts.intersection(trusts_2).cloned().collect(),
            may_trust: both(may_trust, may_trust_2),
            may_show: both(may_show, shown_2),
            connected_with: both(connected_with, with_2),
        },
        _ => Holding::Unknown,
    }
}

/// The workload of a proxy, from the key of its snapshot.
fn workload_of(key: &str) -> Option<Identity> {
    let (namespace, service_account) = key.split_once('/')?;
    Identity::new(namespace, service_account).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_back_is_waited_for_unless_its_pod_is_gone() {
        let at = |seconds| OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds);
        let (stays, left) = ("shop/web/web-0.1", "shop/web/web-0.2");
        let mut watched = Watched::new(0, at(0));
        let both = [stays, left].map(|name| Participant::Proxy(Arc::from(name)));
        watched.see(&both, at(0));
        watched.see([], at(1));
        let grace = Duration::from_secs(60);
        let mut absent = |seconds| {
            let absent = watched.absent(at(seconds), grace, |proxy| proxy.as_str() == left)?;
            Some((absent.count, absent.names.iter().map(|name| name.to_string()).collect::<Vec<_>>(), absent.until))
        };
        let told = |names: &[&str]| Some((names.len(), names.iter().map(|name| (*name).to_owned()).collect(), at(60)));
        assert_eq!(absent(4), told(&[stays, left]), "its pod may not be known yet");
        assert_eq!(absent(5), told(&[stays]));
        assert_eq!(absent(59), told(&[stays]));
        assert_eq!(absent(60), None);
    }

    #[test]
    fn what_a_stream_holds_is_found_out_anew_when_it_rests_on_something_else() {
        let mut watched = Watched::new(0, OffsetDateTime::UNIX_EPOCH);
        let holding = || Arc::new(Holding::settled(BTreeSet::new(), BTreeSet::new()));
        let mut is_kept = |bundles: &Arc<Bundles>, deliveries| {
            let basis = Basis { bundles: Arc::clone(bundles), deliveries };
            watched.rest_on(basis);
            let seen =
                watched.streams.entry(StreamId(1)).or_insert_with(|| Seen::new(&ProxyName::new("shop/web/web-0.1")));
            seen.held.replace((None, holding())).is_some()
        };
        let (some, others) = (Arc::default(), Arc::default());
        assert_eq!([1, 1, 2, 2].map(|deliveries| is_kept(&some, deliveries)), [false, true, false, true]);
        assert_eq!([2, 2].map(|deliveries| is_kept(&others, deliveries)), [false, true]);
    }
}
