//! Parts of the configuration that are the same everywhere, by name.
//!
//! Printing a connection manager takes a hundred lines of which two differ from case to case. The case [`REFERENCE`] is
//! printed in full; the parts of it listed in `FRAGMENTS` are printed elsewhere as `(name)`, and only where they are
//! equal to the last bit, so that nothing is lost.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use osm_engine::LayerKey;
use serde_json::Value;

use crate::golden::layer_files;
use crate::{Case, Mesh};

/// The case that is printed in full.
pub const REFERENCE: &str = "reference";

/// A part with a name: file and JSON pointer in the output of the reference case.
const FRAGMENTS: [(&str, &str, &str); 24] = [
    ("metrics-listener", "listeners", "/inbound-prometheus-listener/resource"),
    ("outbound-listener", "listeners", "/outbound-listener/resource"),
    ("metrics-cluster", "clusters", "/envoy-metrics-cluster/resource"),
    ("shared-route-table", "routes", "/rds-outbound/resource"),
    ("access-log", "listeners", "/inbound-listener/resource/filterChains/0/filters/0/typedConfig/accessLog"),
    ("egress", "listeners", "/outbound-listener.80/resource/defaultFilterChain"),
    (
        "outbound-http-filters",
        "listeners",
        "/outbound-listener.80/resource/filterChains/0/filters/0/typedConfig/httpFilters",
    ),
    (
        "note-destination",
        "listeners",
        "/outbound-listener.80/resource/filterChains/0/filters/0/typedConfig/earlyHeaderMutationExtensions",
    ),
    ("scoped-routes", "listeners", "/outbound-listener.80/resource/filterChains/0/filters/0/typedConfig/scopedRoutes"),
    ("service-ranges", "listeners", "/outbound-listener.80/resource/filterChains/0/filterChainMatch"),
    ("inbound-listener-filters", "listeners", "/inbound-listener/resource/listenerFilters"),
    ("inbound-addresses", "listeners", "/inbound-listener/resource/additionalAddresses"),
    ("inbound-address", "listeners", "/inbound-listener/resource/address"),
    (
        "inbound-http-filters",
        "listeners",
        "/inbound-listener/resource/filterChains/0/filters/0/typedConfig/httpFilters",
    ),
    ("mutual-tls", "listeners", "/inbound-listener/resource/filterChains/0/transportSocket"),
    ("ads", "clusters", "/10.96.0.1:80/resource/edsClusterConfig/edsConfig"),
    ("unlimited", "clusters", "/10.96.0.1:80/resource/circuitBreakers"),
    ("mirrored-http", "clusters", "/10.96.0.1:80/resource/typedExtensionProtocolOptions"),
    (
        "certificate",
        "clusters",
        "/10.96.0.1:80/resource/transportSocket/typedConfig/commonTlsContext/tlsCertificateSdsSecretConfigs",
    ),
    (
        "trust-bundle",
        "clusters",
        "/10.96.0.1:80/resource/transportSocket/typedConfig/commonTlsContext/combinedValidationContext/validationContextSdsSecretConfig",
    ),
    ("tls-versions", "clusters", "/10.96.0.1:80/resource/transportSocket/typedConfig/commonTlsContext/tlsParams"),
    ("http2", "listeners", "/inbound-listener/resource/filterChains/0/filters/0/typedConfig/http2ProtocolOptions"),
    ("http1", "listeners", "/inbound-listener/resource/filterChains/0/filters/0/typedConfig/httpProtocolOptions"),
    ("upgrades", "listeners", "/outbound-listener.80/resource/filterChains/0/filters/0/typedConfig/upgradeConfigs"),
];

/// The parts of the reference case.
#[derive(Debug, Clone)]
pub struct Fragments(Vec<(&'static str, Value)>);

impl Fragments {
    /// Computes the reference case.
    ///
    /// # Errors
    /// It cannot be read, or no longer has a part.
    pub fn load() -> Result<Self> {
        let case = Case::read(REFERENCE)?;
        let mesh = Mesh::new(case.options.engine()?, case.objects);
        let workload = mesh.workloads().pop_first().context("the reference case has no workload")?;
        let files = layer_files(&mesh, &LayerKey::Workload(workload))?;
        let part = |(name, file, pointer): (&'static str, &str, &str)| {
            let value = files.get(file).and_then(|file| file.pointer(pointer));
            Ok((name, value.with_context(|| format!("the reference case has no {file}{pointer}"))?.clone()))
        };
        FRAGMENTS.into_iter().map(part).collect::<Result<_>>().map(Self)
    }

    /// Replaces every part of `value` that is a fragment by its name, larger parts first, and writes socket addresses as
    /// `address:port`.
    pub fn fold(&self, value: &mut Value) {
        if let Some((name, _)) = self.0.iter().find(|(_, fragment)| fragment == value) {
            *value = Value::String(format!("({name})"));
            return;
        }
        if let Some(socket) = socket_address(value) {
            *value = Value::String(socket);
            return;
        }
        match value {
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.fold(element)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.fold(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }
}

/// `value` as `address:port` if it is a socket address and says no more than that.
fn socket_address(value: &Value) -> Option<String> {
    let socket = value.as_object().filter(|fields| fields.len() == 1)?.get("socketAddress")?.as_object()?;
    let (address, port) = (socket.get("address")?.as_str()?, socket.get("portValue")?.as_u64()?);
    (socket.len() == 2).then(|| match address.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
        Ok(IpAddr::V4(_)) | Err(_) => format!("{address}:{port}"),
    })
}
