//! A mesh that has one of everything.

use osm_model::{Addressing, HeaderMatch, HttpMatch, InboundPolicy, MeshSettings, PathMatch, Protocol, TrafficRouting};
use osm_translate::Resource;

use crate::fixture::*;

/// Policies that use every kind of condition, some hard to write down.
pub(crate) fn every_condition() -> InboundPolicy {
    let long = "(".to_owned() + &["/some/longer/alternative/[a-z0-9]+"; 40].join("|") + ")";
    let conditions = [
        HttpMatch::any(),
        http_match(PathMatch::Exact("/exact".into()), &["GET"]),
        http_match(PathMatch::Prefix("/prefix".into()), &["GET", "POST", "X.Y*Z"]),
        http_match(PathMatch::Prefix("/prefix/with/slash/".into()), &[]),
        http_match(PathMatch::Prefix("/".into()), &["DELETE"]),
        http_match(PathMatch::Regex("/books/[0-9]+(\\?.*)?".into()), &[]),
        http_match(PathMatch::Regex(long.into()), &["PUT"]),
        HttpMatch {
            headers: vec![
                HeaderMatch { name: ":authority".into(), value: "bookstore.*".into() },
                HeaderMatch { name: "user-agent".into(), value: ".*-http-client/1\\.[01]".into() },
            ],
            ..HttpMatch::any()
        },
    ];
    let rules = conditions.into_iter().enumerate();
    let mut rules: Vec<_> = rules
        .map(|(index, condition)| {
            http_rule(&format!("target-{index}"), &format!("group-{index}"), condition, &["buyer", "api.v1"])
        })
        .collect();
    rules.push(http_rule("nobody", "nobody", HttpMatch::any(), &[]));
    http_policy(rules)
}

/// A mesh that has one of everything.
pub(crate) fn everything(settings: &MeshSettings) -> Vec<Resource> {
    let cluster_ip = || Addressing::ClusterIp(vec!["10.96.0.5".parse().unwrap(), "fd00:96::5".parse().unwrap()]);
    let apex = service("bookstore", cluster_ip(), 14001, Protocol::Http);
    let v1 = service("v1", cluster_ip(), 14002, Protocol::Grpc);
    let stateful = service("stateful", Addressing::Headless, 14003, Protocol::Http);
    let ledger =
        service("ledger", Addressing::ClusterIp(vec!["10.96.0.6".parse().unwrap()]), 3306, Protocol::TcpServerFirst);
    let queue = service("queue", Addressing::Headless, 5672, Protocol::Tcp);
    let conditional = osm_model::SplitRule {
        matches: vec![http_match(PathMatch::Prefix("/new".into()), &["GET", "PUT"])],
        ..split("conditional", &[(&v1, 1), (&stateful, u32::MAX), (&apex, u32::MAX)])
    };
    let splits = TrafficRouting::Split([conditional, split("always", &[(&v1, 30), (&apex, 70)])].into());
    let pods = ["10.1.0.1".parse().unwrap(), "fd00:10::1".parse().unwrap()];

    let mut all = vec![
        osm_translate::outbound_listener(settings),
        osm_translate::outbound_http_listener(14001, settings),
        osm_translate::shared_route_table(),
        osm_translate::outside_route_table(),
        osm_translate::passthrough_cluster(),
    ];
    all.extend(settings.tracing.as_ref().map(osm_translate::tracing_cluster));
    all.extend(settings.external_authorization.as_ref().map(osm_translate::external_authorization_cluster));
    for (service, routing) in [
        (&apex, splits.clone()),
        (&v1, TrafficRouting::Direct),
        (&stateful, splits.clone()),
        (&ledger, splits),
        (&queue, TrafficRouting::Direct),
    ] {
        let destination = destination(service, &["v1", "v2"]);
        let addresses: Vec<_> = match &service.addressing {
            Addressing::ClusterIp(addresses) => addresses.clone(),
            Addressing::Headless => pods.to_vec(),
        };
        all.extend(osm_translate::clusters(&destination, settings).iter().cloned());
        all.extend(osm_translate::exact_listener(&destination, &addresses, &routing, settings));
        all.extend(osm_translate::route_table(&routes(service, routing)));
    }
    let nobody = destination(&service("empty", cluster_ip(), 14009, Protocol::Http), &[]);
    all.push(osm_translate::clusters(&nobody, settings).by_name);
    all.extend(osm_translate::outside_listener(&ledger.id, &pods, 14001, settings));

    let mut server = view("v1", 14001, Protocol::Http, every_condition());
    for (port, protocol, policy) in [
        (14002, Protocol::Grpc, InboundPolicy::Permissive),
        (14003, Protocol::Http, http_policy(vec![])),
        (14004, Protocol::Tcp, InboundPolicy::Permissive),
        (14005, Protocol::TcpServerFirst, InboundPolicy::Tcp([tcp_rule("tcp", &["buyer"])].into())),
        (14006, Protocol::Tcp, InboundPolicy::Tcp([].into())),
        (14007, Protocol::Tcp, every_condition()),
    ] {
        server.ports.extend(view("v1", port, protocol, policy).ports);
    }
    all.extend(osm_translate::inbound(&server, settings));
    all
}
