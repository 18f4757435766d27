use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use osm_api::k8s_openapi::jiff::Timestamp;
use osm_api::{Kind, Object, ObjectRef, Strictness, decode};
use osm_engine::{MESH_CONFIG_NAME, Options};
use osm_model::{Finding, TrustDomain};
use osm_xds::{
    Admission, Cache, ClientIdentity, CloseReason, Epoch, Event, ProxyName, Rejection, Service, SnapshotKey, StreamId,
    TypeUrl, Variant,
};
use serde_json::{Value, json};

use super::{Driver, Known};
use crate::account::Account;
use crate::gateway::GatewayNews;
use crate::metrics::Metrics;
use crate::proxies::ProxyEvent;

/// A mesh with one server (`shop/api`) that two TrafficTargets open to two clients.
const BASE: &str = r"
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {openservicemesh.io/monitored-by: osm}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop, name: api}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop, name: a}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: shop, name: b}}
---
{apiVersion: v1, kind: Service, metadata: {namespace: shop, name: api}, spec: {clusterIP: 10.96.0.5, clusterIPs: [10.96.0.5], ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Pod, metadata: {namespace: shop, name: api-0}, spec: {serviceAccountName: api, containers: []}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {namespace: shop, name: api-1, labels: {kubernetes.io/service-name: api}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: api-0}}]
";

fn route_group(name: &str, path: &str, generation: i64) -> String {
    format!(
        "{{apiVersion: specs.smi-spec.io/v1alpha4, kind: HTTPRouteGroup, \
         metadata: {{namespace: shop, name: {name}, generation: {generation}}}, \
         spec: {{matches: [{{name: all, pathRegex: '{path}'}}]}}}}"
    )
}

fn target(name: &str) -> String {
    format!(
        "{{apiVersion: access.smi-spec.io/v1alpha3, kind: TrafficTarget, \
         metadata: {{namespace: shop, name: {name}, generation: 1}}, \
         spec: {{destination: {{kind: ServiceAccount, name: api, namespace: shop}}, \
         sources: [{{kind: ServiceAccount, name: {name}, namespace: shop}}], \
         rules: [{{kind: HTTPRouteGroup, name: {name}}}]}}}}"
    )
}

fn objects(yaml: &str) -> Vec<(ObjectRef, Option<Object>)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).unwrap();
    let decoded = documents.into_iter().map(|document| decode(document, Strictness::Strict).unwrap());
    decoded.map(|object| (object.reference(), Some(object))).collect()
}

struct Mesh {
    driver: Driver,
    cache: Cache,
    now: Instant,
}

/// A stream as the server reports it.
type Stream = (Arc<ClientIdentity>, Option<Epoch>);

const SERVER: &str = "shop/api";

impl Mesh {
    fn new(yaml: &str) -> Self {
        let options = Options {
            mesh_name: "osm".into(),
            control_plane_namespace: "osm-system".into(),
            trust_domain: TrustDomain::new("cluster.local").unwrap(),
            cluster_domain: "cluster.local".into(),
            service_ranges: Vec::new(),
        };
        let cache = Cache::new();
        let driver = Driver::new(options, cache.clone(), Arc::new(Metrics::default()));
        let mut mesh = Self { driver, cache, now: Instant::now() };
        mesh.apply(yaml);
        mesh
    }

    fn apply(&mut self, yaml: &str) {
        drop(self.driver.on_objects(objects(yaml), self.now));
    }

    fn event(&mut self, event: Event) {
        let event = ProxyEvent { client: client(), event };
        self.driver.on_proxy(event, self.now);
    }

    fn epoch(&self) -> Epoch {
        self.cache.current(&SnapshotKey::new(SERVER)).unwrap().epoch
    }

    /// The server's proxy acknowledges everything up to `epoch`.
    fn acknowledge(&mut self, epoch: Epoch) -> Vec<Stream> {
        self.now += Duration::from_millis(7);
        self.event(Event::Synced { epoch });
        vec![(Arc::new(client()), Some(epoch))]
    }

