//! Dumps of every stage of the pipeline, for people: never a private key.

use osm_engine::LayerKey;
use osm_model::{Identity, ServiceId};
use osm_xds::{ClientStatus, Entry, Snapshot, TypeUrl};
use serde_json::{Map, Value, json};

use super::Driver;
use crate::publish::snapshot_key;

/// A question to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dump {
    /// The objects the mesh is made of, by name with their generation.
    Objects,
    /// Everything that is wrong with them.
    Findings,
    /// The mesh that follows: settings, open services, workloads.
    Mesh,
    /// What one workload serves and reaches.
    Workload(Identity),
    /// Sizes and cost of the computation.
    Engine,
    /// Names and versions of all resources of all workloads.
    Snapshots,
    /// All resources of one workload, decoded.
    Snapshot(Identity),
    /// Streams and what they have acknowledged.
    Proxies,
    /// Status documents.
    Status,
}

impl Driver {
    /// Answers `question`; `None` when what it asks about does not exist. `clients` are the server's streams.
    pub fn dump(&self, question: &Dump, clients: &[ClientStatus]) -> Option<Value> {
        let answer = match question {
            Dump::Objects => {
                let objects = self.engine.objects();
                objects.map(|(name, object)| json!({ "object": name.to_string(), "generation": object.metadata().generation })).collect()
            }
            Dump::Findings => json!(self.engine.findings()),
            Dump::Mesh => json!({
                "settings": self.engine.settings().map(|settings| json!(**settings)),
                "permissiveServices": self.engine.permissive_services().map(ToString::to_string).collect::<Vec<_>>(),
                "workloads": self.engine.workloads().map(ToString::to_string).collect::<Vec<_>>(),
            }),
            Dump::Workload(workload) => self.workload_dump(workload)?,
            Dump::Engine => self.engine_dump(),
            Dump::Snapshots => {
                let workloads = self.engine.workloads();
                let entry = |workload: &Identity| {
                    let published = self.cache.current(&snapshot_key(workload))?;
                    Some((workload.to_string(), summary(&published.snapshot)))
                };
                Value::Object(workloads.filter_map(entry).collect())
            }
            Dump::Snapshot(workload) => resources(&self.cache.current(&snapshot_key(workload))?.snapshot),
            Dump::Proxies => clients.iter().map(client).collect(),
            Dump::Status => self.reports.documents().map(|(_, document)| document.clone()).collect(),
        };
        Some(answer)
    }

    fn workload_dump(&self, workload: &Identity) -> Option<Value> {
        let inbound = self.engine.inbound(workload)?;
        let reach: Map<String, Value> = self
            .engine
            .reach(workload)
            .into_iter()
            .flatten()
            .map(|(service, reached): (&ServiceId, _)| {
                let because: Vec<String> = reached.because.iter().map(|origin| origin.object.to_string()).collect();
                (service.to_string(), json!({ "reachable": reached.reachable, "because": because }))
            })
            .collect();
        let resources = self.engine.layer(&LayerKey::Workload(workload.clone())).count();
        Some(json!({ "inbound": inbound, "reach": reach, "resources": resources }))
    }

    fn engine_dump(&self) -> Value {
        let stats = self.engine.stats();
        json!({
            "keys": stats.keys, "inputs": stats.inputs, "derived": stats.derived, "indexes": stats.indexes,
            "items": stats.items, "reads": stats.reads, "computed": stats.work.computed, "cutOff": stats.work.cut_off,
        })
    }
}

/// Names and versions by type.
fn summary(snapshot: &Snapshot) -> Value {
    let types = snapshot.types().into_iter().map(|type_url| {
        let versions: Map<String, Value> = snapshot
            .iter_type(type_url)
            .map(|entry| (entry.resource.name().to_string(), json!(entry.resource.version().to_string())))
            .collect();
        (type_url.short_name().to_owned(), Value::Object(versions))
    });
    Value::Object(types.collect())
}

/// Decoded resources by type and name.
fn resources(snapshot: &Snapshot) -> Value {
    let types = snapshot.types().into_iter().map(|type_url| {
        let entries: Map<String, Value> = snapshot
            .iter_type(type_url)
            .map(|entry| (entry.resource.name().to_string(), decoded(type_url, entry)))
            .collect();
        (type_url.short_name().to_owned(), Value::Object(entries))
    });
    Value::Object(types.collect())
}

fn decoded(type_url: &TypeUrl, entry: &Entry) -> Value {
    match osm_xds_json::to_json(type_url.as_str(), &entry.resource.any_bytes()) {
        Ok(mut value) => {
            osm_xds_json::redact(&mut value);
            value
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn client(status: &ClientStatus) -> Value {
    let identity = &status.identity;
    json!({
        "proxy": identity.admission.proxy.to_string(),
        "workload": identity.admission.key.to_string(),
        "node": &*identity.node,
        "stream": identity.stream.0,
        "variant": format!("{:?}", identity.variant),
        "syncedEpoch": status.synced.map(|epoch| epoch.0),
        "types": status.types.iter().map(|status| format!("{status:?}")).collect::<Vec<_>>(),
    })
}
