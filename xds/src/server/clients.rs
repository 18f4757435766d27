//! The streams that are open, for dumps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use super::Progress;
use super::accept::{Connection, StreamHandle};
use crate::cache::{Epoch, SnapshotKey, Subscriber};
use crate::policy::{ClientIdentity, CloseReason, ProxyName, StreamId};
use crate::stream::{Stream, TypeStatus};
use crate::type_url::TypeUrl;
use crate::version::Version;

/// One open stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientStatus {
    /// Which stream, of whom.
    pub identity: Arc<ClientIdentity>,
    /// Up to which epoch it has acknowledged everything; publications that do not affect it count.
    pub synced: Option<Epoch>,
    /// The types it asked for, in send order.
    pub types: Vec<TypeStatus>,
}

/// An open stream, as far as one type goes.
#[derive(Clone, Debug)]
pub struct StreamProgress {
    /// Which stream, of whom.
    pub identity: Arc<ClientIdentity>,
    /// The certificates that its connection was opened with, leaf first.
    pub certificates: Arc<[CertificateDer<'static>]>,
    /// Whether it subscribes to anything of the type.
    pub subscribed: bool,
    /// The epoch of the newest publication of which it has acknowledged everything of the type but removals. A publication
    /// that changes nothing for the stream does not count.
    pub acknowledged: Option<Epoch>,
}

/// What the registry keeps of an open stream.
pub(super) struct Client {
    pub(super) identity: Arc<ClientIdentity>,
    pub(super) stream: Arc<Mutex<Stream>>,
    pub(super) subscriber: Arc<Subscriber>,
    pub(super) handle: Arc<StreamHandle>,
    pub(super) connection: Arc<Connection>,
}

#[derive(Default)]
pub(super) struct Clients {
    open: Mutex<BTreeMap<StreamId, Arc<Client>>>,
}

impl Clients {
    pub(super) fn insert(&self, client: Arc<Client>) {
        self.open.lock().insert(client.identity.stream, client);
    }

    pub(super) fn remove(&self, stream: StreamId) {
        self.open.lock().remove(&stream);
    }

    /// Asks every stream of a proxy to end.
    pub(super) fn dismiss(&self, proxy: &ProxyName) -> usize {
        let mut streams = self.all();
        streams.retain(|client| client.identity.admission.proxy == *proxy);
        for client in &streams {
            client.handle.close(&CloseReason::Dismissed);
        }
        streams.len()
    }

    /// Asks the connections of a proxy to end.
    pub(super) fn reconnect(&self, proxy: &ProxyName) -> usize {
        let mut streams = self.all();
        streams.retain(|client| client.identity.admission.proxy == *proxy);
        for client in &streams {
            client.connection.ask_to_reconnect();
        }
        streams.len()
    }

    pub(super) fn progress_of(&self, type_url: &TypeUrl) -> Vec<StreamProgress> {
        let of = |client: Arc<Client>| {
            let stream = client.stream.lock();
            StreamProgress {
                identity: Arc::clone(&client.identity),
                certificates: Arc::clone(&client.connection.certificates),
                subscribed: stream.subscribes_to(type_url),
                acknowledged: stream.acknowledged_epoch(type_url),
            }
        };
        self.all().into_iter().map(of).collect()
    }

    /// A copy, so that no lock is held while streams are looked at.
    fn all(&self) -> Vec<Arc<Client>> {
        self.open.lock().values().cloned().collect()
    }

    pub(super) fn status(&self) -> Vec<ClientStatus> {
        let now = Instant::now();
        let clients = self.all().into_iter();
        clients
            .map(|client| ClientStatus {
                identity: Arc::clone(&client.identity),
                synced: client.subscriber.synced(),
                types: client.stream.lock().status(now),
            })
            .collect()
    }

    pub(super) fn synced(&self) -> Vec<(Arc<ClientIdentity>, Option<Epoch>)> {
        let open = self.open.lock();
        open.values().map(|client| (Arc::clone(&client.identity), client.subscriber.synced())).collect()
    }

    pub(super) fn progress(&self, key: &SnapshotKey, epoch: Epoch) -> Progress {
        let mut progress = Progress::default();
        for client in self.open.lock().values() {
            if client.identity.admission.key == *key {
                progress.streams += 1;
                progress.synced += usize::from(client.subscriber.synced() >= Some(epoch));
            }
        }
        progress
    }

    pub(super) fn acknowledged(
        &self,
        proxy: &ProxyName,
        type_url: &TypeUrl,
        name: &str,
    ) -> Vec<(StreamId, Option<Version>)> {
        self.all()
            .into_iter()
            .filter(|client| client.identity.admission.proxy == *proxy)
            .filter_map(|client| {
                let stream = client.stream.lock();
                stream.subscribes_to(type_url).then(|| (client.identity.stream, stream.acknowledged(type_url, name)))
            })
            .collect()
    }
}
