//! EndpointSlices: the addresses behind services.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use osm_api::EndpointSliceReason;
use osm_model::{EndpointReadiness, ServiceId};

use crate::parsed::{Parsed, Report};

/// Label of an EndpointSlice that names its Service.
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// One EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceFacts {
    /// The Service it belongs to.
    pub service: ServiceId,
    /// Pods' port numbers by port name (empty name for an unnamed port). TCP only.
    pub ports: BTreeMap<Arc<str>, u16>,
    /// Its addresses, ordered.
    pub endpoints: Vec<SliceAddress>,
}

/// One address of a slice.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SliceAddress {
    /// The address. Kubernetes defines further addresses of an endpoint as interchangeable and fills in one.
    pub address: IpAddr,
    /// Whether it takes traffic.
    pub readiness: EndpointReadiness,
    /// The name of the pod behind it, in the slice's namespace (`targetRef`).
    pub pod: Option<Arc<str>>,
}

/// Reads an EndpointSlice; no value when it belongs to no Service or holds host names.
pub fn endpoint_slice(object: &EndpointSlice) -> Parsed<SliceFacts> {
    let mut report = Report::of(object);
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let owner = object.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME_LABEL));
    let service = match owner.map(|owner| ServiceId::new(namespace, owner)) {
        Some(Ok(service)) if object.address_type != "FQDN" => service,
        Some(Err(error)) => {
            let field = format!("metadata.labels[{SERVICE_NAME_LABEL}]");
            report.refuse(
                field,
                EndpointSliceReason::InvalidField,
                error.to_string(),
                "name the Service it belongs to",
            );
            return report.finish(None);
        }
        Some(Ok(_)) | None => return report.finish(None),
    };
    let mut ports = BTreeMap::new();
    for (index, port) in object.ports.iter().flatten().enumerate() {
        if port.protocol.as_deref().unwrap_or("TCP") != "TCP" {
            continue;
        }
        let Some(number) = port.port else { continue };
        match u16::try_from(number) {
            Ok(number) if number > 0 => {
                ports.insert(port.name.as_deref().unwrap_or_default().into(), number);
            }
            _ => report.refuse(
                format!("ports[{index}].port"),
                EndpointSliceReason::InvalidPort,
                format!("{number} is not a port number"),
                "use a number from 1 to 65535",
            ),
        }
    }
    let mut endpoints: Vec<SliceAddress> = object
        .endpoints
        .iter()
        .enumerate()
        .filter_map(|(index, endpoint)| slice_address(index, endpoint, &mut report))
        .collect();
    endpoints.sort();
    endpoints.dedup();
    report.finish(Some(SliceFacts { service, ports, endpoints }))
}

fn slice_address(index: usize, endpoint: &SliceEndpoint, report: &mut Report) -> Option<SliceAddress> {
    let text = endpoint.addresses.first()?;
    let Ok(address) = text.parse() else {
        let message = format!("{text:?} is not an IP address");
        report.refuse(
            format!("endpoints[{index}].addresses[0]"),
            EndpointSliceReason::InvalidAddress,
            message,
            "write an IP address",
        );
        return None;
    };
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    let readiness = match (ready, serving && terminating) {
        (true, _) => EndpointReadiness::Ready,
        (false, true) => EndpointReadiness::Draining,
        (false, false) => EndpointReadiness::NotReady,
    };
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| target.name.as_deref()).map(Into::into);
    Some(SliceAddress { address, readiness, pod })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointConditions;

    fn endpoint(address: &str, ready: Option<bool>, serving: Option<bool>, terminating: Option<bool>) -> SliceEndpoint {
        SliceEndpoint {
            addresses: vec![address.into()],
            conditions: Some(EndpointConditions { ready, serving, terminating }),
            ..SliceEndpoint::default()
        }
    }

    #[test]
    fn readiness_follows_the_conditions_and_bad_addresses_cost_only_themselves() {
        let mut slice = EndpointSlice { address_type: "IPv4".into(), ..EndpointSlice::default() };
        slice.metadata.namespace = Some("shop".into());
        slice.metadata.name = Some("a-1".into());
        slice.metadata.labels = Some([(SERVICE_NAME_LABEL.to_owned(), "a".to_owned())].into());
        slice.endpoints = vec![
            endpoint("10.0.0.1", None, None, None),
            endpoint("10.0.0.2", Some(false), Some(true), Some(true)),
            endpoint("10.0.0.3", Some(false), None, None),
            endpoint("ten", Some(true), None, None),
        ];
        let parsed = endpoint_slice(&slice);
        let readiness: Vec<_> = parsed.value.unwrap().endpoints.iter().map(|endpoint| endpoint.readiness).collect();
        assert_eq!(readiness, [EndpointReadiness::Ready, EndpointReadiness::Draining, EndpointReadiness::NotReady]);
        assert_eq!(parsed.findings.len(), 1);
        slice.metadata.labels = None;
        assert!(endpoint_slice(&slice).value.is_none());
    }
}
