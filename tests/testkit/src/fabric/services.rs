//! Services' addresses on the node, as kube-proxy's iptables mode does it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::{NODE_IPV4, NODE_IPV6};
use crate::sandbox::run_with_input;

/// Where connections to a Service's address and port go. One entry per address family and port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceRule {
    /// The Service's address (`spec.clusterIPs`).
    pub cluster_ip: IpAddr,
    /// The Service's port (`spec.ports[].port`).
    pub port: u16,
    /// Ready endpoints of the same family, chosen at random with equal chances. None: connections are refused.
    pub endpoints: Vec<SocketAddr>,
}

const FAMILIES: [&str; 2] = ["iptables-restore", "ip6tables-restore"];

pub(super) fn install_hooks() -> Result<()> {
    let program = "*nat\n:OSM_SERVICES - [0:0]\n:OSM_HAIRPIN - [0:0]\n-A PREROUTING -j OSM_SERVICES\n\
                   -A POSTROUTING -j OSM_HAIRPIN\nCOMMIT\n";
    for restore in FAMILIES {
        run_with_input(restore, ["--noflush"], program)?;
    }
    Ok(())
}

pub(super) fn replace(rules: &[ServiceRule]) -> Result<()> {
    run_with_input(FAMILIES[0], ["--noflush"], &program(rules, IpAddr::V4(NODE_IPV4)))?;
    run_with_input(FAMILIES[1], ["--noflush"], &program(rules, IpAddr::V6(NODE_IPV6)))?;
    Ok(())
}

/// The program for the family of `node`. Declaring the chains empties them.
fn program(rules: &[ServiceRule], node: IpAddr) -> String {
    let same_family = |address: &IpAddr| address.is_ipv4() == node.is_ipv4();
    let mut text = String::from("*nat\n:OSM_SERVICES - [0:0]\n:OSM_HAIRPIN - [0:0]\n");
    let mut hairpins = BTreeSet::new();
    for rule in rules.iter().filter(|rule| same_family(&rule.cluster_ip)) {
        let matches = format!("-A OSM_SERVICES -d {} -p tcp -m tcp --dport {}", rule.cluster_ip, rule.port);
        let endpoints: Vec<&SocketAddr> =
            rule.endpoints.iter().filter(|endpoint| same_family(&endpoint.ip())).collect();
        for (index, endpoint) in endpoints.iter().enumerate() {
            let rest = endpoints.len() - index;
            let chance = if rest == 1 {
                String::new()
            } else {
                format!(" -m statistic --mode random --probability {:.10}", 1.0 / rest as f64)
            };
            writeln!(text, "{matches}{chance} -j DNAT --to-destination {endpoint}").expect("writing to a String");
            hairpins.insert(endpoint.ip());
        }
        if endpoints.is_empty() {
            // The discard port, where nobody listens: refused, as kube-proxy's REJECT does it.
            writeln!(text, "{matches} -j DNAT --to-destination {}", SocketAddr::new(node, 9))
                .expect("writing to a String");
        }
    }
    for address in hairpins {
        // A pod that reaches itself through its Service must see another's address, or it would answer itself directly.
        writeln!(text, "-A OSM_HAIRPIN -s {address} -d {address} -j SNAT --to-source {node}")
            .expect("writing to a String");
    }
    text.push_str("COMMIT\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_equal_chances_and_families_are_apart() {
        let rules = [
            ServiceRule {
                cluster_ip: "10.96.0.5".parse().unwrap(),
                port: 80,
                endpoints: ["10.244.0.5:8080", "10.244.0.6:8080", "10.244.0.7:8080"]
                    .map(|endpoint| endpoint.parse().unwrap())
                    .into(),
            },
            ServiceRule {
                cluster_ip: "fd00:96::5".parse().unwrap(),
                port: 80,
                endpoints: vec!["[fd00:244::5]:8080".parse().unwrap()],
            },
        ];
        let text = program(&rules, IpAddr::V4(NODE_IPV4));
        let services: Vec<&str> = text.lines().filter(|line| line.starts_with("-A OSM_SERVICES")).collect();
        assert_eq!(services.len(), 3);
        assert!(services[0].contains("--probability 0.3333333333"));
        assert!(services[1].contains("--probability 0.5000000000"));
        assert!(services[2].ends_with("--dport 80 -j DNAT --to-destination 10.244.0.7:8080"));
        let text = program(&rules, IpAddr::V6(NODE_IPV6));
        assert!(text.contains("-d fd00:96::5 -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00:244::5]:8080"));
        assert!(!text.contains("10.96"));
    }

    #[test]
    fn a_service_without_endpoints_refuses() {
        let rules = [ServiceRule { cluster_ip: "10.96.0.5".parse().unwrap(), port: 80, endpoints: Vec::new() }];
        assert!(program(&rules, IpAddr::V4(NODE_IPV4)).contains("--to-destination 10.244.0.1:9"));
    }
}
