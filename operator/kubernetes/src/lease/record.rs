//! What stands in a Lease.

use std::collections::BTreeMap;
use std::time::Duration;

use osm_api::k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::LeaseOptions;

/// The content of a Lease. Its times are for people to read; nothing is decided by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Who holds it; `None` when it was given back.
    pub(super) holder: Option<String>,
    /// How long others must wait after they last saw it change; `None` if it does not say.
    pub(super) duration: Option<Duration>,
    /// How often the holder changed.
    pub(super) transitions: i64,
    acquired: Option<String>,
    renewed: Option<String>,
}

impl Record {
    /// Held by this replica.
    pub(super) fn held(options: &LeaseOptions, acquired: Timestamp, renewed: Timestamp, transitions: i64) -> Self {
        Self {
            holder: Some(options.holder.clone()),
            duration: Some(options.timing.duration),
            transitions,
            acquired: Some(micro_time(acquired)),
            renewed: Some(micro_time(renewed)),
        }
    }

    /// Given back.
    pub(super) fn released(options: &LeaseOptions, now: Timestamp, transitions: i64) -> Self {
        Self { holder: None, duration: Some(Duration::from_secs(1)), ..Self::held(options, now, now, transitions) }
    }

    /// Reads a Lease and its version. Whatever is wrong in it counts as missing: a Lease that somebody spoilt must not stop us.
    pub(super) fn read(object: &Value) -> Option<(Self, String)> {
        let version = object["metadata"]["resourceVersion"].as_str()?.to_owned();
        let spec = &object["spec"];
        let text = |field: &str| spec[field].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let seconds = spec["leaseDurationSeconds"].as_u64().filter(|seconds| *seconds > 0);
        let record = Self {
            holder: text("holderIdentity"),
            duration: seconds.map(Duration::from_secs),
            transitions: spec["leaseTransitions"].as_i64().unwrap_or_default(),
            acquired: text("acquireTime"),
            renewed: text("renewTime"),
        };
        Some((record, version))
    }

    /// The Lease to write.
    pub(super) fn object(
        &self,
        namespace: &str,
        name: &str,
        labels: &BTreeMap<String, String>,
        version: Option<&str>,
    ) -> Value {
        // Less than a second would be written as none, which is not allowed.
        let seconds = self.duration.map(|duration| duration.as_secs().max(1));
        let mut object = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": { "namespace": namespace, "name": name, "labels": labels },
            "spec": {
                "holderIdentity": self.holder.as_deref().unwrap_or_default(),
                "leaseDurationSeconds": seconds,
                "acquireTime": self.acquired,
                "renewTime": self.renewed,
                "leaseTransitions": self.transitions,
            },
        });
        if let Some(version) = version {
            object["metadata"]["resourceVersion"] = version.into();
        }
        object
    }
}

/// A `metav1.MicroTime`: six digits of a second, always.
pub(crate) fn micro_time(time: Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> LeaseOptions {
        LeaseOptions {
            namespace: "osm-system".into(),
            name: "osm-controller".into(),
            holder: "a".into(),
            labels: BTreeMap::new(),
            timing: super::super::LeaseTiming::default(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let time: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let record = Record::held(&options(), time, time, 3);
        let mut object = record.object("osm-system", "osm-controller", &BTreeMap::new(), Some("7"));
        assert_eq!(object["spec"]["renewTime"], "2026-01-02T03:04:05.000000Z");
        assert_eq!(Record::read(&object), Some((record, "7".into())));
        object["spec"] = json!({ "holderIdentity": 5, "leaseDurationSeconds": -1 });
        let (spoilt, _) = Record::read(&object).unwrap();
        assert_eq!((spoilt.holder, spoilt.duration, spoilt.transitions), (None, None, 0));
        let released = Record::released(&options(), time, 3).object("n", "n", &BTreeMap::new(), None);
        assert_eq!(Record::read(&released), None, "without a version it is not stored");
        assert_eq!(
            (released["spec"]["holderIdentity"].as_str(), released["spec"]["leaseDurationSeconds"].as_i64()),
            (Some(""), Some(1))
        );
    }
}
