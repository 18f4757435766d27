//! Stages 4 to 6: which Service answers on which address and port.
//!
//! A proxy can have only one listener on an address and port, so where Services overlap (two headless ones over the same
//! pods, two that were given the same ClusterIP) one of them has it, the same one for every proxy, and the other is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use osm_api::{Kind, ServiceReason};
use osm_mesh::Report;
use osm_model::{Addressing, Destination, EndpointReadiness, MeshService, Reachable, ServiceId};

use crate::program::{MeshReader, mesh_service, report};
use crate::reference::{object_id, object_ref};
use crate::value::{ItemValue, Value};
use crate::{Item, Key};

type Sockets = BTreeMap<(IpAddr, u16), u16>;

/// Claims the addresses of a headless Service's pods, on the ports where its listeners answer.
pub(crate) fn headless_sockets(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    let service = mesh_service(id, reader)?;
    if service.addressing != Addressing::Headless {
        return None;
    }
    for ((address, number), port) in sockets_of_pods(service, reader) {
        let claim = ItemValue::Claim(id.clone(), port);
        reader.contribute(Key::Sockets, Item::Socket(address, number), claim);
    }
    Some(Value::Present)
}

/// Where a headless Service answers, and for which of its ports: the first where several would.
fn sockets_of_pods(service: &Arc<MeshService>, reader: &mut MeshReader<'_>) -> Sockets {
    let mut sockets = Sockets::new();
    let Some(Value::Endpoints(by_port)) = reader.get(&Key::Endpoints(service.id.clone())) else { return sockets };
    for port in &service.ports {
        let destination = Destination {
            service: Arc::clone(service),
            port: port.clone(),
            reachable: Reachable::All,
            identities: BTreeSet::new(),
        };
        let numbers = osm_translate::exact_listener_ports(&destination);
        let endpoints = by_port.get(&port.port).into_iter().flat_map(|endpoints| endpoints.iter());
        let usable = endpoints
            .filter(|endpoint| endpoint.readiness != EndpointReadiness::NotReady && Reachable::All.admits(endpoint));
        for endpoint in usable {
            for number in &numbers {
                sockets.entry((endpoint.address, *number)).or_insert(port.port);
            }
        }
    }
    sockets
}

/// The claims of a Service that hold, by its ports; the others are reported.
pub(crate) fn own_sockets(id: &ServiceId, reader: &mut MeshReader<'_>) -> Option<Value> {
    let service = mesh_service(id, reader)?;
    let claimed: Sockets = match &service.addressing {
        Addressing::Headless => sockets_of_pods(service, reader),
        Addressing::ClusterIp(addresses) => {
            let ports = || service.ports.iter().map(|port| port.port);
            addresses.iter().flat_map(|address| ports().map(|port| ((*address, port), port))).collect()
        }
    };
    let mut own: BTreeMap<u16, BTreeSet<(IpAddr, u16)>> = BTreeMap::new();
    let mut lost: BTreeMap<ServiceId, Vec<(IpAddr, u16)>> = BTreeMap::new();
    for ((address, number), port) in claimed {
        match owner(address, number, reader) {
            Some(owner) if owner == id => drop(own.entry(port).or_default().insert((address, number))),
            Some(other) => lost.entry(other.clone()).or_default().push((address, number)),
            None => {}
        }
    }
    report_lost(id, &service.addressing, &lost, reader);
    Some(Value::Sockets(Arc::new(own)))
}

fn report_lost(
    id: &ServiceId,
    addressing: &Addressing,
    lost: &BTreeMap<ServiceId, Vec<(IpAddr, u16)>>,
    reader: &mut MeshReader<'_>,
) {
    let object = object_id(&object_ref(Kind::Service, Some(id.namespace.as_str()), &id.name));
    let mut findings = Report::new(object, 0);
    let (field, remedy) = match addressing {
        Addressing::ClusterIp(_) => ("spec.clusterIPs", "give each Service a ClusterIP of its own"),
        Addressing::Headless => ("spec.ports", "give headless Services over the same pods different ports"),
    };
    for (other, sockets) in lost {
        let Some((address, port)) = sockets.first() else { continue };
        let more = match sockets.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let message = format!("connections to {address} port {port}{more} are those of {other}");
        findings.warn(field, ServiceReason::AddressTaken, message, remedy);
    }
    report(findings.into_findings(), reader);
}

fn owner<'a>(address: IpAddr, port: u16, reader: &mut MeshReader<'a>) -> Option<&'a ServiceId> {
    match reader.get_item(&Key::Sockets, &Item::Socket(address, port))? {
        ItemValue::Claim(service, _) => Some(service),
        _ => None,
    }
}

/// Whether a Service answers on `address` and `port`.
pub(crate) fn is_owner(service: &ServiceId, address: IpAddr, port: u16, reader: &mut MeshReader<'_>) -> bool {
    owner(address, port, reader) == Some(service)
}
