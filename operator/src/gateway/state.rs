//! What is known of the gateway while a root is replaced: what it trusts, and which certificates it may show.

use std::sync::Arc;
use std::time::Duration;

use osm_issuer::{LeafCertificate, TrustBundle};
use time::OffsetDateTime;

use crate::written_roots::{Newcomers, Places, WrittenRoots};

/// What is known of the gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) enum GatewayState {
    /// Nobody has looked yet, this replica does not keep the Secret, or nobody can.
    #[default]
    Unknown,
    /// The MeshConfig asks for none.
    Nowhere,
    /// The Secret holds what it should, or held it a moment ago.
    Known {
        /// The roots in it.
        trusted: WrittenRoots,
        /// The certificates in it.
        shown: Shown,
    },
}

/// Roots of the certificates that are and were in the Secret. Who reads it reads late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    current: Option<Arc<TrustBundle>>,
    /// With the time when another took its place.
    former: Vec<(Arc<TrustBundle>, OffsetDateTime)>,
    /// Until when anything may have been in it.
    unknown_until: OffsetDateTime,
}

impl Shown {
    /// Nobody has looked before `now`.
    fn new(now: OffsetDateTime) -> Self {
        Self { current: None, former: Vec::new(), unknown_until: now }
    }

    /// The certificate in the Secret is of these roots; `None` if that is not known.
    fn look(&mut self, roots: Option<&Arc<TrustBundle>>, now: OffsetDateTime) {
        if roots.is_none() {
            self.unknown_until = now;
        }
        if self.current.as_ref() == roots {
            return;
        }
        if let Some(former) = std::mem::replace(&mut self.current, roots.cloned()) {
            self.former.retain(|(other, _)| *other != former);
            self.former.push((former, now));
        }
    }

    /// The roots whose certificates may be shown at `now` by who reads late by up to `delay`; `None` if that may be any.
    pub(crate) fn at(&self, delay: Duration, now: OffsetDateTime) -> Option<Vec<&Arc<TrustBundle>>> {
        let current = self.current.as_ref()?;
        if self.unknown_until + delay > now {
            return None;
        }
        let former = self.former.iter().filter(|(_, until)| *until + delay > now);
        Some(former.map(|(roots, _)| roots).chain([current]).collect())
    }

    /// Whether it is known what is in the Secret.
    fn is_known(&self) -> bool {
        self.current.is_some()
    }
}

/// What is known of one Secret.
#[derive(Debug)]
pub(super) struct Watched {
    secret: (String, String),
    places: Places,
    shown: Shown,
    /// The certificate that was found or written last, and its roots.
    last: Option<(String, Arc<TrustBundle>)>,
}

impl Watched {
    /// Nobody has looked at the Secret, by namespace and name, before `now`.
    pub(super) fn new(secret: (String, String), now: OffsetDateTime) -> Self {
        Self { secret, places: Places::default(), shown: Shown::new(now), last: None }
    }

    /// Namespace and name.
    pub(super) fn secret(&self) -> &(String, String) {
        &self.secret
    }

    /// Takes in roots and certificate that are in the Secret, as PEM; `at_hand` is the certificate that shall be. Says what that makes
    /// of the gateway.
    pub(super) fn learn(
        &mut self,
        content: Option<(&str, &str)>,
        at_hand: Option<&Arc<LeafCertificate>>,
        now: OffsetDateTime,
    ) -> GatewayState {
        let trusted = self.places.look([("", content.map(|(roots, _)| roots))], Newcomers::MayHaveHeld, now);
        let chain = content.map(|(_, chain)| chain);
        let at_hand = at_hand.map(|leaf| (leaf.material().certificate_chain_pem(), leaf.roots()));
        let last = self.last.as_ref().map(|(chain, roots)| (chain.as_str(), roots));
        let known = at_hand.into_iter().chain(last).find(|(known, _)| Some(*known) == chain);
        let known = known.map(|(chain, roots)| (chain.to_owned(), Arc::clone(roots)));
        self.shown.look(known.as_ref().map(|(_, roots)| roots), now);
        if known.is_some() {
            self.last = known;
        }
        match self.shown.is_known() {
            true => GatewayState::Known { trusted, shown: self.shown.clone() },
            false => GatewayState::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use osm_issuer::tresor::{AuthorityKey, AuthorityMaterial, TresorConfig};
    use osm_issuer::{
        Blame, CertificateStore, Clock, IngressGatewayIdentity, IssuerConfig, Issuers, PeerIdentity, StoreConfig,
        TrustDomain,
    };

    use super::*;

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_700_000_000 + seconds).unwrap()
    }

