//! The proxies that have a certificate from this endpoint, and for how much longer. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use osm_issuer::PeerIdentity;
use osm_xds::ProxyName;

/// One proxy.
#[derive(Debug)]
struct Proxy {
    identity: PeerIdentity,
    /// Open streams.
    streams: usize,
    /// When it was last let in, or its last stream ended.
    touched: Instant,
}

/// Who holds a certificate. One who has no stream for [`Held::keep`] is forgotten, and not before, so that a stream that
/// breaks off and comes back costs no new certificate.
#[derive(Debug)]
pub(super) struct Held {
    keep: Duration,
    proxies: BTreeMap<ProxyName, Proxy>,
}

impl Held {
    pub(super) fn new(keep: Duration) -> Self {
        Self { keep, proxies: BTreeMap::new() }
    }

    /// The proxy is being let in; its streams come later, if at all.
    pub(super) fn admit(&mut self, proxy: ProxyName, identity: &PeerIdentity, now: Instant) {
        let fresh = || Proxy { identity: identity.clone(), streams: 0, touched: now };
        self.proxies.entry(proxy).or_insert_with(fresh).touched = now;
    }

    /// A stream began.
    pub(super) fn connected(&mut self, proxy: &ProxyName, now: Instant) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            proxy.streams += 1;
            proxy.touched = now;
        }
    }

    /// A stream ended.
    pub(super) fn disconnected(&mut self, proxy: &ProxyName, now: Instant) {
        if let Some(proxy) = self.proxies.get_mut(proxy) {
            proxy.streams = proxy.streams.saturating_sub(1);
            proxy.touched = now;
        }
    }

    pub(super) fn holds(&self, proxy: &ProxyName) -> bool {
        self.proxies.contains_key(proxy)
    }

    /// Forgets the proxies without a stream whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<(ProxyName, PeerIdentity)> {
        let is_over = |proxy: &mut Proxy| proxy.streams == 0 && now.duration_since(proxy.touched) >= self.keep;
        self.proxies.extract_if(.., |_, proxy| is_over(proxy)).map(|(name, proxy)| (name, proxy.identity)).collect()
    }

    /// Forgets one proxy, whatever it has.
    pub(super) fn forget(&mut self, proxy: &ProxyName) -> Option<(ProxyName, PeerIdentity)> {
        self.proxies.remove_entry(proxy).map(|(name, proxy)| (name, proxy.identity))
    }

    pub(super) fn len(&self) -> usize {
        self.proxies.len()
    }
}

#[cfg(test)]
mod tests {
    use osm_issuer::{ProxyIdentity, TrustDomain, WorkloadIdentity};

    use super::*;

    const KEEP: Duration = Duration::from_secs(60);

    fn proxy(node: &str) -> (ProxyName, PeerIdentity) {
        let workload = WorkloadIdentity::new(TrustDomain::new("cluster.local").unwrap(), "shop", "web").unwrap();
        (ProxyName::new(node), PeerIdentity::Proxy(ProxyIdentity::new(workload, node).unwrap()))
    }

    #[test]
    fn a_proxy_is_kept_while_it_has_a_stream_and_for_a_while_after() {
        let (start, (name, identity)) = (Instant::now(), proxy("a"));
        let mut held = Held::new(KEEP);
        held.admit(name.clone(), &identity, start);
        held.connected(&name, start);
        held.connected(&name, start);
        held.disconnected(&name, start);
        assert_eq!(held.expire(start + 10 * KEEP), []);
        held.disconnected(&name, start + 10 * KEEP);
        assert_eq!(held.expire(start + 11 * KEEP - Duration::from_nanos(1)), []);
        assert!(held.holds(&name));
        assert_eq!(held.expire(start + 11 * KEEP), [(name.clone(), identity)]);
        assert!(!held.holds(&name) && held.len() == 0);
    }

    #[test]
    fn one_that_was_let_in_and_never_came_is_forgotten() {
        let (start, (name, identity)) = (Instant::now(), proxy("a"));
        let mut held = Held::new(KEEP);
        held.admit(name.clone(), &identity, start);
        held.admit(name.clone(), &identity, start + KEEP / 2);
        assert_eq!(held.expire(start + KEEP), []);
        assert_eq!(held.expire(start + 2 * KEEP).len(), 1);
        // Its stream comes too late to be counted, and its end is none of ours.
        held.connected(&name, start + 2 * KEEP);
        held.disconnected(&name, start + 2 * KEEP);
        assert_eq!(held.len(), 0);
    }
}
