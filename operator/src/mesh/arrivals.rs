//! The last part of a change's trace: from the publication to the last proxy's acknowledgement.

use osm_xds::Epoch;
use tracing::Span;

use crate::logging::TRACES;

/// Most changes that are traced at a time; of more, only resolving and pushing is seen.
const MOST: usize = 64;

/// Changes that proxies have not acknowledged yet, each with a span that ends when they have.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    awaited: Vec<(Epoch, Span)>,
}

impl Arrivals {
    /// A change went out with `epoch`; `change` is its span.
    pub(crate) fn expect(&mut self, epoch: Epoch, change: &Span) {
        let span = tracing::info_span!(target: TRACES, parent: change, "acknowledge", epoch = epoch.0);
        if !span.is_disabled() && self.awaited.len() < MOST {
            self.awaited.push((epoch, span));
        }
    }

    /// Ends the spans of changes that have arrived. Later changes have not where an earlier one has not.
    pub(crate) fn note(&mut self, has_arrived: impl Fn(Epoch) -> bool) {
        let arrived = self.awaited.iter().take_while(|(epoch, _)| has_arrived(*epoch)).count();
        self.awaited.drain(..arrived);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_arrived_is_awaited_no_more_and_the_number_is_bounded() {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || {
            let mut arrivals = Arrivals::default();
            let change = Span::none();
            for epoch in 1..=100 {
                arrivals.expect(Epoch(epoch), &change);
            }
            assert_eq!(arrivals.awaited.len(), MOST);
            arrivals.note(|epoch| epoch <= Epoch(3));
            assert_eq!(arrivals.awaited.first().map(|(epoch, _)| *epoch), Some(Epoch(4)));
        });
    }
}
