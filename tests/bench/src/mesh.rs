//! Synthetic meshes as Kubernetes objects: what the whole core (resolve and translate) is measured on.
//!
//! Every service has its own ServiceAccount, Pods and EndpointSlice. Services are spread over namespaces of fifty, as clusters
//! have them.

use std::net::Ipv4Addr;

use anyhow::Context;
use osm_api::{Object, ObjectRef, Strictness, decode};
use osm_engine::Options;
use serde_json::{Value, json};

/// Services in one namespace.
const PER_NAMESPACE: u32 = 50;
/// Pods behind one service, unless a mesh says otherwise.
pub const PODS: u32 = 2;

/// How access is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Permissive mode: every workload reaches every service.
    Permissive,
    /// By policy: each service may be called by [`Mesh::CLIENT`] and by the account of the next service.
    Policy,
}

/// A mesh of a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Services.
    pub services: u32,
    /// Access.
    pub access: Access,
    /// Pods behind each service.
    pub pods: u32,
}

fn octets(base: [u8; 2], number: u32) -> Ipv4Addr {
    let [_, _, high, low] = number.to_be_bytes();
    // Ranges are longer than one /16 for meshes above 65,000 addresses, which none here has.
    Ipv4Addr::new(base[0], base[1], high, low)
}

/// Namespace of a service.
pub fn namespace_of(service: u32) -> String {
    format!("bench-{}", service / PER_NAMESPACE)
}

impl Mesh {
    /// Namespace and ServiceAccount of the workload that measures from outside.
    pub const CLIENT: (&'static str, &'static str) = ("bench-client", "client");

    /// Options that fit.
    ///
    /// # Errors
    /// Never for these constants.
    pub fn options() -> anyhow::Result<Options> {
        Ok(Options {
            mesh_name: "osm".into(),
            control_plane_namespace: "osm-system".into(),
            trust_domain: osm_model::TrustDomain::new("cluster.local")?,
            cluster_domain: "cluster.local".into(),
            service_ranges: vec!["10.96.0.0/12".parse().context("a range")?],
        })
    }

    /// ClusterIP of a service.
    pub fn cluster_ip(service: u32) -> Ipv4Addr {
        // The first addresses of the range are given to Kubernetes' own Services.
        octets([10, 96], service + 0x101)
    }

    /// The manifests of the mesh, service by service; the first list is what all share.
    pub fn manifests(&self) -> impl Iterator<Item = Vec<Value>> {
        let mesh = *self;
        std::iter::once(mesh.shared()).chain((0..mesh.services).map(move |service| mesh.service(service)))
    }

    /// All objects, decoded.
    ///
    /// # Errors
    /// A manifest is wrong: a bug here.
    pub fn objects(&self) -> anyhow::Result<Vec<(ObjectRef, Option<Object>)>> {
        self.manifests().flatten().map(object).collect()
    }

    fn shared(&self) -> Vec<Value> {
        let label = json!({ "openservicemesh.io/monitored-by": "osm" });
        let namespaces = (0..self.services.div_ceil(PER_NAMESPACE)).map(|number| format!("bench-{number}"));
        let namespaces = namespaces.chain([Self::CLIENT.0.to_owned()]);
        let mut shared: Vec<Value> = namespaces
            .map(|name| json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name, "labels": label } }))
            .collect();
        shared.push(account(Self::CLIENT.0, Self::CLIENT.1));
        shared.push(json!({
            "apiVersion": "config.openservicemesh.io/v1alpha2", "kind": "MeshConfig",
            "metadata": { "namespace": "osm-system", "name": "osm-mesh-config" },
            "spec": { "traffic": {
                "enableEgress": false,
                "enablePermissiveTrafficPolicyMode": self.access == Access::Permissive,
            } },
        }));
        shared
    }

    fn service(&self, service: u32) -> Vec<Value> {
        let (namespace, name) = (namespace_of(service), format!("service-{service}"));
        let mut objects = vec![
            account(&namespace, &name),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": namespace, "name": name },
                "spec": {
                    "clusterIP": Self::cluster_ip(service), "clusterIPs": [Self::cluster_ip(service)],
                    "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }],
                },
            }),
            self.endpoint_slice(service, 0),
        ];
        objects.extend((0..self.pods).map(|number| pod(&namespace, &format!("{name}-{number}"), &name)));
        if self.access == Access::Policy {
            objects.extend(self.policy(service));
        }
        objects
    }

    /// HTTPRouteGroup and TrafficTarget of a service.
    pub fn policy(&self, service: u32) -> [Value; 2] {
        let (namespace, name) = (namespace_of(service), format!("service-{service}"));
        let next = (service + 1) % self.services;
        let account =
            |namespace: &str, name: &str| json!({ "kind": "ServiceAccount", "namespace": namespace, "name": name });
        let routes = json!({
            "apiVersion": "specs.smi-spec.io/v1alpha4", "kind": "HTTPRouteGroup",
            "metadata": { "namespace": namespace, "name": name },
            "spec": { "matches": [{ "name": "all", "pathRegex": "/api/.*", "methods": ["GET"] }] },
        });
        let target = json!({
            "apiVersion": "access.smi-spec.io/v1alpha3", "kind": "TrafficTarget",
            "metadata": { "namespace": namespace, "name": name },
            "spec": {
                "destination": account(&namespace, &name),
                "sources": [account(Self::CLIENT.0, Self::CLIENT.1), account(&namespace_of(next), &format!("service-{next}"))],
                "rules": [{ "kind": "HTTPRouteGroup", "name": name }],
            },
        });
        [routes, target]
    }

    /// The EndpointSlice of a service; each `generation` has other addresses.
    pub fn endpoint_slice(&self, service: u32, generation: u32) -> Value {
        let (namespace, name) = (namespace_of(service), format!("service-{service}"));
        let address = |pod| octets([10, 244 + u8::from(generation % 2 == 1)], service * self.pods + pod + 1);
        let endpoints: Vec<Value> = (0..self.pods)
            .map(|pod| json!({ "addresses": [address(pod)], "targetRef": { "kind": "Pod", "name": format!("{name}-{pod}") } }))
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "namespace": namespace, "name": format!("{name}-slice"),
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "name": "http", "port": 8080 }],
            "endpoints": endpoints,
        })
    }
}

fn account(namespace: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "namespace": namespace, "name": name } })
}

/// A Pod of an account.
pub fn pod(namespace: &str, name: &str, account: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "namespace": namespace, "name": name },
        "spec": { "serviceAccountName": account, "containers": [{ "name": "app", "image": "app.example/app:1" }] },
    })
}

/// One manifest as an object.
///
/// # Errors
/// The manifest is wrong.
pub fn object(manifest: Value) -> anyhow::Result<(ObjectRef, Option<Object>)> {
    let object = decode(manifest, Strictness::Strict)?;
    Ok((object.reference(), Some(object)))
}
