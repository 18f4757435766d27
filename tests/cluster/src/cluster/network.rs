//! The link between the host and a cluster, and the ranges inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;

use anyhow::Result;

use super::holder::Holder;
use crate::tools::run;

/// Services' addresses.
pub(super) const SERVICE_RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];
/// The API server's Service: the first address of each range.
pub(super) const API_SERVER_SERVICE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, 1))];
/// The DNS server's Service.
pub(super) const DNS_SERVICE: &str = "10.96.0.10";
/// Pods' addresses.
pub(super) const POD_RANGES: [&str; 2] = ["10.244.0.0/16", "fd00:244::/48"];
/// The one node's part of them, as the controllers give it to the first node.
pub(super) const NODE_POD_RANGES: [&str; 2] = ["10.244.0.0/24", "fd00:244::/64"];

/// Both ends of the link. Of a range for tests of networks, which nobody routes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) host_ipv4: Ipv4Addr,
    pub(super) node_ipv4: Ipv4Addr,
    host_ipv6: Ipv6Addr,
    pub(super) node_ipv6: Ipv6Addr,
}

/// Those of the cluster with that number.
pub(super) fn addresses(index: u8) -> Addresses {
    let ipv6 = |end| Ipv6Addr::new(0xfd00, 0x198, 0x18, u16::from(index), 0, 0, 0, end);
    Addresses {
        host_ipv4: Ipv4Addr::new(198, 18, index, 1),
        node_ipv4: Ipv4Addr::new(198, 18, index, 2),
        host_ipv6: ipv6(1),
        node_ipv6: ipv6(2),
    }
}

/// Lays the link.
pub(super) fn connect(addresses: &Addresses, index: u8, holder: &Holder) -> Result<()> {
    let link = link(index);
    let node = holder.pid().to_string();
    ip(&["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &node])?;
    ip(&["address", "add", &format!("{}/24", addresses.host_ipv4), "dev", &link])?;
    ip(&["link", "set", &link, "up"])?;
    let inside = |arguments: &[&str]| run(holder.command("ip").args(arguments));
    inside(&["address", "add", &format!("{}/24", addresses.node_ipv4), "dev", "eth0"])?;
    inside(&["address", "add", &format!("{}/64", addresses.node_ipv6), "dev", "eth0", "nodad"])?;
    inside(&["link", "set", "eth0", "up"])?;
    inside(&["route", "add", "default", "via", &addresses.host_ipv4.to_string()])?;
    // The host may have no IPv6; the cluster has it all the same.
    let host_ipv6 = format!("{}/64", addresses.host_ipv6);
    let _ = ip(&["address", "add", &host_ipv6, "dev", &link, "nodad"]);
    inside(&["-6", "route", "add", "default", "via", &addresses.host_ipv6.to_string(), "dev", "eth0"])?;
    Ok(())
}

/// Takes the link away, if the end of the cluster has not done so yet.
pub(super) fn disconnect(index: u8) -> Result<()> {
    let link = link(index);
    if std::path::Path::new("/sys/class/net").join(&link).exists() {
        match ip(&["link", "delete", &link]) {
            // The system was faster.
            Err(error) if !error.to_string().contains("Cannot find device") => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn link(index: u8) -> String {
    format!("osm-cluster{index}")
}

fn ip(arguments: &[&str]) -> Result<String> {
    run(Command::new("ip").args(arguments))
}
