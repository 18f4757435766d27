//! Metrics in Prometheus' format. Labels come from closed sets only.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use osm_api::Kind;
use osm_engine::MeshChanges;
use osm_xds::{Event, Publication};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::webhooks::WebhookMetrics;

/// The xDS type a figure is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabel {
    r#type: String,
}

/// The kind a figure is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// Figures of the reconcilers. They stay at zero on replicas that do not hold the Lease.
#[derive(Debug)]
struct ReconcilerMetrics {
    leader: Gauge,
    in_flight: Gauge,
    errors: Family<KindLabel, Counter>,
    writes: Family<KindLabel, Counter>,
    duration: Family<KindLabel, Histogram, fn() -> Histogram>,
}

fn reconcile_duration() -> Histogram {
    Histogram::new([0.0001, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl ReconcilerMetrics {
    fn registered(registry: &mut Registry) -> Self {
        let it = Self {
            leader: Gauge::default(),
            in_flight: Gauge::default(),
            errors: Family::default(),
            writes: Family::default(),
            duration: Family::new_with_constructor(reconcile_duration),
        };
        registry.register("leader", "Whether this replica holds the Lease and writes", it.leader.clone());
        registry.register("reconcile_queue", "Objects that are being written", it.in_flight.clone());
        registry.register("reconcile_errors", "Writes that failed and are tried again", it.errors.clone());
        registry.register("api_writes", "Writes to the API server that changed something", it.writes.clone());
        let help =
            "How long it took to look at an object and to write what differs; its count is that of reconciliations";
        registry.register("reconcile_duration_seconds", help, it.duration.clone());
        it
    }
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    publications: Counter,
    changed_resources: Counter,
    computed_nodes: Counter,
    streams: Gauge,
    stream_count: AtomicI64,
    responses: Family<TypeLabel, Counter>,
    sent_resources: Family<TypeLabel, Counter>,
    acknowledgements: Family<TypeLabel, Counter>,
    rejections: Family<TypeLabel, Counter>,
    propagation: Histogram,
    over_limit: Counter,
    mesh_config_deleted: Gauge,
    problems: Gauge,
    findings: Gauge,
    certificates: Counter,
    certificates_failing: Gauge,
    status_writes: Counter,
    reconcilers: ReconcilerMetrics,
    webhooks: WebhookMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("osm");
        let publications = Counter::default();
        registry.register("publications", "Publications of snapshots", publications.clone());
        let changed_resources = Counter::default();
        registry.register("changed_resources", "Resources that changed in a layer", changed_resources.clone());
        let computed_nodes = Counter::default();
        registry.register("computed_nodes", "Nodes of the mesh computation that ran", computed_nodes.clone());
        let streams = Gauge::default();
        registry.register("proxy_connect_count", "Open xDS streams", streams.clone());
        let responses = Family::default();
        registry.register("xds_responses", "xDS responses sent", responses.clone());
        let sent_resources = Family::default();
        registry.register("xds_resources_sent", "Resources and removals in xDS responses", sent_resources.clone());
        let acknowledgements = Family::default();
        registry.register("xds_acknowledgements", "Snapshots acknowledged by type", acknowledgements.clone());
        let rejections = Family::default();
        registry.register("xds_rejections", "xDS responses refused by proxies", rejections.clone());
        let bounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
        let propagation = Histogram::new(bounds);
        registry.register(
            "propagation_seconds",
            "From reading a changed object to the acknowledgement of the last proxy concerned",
            propagation.clone(),
        );
        let over_limit = Counter::default();
        registry.register(
            "proxy_max_connections_rejected",
            "xDS streams refused because sidecar.maxDataPlaneConnections of the MeshConfig were open",
            over_limit.clone(),
        );
        let mesh_config_deleted = Gauge::default();
        registry.register(
            "mesh_config_deleted",
            "Whether the MeshConfig was deleted and its last settings are in force",
            mesh_config_deleted.clone(),
        );
        let problems = Gauge::default();
        registry.register(
            "source_problems",
            "Problems of the source that keep the last good state in force",
            problems.clone(),
        );
        let findings = Gauge::default();
        registry.register("findings", "Findings about objects", findings.clone());
        let certificates = Counter::default();
        registry.register("cert_issued_count", "Certificates issued", certificates.clone());
        let certificates_failing = Gauge::default();
        let help = "Certificates that could not be issued or renewed when that was tried last";
        registry.register("cert_failing", help, certificates_failing.clone());
        let status_writes = Counter::default();
        registry.register("status_writes", "Status documents written", status_writes.clone());
        let reconcilers = ReconcilerMetrics::registered(&mut registry);
        let webhooks = WebhookMetrics::register(&mut registry);
        Self {
            registry,
            publications,
            changed_resources,
            computed_nodes,
            streams,
            stream_count: AtomicI64::new(0),
            responses,
            sent_resources,
            acknowledgements,
            rejections,
            propagation,
            over_limit,
            mesh_config_deleted,
            problems,
            findings,
            certificates,
            certificates_failing,
            status_writes,
            reconcilers,
            webhooks,
        }
    }
}

fn label(type_url: &osm_xds::TypeUrl) -> TypeLabel {
    // Types that are not ours are one label, so that clients cannot make up new ones.
    let text = match type_url {
        osm_xds::TypeUrl::Other(_) => "other",
        known => known.short_name(),
    };
    TypeLabel { r#type: text.to_owned() }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Metrics {
    /// The exposition, as `/metrics` serves it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# cannot encode: {error}\n"),
        }
    }

    pub(crate) fn publication(&self, changes: &MeshChanges, publication: &Publication) {
        if publication.changed_keys > 0 {
            self.publications.inc();
        }
        self.changed_resources.inc_by(count(changes.resources.len()));
        self.computed_nodes.inc_by(count(changes.work.computed));
    }

    pub(crate) fn stream_event(&self, event: &Event) {
        match event {
            Event::Connected => drop(self.streams.set(self.stream_count.fetch_add(1, Ordering::Relaxed) + 1)),
            Event::Disconnected(_) => drop(self.streams.set(self.stream_count.fetch_sub(1, Ordering::Relaxed) - 1)),
            Event::Sent { type_url, resources, removed, .. } => {
                self.responses.get_or_create(&label(type_url)).inc();
                self.sent_resources.get_or_create(&label(type_url)).inc_by(count(resources + removed));
            }
            Event::Acknowledged { type_url, .. } => drop(self.acknowledgements.get_or_create(&label(type_url)).inc()),
            Event::Rejected(rejection) => drop(self.rejections.get_or_create(&label(&rejection.type_url)).inc()),
            Event::Synced { .. } | Event::Stalled { .. } => {}
        }
    }

    pub(crate) fn propagated(&self, took: Duration) {
        self.propagation.observe(took.as_secs_f64());
    }

    pub(crate) fn source(&self, problems: usize, findings: usize) {
        self.problems.set(i64::try_from(problems).unwrap_or(i64::MAX));
        self.findings.set(i64::try_from(findings).unwrap_or(i64::MAX));
    }

    /// How many streams were refused for the limit since the start.
    pub(crate) fn streams_over_limit(&self, total: u64) {
        self.over_limit.inc_by(total.saturating_sub(self.over_limit.get()));
    }

    pub(crate) fn mesh_config_deleted(&self, deleted: bool) {
        self.mesh_config_deleted.set(i64::from(deleted));
    }

    pub(crate) fn certificate_issued(&self) {
        self.certificates.inc();
    }

    pub(crate) fn certificates_failing(&self, number: usize) {
        self.certificates_failing.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    pub(crate) fn status_written(&self) {
        self.status_writes.inc();
    }

    /// Those of the admission webhooks.
    pub(crate) fn webhooks(&self) -> &WebhookMetrics {
        &self.webhooks
    }

    pub(crate) fn leader(&self, leads: bool) {
        self.reconcilers.leader.set(i64::from(leads));
    }

    pub(crate) fn reconciling(&self, objects: usize) {
        self.reconcilers.in_flight.set(i64::try_from(objects).unwrap_or(i64::MAX));
    }

    pub(crate) fn reconciled(&self, kind: Kind, took: Duration) {
        self.reconcilers.duration.get_or_create(&KindLabel { kind: kind.as_str() }).observe(took.as_secs_f64());
    }

    pub(crate) fn reconcile_failed(&self, kind: Kind) {
        self.reconcilers.errors.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }

    pub(crate) fn api_write(&self, kind: Kind) {
        self.reconcilers.writes.get_or_create(&KindLabel { kind: kind.as_str() }).inc();
    }
}

#[cfg(test)]
mod tests;
