//! Whatever happens in whatever order, the client ends up with what the snapshot says.

use proptest::prelude::*;
use std::collections::BTreeMap;

use super::client::Client;
use super::fixture::*;
use crate::Service;
use crate::layer::Delivery;
use crate::policy::Variant;
use crate::settings::{Isolation, StreamSettings};
use crate::type_url::TypeUrl::{self, Cluster, ClusterLoadAssignment, Listener, RouteConfiguration, Secret};
use crate::version::Version;

const TYPES: [TypeUrl; 5] = [Cluster, ClusterLoadAssignment, Secret, Listener, RouteConfiguration];
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Clone, Debug)]
enum Operation {
    Insert(usize, usize, u32, bool),
    Remove(usize, usize),
    Publish,
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Wildcard(usize),
    DeliverRequest,
    TakeResponse,
    Accept,
    Refuse,
    HoldBack(usize, usize),
}

fn operation() -> impl Strategy<Value = Operation> {
    let (types, names) = (0..TYPES.len(), 0..NAMES.len());
    prop_oneof![
        5 => (types.clone(), names.clone(), 0..3_u32, any::<bool>())
            .prop_map(|(t, n, content, named)| Operation::Insert(t, n, content, named)),
        2 => (types.clone(), names.clone()).prop_map(|(t, n)| Operation::Remove(t, n)),
        4 => Just(Operation::Publish),
        3 => (types.clone(), names.clone()).prop_map(|(t, n)| Operation::Subscribe(t, n)),
        2 => (types.clone(), names.clone()).prop_map(|(t, n)| Operation::Unsubscribe(t, n)),
        2 => prop_oneof![Just(0_usize), Just(3_usize)].prop_map(Operation::Wildcard),
        8 => Just(Operation::DeliverRequest),
        8 => Just(Operation::TakeResponse),
        6 => Just(Operation::Accept),
        1 => Just(Operation::Refuse),
        1 => (types, names).prop_map(|(t, n)| Operation::HoldBack(t, n)),
    ]
}

/// What a client must hold of a type in the end.
fn expected(fixture: &Fixture, client: &Client, type_url: &TypeUrl) -> BTreeMap<String, Version> {
    let holding = &client.types[type_url];
    fixture
        .layer
        .iter_type(type_url)
        .filter(|entry| {
            holding.names.contains(&**entry.resource.name())
                || (holding.wildcard && entry.delivery == Delivery::Wildcard)
        })
        .map(|entry| (entry.resource.name().to_string(), entry.resource.version()))
        .collect()
}

fn run(variant: Variant, service: &Service, isolation: Isolation, operations: &[Operation]) {
    let settings = StreamSettings {
        isolation,
        // Small, so that most answers have several parts.
        delta_part_bytes: 200,
        state_of_the_world_part_bytes: 300,
        ..StreamSettings::default()
    };
    let mut fixture = Fixture::with(variant, service.clone(), settings);
    fixture.publish_layer();
    let mut client = Client::new(variant);
    let served = |index: usize| match service {
        Service::Aggregated => TYPES[index].clone(),
        Service::Single(only) => only.clone(),
    };
    for operation in operations {
        match *operation {
            Operation::Insert(t, n, content, named) => {
                let delivery = if named { Delivery::Named } else { Delivery::Wildcard };
                fixture.layer.insert(resource(&TYPES[t], NAMES[n], content), delivery);
            }
            Operation::Remove(t, n) => {
                fixture.layer.remove(&TYPES[t], NAMES[n]);
            }
            Operation::Publish => fixture.publish_layer(),
            Operation::Subscribe(t, n) => client.subscribe(&served(t), NAMES[n]),
            Operation::Unsubscribe(t, n) => client.unsubscribe(&served(t), NAMES[n]),
            Operation::Wildcard(t) => {
                let type_url = served(t);
                if type_url.is_wildcard_capable() && !client.types.contains_key(&type_url) {
                    client.subscribe_wildcard(&type_url);
                }
            }
            Operation::DeliverRequest => {
                client.deliver_request(&mut fixture);
            }
            Operation::TakeResponse => {
                client.take_response(&mut fixture);
            }
            Operation::Accept => {
                client.deliver_response(false);
            }
            Operation::Refuse => {
                client.deliver_response(true);
            }
            Operation::HoldBack(t, n) => {
                if let Some(entry) = fixture.layer.get(&TYPES[t], NAMES[n]) {
                    let resource = entry.resource.clone();
                    fixture.hold_back(&resource);
                }
            }
        }
    }
    client.settle(&mut fixture);
    // Cure whatever was refused or held back: every resource gets content it never had.
    let present: Vec<_> = fixture.layer.iter().map(|entry| (entry.resource.clone(), entry.delivery)).collect();
    for (old, delivery) in present {
        fixture.layer.insert(resource(old.type_url(), old.name(), 50), delivery);
    }
    fixture.publish_layer();
    client.settle(&mut fixture);

    for (type_url, holding) in &client.types {
        let expected = expected(&fixture, &client, type_url);
        let mut held = holding.resources.clone();
        if variant == Variant::StateOfTheWorld && !type_url.is_wildcard_capable() {
            // It cannot be told of removals.
            held.retain(|name, _| fixture.layer.get(type_url, name).is_some());
        }
        assert_eq!(held, expected, "{type_url} of {variant:?}");
        for name in NAMES {
            if let Some(version) = expected.get(name) {
                assert_eq!(fixture.stream.acknowledged(type_url, name), Some(*version));
            }
        }
    }
    // And then it is quiet.
    let responses = client.responses;
    fixture.publish_layer();
    client.settle(&mut fixture);
    assert_eq!(client.responses, responses, "a no-op is not sent");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, ..ProptestConfig::default() })]

    #[test]
    fn an_aggregated_client_converges(operations in prop::collection::vec(operation(), 0..80)) {
        for variant in [Variant::Delta, Variant::StateOfTheWorld] {
            run(variant, &Service::Aggregated, Isolation::Off, &operations);
        }
        run(Variant::Delta, &Service::Aggregated, Isolation::OneAtATime, &operations);
    }

    #[test]
    fn a_client_of_one_type_converges(operations in prop::collection::vec(operation(), 0..60)) {
        for variant in [Variant::Delta, Variant::StateOfTheWorld] {
            for type_url in [Cluster, ClusterLoadAssignment] {
                run(variant, &Service::Single(type_url), Isolation::Off, &operations);
            }
        }
    }
}
