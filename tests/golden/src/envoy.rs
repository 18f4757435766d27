//! Whether a real Envoy accepts what a mesh gives: everything as one static configuration, in validate mode.
//!
//! Proxies of all cases go into one configuration, so that one run of Envoy suffices: names of clusters and listeners get
//! the name of the case and of the proxy in front, which a refusal then tells, and every listener gets an address of its
//! own (that one proxy has no address twice is checked by [`Mesh::faults`]). What comes by discovery is written in place:
//! endpoints into clusters, route tables and scopes into listeners, secrets beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use osm_model::Identity;
use osm_translate::{ResourceKind, naming};
use serde_json::{Value, json};

use crate::Mesh;

/// Newest and oldest Envoy that is supported.
pub const VERSIONS: [&str; 2] = ["1.40.0", "1.36.2"];

/// Environment variable that names the folder of Envoys: `<version>/envoy` lies in it.
pub const FOLDER: &str = "OSM_ENVOY_DIR";

/// The executable of a version.
///
/// # Errors
/// It is not there.
pub fn executable(version: &str) -> Result<PathBuf> {
    let remedy = "run hack/setup, and set what its last line says";
    let folder = std::env::var_os(FOLDER).with_context(|| format!("{FOLDER} is not set; {remedy}"))?;
    let path = PathBuf::from(folder).join(version).join("envoy");
    ensure!(path.is_file(), "there is no {}; {remedy}", path.display());
    Ok(path)
}

/// A configuration that grows proxy by proxy.
#[derive(Debug, Default)]
pub struct StaticConfiguration {
    listeners: Vec<Value>,
    clusters: Vec<Value>,
}

impl StaticConfiguration {
    /// How many listeners it has.
    pub fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// How many clusters it has.
    pub fn clusters(&self) -> usize {
        self.clusters.len()
    }

    /// Adds what the proxies of `workload` hold; `prefix` tells it from other meshes.
    ///
    /// # Errors
    /// A resource that cannot be decoded.
    pub fn add(&mut self, prefix: &str, mesh: &Mesh, workload: &Identity) -> Result<()> {
        let prefix = format!("{prefix}/{workload}/");
        let mut parts: BTreeMap<ResourceKind, BTreeMap<String, Value>> = BTreeMap::new();
        for ((kind, name), entry) in mesh.resources(workload) {
            let mut json = osm_xds_json::to_json(kind.type_url(), &entry.resource.body)?;
            if let Some(fields) = json.as_object_mut() {
                fields.remove("@type");
            }
            parts.entry(kind).or_default().insert(name.to_string(), json);
        }
        let mut part = |kind| parts.remove(&kind).unwrap_or_default();
        let (clusters, listeners) = (part(ResourceKind::Cluster), part(ResourceKind::Listener));
        let endpoints = part(ResourceKind::Endpoints);
        let mut discovered = Discovered { tables: part(ResourceKind::Routes), scopes: Vec::new() };
        discovered.scopes =
            part(ResourceKind::ScopedRoutes).into_values().map(|scope| discovered.inline(scope)).collect();
        let names: BTreeSet<String> = clusters.keys().cloned().collect();
        for mut cluster in clusters.into_values() {
            with_endpoints(&mut cluster, &endpoints);
            with_static_secrets(&mut cluster);
            rename(&mut cluster, &names, &prefix);
            self.clusters.push(cluster);
        }
        for mut listener in listeners.into_values() {
            discovered.write_into(&mut listener);
            with_static_secrets(&mut listener);
            rename(&mut listener, &names, &prefix);
            let name = format!("{prefix}{}", listener["name"].as_str().unwrap_or_default());
            listener["name"] = json!(name);
            self.give_addresses(&mut listener);
            self.listeners.push(listener);
        }
        Ok(())
    }

    /// Addresses that no other listener has: one of 127.0.0.0/8 for each listener.
    fn give_addresses(&self, listener: &mut Value) {
        let number = self.listeners.len();
        let address = |port: usize| json!({ "socketAddress": { "address": format!("127.{}.{}.1", 1 + number / 256, number % 256), "portValue": port } });
        listener["address"] = address(1000);
        for (index, more) in listener["additionalAddresses"].as_array_mut().into_iter().flatten().enumerate() {
            more["address"] = address(1001 + index);
        }
    }

