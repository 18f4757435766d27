//! The annotations by which Prometheus finds a sidecar.

use std::collections::BTreeMap;

use osm_translate::naming::METRICS_PORT;

use super::PodName;
use super::refusal::Refusal;
use crate::annotation::{METRICS_ANNOTATION, Switch};

/// Path of the metrics on [`METRICS_PORT`].
const METRICS_PATH: &str = "/stats/prometheus";
/// The annotations that Prometheus' common configuration reads.
const SCRAPE: &str = "prometheus.io/scrape";
const PORT: &str = "prometheus.io/port";
const PATH: &str = "prometheus.io/path";

/// The annotations to add, if the Namespace wants any. A Pod that has one of them keeps its own: they say where the
/// application's metrics are, and there can be one such set. Prometheus finds the sidecar of every Pod by its container port
/// `proxy-metrics` as well, whatever the annotations say.
///
/// # Errors
/// The Namespace's annotation is neither on nor off.
pub(super) fn annotations(
    name: &PodName,
    own: &BTreeMap<String, String>,
    metrics: &Switch,
) -> Result<Vec<(&'static str, String)>, Refusal> {
    match metrics {
        Switch::Unset | Switch::Off => return Ok(Vec::new()),
        Switch::Unknown(value) => {
            let (pod, value) = (name.clone(), value.clone());
            return Err(Refusal::NamespaceAnnotation { pod, annotation: METRICS_ANNOTATION, value });
        }
        Switch::On => {}
    }
    let ours = [(SCRAPE, "true".to_owned()), (PORT, METRICS_PORT.to_string()), (PATH, METRICS_PATH.to_owned())];
    let taken = ours.iter().any(|(key, _)| own.contains_key(*key));
    Ok(if taken { Vec::new() } else { ours.into() })
}
