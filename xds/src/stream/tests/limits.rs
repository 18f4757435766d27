//! What a client may not do.

use super::fixture::*;
use crate::policy::{CloseReason, Variant};
use crate::settings::StreamSettings;
use crate::type_url::TypeUrl::{Cluster, ClusterLoadAssignment, Listener};
use crate::{Service, TypeUrl};

fn limited() -> StreamSettings {
    StreamSettings { names_limit: 3, name_bytes_limit: 4, types_limit: 2, ..StreamSettings::default() }
}

fn refused(result: &Result<(), CloseReason>) -> bool {
    matches!(result, Err(CloseReason::Protocol(_)))
}

#[test]
fn lists_names_and_types_are_limited() {
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let request = |type_url: &TypeUrl, names: &[&str]| match variant {
            Variant::Delta => delta_request(type_url, "", None, names, &[]),
            Variant::StateOfTheWorld => sotw_request(type_url, "", None, names),
        };
        let new = || Fixture::with(variant, Service::Aggregated, limited());
        assert!(new().request(request(&Cluster, &["a", "b", "c"])).is_ok());
        assert!(refused(&new().request(request(&Cluster, &["a", "b", "c", "d"]))));
        assert!(refused(&new().request(request(&Cluster, &["abcde"]))));
        let mut fixture = new();
        assert!(fixture.request(request(&Cluster, &[])).is_ok());
        assert!(fixture.request(request(&Listener, &[])).is_ok());
        assert!(refused(&fixture.request(request(&ClusterLoadAssignment, &[]))));
    }
    let mut fixture = Fixture::with(Variant::Delta, Service::Aggregated, limited());
    fixture.delta(&Cluster, &["a", "b"], &[]);
    let more = delta_request(&Cluster, "", None, &["c", "d"], &[]);
    assert!(refused(&fixture.request(more)));
}

#[test]
fn a_service_of_one_type_implies_it_and_accepts_no_other() {
    let single = || Fixture::with(Variant::Delta, Service::Single(Cluster), StreamSettings::default());
    let mut request = delta_request(&Cluster, "", None, &[], &[]);
    request.type_url = String::new();
    assert!(single().request(request.clone()).is_ok());
    assert!(refused(&single().request(delta_request(&Listener, "", None, &[], &[]))));
    assert!(refused(&Fixture::new(Variant::Delta).request(request)));
}

#[test]
fn a_client_that_never_acknowledges_is_closed() {
    let mut fixture = Fixture::new(Variant::Delta);
    fixture.publish([cluster("a", 0)]);
    fixture.delta(&Cluster, &[], &[]);
    fixture.expect();
    let limit = StreamSettings::default().acknowledge_limit;
    assert_eq!(fixture.stream.next_deadline(fixture.now), Some(fixture.now + limit));
    fixture.advance(limit - std::time::Duration::from_millis(1));
    assert_eq!(fixture.stream.on_timer(fixture.now), Ok(()));
    fixture.advance(std::time::Duration::from_millis(1));
    assert_eq!(fixture.stream.on_timer(fixture.now), Err(CloseReason::NotAcknowledged(Cluster)));
}
