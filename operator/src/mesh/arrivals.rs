//! The last part of a change's trace: from the publication to the last proxy's acknowledgement.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use osm_xds::{ClientIdentity, Epoch, Event, StreamId};
use tracing::Span;
use tracing::field::Empty;

use crate::driver::{Concerned, Synced};
use crate::logging::{TRACES, number};

/// Most changes whose acknowledgements are traced at a time. Of more, those of the oldest are not waited for any longer: a proxy
/// that never answers must not end the tracing of what others do.
const MOST: usize = 64;

/// Changes that proxies have not acknowledged yet, each with a span that ends when they have.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    awaited: VecDeque<Awaited>,
}

/// A change that is on its way.
#[derive(Debug)]
struct Awaited {
    epoch: Epoch,
    /// Streams that have not acknowledged it.
    outstanding: BTreeSet<StreamId>,
    /// How many streams said that they have.
    acknowledged: usize,
    /// How many responses were refused meanwhile.
    refused: usize,
    span: Span,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        self.span.record("refused", number(self.refused)).record("outstanding", number(self.outstanding.len()));
    }
}

impl Arrivals {
    /// A change went out with `epoch`; `change` is its span, and `concerned` tells whom it concerns.
    pub(crate) fn expect(&mut self, epoch: Epoch, change: &Span, concerned: impl FnOnce() -> Concerned) {
        let span = tracing::info_span!(
            target: TRACES, parent: change, "acknowledge",
            epoch = number(epoch.0), proxies = Empty, refused = Empty, outstanding = Empty,
        );
        if span.is_disabled() {
            return;
        }
        let Concerned { proxies, outstanding } = concerned();
        span.record("proxies", number(proxies));
        let awaited = Awaited { epoch, outstanding, acknowledged: 0, refused: 0, span };
        // Else it ends here: everyone has it, or it concerns nobody.
        if !awaited.outstanding.is_empty() {
            if self.awaited.len() == MOST {
                self.awaited.pop_front();
            }
            self.awaited.push_back(awaited);
        }
    }

    /// Something happened on a stream. `synced` tells how far all streams are.
    pub(crate) fn on_proxy(
        &mut self,
        client: &ClientIdentity,
        event: &Event,
        synced: impl FnOnce() -> Vec<(Arc<ClientIdentity>, Option<Epoch>)>,
    ) {
        let mut look = false;
        for awaited in &mut self.awaited {
            match event {
                Event::Synced { epoch } if *epoch >= awaited.epoch && awaited.outstanding.remove(&client.stream) => {
                    awaited.acknowledged += 1;
                    // A publication that changes nothing for a stream passes it by without an event. Looking as the count
                    // doubles finds those long before the last one answers, at little cost however many there are.
                    look |= awaited.acknowledged.is_power_of_two() && !awaited.outstanding.is_empty();
                }
                Event::Disconnected(_) => drop(awaited.outstanding.remove(&client.stream)),
                Event::Rejected(_) if awaited.outstanding.contains(&client.stream) => awaited.refused += 1,
                _ => {}
            }
        }
        match look {
            true => self.look(&synced()),
            false => self.end(),
        }
    }

    /// Whether anything is awaited.
    pub(crate) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Leaves out streams that have the changes, or are gone.
    pub(crate) fn look(&mut self, synced: &Synced) {
        let synced: BTreeMap<StreamId, Option<Epoch>> =
            synced.iter().map(|(client, synced)| (client.stream, *synced)).collect();
        for Awaited { epoch, outstanding, .. } in &mut self.awaited {
            outstanding.retain(|stream| synced.get(stream).is_some_and(|synced| *synced < Some(*epoch)));
        }
        self.end();
    }

