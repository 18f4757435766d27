//! Traces of the control plane's own work, sent to a collector by OTLP over gRPC.
//!
//! Spans are sent in batches by a thread of their own. A collector that is away, hangs or refuses costs spans and nothing else:
//! no change waits for it, and the log says so once, and once more when it is back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use base64::Engine;
use opentelemetry::KeyValue;
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Target of the spans that are exported.
pub(crate) const TRACES: &str = "osm_operator::traces";

/// How long connecting to the collector may take, and how long one answer of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often an open connection is tried while spans are on their way.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(20);

/// A number as an attribute of a span: only signed ones arrive as numbers.
pub(crate) fn number(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

/// Where traces go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Collector<'a> {
    /// Its URL, as it was given.
    pub(crate) address: &'a str,
    /// Which of several replicas sends them; `None` where there is one.
    pub(crate) replica: Option<&'a str>,
}

/// What makes spans and sends them to `collector`.
///
/// # Errors
/// The address is none that spans can be sent to.
pub(super) fn provider(collector: Collector<'_>) -> anyhow::Result<SdkTracerProvider> {
    let address = collector.address;
    let (channel, host) = channel(address).with_context(|| format!("send traces to {address:?} (--otlp-endpoint)"))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_timeout(ANSWER_WITHIN)
        .build()
        .with_context(|| format!("send traces to {address:?} (--otlp-endpoint)"))?;
    let exporter = Reported { exporter, collector: host, failing: AtomicBool::new(false) };
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let replica = collector.replica.map(|replica| KeyValue::new("service.instance.id", replica.to_owned()));
    let resource = Resource::builder()
        .with_service_name("osm-operator")
        .with_attributes([version].into_iter().chain(replica))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// A connection that is made when there is something to send, and whom it leads to.
fn channel(address: &str) -> anyhow::Result<(Channel, String)> {
    let endpoint = Endpoint::from_shared(address.to_owned())?
        .connect_timeout(ANSWER_WITHIN)
        .timeout(ANSWER_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(ANSWER_WITHIN);
    let (scheme, host) = (endpoint.uri().scheme_str(), endpoint.uri().host());
    let (Some(scheme @ ("http" | "https")), Some(host)) = (scheme, host) else {
        anyhow::bail!("it must be a URL such as http://collector.tracing:4317");
    };
    let to = endpoint.uri().port_u16().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let endpoint = match scheme {
        "https" => endpoint.tls_config(ClientTlsConfig::new().ca_certificates(authorities()?))?,
        _ => endpoint,
    };
    Ok((endpoint.connect_lazy(), to))
}

/// The authorities that the system trusts, those of `SSL_CERT_FILE` if it is set.
fn authorities() -> anyhow::Result<Vec<Certificate>> {
    let found = rustls_native_certs::load_native_certs();
    anyhow::ensure!(
        !found.certs.is_empty(),
        "no authorities are known that could vouch for it: {:?}; name a file of them in SSL_CERT_FILE",
        found.errors
    );
    let pem = |der: &[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        Certificate::from_pem(format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n"))
    };
    Ok(found.certs.iter().map(|certificate| pem(certificate)).collect())
}

/// An exporter whose failing is said once, until it works again.
#[derive(Debug)]
struct Reported<E> {
    exporter: E,
    /// Host and port, for people.
    collector: String,
    failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for Reported<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let collector = &self.collector;
        match &sent {
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!(collector, "traces of the control plane's work are sent again");
            }
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => tracing::warn!(
                collector, %error,
                "traces of the control plane's work cannot be sent and are dropped until they can; is --otlp-endpoint right, \
                 and does the collector take OTLP over gRPC there?"
            ),
            Ok(()) | Err(_) => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_none_is_refused_with_what_it_should_be() {
        let refused = |address| format!("{:#}", channel(address).unwrap_err());
        for address in ["collector:4317", "ftp://collector:4317", "/collector"] {
            assert!(refused(address).contains("http://collector.tracing:4317"), "{address}: {}", refused(address));
        }
        assert!(channel("http://").is_err());
        let (_, to) = channel("http://user:word@collector.tracing:4317").unwrap();
        assert_eq!(to, "collector.tracing:4317", "what is logged holds no password");
    }
}