    /// The status of an object of ours after bringing all of them up to date.
    fn status(&mut self, clients: &[Stream], object: &str) -> Value {
        self.driver.report(clients, self.now, Timestamp::UNIX_EPOCH);
        let documents = self.driver.documents().map(|(name, document)| (name.to_string(), document.clone()));
        let documents: BTreeMap<String, Value> = documents.collect();
        documents[object]["status"].clone()
    }

    /// The server's proxy refuses its inbound route table as it is now.
    fn refuse_routes(&mut self, words: &str) {
        let name: Arc<str> = "rds-inbound.8080".into();
        let published = self.cache.current(&SnapshotKey::new(SERVER)).unwrap();
        let version = published.snapshot.get(&TypeUrl::RouteConfiguration, &name).unwrap().resource.version();
        self.event(Event::Rejected(Rejection {
            type_url: TypeUrl::RouteConfiguration,
            epoch: published.epoch,
            resources: [(name, version)].into(),
            removed: Vec::new(),
            mentioned: Vec::new(),
            message: words.to_owned(),
            code: 13,
        }));
    }

    /// The server's inbound route table as Envoy would read it.
    fn routes(&self) -> String {
        let published = self.cache.current(&SnapshotKey::new(SERVER)).unwrap();
        let entry = published.snapshot.get(&TypeUrl::RouteConfiguration, "rds-inbound.8080").unwrap();
        osm_xds_json::to_json(TypeUrl::RouteConfiguration.as_str(), &entry.resource.any_bytes()).unwrap().to_string()
    }
}

fn client() -> ClientIdentity {
    ClientIdentity {
        stream: StreamId(1),
        admission: Admission { key: SnapshotKey::new(SERVER), proxy: ProxyName::new("shop/api/n1") },
        node: "n1".into(),
        service: Service::Aggregated,
        variant: Variant::Delta,
    }
}

fn two_targets() -> String {
    [BASE.to_owned(), route_group("a", "/a", 1), target("a"), route_group("b", "/b", 1), target("b")].join("\n---\n")
}

fn condition(status: &Value, type_: &str) -> (String, String) {
    let conditions = status["conditions"].as_array().unwrap();
    let condition = conditions.iter().find(|condition| condition["type"] == type_).unwrap();
    (condition["status"].as_str().unwrap().to_owned(), condition["reason"].as_str().unwrap().to_owned())
}

fn pair(status: &str, reason: &str) -> (String, String) {
    (status.to_owned(), reason.to_owned())
}

#[test]
fn an_object_is_programmed_when_every_proxy_it_concerns_has_acknowledged_it() {
    let mut mesh = Mesh::new(&two_targets());
    let before = mesh.status(&[], "traffictarget/shop/a");
    assert_eq!(condition(&before, "Programmed"), pair("True", "NoProxies"));

    mesh.event(Event::Connected);
    let connected = (Arc::new(client()), None);
    let waiting = mesh.status(std::slice::from_ref(&connected), "traffictarget/shop/a");
    assert_eq!(condition(&waiting, "Ready"), pair("Unknown", "WaitingForProxies"));
    assert_eq!(waiting["propagation"]["acked"], "0/1");

    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    let done = mesh.status(&clients, "traffictarget/shop/a");
    assert_eq!(condition(&done, "Ready"), pair("True", "Programmed"));
    assert_eq!(done["propagation"]["acked"], "1/1");
    assert_eq!(done["propagation"]["secondsToPropagate"], json!(0.007));
    assert!(
        mesh.driver.report(&clients, mesh.now, Timestamp::MAX).is_empty(),
        "nothing changed, so nothing is written"
    );
}

