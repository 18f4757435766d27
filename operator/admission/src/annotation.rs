//! Labels and annotations by which users steer injection, and how their values are read.

/// Namespace label that puts a namespace into the mesh named by its value.
pub const MONITORED_BY_LABEL: &str = osm_mesh::MONITORED_BY_LABEL;
/// Namespace label that keeps a namespace out of the mesh, whatever its value.
pub const IGNORE_LABEL: &str = osm_mesh::IGNORE_LABEL;
/// Annotation of a Namespace or a Pod: whether Pods get a sidecar. The Pod's wins.
pub const INJECTION_ANNOTATION: &str = "openservicemesh.io/sidecar-injection";
/// Annotation of a Namespace: whether Prometheus is told to scrape the sidecars of new Pods.
pub const METRICS_ANNOTATION: &str = "openservicemesh.io/metrics";
/// Annotation of a Pod: ports that it reaches without the sidecar.
pub const OUTBOUND_PORT_EXCLUSIONS: &str = "openservicemesh.io/outbound-port-exclusion-list";
/// Annotation of a Pod: ports at which it is reached without the sidecar.
pub const INBOUND_PORT_EXCLUSIONS: &str = "openservicemesh.io/inbound-port-exclusion-list";
/// Annotation of a Pod: ranges that it reaches without the sidecar.
pub const OUTBOUND_RANGE_EXCLUSIONS: &str = "openservicemesh.io/outbound-ip-range-exclusion-list";
/// Annotation of a Pod: the only ranges that it reaches through the sidecar.
pub const OUTBOUND_RANGE_INCLUSIONS: &str = "openservicemesh.io/outbound-ip-range-inclusion-list";
/// Annotation of a Pod: the user its sidecar runs as, where the application itself needs to run as 1500.
pub const PROXY_UID_ANNOTATION: &str = "openservicemesh.io/proxy-uid";
/// Label of every Pod with a sidecar: the uid of the request that admitted it.
pub const PROXY_UUID_LABEL: &str = "osm-proxy-uuid";

/// What an annotation that switches something says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Switch {
    /// It is not there.
    #[default]
    Unset,
    /// `enabled`, `yes` or `true`, in any case.
    On,
    /// `disabled`, `no` or `false`, in any case.
    Off,
    /// Anything else. Nobody can tell what was meant, so Pods are refused until it is mended.
    Unknown(String),
}

impl Switch {
    /// Reads the value of an annotation.
    #[must_use]
    pub fn read(value: Option<&str>) -> Self {
        let Some(value) = value else { return Self::Unset };
        match value.to_ascii_lowercase().as_str() {
            "enabled" | "yes" | "true" => Self::On,
            "disabled" | "no" | "false" => Self::Off,
            _ => Self::Unknown(value.to_owned()),
        }
    }
}

/// The entries of a comma-separated list; an empty text is an empty list.
pub(crate) fn entries(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    text.split(',').map(str::trim).filter(move |_| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_read_in_any_case_and_nothing_is_guessed() {
        assert_eq!(Switch::read(None), Switch::Unset);
        for on in ["enabled", "Yes", "TRUE"] {
            assert_eq!(Switch::read(Some(on)), Switch::On);
        }
        for off in ["disabled", "No", "FALSE"] {
            assert_eq!(Switch::read(Some(off)), Switch::Off);
        }
        for unknown in ["", "on", "enabled ", "1"] {
            assert_eq!(Switch::read(Some(unknown)), Switch::Unknown(unknown.to_owned()));
        }
    }

    #[test]
    fn lists_may_be_empty_but_their_entries_may_not() {
        assert_eq!(entries("").count(), 0);
        assert_eq!(entries("  ").count(), 0);
        assert_eq!(entries("1, 2,3 ").collect::<Vec<_>>(), ["1", "2", "3"]);
        assert_eq!(entries("1,,2").collect::<Vec<_>>(), ["1", "", "2"]);
    }
}
