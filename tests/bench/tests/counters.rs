//! The exact counts of the benchmark hold in any build: nothing is sent or encoded that a change did not call for.

use osm_bench::measure::counts;
use osm_bench::process::Placement;
use osm_bench::subject::Programs;

#[tokio::test]
async fn nothing_is_sent_or_encoded_beyond_what_changed() {
    let programs = Programs { own: env!("CARGO_BIN_EXE_osm-bench").into(), gcp: None, placement: Placement::Free };
    let figures = counts::measure(&programs).await.expect("the server keeps the rules of the protocol");
    let keys: Vec<&str> = figures.iter().map(|figure| figure.key.as_str()).collect();
    assert_eq!(keys, ["sent_over_changed", "encodes_over_distinct_changes", "noop_edit_responses", "nack_resends"]);
    for figure in &figures {
        assert_eq!(figure.is_met(), Some(true), "{figure:?}");
    }
}