    fn end(&mut self) {
        self.awaited.retain(|awaited| !awaited.outstanding.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use osm_xds::{Admission, CloseReason, ProxyName, Service, SnapshotKey, Variant};

    use super::*;

    fn client(stream: u64) -> ClientIdentity {
        ClientIdentity {
            stream: StreamId(stream),
            admission: Admission { key: SnapshotKey::new("shop/api"), proxy: ProxyName::new("api-0") },
            node: "api-0".into(),
            service: Service::Aggregated,
            variant: Variant::Delta,
        }
    }

    fn concerned(streams: impl IntoIterator<Item = u64>) -> Concerned {
        let outstanding: BTreeSet<StreamId> = streams.into_iter().map(StreamId).collect();
        Concerned { proxies: outstanding.len(), outstanding }
    }

    /// Whether anything is awaited after each event.
    fn awaited_after(arrivals: &mut Arrivals, stream: u64, event: &Event) -> bool {
        arrivals.on_proxy(&client(stream), event, Vec::new);
        !arrivals.is_empty()
    }

    fn traced(test: impl FnOnce()) {
        tracing::subscriber::with_default(tracing_subscriber::registry(), test);
    }

    #[test]
    fn nothing_is_awaited_where_nobody_traces() {
        let mut arrivals = Arrivals::default();
        tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), || {
            arrivals.expect(Epoch(1), &Span::none(), || unreachable!("nobody asks whom it concerns"));
        });
        assert!(arrivals.is_empty());
    }

    #[test]
    fn a_change_is_awaited_until_the_last_stream_it_concerns_has_it_or_is_gone() {
        traced(|| {
            let mut arrivals = Arrivals::default();
            arrivals.expect(Epoch(5), &Span::none(), || concerned([]));
            assert!(arrivals.is_empty(), "it concerns nobody");
            arrivals.expect(Epoch(5), &Span::none(), || concerned([1, 2, 3, 4]));
            assert!(
                awaited_after(&mut arrivals, 1, &Event::Synced { epoch: Epoch(4) }),
                "an earlier one is not this one"
            );
            let all_but_4 = || (1..=3).map(|stream| (Arc::new(client(stream)), Some(Epoch(4)))).collect();
            arrivals.on_proxy(&client(1), &Event::Synced { epoch: Epoch(5) }, all_but_4);
            assert_eq!(arrivals.awaited[0].outstanding, [StreamId(2), StreamId(3)].into(), "the fourth is gone");
            assert!(awaited_after(&mut arrivals, 9, &Event::Synced { epoch: Epoch(5) }), "another's says nothing");
            assert!(awaited_after(&mut arrivals, 2, &Event::Disconnected(CloseReason::Dismissed)));
            assert!(!awaited_after(&mut arrivals, 3, &Event::Synced { epoch: Epoch(6) }), "a later one holds it");
        });
    }

    #[test]
    fn streams_that_a_publication_passes_by_are_found() {
        traced(|| {
            let mut arrivals = Arrivals::default();
            arrivals.expect(Epoch(5), &Span::none(), || concerned(1..=100));
            let synced = |stream| (Arc::new(client(stream)), Some(Epoch(if stream <= 2 { 4 } else { 5 })));
            arrivals.on_proxy(&client(1), &Event::Synced { epoch: Epoch(5) }, || (1..=100).map(synced).collect());
            assert_eq!(arrivals.awaited[0].outstanding, [StreamId(2)].into());
            arrivals.look(&[(Arc::new(client(2)), Some(Epoch(5)))]);
            assert!(arrivals.is_empty());
        });
    }

    #[test]
    fn the_number_of_awaited_changes_is_bounded_and_the_newest_are_kept() {
        traced(|| {
            let mut arrivals = Arrivals::default();
            for epoch in 1..=100 {
                arrivals.expect(Epoch(epoch), &Span::none(), || concerned([1]));
            }
            assert_eq!(arrivals.awaited.len(), MOST);
            assert_eq!(arrivals.awaited.back().map(|awaited| awaited.epoch), Some(Epoch(100)));
        });
    }
}