#[test]
fn a_change_of_one_object_leaves_the_status_of_its_neighbour_alone() {
    let mut mesh = Mesh::new(&two_targets());
    mesh.event(Event::Connected);
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    mesh.status(&clients, "traffictarget/shop/a");

    mesh.apply(&route_group("a", "/other", 2));
    assert!(mesh.epoch() > epoch);
    assert_eq!(mesh.status(&clients, "httproutegroup/shop/a")["propagation"]["acked"], "0/1");
    assert_eq!(mesh.status(&clients, "httproutegroup/shop/b")["propagation"]["acked"], "1/1");
}

#[test]
fn a_change_waits_for_nobody_whom_it_sends_nothing() {
    let pod = |account: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{namespace: shop, name: {account}-0}}, \
             spec: {{serviceAccountName: {account}, containers: []}}}}"
        )
    };
    let mut mesh = Mesh::new(&[two_targets(), pod("a"), pod("b")].join("\n---\n"));
    let buyer = ClientIdentity {
        stream: StreamId(2),
        admission: Admission { key: SnapshotKey::new("shop/a"), proxy: ProxyName::new("shop/a/n2") },
        ..client()
    };
    mesh.event(Event::Connected);
    mesh.driver.on_proxy(ProxyEvent { client: buyer.clone(), event: Event::Connected }, mesh.now);
    let synced = |identity: &ClientIdentity, epoch| (Arc::new(identity.clone()), Some(epoch));
    let before = mesh.epoch();
    let clients = [synced(&client(), before), synced(&buyer, before)];
    assert_eq!(mesh.status(&clients, "traffictarget/shop/a")["propagation"]["acked"], "2/2");

    // One more client: the server learns of it, the first client does not.
    let wider = target("a")
        .replace("generation: 1", "generation: 2")
        .replace("sources: [", "sources: [{kind: ServiceAccount, name: b, namespace: shop}, ");
    mesh.apply(&wider);
    assert!(mesh.epoch() > before);
    assert_eq!(
        mesh.cache.current(&SnapshotKey::new("shop/a")).unwrap().epoch,
        before,
        "nothing changes for the first client"
    );
    assert_eq!(mesh.status(&clients, "traffictarget/shop/a")["propagation"]["acked"], "1/2");
    let epoch = mesh.epoch();
    mesh.acknowledge(epoch);
    let clients = [synced(&client(), epoch), synced(&buyer, before)];
    assert_eq!(mesh.status(&clients, "traffictarget/shop/a")["propagation"]["acked"], "2/2");
}

#[test]
fn only_the_object_to_blame_is_held_back_and_it_heals_when_it_is_fixed() {
    let mut mesh = Mesh::new(&two_targets());
    mesh.event(Event::Connected);
    let epoch = mesh.epoch();
    mesh.acknowledge(epoch);

    mesh.apply(&route_group("a", "/bad.{1,900}", 2));
    mesh.refuse_routes("regex program is too large");
    assert!(!mesh.routes().contains("/bad") && mesh.routes().contains("\"/b\""), "{}", mesh.routes());
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    let blamed = mesh.status(&clients, "httproutegroup/shop/a");
    assert_eq!(condition(&blamed, "Programmed"), pair("False", "RefusedByProxies"));
    assert_eq!(blamed["propagation"]["refusals"][0]["proxy"], "shop/api/n1");
    assert!(blamed["propagation"]["refusals"][0]["message"].as_str().unwrap().contains("too large"));
    assert_eq!(condition(&mesh.status(&clients, "traffictarget/shop/b"), "Ready"), pair("True", "Programmed"));

    // Everything else goes out.
    mesh.apply(&route_group("b", "/changed", 2));
    assert!(mesh.routes().contains("/changed") && !mesh.routes().contains("/bad"));

    mesh.apply(&route_group("a", "/good", 3));
    assert!(mesh.routes().contains("/good"));
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    assert_eq!(condition(&mesh.status(&clients, "httproutegroup/shop/a"), "Ready"), pair("True", "Programmed"));
}

