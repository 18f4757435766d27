//! Which parts of an object are kept. The rest is skipped while the text is parsed and never takes memory.
//!
//! What is kept is what `osm-mesh` and `osm-engine` read, and what a write refers to. A field that is read there and missing here
//! would make a cluster differ from a folder with the same objects; a test compares the two.

use std::fmt;

use osm_api::{Kind, Ownership};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting that is kept. No kind has fields that deep, and what is deeper could exhaust the stack.
const MAX_DEPTH: usize = 100;

/// Annotation of the bookmark that ends the objects that were there when a watch began.
pub(crate) const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Labels and annotations of the mesh.
const MESH_PREFIX: &str = "openservicemesh.io/";
/// Label of a pod that has a sidecar.
const PROXY_UUID_LABEL: &str = "osm-proxy-uuid";
/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What is kept of a value. Elements of lists are each treated as the list's place says; what has another shape than is expected
/// here is kept, so that decoding can say what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) enum Keep {
    /// All of it.
    All,
    /// These members of an object.
    Fields(Vec<(&'static str, Self)>),
    /// The members of an object whose name this accepts.
    Entries(fn(&str) -> bool),
}

impl Keep {
    /// What is kept of an object of a kind.
    pub(crate) fn of(kind: Kind) -> Self {
        let mut kept = vec![("metadata", metadata(kind))];
        if kind.ownership() == Ownership::Own {
            kept.extend([("spec", Self::All), ("status", Self::All)]);
        }
        match kind {
            Kind::Service => kept.push(("spec", service_spec())),
            Kind::Pod => kept.extend([
                ("spec", fields(&["serviceAccountName", "hostNetwork"])),
                ("status", fields(&["phase", "podIP", "podIPs"])),
            ]),
            Kind::EndpointSlice => kept.extend([
                ("addressType", Self::All),
                ("ports", fields(&["name", "port", "protocol"])),
                ("endpoints", endpoints()),
            ]),
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::MeshConfig
            | Kind::MeshRootCertificate
            | Kind::TrafficTarget
            | Kind::HttpRouteGroup
            | Kind::TcpRoute
            | Kind::TrafficSplit
            | Kind::ProxySnapshot => {}
        }
        Self::Fields(kept)
    }

    /// The same of each element of a list, with what a list says of itself.
    pub(crate) fn page(self) -> Self {
        Self::Fields(vec![("metadata", fields(&["resourceVersion", "continue"])), ("items", self)])
    }

    /// The same of the object in a line of a watch, or of the status that is there instead.
    pub(crate) fn line(self) -> Self {
        let object = match self {
            Self::Fields(mut kept) => {
                kept.extend(["code", "message", "reason", "details"].map(|field| (field, Self::All)));
                Self::Fields(kept)
            }
            other => other,
        };
        Self::Fields(vec![("type", Self::All), ("object", object)])
    }

    /// Parses a text.
    ///
    /// # Errors
    /// The text is not JSON. What JSON it is does not matter.
    pub(crate) fn parse(&self, text: &[u8]) -> serde_json::Result<Value> {
        let mut deserializer = serde_json::Deserializer::from_slice(text);
        let value = Seed { keep: self, depth: 0 }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    /// What is kept of a member; `None` for nothing.
    fn member(&self, name: &str) -> Option<&Self> {
        match self {
            Self::All => Some(&Self::All),
            Self::Fields(kept) => kept.iter().find(|(field, _)| *field == name).map(|(_, keep)| keep),
            Self::Entries(accept) => accept(name).then_some(&Self::All),
        }
    }
}

fn fields(names: &[&'static str]) -> Keep {
    Keep::Fields(names.iter().map(|name| (*name, Keep::All)).collect())
}

fn metadata(kind: Kind) -> Keep {
    let mut kept: Vec<_> = ["name", "namespace", "resourceVersion"].iter().map(|name| (*name, Keep::All)).collect();
    match kind.ownership() {
        Ownership::Own => kept.extend(["uid", "generation", "creationTimestamp"].map(|name| (name, Keep::All))),
        Ownership::Read if kind == Kind::Pod => kept.push(("uid", Keep::All)),
        Ownership::Read => {}
    }
    if let Some(accept) = labels(kind) {
        kept.push(("labels", Keep::Entries(accept)));
    }
    kept.push(("annotations", Keep::Entries(annotations(kind))));
    Keep::Fields(kept)
}

fn labels(kind: Kind) -> Option<fn(&str) -> bool> {
    match kind {
        Kind::Namespace => Some(|name| name.starts_with(MESH_PREFIX)),
        Kind::Pod => Some(|name| name == PROXY_UUID_LABEL || name.starts_with(MESH_PREFIX)),
        Kind::EndpointSlice => Some(|name| name == SERVICE_NAME_LABEL),
        Kind::Service
        | Kind::ServiceAccount
        | Kind::MeshConfig
        | Kind::MeshRootCertificate
        | Kind::TrafficTarget
        | Kind::HttpRouteGroup
        | Kind::TcpRoute
        | Kind::TrafficSplit
        | Kind::ProxySnapshot => None,
    }
}

fn annotations(kind: Kind) -> fn(&str) -> bool {
    match kind {
        Kind::Namespace | Kind::Pod | Kind::MeshRootCertificate => {
            |name| name == INITIAL_EVENTS_END || name.starts_with(MESH_PREFIX)
        }
        Kind::Service
        | Kind::EndpointSlice
        | Kind::ServiceAccount
        | Kind::MeshConfig
        | Kind::TrafficTarget
        | Kind::HttpRouteGroup
        | Kind::TcpRoute
        | Kind::TrafficSplit
        | Kind::ProxySnapshot => |name| name == INITIAL_EVENTS_END,
    }
}

fn service_spec() -> Keep {
    let ports = fields(&["name", "port", "targetPort", "protocol", "appProtocol"]);
    Keep::Fields(vec![("type", Keep::All), ("clusterIP", Keep::All), ("clusterIPs", Keep::All), ("ports", ports)])
}

fn endpoints() -> Keep {
    let conditions = fields(&["ready", "serving", "terminating"]);
    Keep::Fields(vec![("addresses", Keep::All), ("conditions", conditions), ("targetRef", fields(&["kind", "name"]))])
}

/// Parses one value.
#[derive(Clone, Copy)]
struct Seed<'a> {
    keep: &'a Keep,
    depth: usize,
}

impl<'a> Seed<'a> {
    fn deeper(self, keep: &'a Keep) -> Self {
        Self { keep, depth: self.depth + 1 }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > MAX_DEPTH {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self.deeper(self.keep))? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            match self.keep.member(&name) {
                Some(keep) => {
                    let value = members.next_value_seed(self.deeper(keep))?;
                    kept.insert(name, value);
                }
                None => drop(members.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_pod_only_what_the_mesh_reads_is_kept() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "a-0", "namespace": "shop", "uid": "1", "resourceVersion": "7", "generation": 3,
                "labels": { "app": "a", "osm-proxy-uuid": "u" },
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}", "openservicemesh.io/metrics": "enabled" },
                "managedFields": [{ "fieldsV1": { "f:spec": {} } }],
            },
            "spec": { "serviceAccountName": "a", "hostNetwork": true, "containers": [{ "name": "c", "env": [{ "value": "secret" }] }] },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }], "conditions": [] },
        });
        let kept = Keep::of(Kind::Pod).parse(pod.to_string().as_bytes()).unwrap();
        let expected = json!({
            "metadata": {
                "name": "a-0", "namespace": "shop", "uid": "1", "resourceVersion": "7",
                "labels": { "osm-proxy-uuid": "u" }, "annotations": { "openservicemesh.io/metrics": "enabled" },
            },
            "spec": { "serviceAccountName": "a", "hostNetwork": true },
            "status": { "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }] },
        });
        assert_eq!(kept, expected);
    }

    #[test]
    fn what_has_another_shape_is_kept_for_decoding_to_complain_about() {
        let kept = Keep::of(Kind::Service).parse(br#"{"metadata":{"name":"a"},"spec":[1,"x"],"status":{}}"#).unwrap();
        assert_eq!(kept, json!({ "metadata": { "name": "a" }, "spec": [1, "x"] }));
    }

    #[test]
    fn depth_is_limited_and_never_an_error() {
        let deep = |prefix: &str| {
            let (open, close) = ("{\"a\":".repeat(5000), "}".repeat(5000));
            format!("{{\"metadata\":{{\"name\":\"a\"}},\"{prefix}\":{open}1{close}}}")
        };
        for field in ["spec", "other"] {
            let kept = Keep::of(Kind::TrafficTarget).parse(deep(field).as_bytes()).unwrap();
            assert_eq!(kept["metadata"]["name"], "a");
        }
    }

    #[test]
    fn lines_and_pages_keep_what_they_say_of_themselves() {
        let line = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        let line = Keep::of(Kind::Pod).line().parse(line).unwrap();
        assert_eq!(line, json!({ "type": "ERROR", "object": { "code": 410, "message": "too old" } }));
        let page = br#"{"metadata":{"resourceVersion":"9","continue":"c"},"items":[{"metadata":{"name":"a","labels":{"x":"y"}}}]}"#;
        let page = Keep::of(Kind::Service).page().parse(page).unwrap();
        assert_eq!(page["items"], json!([{ "metadata": { "name": "a" } }]));
        assert_eq!(page["metadata"]["continue"], "c");
        assert!(Keep::All.parse(b"{").is_err());
    }
}
