//! Equal inputs give equal bytes, in whatever order they come.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route::Action, route_action::ClusterSpecifier};
use osm_model::{Addressing, Endpoint, EndpointReadiness, Protocol, TrafficRouting};
use osm_translate::{Resource, ResourceKind};
use proptest::prelude::*;
use prost::Message as _;

use crate::everything::everything;
use crate::fixture::*;

#[test]
fn translating_200_times_gives_the_same_bytes() {
    for settings in [settings(), everything_switched_on()] {
        let first = everything(&settings);
        for _ in 0..200 {
            assert_eq!(everything(&settings), first);
        }
    }
}

#[test]
fn names_are_those_inside_the_messages_and_unique_per_kind() {
    let mut seen = BTreeSet::new();
    for Resource { kind, name, body, origins } in everything(&everything_switched_on()) {
        assert!(seen.insert((kind, name.clone())), "{kind:?} {name} twice");
        let inside = match kind {
            ResourceKind::Listener => {
                envoy_types::pb::envoy::config::listener::v3::Listener::decode(body).unwrap().name
            }
            ResourceKind::Cluster => envoy_types::pb::envoy::config::cluster::v3::Cluster::decode(body).unwrap().name,
            ResourceKind::Routes => RouteConfiguration::decode(body).unwrap().name,
            ResourceKind::Endpoints | ResourceKind::ScopedRoutes => panic!("{name} has no static form"),
        };
        assert_eq!(*inside, *name);
        assert!(origins.is_sorted_by(|a, b| a < b), "{origins:?}");
    }
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let readiness = prop_oneof![
        Just(EndpointReadiness::Ready),
        Just(EndpointReadiness::Draining),
        Just(EndpointReadiness::NotReady)
    ];
    let owner = prop_oneof![Just(None), Just(Some("v1")), Just(Some("v2"))];
    (0_u8..6, 8080_u16..8082, readiness, owner).prop_map(|(last, port, readiness, owner)| Endpoint {
        address: Ipv4Addr::new(10, 1, 0, last).into(),
        port,
        readiness,
        identity: owner.map(identity),
    })
}

proptest! {
    #[test]
    fn the_order_of_endpoints_and_addresses_does_not_matter(
        endpoints in prop::collection::vec(any_endpoint(), 0..12),
        addresses in prop::collection::vec(any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits))), 1..6),
        seed in any::<u64>(),
    ) {
        let service = service("ledger", Addressing::Headless, 3306, Protocol::Tcp);
        let destination = destination(&service, &["v1", "v2"]);
        let listener = |addresses: &[IpAddr]| {
            osm_translate::exact_listener(&destination, addresses, &TrafficRouting::Direct, &settings())
        };
        let mut others = (endpoints.clone(), addresses.clone());
        let turn = usize::try_from(seed % 12).unwrap();
        others.0.rotate_left(turn.min(endpoints.len()));
        others.1.rotate_left(turn.min(addresses.len()));
        others.1.extend(addresses.first().copied());
        prop_assert_eq!(
            osm_translate::endpoints(&destination, &endpoints),
            osm_translate::endpoints(&destination, &others.0)
        );
        prop_assert_eq!(listener(&addresses), listener(&others.1));
    }

    /// Envoy refuses weights that add up to more than 32 bits.
    #[test]
    fn weights_fit_and_nobody_with_a_weight_is_forgotten(weights in prop::collection::vec(any::<u32>(), 1..9)) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let apex = service("apex", Addressing::ClusterIp(vec![loopback()]), 80, Protocol::Http);
        let names: Vec<String> = (0..weights.len()).map(|index| format!("backend-{index}")).collect();
        let backends: Vec<_> = names.iter().map(|name| service(name, Addressing::Headless, 80, Protocol::Http)).collect();
        let backends: Vec<_> = backends.iter().zip(weights.iter().copied()).collect();
        let routing = TrafficRouting::Split([split("split", &backends)].into());
        let table = osm_translate::route_table(&routes(&apex, routing)).unwrap();
        let table = RouteConfiguration::decode(table.body).unwrap();
        let Some(Action::Route(action)) = &table.virtual_hosts[0].routes[0].action else { panic!("no action") };
        let expected = weights.iter().filter(|weight| **weight > 0).count();
        match action.cluster_specifier.as_ref().unwrap() {
            ClusterSpecifier::Cluster(_) => prop_assert_eq!(expected, 1),
            ClusterSpecifier::WeightedClusters(clusters) => {
                let weights: Vec<u32> = clusters.clusters.iter().map(|cluster| cluster.weight.unwrap().value).collect();
                prop_assert_eq!(weights.len(), expected);
                prop_assert!(weights.iter().all(|weight| *weight > 0));
                prop_assert!(weights.iter().map(|weight| u64::from(*weight)).sum::<u64>() <= u64::from(u32::MAX));
            }
            other => panic!("{other:?}"),
        }
    }
}