#[test]
fn an_object_whose_text_the_proxy_quotes_is_blamed_alone() {
    let bad =
        [BASE.to_owned(), route_group("a", "/bad.{1,900}", 1), target("a"), route_group("b", "/b", 1), target("b")];
    let mut mesh = Mesh::new(&bad.join("\n---\n"));
    mesh.event(Event::Connected);
    mesh.refuse_routes("regex '/bad.{1,900}' RE2 program size of 2712 > max program size of 1024");
    assert!(!mesh.routes().contains("/bad") && mesh.routes().contains("\"/b\""), "{}", mesh.routes());
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    let blamed = mesh.status(&clients, "httproutegroup/shop/a");
    assert_eq!(condition(&blamed, "Programmed"), pair("False", "RefusedByProxies"));
    for good in ["httproutegroup/shop/b", "traffictarget/shop/b"] {
        assert_eq!(condition(&mesh.status(&clients, good), "Ready"), pair("True", "Programmed"), "{good}");
    }
}

#[test]
fn objects_that_were_blamed_together_are_let_go_together() {
    let mut mesh = Mesh::new(&[BASE.to_owned(), route_group("b", "/b", 1), target("b")].join("\n---\n"));
    mesh.event(Event::Connected);
    mesh.apply(&[route_group("a", "/bad.{1,900}", 1), target("a")].join("\n---\n"));
    mesh.refuse_routes("it is too large");
    assert!(!mesh.routes().contains("/bad"));
    mesh.apply(&route_group("a", "/good", 2));
    assert!(
        mesh.routes().contains("/good"),
        "the TrafficTarget, which did not change, is in force, too: {}",
        mesh.routes()
    );
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    for object in ["httproutegroup/shop/a", "traffictarget/shop/a"] {
        assert_eq!(condition(&mesh.status(&clients, object), "Ready"), pair("True", "Programmed"), "{object}");
    }
}

#[test]
fn a_resource_that_only_the_blamed_objects_made_is_held_back_as_it_is() {
    let mut mesh = Mesh::new(&[BASE.to_owned(), route_group("a", "/bad.{1,900}", 1), target("a")].join("\n---\n"));
    mesh.event(Event::Connected);
    mesh.refuse_routes("regex program is too large");
    let held = mesh.cache.held_back(&ProxyName::new("shop/api/n1"));
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(&*held[0].1, "rds-inbound.8080");
}

#[test]
fn a_proxy_that_is_gone_refuses_nothing_any_more() {
    let mut mesh = Mesh::new(&[BASE.to_owned(), route_group("a", "/bad.{1,900}", 1), target("a")].join("\n---\n"));
    mesh.event(Event::Connected);
    mesh.refuse_routes("regex program is too large");
    mesh.event(Event::Disconnected(CloseReason::Client));
    assert_eq!(condition(&mesh.status(&[], "traffictarget/shop/a"), "Programmed"), pair("True", "NoProxies"));
}

#[test]
fn a_proxy_that_comes_later_is_waited_for_too() {
    let mut mesh = Mesh::new(&two_targets());
    mesh.event(Event::Connected);
    let epoch = mesh.epoch();
    let first = mesh.acknowledge(epoch);
    assert_eq!(mesh.status(&first, "traffictarget/shop/a")["propagation"]["acked"], "1/1");

    let second = ClientIdentity {
        stream: StreamId(2),
        admission: Admission { key: SnapshotKey::new(SERVER), proxy: ProxyName::new("shop/api/n2") },
        ..client()
    };
    mesh.driver.on_proxy(ProxyEvent { client: second.clone(), event: Event::Connected }, mesh.now);
    let clients = [first[0].clone(), (Arc::new(second.clone()), None)];
    assert_eq!(mesh.status(&clients, "traffictarget/shop/a")["propagation"]["acked"], "1/2");
    mesh.driver.on_proxy(ProxyEvent { client: second.clone(), event: Event::Synced { epoch } }, mesh.now);
    let clients = [first[0].clone(), (Arc::new(second), Some(epoch))];
    assert_eq!(mesh.status(&clients, "traffictarget/shop/a")["propagation"]["acked"], "2/2");
}

