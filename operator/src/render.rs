//! `osm-operator render`: what each identity would get from a folder of manifests, with no proxy and no cluster.

use std::collections::BTreeMap;
use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use osm_engine::{LayerEntry, LayerKey, MeshEngine, Options};
use osm_model::{Finding, Identity, Severity};
use osm_source::{Folder, Hint};
use osm_translate::{ResourceKind, naming};
use serde_json::{Map, Value, json};

/// Which resources are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Type {
    /// Listeners.
    Listeners,
    /// Route tables and scopes.
    Routes,
    /// Clusters.
    Clusters,
    /// Endpoint assignments.
    Endpoints,
    /// Names of secrets; their content is never printed.
    Secrets,
}

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// One line a resource.
    Table,
    /// Whole resources in Envoy's canonical JSON form.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What became of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is wrong.
    Clean,
    /// There are findings.
    Findings,
    /// The folder cannot be used.
    Unusable,
}

/// What to print.
#[derive(Debug, Clone)]
pub struct Selection {
    /// One identity, or all.
    pub proxy: Option<Identity>,
    /// One type, or all.
    pub kind: Option<Type>,
    /// How.
    pub output: Output,
}

/// Renders `folder`; gives the text and what became of it.
pub fn render(folder: &Path, options: Options, selection: &Selection) -> (String, Outcome) {
    let mut source = Folder::new(folder);
    let refresh = source.refresh(&Hint::Everything);
    if !refresh.problems.is_empty() {
        let lines: Vec<String> = refresh.problems.iter().map(ToString::to_string).collect();
        return (lines.join("\n") + "\n", Outcome::Unusable);
    }
    let mut engine = MeshEngine::new(options);
    engine.update(refresh.changes);
    let proxies: Vec<Identity> = match &selection.proxy {
        Some(proxy) => vec![proxy.clone()],
        None => engine.workloads().cloned().collect(),
    };
    if let Some(missing) = proxies.iter().find(|proxy| !engine.workloads().any(|known| known == *proxy)) {
        let known: Vec<String> = engine.workloads().map(ToString::to_string).collect();
        let text = format!("there is no workload {missing} in the mesh; there are: {}\n", known.join(", "));
        return (text, Outcome::Unusable);
    }
    let findings = engine.findings();
    let outcome = if findings.is_empty() { Outcome::Clean } else { Outcome::Findings };
    let text = match selection.output {
        Output::Table => table(&engine, &proxies, selection.kind, &findings),
        Output::Json => pretty_json(&document(&engine, &proxies, selection.kind, &findings)),
        Output::Yaml => {
            let document = document(&engine, &proxies, selection.kind, &findings);
            serde_saphyr::to_string(&document).unwrap_or_else(|error| format!("cannot write YAML: {error}\n"))
        }
    };
    (text, outcome)
}

fn pretty_json(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// What a proxy of `identity` is given: the layer of its workload above that of the mesh.
pub fn resources<'a>(engine: &'a MeshEngine, identity: &Identity) -> BTreeMap<(ResourceKind, &'a str), &'a LayerEntry> {
    let own = LayerKey::Workload(identity.clone());
    let below = engine.layer(&LayerKey::Mesh).chain(engine.layer(&own));
    below.map(|entry| ((entry.resource.kind, &*entry.resource.name), entry)).collect()
}

fn type_of(kind: ResourceKind) -> Type {
    match kind {
        ResourceKind::Listener => Type::Listeners,
        ResourceKind::Routes | ResourceKind::ScopedRoutes => Type::Routes,
        ResourceKind::Cluster => Type::Clusters,
        ResourceKind::Endpoints => Type::Endpoints,
    }
}

fn plural(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Listener => "listeners",
        ResourceKind::Routes => "routes",
        ResourceKind::ScopedRoutes => "scopes",
        ResourceKind::Cluster => "clusters",
        ResourceKind::Endpoints => "endpoints",
    }
}

/// Secrets that every proxy of a workload gets, with what they hold in words.
const SECRETS: [(&str, &str); 2] = [
    (naming::SERVICE_CERTIFICATE_SECRET, "certificate and private key of the workload"),
    (naming::TRUST_BUNDLE_SECRET, "root certificates of the mesh"),
];

/// Everything selected, as one document.
pub fn document(engine: &MeshEngine, proxies: &[Identity], kind: Option<Type>, findings: &[&Finding]) -> Value {
    let proxies: Map<String, Value> =
        proxies.iter().map(|proxy| (proxy.to_string(), proxy_document(engine, proxy, kind))).collect();
    json!({ "proxies": proxies, "findings": findings })
}

fn proxy_document(engine: &MeshEngine, proxy: &Identity, kind: Option<Type>) -> Value {
    let mut types: Map<String, Value> = Map::new();
    for ((resource_kind, name), entry) in resources(engine, proxy) {
        if kind.is_some_and(|kind| kind != type_of(resource_kind)) {
            continue;
        }
        let list = types.entry(plural(resource_kind)).or_insert_with(|| json!({}));
        list[name] = decoded(entry);
    }
    if kind.is_none_or(|kind| kind == Type::Secrets) {
        let secrets: Map<String, Value> =
            SECRETS.iter().map(|(name, what)| ((*name).to_owned(), json!(format!("[redacted] {what}")))).collect();
        types.insert("secrets".to_owned(), Value::Object(secrets));
    }
    Value::Object(types)
}

fn decoded(entry: &LayerEntry) -> Value {
    match osm_xds_json::to_json(entry.resource.kind.type_url(), &entry.resource.body) {
        Ok(mut value) => {
            osm_xds_json::redact(&mut value);
            value
        }
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn table(engine: &MeshEngine, proxies: &[Identity], kind: Option<Type>, findings: &[&Finding]) -> String {
    let mut table = new_table(["PROXY", "TYPE", "NAME", "DELIVERY", "BYTES", "FROM"]);
    for proxy in proxies {
        for ((resource_kind, name), entry) in resources(engine, proxy) {
            if kind.is_some_and(|kind| kind != type_of(resource_kind)) {
                continue;
            }
            let origins = entry.resource.origins.iter().chain(entry.because.iter());
            let mut from: Vec<String> = origins.map(|origin| origin.object.to_string()).collect();
            from.sort();
            from.dedup();
            table.add_row([
                proxy.to_string(),
                plural(resource_kind).to_owned(),
                name.to_owned(),
                format!("{:?}", entry.delivery),
                entry.resource.body.len().to_string(),
                from.join(" "),
            ]);
        }
        if kind.is_none_or(|kind| kind == Type::Secrets) {
            for (name, what) in SECRETS {
                let row = [proxy.to_string(), "secrets".to_owned(), name.to_owned()];
                table.add_row(row.into_iter().chain(["OnDemand".to_owned(), "redacted".to_owned(), what.to_owned()]));
            }
        }
    }
    let mut text = table.to_string() + "\n";
    if !findings.is_empty() {
        let mut table = new_table(["SEVERITY", "OBJECT", "FIELD", "FINDING", "REMEDY"]);
        for finding in findings {
            let severity = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            let object = finding.object.to_string();
            table.add_row([severity, &object, &finding.field, &finding.message, &finding.remedy]);
        }
        text += &format!("\n{table}\n");
    }
    text
}

fn new_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header);
    table
}
