//! A cluster's network in one sandbox: a node, pods with a network namespace each, and Services.
//!
//! Every pod has a link of its own to the node and is routed, not bridged: whatever leaves a pod passes the node, as it does on
//! clusters with a routed network. The runner lives on the node ([`NODE_IPV4`], [`NODE_IPV6`]), so a control plane in the
//! runner's process, or one that it starts, can be reached by every pod, and the runner reaches every pod.
//!
//! Services' addresses ([`Fabric::set_services`]) are rewritten to endpoints on the node, with the same rules as kube-proxy's
//! iptables mode. So they work without a mesh, and for whatever a sidecar passes through; in the mesh the pod's own
//! redirect rules take the connection before it gets there. The runner itself does not use Services. Addresses nobody has are refused at once ("network is unreachable").

mod names;
mod pod;
mod services;
mod socket;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, ensure};

use crate::sandbox;

pub use pod::{Pod, PodAddresses};
pub use services::ServiceRule;

/// The node's IPv4 address, where the control plane listens.
pub const NODE_IPV4: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 1);
/// The node's IPv6 address.
pub const NODE_IPV6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, 1);

/// The network. One per sandbox; it ends with the sandbox.
#[derive(Debug)]
pub struct Fabric {
    next_pod: AtomicU16,
}

impl Fabric {
    /// Makes this sandbox's root network namespace the node.
    ///
    /// # Errors
    /// Not in a sandbox, called twice, or the kernel refuses.
    pub async fn create() -> Result<Self> {
        ensure!(sandbox::is_inside(), "a fabric lives in a sandbox: call osm_testkit::sandbox::enter first");
        for (switch, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/conf/default/accept_dad", "0"),
        ] {
            fs::write(format!("/proc/sys/{switch}"), value).with_context(|| format!("setting {switch} to {value}"))?;
        }
        pod::batch(
            None,
            &[format!("addr add {NODE_IPV4}/32 dev lo"), format!("addr add {NODE_IPV6}/128 dev lo nodad")],
        )?;
        services::install_hooks()?;
        Ok(Self { next_pod: AtomicU16::new(100) })
    }

    /// Adds a pod with the next free addresses, from 10.244.0.100 and fd00:244::64 upwards.
    ///
    /// # Errors
    /// The name is taken or unusable, or the kernel refuses.
    pub async fn add_pod(&self, name: &str) -> Result<Pod> {
        let number = self.next_pod.fetch_add(1, Ordering::Relaxed);
        let [high, low] = number.to_be_bytes();
        let addresses = PodAddresses {
            ipv4: Ipv4Addr::new(10, 244, high, low),
            ipv6: Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, number),
        };
        self.add_pod_at(name, addresses).await
    }

    /// Adds a pod with the given addresses, which need not be of the pods' ranges: so a host outside the cluster is made, too.
    ///
    /// # Errors
    /// The name is taken or unusable, or the kernel refuses.
    pub async fn add_pod_at(&self, name: &str, addresses: PodAddresses) -> Result<Pod> {
        Pod::create(name, addresses)
    }

    /// Makes Services' addresses lead to their endpoints. Replaces what was set before, in one step per address family.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn set_services(&self, rules: &[ServiceRule]) -> Result<()> {
        services::replace(rules)
    }

    /// Makes names resolve, for every process in every pod. Replaces what was set before.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn set_names(&self, names: &BTreeMap<String, Vec<IpAddr>>) -> Result<()> {
        names::replace(names)
    }
}

/// One HTTP request from within a pod's network namespace, for those who outlive their hold of the [`Pod`].
pub(crate) async fn request_in(
    namespace: std::path::PathBuf,
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    limit: std::time::Duration,
) -> Result<(u16, String)> {
    socket::request(namespace, address, method, path, limit).await
}
