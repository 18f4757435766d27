//! Logs as JSON lines on standard error, at a level that can follow the MeshConfig, and traces by OTLP where asked for. The level
//! of the logs says nothing about traces.

mod traces;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

pub(crate) use self::traces::{Collector, TRACES, number};

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

/// Sends logs to standard error, and traces to `collector`. `RUST_LOG` chooses what is logged; without it `info` and above is.
///
/// # Errors
/// The collector's address cannot be used.
pub(crate) fn start(format: LogFormat, collector: Option<Collector<'_>>) -> anyhow::Result<Logs> {
    let given = EnvFilter::try_from_default_env().ok();
    let fixed = given.is_some();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().boxed(),
        LogFormat::Text => lines.boxed(),
    };
    // An environment variable that is set to nothing is not set.
    let collector = collector.filter(|collector| !collector.address.is_empty());
    let traces = collector.map(traces::provider).transpose()?;
    let (subscriber, filter) = subscriber(lines, given.unwrap_or_else(|| EnvFilter::new("info")), traces.as_ref());
    // Fails only if logs are sent somewhere already, as when a test embeds the process.
    let _ = subscriber.try_init();
    Ok(Logs { filter, fixed, traces })
}

/// What takes log lines as `filter` says, which can be changed later, and the spans of [`TRACES`] whatever it says.
fn subscriber(
    lines: Box<dyn Layer<Registry> + Send + Sync>,
    filter: EnvFilter,
    traces: Option<&SdkTracerProvider>,
) -> (impl Subscriber + Send + Sync + use<>, reload::Handle<EnvFilter, Registry>) {
    let (filter, handle) = reload::Layer::new(without_spans_of_traces(filter));
    let spans = traces.map(|provider| {
        let layer = tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("osm-operator"))
            // Where in our code a span was made, and on which thread, is of no use to whoever runs a mesh.
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        layer.with_filter(filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACES))
    });
    (tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans), handle)
}

/// Log lines are not put into the spans of traces: without a collector, nobody looks at those, and they cost nothing.
fn without_spans_of_traces(filter: EnvFilter) -> EnvFilter {
    let directive = format!("{TRACES}=off");
    filter.add_directive(directive.parse().expect("a target and a level"))
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
        if self.filter.reload(without_spans_of_traces(EnvFilter::new(filter))).is_ok() {
            tracing::info!(level, "log level");
        }
    }

    /// Sends the traces that are still here; gives up after some seconds.
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
    use std::sync::{Arc, Mutex};

    use opentelemetry_sdk::error::OTelSdkResult;
    use opentelemetry_sdk::trace::{SpanData, SpanExporter};

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

    /// Keeps the names of spans.
    #[derive(Debug, Clone, Default)]
    struct Names(Arc<Mutex<Vec<String>>>);

    impl SpanExporter for Names {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.lock().unwrap().extend(batch.into_iter().map(|span| span.name.into_owned()));
            Ok(())
        }
    }

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_level_of_logs_says_nothing_about_traces() {
        let (names, written) = (Names::default(), Written::default());
        let provider = SdkTracerProvider::builder().with_simple_exporter(names.clone()).build();
        let lines = tracing_subscriber::fmt::layer().json().with_writer({
            let written = written.clone();
            move || written.clone()
        });
        let (subscriber, handle) = subscriber(lines.boxed(), EnvFilter::new("info"), Some(&provider));
        let logs = Logs { filter: handle, fixed: false, traces: Some(provider) };
        tracing::subscriber::with_default(subscriber, || {
            tracing::info_span!(target: TRACES, "first").in_scope(|| tracing::info!("said"));
            tracing::info_span!("another's");
            logs.follow("disabled");
            tracing::info_span!(target: TRACES, "second").in_scope(|| tracing::error!("unsaid"));
        });
        logs.finish();
        assert_eq!(*names.0.lock().unwrap(), ["first", "second"]);
        let written = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(written.contains("said") && !written.contains("unsaid") && !written.contains("first"), "{written}");
    }
}