#[test]
fn the_mesh_config_concerns_every_proxy() {
    let config = "{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, \
                  metadata: {namespace: osm-system, name: osm-mesh-config, generation: 1}, \
                  spec: {traffic: {enablePermissiveTrafficPolicyMode: true}}}";
    let mut mesh = Mesh::new(&two_targets());
    mesh.event(Event::Connected);
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    mesh.apply(config);
    let name = "meshconfig/osm-system/osm-mesh-config";
    assert_eq!(mesh.status(&clients, name)["propagation"]["acked"], "0/1");
    let epoch = mesh.epoch();
    let clients = mesh.acknowledge(epoch);
    assert_eq!(mesh.status(&clients, name)["propagation"]["acked"], "1/1");
}

#[test]
fn what_is_gone_has_no_status() {
    let mut mesh = Mesh::new(&two_targets());
    mesh.status(&[], "traffictarget/shop/a");
    let gone = objects(&target("a")).into_iter().map(|(name, _)| (name, None)).collect();
    drop(mesh.driver.on_objects(gone, mesh.now));
    let written = mesh.driver.report(&[], mesh.now, Timestamp::UNIX_EPOCH);
    assert!(written.iter().any(|report| report.name.to_string() == "traffictarget/shop/a" && report.known.is_none()));
}

#[test]
fn what_is_said_of_the_gateway_is_reported_once_and_is_of_one_generation() {
    let config = |generation: i64| {
        format!(
            "{{apiVersion: config.openservicemesh.io/v1alpha2, kind: MeshConfig, \
             metadata: {{namespace: osm-system, name: osm-mesh-config, generation: {generation}}}, spec: {{}}}}"
        )
    };
    /// What is reported of the gateway, and of the MeshConfig's references; `None` if nothing is.
    fn reported(mesh: &mut Mesh) -> Option<(Option<Value>, String)> {
        let [report] = &*mesh.driver.report(&[], mesh.now, Timestamp::UNIX_EPOCH) else { return None };
        let Known { document, account: Account::Object(account) } = report.known.as_ref()? else { return None };
        let (_, reason) = condition(&document["status"], "ResolvedRefs");
        Some((account.gateway.clone(), reason))
    }
    let good = || "ResolvedRefs".to_owned();
    let mut mesh = Mesh::new(&config(1));
    assert_eq!(reported(&mut mesh), Some((None, good())));
    let mut news = GatewayNews { generation: 1, findings: Vec::new(), status: Value::Null };
    mesh.driver.on_gateway(Some(news.clone()));
    assert_eq!(reported(&mut mesh), Some((Some(Value::Null), good())), "also where the document stays as it is");
    assert_eq!(reported(&mut mesh), None);

    mesh.apply(&config(2));
    assert_eq!(reported(&mut mesh), Some((None, good())), "nothing is said of this generation");
    let object = osm_engine::object_id(&ObjectRef::new(Kind::MeshConfig, "osm-system", MESH_CONFIG_NAME));
    news.generation = 2;
    news.findings = vec![Finding {
        object,
        field: "spec.certificate.ingressGateway.secret".into(),
        aspect: osm_model::Aspect::ResolvedRefs,
        severity: osm_model::Severity::Error,
        reason: osm_api::MeshConfigReason::SecretNotOurs.as_str(),
        message: "it is somebody else's".into(),
        remedy: "name another".into(),
    }];
    mesh.driver.on_gateway(Some(news));
    assert_eq!(reported(&mut mesh), Some((Some(Value::Null), "SecretNotOurs".to_owned())));
    mesh.driver.on_gateway(None);
    assert_eq!(reported(&mut mesh), Some((None, good())));
}
