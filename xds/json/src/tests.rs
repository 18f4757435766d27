use std::collections::{BTreeMap, HashMap};

use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3::{Cluster, cluster::ClusterDiscoveryType, cluster::DiscoveryType},
            core::v3::{DataSource, data_source::Specifier},
            listener::v3::{Filter, FilterChain, Listener, filter::ConfigType},
            rbac::v3::{Permission, Policy, Principal, Rbac as RbacRules, permission, principal},
            route::v3::{RouteConfiguration, ScopedRouteConfiguration, VirtualHost},
        },
        extensions::{
            filters::{
                http::{rbac::v3::Rbac, router::v3::Router},
                network::http_connection_manager::v3::{
                    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier, http_filter,
                },
            },
            transport_sockets::tls::v3::{GenericSecret, Secret, TlsCertificate, TlsSessionTicketKeys, secret::Type},
        },
    },
    google::protobuf::{Any, Duration},
};
use prost::{Message, Name};
use serde_json::{Value, json};

use crate::{FromJsonError, REDACTED, ToJsonError, from_json, redact, to_json};

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

/// Shows, reads back, and shows what the generated types make of it. (Messages themselves cannot be compared where an
/// `Any` holds a map: its bytes come in another order.)
fn round_trip<M: Message + Name + Default>(message: &M, name: &str) -> Value {
    let shown = to_json(&M::type_url(), &message.encode_to_vec()).expect("show");
    let read = from_json(&shown).expect("read back");
    assert_eq!(read.type_url, M::type_url());
    assert_eq!(read.name, name);
    assert_eq!(to_json(&read.type_url, &read.value).expect("show again"), shown);
    let decoded = M::decode(read.value).expect("decode");
    assert_eq!(to_json(&M::type_url(), &decoded.encode_to_vec()).expect("show again"), shown);
    shown
}

fn rbac_policies(count: usize) -> HashMap<String, Policy> {
    (0..count)
        .map(|number| {
            let policy = Policy {
                permissions: vec![Permission { rule: Some(permission::Rule::Any(true)) }],
                principals: vec![Principal { identifier: Some(principal::Identifier::Any(true)) }],
                ..Policy::default()
            };
            (format!("traffictarget/ns/{number}"), policy)
        })
        .collect()
}