    /// The whole as a bootstrap.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn bootstrap(self) -> Result<Value> {
        let Self { listeners, mut clusters } = self;
        clusters.push(json!({
            "name": "ads",
            "typedExtensionProtocolOptions": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": { "http2ProtocolOptions": {} },
            } },
        }));
        Ok(json!({
            "node": { "id": "test", "cluster": "test" },
            "dynamicResources": { "adsConfig": {
                "apiType": "DELTA_GRPC",
                "transportApiVersion": "V3",
                "grpcServices": [{ "envoyGrpc": { "clusterName": "ads" } }],
            } },
            "staticResources": { "listeners": listeners, "clusters": clusters, "secrets": secrets()? },
        }))
    }
}

/// What listeners refer to.
struct Discovered {
    tables: BTreeMap<String, Value>,
    scopes: Vec<Value>,
}

impl Discovered {
    /// The scope with its table in it.
    fn inline(&self, mut scope: Value) -> Value {
        if let Some(fields) = scope.as_object_mut() {
            let name = fields.remove("routeConfigurationName");
            let table = name.as_ref().and_then(|name| self.tables.get(name.as_str()?));
            fields.insert("routeConfiguration".to_owned(), table.cloned().unwrap_or_default());
        }
        scope
    }

    /// Writes route tables and scopes in the place of references to them, wherever they are.
    fn write_into(&self, value: &mut Value) {
        match value {
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.write_into(element)),
            Value::Object(fields) => {
                let table = fields.get("rds").and_then(|rds| self.tables.get(rds["routeConfigName"].as_str()?));
                if let Some(table) = table.cloned() {
                    fields.remove("rds");
                    fields.insert("routeConfig".to_owned(), table);
                }
                if fields.contains_key("scopedRds") && !self.scopes.is_empty() {
                    fields.remove("scopedRds");
                    let list = json!({ "scopedRouteConfigurations": self.scopes });
                    fields.insert("scopedRouteConfigurationsList".to_owned(), list);
                }
                fields.values_mut().for_each(|field| self.write_into(field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Writes the endpoints of an EDS cluster into it.
fn with_endpoints(cluster: &mut Value, endpoints: &BTreeMap<String, Value>) {
    let service = cluster["edsClusterConfig"]["serviceName"].as_str().map(str::to_owned);
    if let (Some(service), Some(fields)) = (service, cluster.as_object_mut()) {
        fields.remove("edsClusterConfig");
        fields.insert("type".to_owned(), json!("STATIC"));
        fields.insert("loadAssignment".to_owned(), endpoints.get(&service).cloned().unwrap_or_default());
    }
}

/// Secrets that come by no source are taken from the static ones.
fn with_static_secrets(value: &mut Value) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(with_static_secrets),
        Value::Object(fields) => {
            fields.remove("sdsConfig");
            fields.values_mut().for_each(with_static_secrets);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts `prefix` before every text that is one of `names`, except in conditions on requests.
fn rename(value: &mut Value, names: &BTreeSet<String>, prefix: &str) {
    match value {
        Value::Array(elements) => elements.iter_mut().for_each(|element| rename(element, names, prefix)),
        Value::Object(fields) => {
            for (field, value) in fields {
                if field != "scopedRouteConfigurationsList" && field != "match" {
                    rename(value, names, prefix);
                }
            }
        }
        Value::String(text) if names.contains(text) => text.insert_str(0, prefix),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn secrets() -> Result<Value> {
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["test".to_owned()])?;
    Ok(json!([
        {
            "name": naming::SERVICE_CERTIFICATE_SECRET,
            "tlsCertificate": {
                "certificateChain": { "inlineString": cert.pem() },
                "privateKey": { "inlineString": signing_key.serialize_pem() },
            },
        },
        {
            "name": naming::TRUST_BUNDLE_SECRET,
            "validationContext": { "trustedCa": { "inlineString": cert.pem() } },
        },
    ]))
}

/// Asks `version` whether it accepts `bootstrap`.
///
/// # Errors
/// It does not, and why; or it cannot be asked.
pub fn validate(version: &str, bootstrap: &Value) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("bootstrap.json");
    std::fs::write(&file, serde_json::to_vec(bootstrap)?)?;
    let mut command = Command::new(executable(version)?);
    command.args(["--mode", "validate", "--log-level", "error", "-c"]).arg(&file);
    let output = command.output()?;
    if !output.status.success() {
        bail!("Envoy {version}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
