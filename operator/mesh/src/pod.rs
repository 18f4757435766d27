//! Pods: the identity behind an address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use osm_api::PodReason;
use osm_model::Identity;

use crate::parsed::{Parsed, Report};

/// What the mesh needs to know of a Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its name.
    pub name: Arc<str>,
    /// The ServiceAccount it runs as.
    pub identity: Identity,
    /// Its addresses; empty until it has any.
    pub addresses: BTreeSet<IpAddr>,
}

/// Reads a Pod; no value when it has ended, or shares its node's network and so can have no sidecar.
pub fn pod(object: &Pod) -> Parsed<PodFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let Some(spec) = &object.spec else { return report.finish(None) };
    let phase = object.status.as_ref().and_then(|status| status.phase.as_deref());
    if spec.host_network == Some(true) || matches!(phase, Some("Succeeded" | "Failed")) {
        return report.finish(None);
    }
    let account = spec.service_account_name.as_deref().filter(|account| !account.is_empty()).unwrap_or("default");
    let identity = match Identity::new(namespace, account) {
        Ok(identity) => identity,
        Err(error) => {
            let remedy = "name a ServiceAccount of the Pod's namespace";
            report.refuse("spec.serviceAccountName", PodReason::InvalidField, error.to_string(), remedy);
            return report.finish(None);
        }
    };
    let addresses = object.status.as_ref().map(|status| {
        let several = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
        several.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse().ok()).collect()
    });
    report.finish(Some(PodFacts { name: name.into(), identity, addresses: addresses.unwrap_or_default() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodSpec, PodStatus};

    fn read(spec: PodSpec, phase: &str) -> Parsed<PodFacts> {
        let mut object = Pod { spec: Some(spec), ..Pod::default() };
        object.metadata.namespace = Some("shop".into());
        object.metadata.name = Some("a-0".into());
        object.status =
            Some(PodStatus { phase: Some(phase.into()), pod_ip: Some("10.0.0.1".into()), ..PodStatus::default() });
        pod(&object)
    }

    #[test]
    fn a_pod_s_identity_is_its_service_account_even_with_a_dot() {
        let spec = PodSpec { service_account_name: Some("api.v1".into()), ..PodSpec::default() };
        assert_eq!(read(spec, "Running").value.unwrap().identity, Identity::new("shop", "api.v1").unwrap());
        assert_eq!(
            read(PodSpec::default(), "Running").value.unwrap().identity,
            Identity::new("shop", "default").unwrap()
        );
    }

    #[test]
    fn pods_without_a_sidecar_have_no_identity_in_the_mesh() {
        assert!(read(PodSpec { host_network: Some(true), ..PodSpec::default() }, "Running").value.is_none());
        assert!(read(PodSpec::default(), "Succeeded").value.is_none());
    }
}
