//! The webhook configurations trust the roots of the mesh: the writer among the replicas watches both, puts the roots back
//! when somebody changes them, and tells since when which roots are in both.

use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use osm_api::k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use osm_issuer::{CertificateStore, Change, Clock};
use osm_kubernetes::{Leadership, WebhookConfiguration, Writer, Written};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::leading::while_leading;
use crate::written_roots::{Newcomers, Pace, Places, WrittenRoots};

/// How long to wait after a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the same roots are put back into one configuration at the most.
const PUT_BACK_EVERY: Duration = Duration::from_secs(10);

/// Makes the webhook configurations trust the roots of the mesh.
#[derive(Debug, Clone)]
pub(super) struct CaBundles {
    /// Writes.
    pub(super) writer: Writer,
    /// Where the roots come from.
    pub(super) store: Arc<CertificateStore>,
    /// The configurations by name.
    pub(super) configurations: [(WebhookConfiguration, String); 2],
    /// The time.
    pub(super) clock: Clock,
    /// Told since when which roots are in all configurations that there are.
    pub(super) written: watch::Sender<WrittenRoots>,
}

/// What each webhook of a configuration trusts, PEM.
type Trusted = Vec<String>;
type Events = BoxStream<'static, watcher::Result<watcher::Event<Trusted>>>;

/// What is known of one configuration.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    state: State,
    listing: Option<Trusted>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    NotListed,
    Absent,
    There(Trusted),
}

impl Seen {
    fn take(&mut self, event: watcher::Event<Trusted>) {
        let state = |trusted: Option<Trusted>| trusted.map_or(State::Absent, State::There);
        match event {
            watcher::Event::Init => self.listing = None,
            watcher::Event::InitApply(trusted) => self.listing = Some(trusted),
            watcher::Event::InitDone => self.state = state(self.listing.take()),
            watcher::Event::Apply(trusted) => self.state = state(Some(trusted)),
            watcher::Event::Delete(_) => self.state = State::Absent,
        }
    }

    /// What all webhooks of the configuration trust, PEM; `None` when nobody is called by it.
    fn trusted(&self) -> Option<&str> {
        let State::There(trusted) = &self.state else { return None };
        let first = trusted.first()?;
        Some(if trusted.iter().all(|other| other == first) { first } else { "" })
    }
}

impl CaBundles {
    /// Keeps them current while this replica holds the Lease, for ever.
    pub(super) async fn run(self, mut leadership: watch::Receiver<Leadership>) -> Infallible {
        loop {
            while_leading(&mut leadership, self.keep()).await;
            // What another writes from now on is not seen here.
            self.written.send_replace(WrittenRoots::Unknown);
        }
    }

    async fn keep(&self) -> Infallible {
        let mut changes = self.store.subscribe();
        let mut events = stream::select_all(self.configurations.iter().enumerate().map(|(index, (kind, name))| {
            let events = follow(&self.writer.client(), *kind, name);
            events.map(move |event| (index, event)).boxed()
        }));
        let mut seen: [Seen; 2] = Default::default();
        let (mut places, mut pace) = (Places::default(), Pace::new(PUT_BACK_EVERY));
        loop {
            let mut retry_after = None;
            if seen.iter().all(|seen| seen.state != State::NotListed) {
                // Before and after, so that what was put back is seen to have been missing.
                self.tell(&seen, &mut places);
                retry_after = self.write(&mut seen, &mut pace).await;
                self.tell(&seen, &mut places);
            }
            let retry = async {
                match retry_after {
                    None => std::future::pending().await,
                    Some(wait) => tokio::time::sleep(wait).await,
                }
            };
            tokio::select! {
                event = events.next() => match event {
                    Some((index, Ok(event))) => seen[index].take(event),
                    Some((_, Err(error))) => {
                        tracing::warn!(%error, "cannot watch the webhook configurations; trying again");
                    }
                    None => return std::future::pending().await,
                },
                () = async { while changes.next().await != Change::TrustBundle {} } => {}
                () = retry => {}
            }
        }
    }

    fn tell(&self, seen: &[Seen; 2], places: &mut Places) {
        let names = self.configurations.each_ref().map(|(kind, name)| format!("{kind:?}/{name}"));
        let found = names.iter().zip(seen).filter_map(|(name, seen)| Some((name.as_str(), Some(seen.trusted()?))));
        let written = places.look(found, Newcomers::MayHaveHeld, self.clock.now());
        self.written.send_if_modified(|told| {
            let differs = *told != written;
            *told = written;
            differs
        });
    }

