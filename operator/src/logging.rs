//! Logs as JSON lines on standard error, at a level that can follow the MeshConfig, and traces by OTLP where asked for.

use anyhow::Context;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

/// Our crates. What libraries say below `info` is of no use to whoever runs a mesh.
const CRATES: &[&str] = &[
    "osm_admission",
    "osm_bootstrap",
    "osm_engine",
    "osm_issuer",
    "osm_kubernetes",
    "osm_operator",
    "osm_source",
    "osm_xds",
];

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// One JSON object a line
    #[default]
    Json,
    /// For people
    Text,
}

/// The logs of the process.
pub(crate) struct Logs {
    filter: reload::Handle<EnvFilter, Registry>,
    /// `RUST_LOG` is set, and wins over the MeshConfig.
    fixed: bool,
    traces: Option<SdkTracerProvider>,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

/// Sends logs to standard error, and traces to `collector` (a URL of OTLP over gRPC). `RUST_LOG` chooses what is logged; without
/// it `info` and above is.
///
/// # Errors
/// The collector's address cannot be used.
pub(crate) fn start(format: LogFormat, collector: Option<&str>) -> anyhow::Result<Logs> {
    let given = EnvFilter::try_from_default_env().ok();
    let fixed = given.is_some();
    let (filter, handle) = reload::Layer::new(given.unwrap_or_else(|| EnvFilter::new("info")));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let traces = collector.map(provider).transpose()?;
    let spans = traces.as_ref().map(|provider| {
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("osm-operator"));
        layer.with_filter(tracing_subscriber::filter::filter_fn(|metadata| metadata.target() == TRACES))
    });
    // Fails only if logs are sent somewhere already, as when a test embeds the process.
    let _ = tracing_subscriber::registry().with(filter).with(lines).with(spans).try_init();
    Ok(Logs { filter: handle, fixed, traces })
}

/// Target of the spans that are exported as traces.
pub(crate) const TRACES: &str = "osm_operator::traces";

fn provider(collector: &str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(collector)
        .build()
        .with_context(|| format!("send traces to {collector:?} (--otlp-endpoint)"))?;
    let resource = Resource::builder().with_service_name("osm-operator").build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

impl Logs {
    /// Logs at this level from now on (`spec.observability.osmLogLevel`), unless `RUST_LOG` says otherwise. A text that is no
    /// level changes nothing.
    pub(crate) fn follow(&self, level: &str) {
        if self.fixed {
            return;
        }
        let Some(filter) = filter_of(level) else {
            tracing::warn!(level, "spec.observability.osmLogLevel of the MeshConfig is no level; the former one stays");
            return;
        };
        if self.filter.reload(EnvFilter::new(filter)).is_ok() {
            tracing::info!(level, "log level");
        }
    }

    /// Sends the traces that are still here.
    pub(crate) fn finish(&self) {
        if let Some(traces) = &self.traces {
            let _ = traces.shutdown();
        }
    }
}

/// The filter of a level as OSM names it.
fn filter_of(level: &str) -> Option<String> {
    let ours = |level: &str| {
        let crates: Vec<String> = CRATES.iter().map(|name| format!("{name}={level}")).collect();
        format!("info,{}", crates.join(","))
    };
    Some(match level {
        "trace" => ours("trace"),
        "debug" => ours("debug"),
        "info" => "info".to_owned(),
        "warn" | "warning" => "warn".to_owned(),
        "error" | "fatal" | "panic" => "error".to_owned(),
        "disabled" | "off" => "off".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_of_osm_are_understood_and_others_are_not() {
        for level in ["trace", "debug", "info", "warn", "error", "fatal", "panic", "disabled"] {
            let filter = filter_of(level).unwrap();
            assert!(filter.parse::<EnvFilter>().is_ok(), "{filter}");
        }
        assert!(filter_of("debug").unwrap().contains("osm_xds=debug"));
        assert_eq!(filter_of("loud"), None);
    }
}