fn listener_with_filters() -> Listener {
    let filter = |name: &str, config: Any| HttpFilter {
        name: name.into(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..HttpFilter::default()
    };
    let rules = RbacRules { policies: rbac_policies(8), ..RbacRules::default() };
    let manager = HttpConnectionManager {
        stat_prefix: "inbound".into(),
        http_filters: vec![
            filter("rbac", any(&Rbac { rules: Some(rules), ..Rbac::default() })),
            filter("router", any(&Router::default())),
        ],
        route_specifier: Some(RouteSpecifier::RouteConfig(RouteConfiguration {
            name: "inline".into(),
            virtual_hosts: vec![VirtualHost {
                name: "all".into(),
                domains: vec!["*".into()],
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        })),
        ..HttpConnectionManager::default()
    };
    Listener {
        name: "inbound-listener".into(),
        filter_chains: vec![FilterChain {
            filters: vec![Filter { name: "http".into(), config_type: Some(ConfigType::TypedConfig(any(&manager))) }],
            ..FilterChain::default()
        }],
        ..Listener::default()
    }
}

#[test]
fn cluster_round_trips() {
    let cluster = Cluster {
        name: "ns/bookstore|14001".into(),
        connect_timeout: Some(Duration { seconds: 1, nanos: 500_000_000 }),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        ..Cluster::default()
    };
    let shown = round_trip(&cluster, "ns/bookstore|14001");
    assert_eq!(Cluster::decode(from_json(&shown).expect("read").value).expect("decode"), cluster);
    assert_eq!(
        shown,
        json!({
            "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            "connectTimeout": "1.500s",
            "name": "ns/bookstore|14001",
            "type": "EDS",
        })
    );
}

#[test]
fn listener_round_trips_and_expands_nested_any() {
    let shown = round_trip(&listener_with_filters(), "inbound-listener");
    let manager = &shown["filterChains"][0]["filters"][0]["typedConfig"];
    assert_eq!(manager["statPrefix"], "inbound");
    assert_eq!(manager["routeConfig"]["virtualHosts"][0]["domains"], json!(["*"]));
    let rules = &manager["httpFilters"][0]["typedConfig"]["rules"];
    assert_eq!(rules["policies"]["traffictarget/ns/7"]["permissions"], json!([{"any": true}]));
}

#[test]
fn scoped_route_round_trips() {
    let scope = json!({
        "@type": "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration",
        "name": "10.96.0.5:14001",
        "routeConfigurationName": "shared",
        "key": {"fragments": [{"stringKey": "10.96.0.5:14001"}]},
    });
    let resource = from_json(&scope).expect("read");
    let message = ScopedRouteConfiguration::decode(resource.value).expect("decode");
    assert_eq!(round_trip(&message, "10.96.0.5:14001"), scope);
}

#[test]
fn assignment_is_named_by_its_cluster() {
    let resource = from_json(&json!({
        "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        "clusterName": "backend",
    }))
    .expect("read");
    assert_eq!(resource.name, "backend");
}

#[test]
fn proto_spelling_of_fields_is_read() {
    let of = |field: &str| {
        let mut cluster = json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", "name": "a"});
        cluster[field] = json!("3s");
        from_json(&cluster).expect("read").value
    };
    assert_eq!(of("connect_timeout"), of("connectTimeout"));
}

#[test]
fn equal_messages_give_equal_bytes_and_text() {
    // The generated types hold maps in random order: each round is likely to encode the eight policies differently.
    let mut shown = BTreeMap::new();
    let mut bytes = BTreeMap::new();
    let mut raw = BTreeMap::new();
    for _ in 0..50 {
        let value = listener_with_filters().encode_to_vec();
        let json = to_json(&Listener::type_url(), &value).expect("show");
        *bytes.entry(from_json(&json).expect("read").value).or_insert(0) += 1;
        *shown.entry(json.to_string()).or_insert(0) += 1;
        *raw.entry(value).or_insert(0) += 1;
    }
    assert!(raw.len() > 1, "the source of disorder is gone: this test proves nothing any more");
    assert_eq!((shown.len(), bytes.len()), (1, 1));
}

#[test]
fn numbers_of_every_wire_type_round_trip() {
    let cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "numbers",
        "ringHashLbConfig": {"minimumRingSize": "18446744073709551615", "hashFunction": "MURMUR_HASH_2"},
        "loadAssignment": {
            "clusterName": "numbers",
            "policy": {"overprovisioningFactor": 140},
            "endpoints": [{"priority": 3, "lbEndpoints": [{
                "healthStatus": "HEALTHY",
                "metadata": {"filterMetadata": {"envoy.lb": {"weight": -12.5, "canary": false, "nothing": null}}},
                "endpoint": {"address": {"socketAddress": {"address": "::1", "portValue": 65535}}},
            }]}],
        },
        "commonLbConfig": {"healthyPanicThreshold": {"value": 12.25}},
        "outlierDetection": {"consecutive5xx": 0},
    });
    let resource = from_json(&cluster).expect("read");
    assert_eq!(to_json(&resource.type_url, &resource.value).expect("show"), cluster);
    Cluster::decode(resource.value).expect("the generated types read it too");
}

fn error_of(json: &Value) -> String {
    from_json(json).expect_err("must be refused").to_string()
}

#[test]
fn unknown_type_is_named() {
    let error = error_of(&json!({"@type": "type.googleapis.com/envoy.config.cluster.v3.Clutser", "name": "a"}));
    assert!(error.contains("envoy.config.cluster.v3.Clutser") && error.contains("@type"), "{error}");
    assert!(matches!(to_json("clusters", b""), Err(ToJsonError::UnknownType { .. })));
}

#[test]
fn unknown_field_is_named_with_its_path() {
    let error = error_of(&json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "a",
        "loadAssignment": {"endpoints": [{"lbEndpoint": []}]},
    }));
    assert!(error.contains("lbEndpoint"), "{error}");
    assert!(error.contains("`loadAssignment.endpoints[0]"), "{error}");
}

#[test]
fn wrong_enum_is_named_with_its_path() {
    let error = error_of(&json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "a",
        "type": "EDDS",
    }));
    assert!(error.contains("field `type`") && error.contains("EDDS"), "{error}");
}

#[test]
fn wrong_value_inside_any_is_named_with_its_path() {
    let error = error_of(&json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": "a",
        "filterChains": [{"filters": [{"name": "http", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "statPrefix": 7,
        }}]}],
    }));
    assert!(error.contains("filterChains[0].filters[0].typedConfig.statPrefix"), "{error}");
}

