//! `osm-operator intercept`: what an init container, or a VM's start-up script, runs once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use osm_intercept::{
    InterceptConfig, InterfaceName, IpRanges, LocalProxyMode, NetworkNamespace, Port, ProxyUid, rules,
};

/// Shown below the options.
pub(crate) const HELP: &str = "\
Examples:
  osm-operator intercept
  osm-operator intercept --outbound-port-exclusion 5432 --outbound-ip-range-exclusion 169.254.169.254/32
  osm-operator intercept --print
  osm-operator intercept --remove

Needs CAP_NET_ADMIN in the workload's network namespace, iptables-restore and ip6tables-restore.
Exit codes: 0 done, 2 not done; nothing is left half applied.";

/// What to do.
#[derive(Debug, Args)]
pub(crate) struct InterceptArgs {
    /// Take the rules out again
    #[arg(long, conflicts_with = "print")]
    remove: bool,
    /// Print the rules of both families and change nothing
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    rules: RuleArgs,
}

/// What is redirected and what is not, the same wherever it is given.
#[derive(Debug, Args)]
pub(crate) struct RuleArgs {
    /// User the proxy runs as; its own connections are not redirected
    #[arg(long, default_value = "1500")]
    proxy_uid: ProxyUid,
    /// Port of the workload that clients reach without the proxy, may be repeated or a comma-separated list
    #[arg(long = "inbound-port-exclusion", value_delimiter = ',')]
    inbound_ports: Vec<Port>,
    /// Destination port that the application reaches without the proxy, may be repeated or a comma-separated list
    #[arg(long = "outbound-port-exclusion", value_delimiter = ',')]
    outbound_ports: Vec<Port>,
    /// Destination range that the application reaches without the proxy, IPv4 or IPv6
    #[arg(long = "outbound-ip-range-exclusion", value_delimiter = ',')]
    outbound_range_exclusions: Vec<IpNet>,
    /// If given, only these destination ranges are redirected, IPv4 or IPv6
    #[arg(long = "outbound-ip-range-inclusion", value_delimiter = ',')]
    outbound_range_inclusions: Vec<IpNet>,
    /// Interface whose traffic is left alone in both directions
    #[arg(long = "network-interface-exclusion", value_delimiter = ',')]
    interfaces: Vec<InterfaceName>,
    /// Where the proxy finds the application
    #[arg(long, value_enum, default_value = "localhost")]
    local_proxy_mode: Mode,
    /// The pod's IPv4 address, for --local-proxy-mode pod-ip
    #[arg(long)]
    pod_ipv4: Option<Ipv4Addr>,
    /// The pod's IPv6 address, for --local-proxy-mode pod-ip
    #[arg(long)]
    pod_ipv6: Option<Ipv6Addr>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// On the loopback address
    Localhost,
    /// On the pod's own address
    PodIp,
}

impl RuleArgs {
    /// The configuration for a pod with these addresses, where they are not given as options.
    pub(crate) fn config(&self, addresses: &[IpAddr]) -> anyhow::Result<InterceptConfig> {
        let ipv4 = addresses.iter().find_map(|address| if let IpAddr::V4(ipv4) = address { Some(*ipv4) } else { None });
        let ipv6 = addresses.iter().find_map(|address| if let IpAddr::V6(ipv6) = address { Some(*ipv6) } else { None });
        let local_proxy_mode = match (self.local_proxy_mode, self.pod_ipv4.or(ipv4), self.pod_ipv6.or(ipv6)) {
            (Mode::Localhost, ..) => LocalProxyMode::Localhost,
            (Mode::PodIp, None, None) => anyhow::bail!("--local-proxy-mode pod-ip needs --pod-ipv4 or --pod-ipv6"),
            (Mode::PodIp, ipv4, ipv6) => LocalProxyMode::PodIp { ipv4, ipv6 },
        };
        Ok(InterceptConfig {
            proxy_uid: self.proxy_uid,
            inbound_port_exclusions: self.inbound_ports.iter().copied().collect(),
            outbound_port_exclusions: self.outbound_ports.iter().copied().collect(),
            outbound_range_exclusions: ranges(&self.outbound_range_exclusions),
            outbound_range_inclusions: ranges(&self.outbound_range_inclusions),
            interface_exclusions: self.interfaces.iter().cloned().collect(),
            local_proxy_mode,
            ..InterceptConfig::default()
        })
    }
}

fn ranges(given: &[IpNet]) -> IpRanges {
    let mut ranges = IpRanges::default();
    for range in given {
        ranges.insert(*range);
    }
    ranges
}

/// Applies, prints or removes the rules, in the network namespace of this process.
///
/// # Errors
/// The options contradict each other, a tool or the permission is missing, or the kernel refuses.
pub(crate) fn run(args: &InterceptArgs) -> anyhow::Result<ExitCode> {
    if args.remove {
        NetworkNamespace::Current.remove()?;
        return Ok(crate::print("TCP is not intercepted any more\n", ExitCode::SUCCESS));
    }
    let rules = rules(&args.rules.config(&[])?);
    if args.print {
        let text = format!("# IPv4\n{}\n# IPv6\n{}", rules.ipv4.program(), rules.ipv6.program());
        return Ok(crate::print(&text, ExitCode::SUCCESS));
    }
    let applied = NetworkNamespace::Current.apply(&rules)?;
    Ok(crate::print(&format!("{applied}\n"), ExitCode::SUCCESS))
}
