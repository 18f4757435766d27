//! What admission decides of a pod's sidecar, on its way to the init container as arguments.

use osm_model::{TlsParameters, TlsVersion, TrustDomain};

use crate::names;
use crate::probe::Probes;

/// What the control plane tells the init container of a pod, beside what the pod knows of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSettings {
    /// Namespace of the control plane.
    pub control_plane_namespace: String,
    /// Trust domain of certificates.
    pub trust_domain: TrustDomain,
    /// DNS suffix of the cluster.
    pub cluster_domain: String,
    /// TLS between sidecar and control plane (MeshConfig `spec.sidecar`).
    pub tls: TlsParameters,
    /// Probes that the sidecar passes on.
    pub probes: Probes,
}

impl PodSettings {
    /// The settings as arguments of `osm-operator init`, without the subcommand. Arguments of interception are apart.
    ///
    /// # Panics
    /// Never: probes are data that JSON can hold.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--osm-namespace={}", self.control_plane_namespace),
            format!("--trust-domain={}", self.trust_domain),
            format!("--cluster-domain={}", self.cluster_domain),
            format!("--tls-min-version={}", tls_version(self.tls.minimum)),
            format!("--tls-max-version={}", tls_version(self.tls.maximum)),
        ];
        for (flag, values) in [("--cipher-suite", &self.tls.cipher_suites), ("--ecdh-curve", &self.tls.ecdh_curves)] {
            arguments.extend(values.iter().map(|value| format!("{flag}={value}")));
        }
        if !self.probes.routes().is_empty() {
            let probes = serde_json::to_string(&self.probes).expect("strings and numbers can be written as JSON");
            arguments.push(format!("--probes={probes}"));
        }
        arguments
    }
}

/// The version as MeshConfig and the command line write it: `TLSv1_2`.
#[must_use]
pub fn tls_version(version: TlsVersion) -> &'static str {
    match version {
        TlsVersion::Auto => "TLS_AUTO",
        TlsVersion::V1_0 => "TLSv1_0",
        TlsVersion::V1_1 => "TLSv1_1",
        TlsVersion::V1_2 => "TLSv1_2",
        TlsVersion::V1_3 => "TLSv1_3",
    }
}

/// Reads a version as [`tls_version`] writes it.
///
/// # Errors
/// The text is no version; the message lists those that are.
pub fn parse_tls_version(text: &str) -> Result<TlsVersion, String> {
    let versions = [TlsVersion::Auto, TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3];
    versions.into_iter().find(|version| tls_version(*version) == text).ok_or_else(|| {
        let known = versions.map(tls_version).join(", ");
        format!("{text:?} is no TLS version; use one of {known}")
    })
}

/// The arguments of the sidecar's Envoy: its bootstrap, its log, and how long it drains listeners that change.
///
/// `--drain-strategy immediate`: a listener that is replaced tells its clients at once to move to the new one, instead
/// of telling more and more of them over the whole time.
#[must_use]
pub fn envoy_arguments(log_level: &str) -> Vec<String> {
    let bootstrap = format!("{}/{}", names::CONFIGURATION_FOLDER, names::BOOTSTRAP_FILE);
    let arguments: [&str; 9] = [
        "--config-path",
        &bootstrap,
        "--log-level",
        log_level,
        // One process per container: without shared memory there is nothing to take over.
        "--disable-hot-restart",
        "--drain-time-s",
        "60",
        "--drain-strategy",
        "immediate",
    ];
    arguments.map(str::to_owned).to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_and_read_the_same() {
        for version in [TlsVersion::Auto, TlsVersion::V1_0, TlsVersion::V1_1, TlsVersion::V1_2, TlsVersion::V1_3] {
            assert_eq!(parse_tls_version(tls_version(version)), Ok(version));
        }
        assert!(parse_tls_version("1.2").unwrap_err().contains("TLSv1_2"));
    }
}
