//! TrafficSplit: how calls to a service are divided among other services.
//!
//! Versions v1alpha2 and v1alpha4 differ only in `matches`, which v1alpha4 added. Objects are stored as v1alpha2; a field that
//! the stored version's schema lacks would be lost, so both schemas have all fields and one type serves both.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::status::PolicyStatus;
use crate::value::Complaint;

/// How calls to a service are divided among other services of the same namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "split.smi-spec.io",
    version = "v1alpha2",
    kind = "TrafficSplit",
    namespaced,
    status = "PolicyStatus",
    derive = "PartialEq",
    shortname = "ts",
    category = "mesh",
    doc = "Divides the calls to a service (the apex) among other services by weight."
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSplitSpec {
    /// The service whose calls are divided (the apex), as service, service.namespace or a longer form of its host name.
    pub service: String,
    /// HTTP requests to which the split is limited; without any, all calls are divided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<TrafficSplitMatch>,
    /// The services that get the calls.
    pub backends: Vec<TrafficSplitBackend>,
}

/// HTTP requests, by reference to an object in the namespace of the TrafficSplit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSplitMatch {
    /// Kind of the object.
    pub kind: TrafficSplitMatchKind,
    /// Name of the object. All its matches count.
    pub name: String,
}

/// Kinds that a TrafficSplit can be limited by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = crate::value::plain_enum)]
pub enum TrafficSplitMatchKind {
    /// HTTP requests.
    #[serde(rename = "HTTPRouteGroup")]
    HttpRouteGroup,
}

/// A service that gets a share of the calls.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSplitBackend {
    /// Name of the service.
    pub service: String,
    /// Its share, relative to the sum of all weights: a whole number.
    #[schemars(schema_with = "weight_schema")]
    pub weight: serde_json::Number,
}

fn weight_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "number", "minimum": 0 })
}

impl TrafficSplitBackend {
    /// The weight, if it is a whole number from 0 to 2³²−1. Otherwise a complaint; `index` is the backend's place in the list.
    ///
    /// # Errors
    /// The number is negative, has a fraction or is too large.
    pub fn weight(&self, index: usize) -> Result<u32, Complaint> {
        let whole = self.weight.as_u64().and_then(|weight| u32::try_from(weight).ok());
        whole.or_else(|| whole_from_float(self.weight.as_f64()?)).ok_or_else(|| Complaint {
            field: format!("spec.backends[{index}].weight"),
            value: self.weight.to_string(),
            problem: "is not a whole number from 0 to 4294967295".to_owned(),
            remedy: "write a whole number; the backend gets no calls until then".to_owned(),
        })
    }
}

/// `1.0` is a whole number too.
fn whole_from_float(weight: f64) -> Option<u32> {
    let fits = weight.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&weight);
    fits.then_some(weight as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backend(weight: &str) -> TrafficSplitBackend {
        serde_json::from_str(&format!(r#"{{"service": "s", "weight": {weight}}}"#)).unwrap()
    }

    #[test]
    fn weights_are_whole_numbers() {
        assert_eq!(backend("0").weight(0), Ok(0));
        assert_eq!(backend("50").weight(0), Ok(50));
        assert_eq!(backend("1.0").weight(0), Ok(1));
        assert_eq!(backend("4294967295").weight(0), Ok(u32::MAX));
        for weight in ["-1", "0.5", "4294967296", "1e300", "-0.5"] {
            let complaint = backend(weight).weight(1).unwrap_err();
            assert_eq!(complaint.field, "spec.backends[1].weight", "{weight}");
        }
    }

    #[test]
    fn weights_that_are_no_numbers_are_refused() {
        let text = r#"{"service": "s", "weight": "500m"}"#;
        assert!(serde_json::from_str::<TrafficSplitBackend>(text).is_err());
    }
}