#[test]
fn what_is_not_a_resource_is_refused() {
    assert!(matches!(from_json(&json!([])), Err(FromJsonError::NotAnObject { found: "an array" })));
    assert!(matches!(from_json(&json!({"name": "a"})), Err(FromJsonError::MissingType)));
    assert!(matches!(from_json(&json!({"@type": 3})), Err(FromJsonError::MissingType)));
    let duration = json!({"@type": "type.googleapis.com/envoy.config.core.v3.Address"});
    assert!(matches!(from_json(&duration), Err(FromJsonError::NotAResource { .. })));
    let error = error_of(&json!({"@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"}));
    assert!(error.contains("`clusterName`"), "{error}");
}

#[test]
fn truncated_bytes_are_refused() {
    let bytes = listener_with_filters().encode_to_vec();
    let result = to_json(&Listener::type_url(), &bytes[..bytes.len() - 1]);
    assert!(matches!(result, Err(ToJsonError::Decode { .. })), "{result:?}");
}

fn secret(kind: Type) -> Secret {
    Secret { name: "service-cert".into(), r#type: Some(kind) }
}

fn inline(text: &str) -> Option<DataSource> {
    Some(DataSource { specifier: Some(Specifier::InlineBytes(text.into())), ..DataSource::default() })
}

const CANARY: &str = "canary-key-material";
/// Base64 of [`CANARY`].
const CANARY_BASE64: &str = "Y2FuYXJ5LWtleS1tYXRlcmlhbA==";

/// What is left after redaction; the canary must be there before and gone after.
fn redacted(secret: &Secret) -> Value {
    let mut shown = round_trip(secret, "service-cert");
    assert!(shown.to_string().contains(CANARY_BASE64) || shown.to_string().contains(CANARY));
    redact(&mut shown);
    let text = shown.to_string();
    assert!(!text.contains(CANARY_BASE64) && !text.contains(CANARY), "{text}");
    from_json(&shown).expect("redacted JSON is still canonical");
    shown
}

#[test]
fn redaction_hides_keys_and_keeps_certificates() {
    let shown = redacted(&secret(Type::TlsCertificate(TlsCertificate {
        certificate_chain: inline("public chain"),
        private_key: inline(CANARY),
        password: Some(DataSource { specifier: Some(Specifier::InlineString(CANARY.into())), ..DataSource::default() }),
        ..TlsCertificate::default()
    })));
    let certificate = &shown["tlsCertificate"];
    assert_eq!(certificate["certificateChain"]["inlineBytes"], "cHVibGljIGNoYWlu");
    assert_eq!(certificate["password"]["inlineString"], REDACTED);
}

#[test]
fn redaction_hides_ticket_keys_and_generic_secrets() {
    let keys = vec![inline(CANARY).expect("some"), inline(CANARY).expect("some")];
    redacted(&secret(Type::SessionTicketKeys(TlsSessionTicketKeys { keys })));
    redacted(&secret(Type::GenericSecret(GenericSecret { secret: inline(CANARY), ..GenericSecret::default() })));
}

#[test]
fn redaction_keeps_the_name_of_a_key_file() {
    let mut shown = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": "a",
        "tlsCertificate": {"privateKey": {"filename": "/etc/key.pem"}},
    });
    let before = shown.clone();
    redact(&mut shown);
    assert_eq!(shown, before);
}

#[test]
fn redaction_reaches_into_any_and_lists() {
    let mut shown = json!([{
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": "keys",
        "transportSocket": {"name": "tls", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "commonTlsContext": {"tlsCertificates": [{
                "privateKey": {"inlineString": CANARY},
                "certificateChain": {"inlineString": "public chain"},
            }]},
        }},
    }]);
    redact(&mut shown);
    let text = shown.to_string();
    assert!(!text.contains(CANARY) && text.contains("public chain"), "{text}");
    assert_eq!(shown[0]["name"], "keys", "a value that is not secret stays, whatever it is called");
}

#[test]
fn redaction_without_a_type_goes_by_field_name() {
    let mut shown = json!({"dump": {"privateKey": {"inlineString": CANARY}, "private_key": {"inline_string": CANARY}}});
    redact(&mut shown);
    assert!(!shown.to_string().contains(CANARY), "{shown}");
}

#[test]
fn debug_output_of_a_resource_hides_its_value() {
    let json = to_json(
        &Secret::type_url(),
        &secret(Type::GenericSecret(GenericSecret { secret: inline(CANARY), ..GenericSecret::default() }))
            .encode_to_vec(),
    )
    .expect("show");
    let text = format!("{:?}", from_json(&json).expect("read"));
    assert!(text.contains("service-cert") && !text.contains("canary") && !text.contains("99, 97"), "{text}");
}