    fn root() -> Arc<TrustBundle> {
        let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, at(0)).unwrap();
        Arc::new(TrustBundle::from_pem(material.certificate_pem()).unwrap())
    }

    /// A certificate of a gateway, by an authority of its own.
    async fn leaf() -> Arc<LeafCertificate> {
        let (clock, now) = (Clock::system(), Clock::system().now());
        let material = AuthorityMaterial::generate(AuthorityKey::EcdsaP256, now).unwrap();
        let config = IssuerConfig::Tresor(TresorConfig { material, origin: Blame::Process });
        let issuers = Issuers { signing: config.build(now).unwrap(), validating: Vec::new() };
        let store = CertificateStore::new(issuers, StoreConfig::default(), clock);
        let domain = TrustDomain::new("cluster.local").unwrap();
        let identity = IngressGatewayIdentity::new(domain, "ingress", "tls", ["gateway.example"]).unwrap();
        store.certificate(&PeerIdentity::IngressGateway(identity)).await.unwrap()
    }

    #[tokio::test]
    async fn the_secret_says_what_the_gateway_may_use() {
        let (old, new, delay) = (leaf().await, leaf().await, Duration::from_secs(10));
        let pem = |leaf: &LeafCertificate| (leaf.roots().pem(), leaf.material().certificate_chain_pem().to_owned());
        let ((old_root, old_chain), (new_root, new_chain)) = (pem(&old), pem(&new));
        let both = old_root.clone() + &new_root;
        let mut watched = Watched::new(("ingress".to_owned(), "tls".to_owned()), at(0));
        let mut learn = |content: Option<(&str, &str)>, at_hand: Option<&Arc<LeafCertificate>>, now: i64| match watched
            .learn(content, at_hand, at(now))
        {
            GatewayState::Known { trusted, shown } => {
                let shown = shown.at(delay, at(now)).map(|shown| shown.into_iter().cloned().collect::<Vec<_>>());
                Some((trusted.since(old.roots()), trusted.since(new.roots()), shown))
            }
            GatewayState::Unknown | GatewayState::Nowhere => None,
        };
        assert_eq!(learn(None, Some(&old), 0), None, "it is not there yet");
        assert_eq!(learn(Some((&old_root, "of before")), None, 0), None, "somebody else's certificate");
        let old_alone = Some(vec![old.roots().clone()]);
        assert_eq!(learn(Some((&old_root, &old_chain)), Some(&old), 1), Some((Some(at(0)), None, None)));
        assert_eq!(
            learn(Some((&both, &old_chain)), Some(&old), 20),
            Some((Some(at(0)), Some(at(20)), old_alone.clone()))
        );
        // Another root signs. The certificate in the Secret is still the one that was written last.
        let found = learn(Some((&both, &old_chain)), Some(&new), 40);
        assert_eq!(found, Some((Some(at(0)), Some(at(20)), old_alone)));
        let (_, _, shown) = learn(Some((&both, &new_chain)), Some(&new), 41).unwrap();
        assert_eq!(shown, Some(vec![old.roots().clone(), new.roots().clone()]));
        let (_, _, shown) = learn(Some((&both, &new_chain)), Some(&new), 51).unwrap();
        assert_eq!(shown, Some(vec![new.roots().clone()]));
    }

    #[test]
    fn a_certificate_that_was_replaced_may_be_shown_until_the_new_one_was_surely_read() {
        let (old, new, delay) = (root(), root(), Duration::from_secs(10));
        let mut shown = Shown::new(at(0));
        assert_eq!(shown.at(delay, at(100)), None, "nothing is known");
        shown.look(Some(&old), at(0));
        assert_eq!(shown.at(delay, at(9)), None, "something else may have been there");
        assert_eq!(shown.at(delay, at(10)), Some(vec![&old]));
        shown.look(Some(&new), at(20));
        assert_eq!(shown.at(delay, at(29)), Some(vec![&old, &new]));
        shown.look(Some(&new), at(29));
        assert_eq!(shown.at(delay, at(30)), Some(vec![&new]));
        // Back and forth, as by somebody who has a copy.
        shown.look(Some(&old), at(40));
        shown.look(Some(&new), at(50));
        assert_eq!(shown.at(delay, at(59)), Some(vec![&old, &new]));
        assert_eq!(shown.at(delay, at(60)), Some(vec![&new]));
        shown.look(None, at(70));
        assert_eq!((shown.at(delay, at(90)), shown.is_known()), (None, false), "somebody else's certificate");
        shown.look(Some(&new), at(90));
        assert_eq!(shown.at(delay, at(90)), Some(vec![&new]));
        assert_eq!(shown.at(delay, at(79)), None);
    }
}
