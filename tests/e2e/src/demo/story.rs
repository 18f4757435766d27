//! The stages, and who should reach whom in each.

use super::flow::{Expectation, Flow};

/// One stage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its folder below `config/samples/bookstore`.
    pub folder: &'static str,
    /// What it is about.
    pub name: &'static str,
    /// All flows with what should come of them.
    pub flows: Vec<(Flow, Expectation)>,
}

/// The pod outside the mesh: no manifest knows it, and it has no sidecar.
pub const OUTSIDER: &str = "outsider";

const BUYER_LOOKS: Flow = Flow { from: "bookbuyer", to: "bookstore", path: "/books-bought" };
const BUYER_BUYS: Flow = Flow { from: "bookbuyer", to: "bookstore", path: "/buy-a-book/new" };
const THIEF_LOOKS: Flow = Flow { from: "bookthief", to: "bookstore", path: "/books-bought" };
const THIEF_BUYS: Flow = Flow { from: "bookthief", to: "bookstore", path: "/buy-a-book/new" };
/// The thief at the ledger, where no grant of any stage names it.
const THIEF_AT_LEDGER: Flow = Flow { from: "bookthief", to: "ledger", path: "tcp/3306" };
const OUTSIDER_LOOKS: Flow = Flow { from: OUTSIDER, to: "bookstore", path: "/books-bought" };
/// What the bookstore needs behind it: both versions restock, and the warehouse writes it down.
const SUPPLY: [Flow; 3] = [
    Flow { from: "bookstore-v1", to: "bookwarehouse", path: "/restock-books" },
    Flow { from: "bookstore-v2", to: "bookwarehouse", path: "/restock-books" },
    Flow { from: "bookwarehouse", to: "ledger", path: "tcp/3306" },
];

/// What should come of the flows of one stage, in the order: buyer looks, buyer buys, thief looks, thief buys; supply; thief at
/// the ledger, outsider.
struct Promise([Expectation; 4], Expectation, [Expectation; 2]);

/// The story from its beginning to its end.
pub fn story() -> Vec<Stage> {
    use Expectation::{FromV1, Reached, Refused};
    let half = FromV1(0.5);
    let v2 = FromV1(0.0);
    let stages = [
        ("00-base", "no mesh", Promise([Reached, Reached, Reached, Reached], Reached, [Reached, Reached])),
        ("01-permissive", "permissive", Promise([Reached, Reached, Reached, Reached], Reached, [Reached, Refused])),
        (
            "02-deny-by-default",
            "deny by default",
            Promise([Refused, Refused, Refused, Refused], Refused, [Refused, Refused]),
        ),
        ("03-grants", "grants", Promise([Reached, Reached, Refused, Refused], Reached, [Refused, Refused])),
        (
            "04-thief-granted",
            "thief granted",
            Promise([Reached, Reached, Refused, Reached], Reached, [Refused, Refused]),
        ),
        ("05-split-50-50", "split 50/50", Promise([half, Reached, Refused, Reached], Reached, [Refused, Refused])),
        ("06-all-to-v2", "all to v2", Promise([v2, v2, Refused, v2], Reached, [Refused, Refused])),
        (
            "07-grants-removed",
            "grants removed",
            Promise([Refused, Refused, Refused, Refused], Refused, [Refused, Refused]),
        ),
    ];
    stages.into_iter().map(|(folder, name, promise)| Stage { folder, name, flows: promise.flows() }).collect()
}

impl Promise {
    fn flows(self) -> Vec<(Flow, Expectation)> {
        let Self([buyer_looks, buyer_buys, thief_looks, thief_buys], supply, [thief_at_ledger, outsider]) = self;
        let mut flows = vec![
            (BUYER_LOOKS, buyer_looks),
            (BUYER_BUYS, buyer_buys),
            (THIEF_LOOKS, thief_looks),
            (THIEF_BUYS, thief_buys),
        ];
        flows.extend(SUPPLY.map(|flow| (flow, supply)));
        flows.extend([(THIEF_AT_LEDGER, thief_at_ledger), (OUTSIDER_LOOKS, outsider)]);
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn every_stage_of_the_samples_is_told_in_order() {
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/samples/bookstore");
        let folders: Vec<_> = osm_testkit::stages(&samples).unwrap();
        let told: Vec<_> = story().iter().map(|stage| samples.join(stage.folder)).collect();
        assert_eq!(folders, told);
    }
}