    /// Writes what differs, and says when to look again if anything still does. A configuration that cannot be written holds no
    /// other up.
    async fn write(&self, seen: &mut [Seen; 2], pace: &mut Pace<String>) -> Option<Duration> {
        let pem = match self.store.trust_bundle().await {
            Ok(bundle) => bundle.pem(),
            Err(error) => {
                tracing::warn!(%error, "the webhook configurations are not written, the roots are not known");
                return Some(RETRY_AFTER);
            }
        };
        let mut retry_after: Option<Duration> = None;
        for ((kind, name), seen) in self.configurations.iter().zip(seen) {
            let State::There(trusted) = &mut seen.state else {
                // One that is made anew is waited for by nobody.
                pace.retain(|known| known != name);
                continue;
            };
            if trusted.iter().all(|trusted| *trusted == pem) {
                pace.found(name, pem.clone());
                continue;
            }
            if let Some(wait) = pace.wait(name, &pem, Instant::now()) {
                retry_after = retry_after.max(Some(wait));
                continue;
            }
            match self.writer.set_ca_bundle(*kind, name, &pem).await {
                // The watch will say the same, later.
                Ok(Written::Written | Written::Unchanged) => {
                    trusted.fill(pem.clone());
                    if pace.was_there(name, &pem) {
                        tracing::warn!(name, "somebody else changed the roots in the webhook configuration");
                    }
                    pace.written(name, pem.clone(), Instant::now());
                    tracing::info!(name, "the webhook configuration trusts the roots of the mesh");
                }
                Ok(Written::Gone) => seen.state = State::Absent,
                Err(error) => {
                    retry_after = retry_after.max(Some(RETRY_AFTER));
                    tracing::warn!(%error, name, "cannot write the roots into the webhook configuration; trying again");
                }
            }
        }
        retry_after
    }
}

fn follow(client: &Client, kind: WebhookConfiguration, name: &str) -> Events {
    match kind {
        WebhookConfiguration::Mutating => {
            follow_one(Api::all(client.clone()), name, |found: MutatingWebhookConfiguration| {
                trusted(found.webhooks.into_iter().flatten().map(|webhook| webhook.client_config))
            })
        }
        WebhookConfiguration::Validating => {
            follow_one(Api::all(client.clone()), name, |found: ValidatingWebhookConfiguration| {
                trusted(found.webhooks.into_iter().flatten().map(|webhook| webhook.client_config))
            })
        }
    }
}

fn follow_one<K>(api: Api<K>, name: &str, trusted: fn(K) -> Trusted) -> Events
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watcher(api, config).default_backoff();
    let events = events.map_ok(move |event| match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitApply(found) => watcher::Event::InitApply(trusted(found)),
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::Apply(found) => watcher::Event::Apply(trusted(found)),
        watcher::Event::Delete(found) => watcher::Event::Delete(trusted(found)),
    });
    events.boxed()
}

fn trusted(clients: impl Iterator<Item = WebhookClientConfig>) -> Trusted {
    let pem =
        |client: WebhookClientConfig| client.ca_bundle.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
    clients.map(|client| pem(client).unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_trusts_what_all_its_webhooks_trust() {
        let webhook = |name: &str, bundle: &str| json!({ "name": name, "clientConfig": { "caBundle": bundle }, "sideEffects": "None", "admissionReviewVersions": [] });
        let of = |webhooks: serde_json::Value| {
            let found: MutatingWebhookConfiguration = serde_json::from_value(json!({ "webhooks": webhooks })).unwrap();
            trusted(found.webhooks.into_iter().flatten().map(|webhook| webhook.client_config))
        };
        let state = |trusted| Seen { state: State::There(trusted), listing: None };
        // "aa" and "bb" in base64.
        let (a, b) = ("YWE=", "YmI=");
        assert_eq!(state(of(json!([webhook("x", a), webhook("y", a)]))).trusted(), Some("aa"));
        assert_eq!(state(of(json!([webhook("x", a), webhook("y", b)]))).trusted(), Some(""), "they differ");
        assert_eq!(state(of(json!([webhook("x", "")]))).trusted(), Some(""), "as Helm installs it");
        assert_eq!(state(of(json!([]))).trusted(), None, "nobody is called");
    }

    #[test]
    fn a_configuration_is_known_once_it_was_listed() {
        let mut seen = Seen::default();
        let there = || vec!["pem".to_owned()];
        seen.take(watcher::Event::Init);
        seen.take(watcher::Event::InitApply(there()));
        assert_eq!((&seen.state, seen.trusted()), (&State::NotListed, None));
        seen.take(watcher::Event::InitDone);
        assert_eq!(seen.trusted(), Some("pem"));
        seen.take(watcher::Event::Apply(vec![String::new()]));
        assert_eq!(seen.trusted(), Some(""));
        seen.take(watcher::Event::Delete(there()));
        assert_eq!(seen.state, State::Absent);
        // Listed anew after a watch that broke: it may have come or gone meanwhile.
        seen.take(watcher::Event::Apply(there()));
        seen.take(watcher::Event::Init);
        assert_eq!(seen.trusted(), Some("pem"), "what is known stays until all is");
        seen.take(watcher::Event::InitDone);
        assert_eq!(seen.state, State::Absent);
    }
}
