//! Configuration to rules: pure, so that the program can be shown, compared and tested without a kernel.

use std::fmt::Write as _;

use crate::config::{InterceptConfig, LocalProxyMode, Port};

/// Decides what happens to inbound connections.
pub const CHAIN_INBOUND: &str = "OSM_PROXY_INBOUND";
/// Sends inbound connections to the proxy.
pub const CHAIN_INBOUND_REDIRECT: &str = "OSM_PROXY_IN_REDIRECT";
/// Decides what happens to outbound connections.
pub const CHAIN_OUTBOUND: &str = "OSM_PROXY_OUTBOUND";
/// Sends outbound connections to the proxy.
pub const CHAIN_OUTBOUND_REDIRECT: &str = "OSM_PROXY_OUT_REDIRECT";

pub(crate) const CHAINS: [&str; 4] = [CHAIN_INBOUND, CHAIN_INBOUND_REDIRECT, CHAIN_OUTBOUND, CHAIN_OUTBOUND_REDIRECT];

/// Marks the rules of ours that stand in a built-in chain without jumping to one of [`CHAINS`], so that they can be found again.
pub(crate) const MARK: &str = "openservicemesh.io/intercept";

/// The kernel's limit for one `multiport` match.
const MULTIPORT_LIMIT: usize = 15;

/// An address family; each has its own `nat` table and its own tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// `iptables-restore`
    Ipv4,
    /// `ip6tables-restore`
    Ipv6,
}

impl Family {
    pub(crate) const fn restore_program(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables-restore",
            Self::Ipv6 => "ip6tables-restore",
        }
    }

    pub(crate) const fn save_program(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables-save",
            Self::Ipv6 => "ip6tables-save",
        }
    }

    const fn loopback(self) -> &'static str {
        match self {
            Self::Ipv4 => "127.0.0.1/32",
            Self::Ipv6 => "::1/128",
        }
    }
}

/// The rules of one family, ready for `iptables-restore --noflush`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyRules {
    /// For which tools.
    pub family: Family,
    /// Rules of our own chains in evaluation order, as `-A CHAIN …`.
    pub chains: Vec<String>,
    /// Rules of the built-in chains, as `-I CHAIN 1 …` or `-A CHAIN …`, in the order in which they are to be executed.
    pub hooks: Vec<String>,
}

impl FamilyRules {
    /// The whole program for a `nat` table that holds nothing of ours yet.
    pub fn program(&self) -> String {
        self.transaction(&[])
    }

    /// The program that replaces what is ours: `deletions` are `-D …` commands for hooks an earlier run left.
    pub(crate) fn transaction(&self, deletions: &[String]) -> String {
        let mut text = String::from("*nat\n");
        for chain in CHAINS {
            // Declaring a chain empties it if it exists.
            writeln!(text, ":{chain} - [0:0]").expect("writing to a String");
        }
        for line in deletions.iter().chain(&self.chains).chain(&self.hooks) {
            text.push_str(line);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
        text
    }
}

/// The rules of both families.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSet {
    /// For `iptables-restore`.
    pub ipv4: FamilyRules,
    /// For `ip6tables-restore`.
    pub ipv6: FamilyRules,
}

/// The rules that `config` asks for. Equal configurations give equal text.
pub fn rules(config: &InterceptConfig) -> RuleSet {
    RuleSet { ipv4: family_rules(config, Family::Ipv4), ipv6: family_rules(config, Family::Ipv6) }
}

fn family_rules(config: &InterceptConfig, family: Family) -> FamilyRules {
    let mut chains = Vec::new();
    inbound(config, &mut chains);
    outbound(config, family, &mut chains);
    FamilyRules { family, chains, hooks: hooks(config, family) }
}

fn inbound(config: &InterceptConfig, rules: &mut Vec<String>) {
    ports_return(CHAIN_INBOUND, config.inbound_port_exclusions.iter(), rules);
    for interface in &config.interface_exclusions {
        rules.push(format!("-A {CHAIN_INBOUND} -i {interface} -j RETURN"));
    }
    ports_return(CHAIN_INBOUND, config.proxy_ports.direct.iter(), rules);
    rules.push(format!("-A {CHAIN_INBOUND} -p tcp -j {CHAIN_INBOUND_REDIRECT}"));
    rules.push(format!("-A {CHAIN_INBOUND_REDIRECT} -p tcp -j REDIRECT --to-ports {}", config.proxy_ports.inbound));
}

fn outbound(config: &InterceptConfig, family: Family, rules: &mut Vec<String>) {
    let uid = config.proxy_uid;
    let loopback = family.loopback();
    // An application that calls itself through its own Service: the proxy's connection to the pod's address is inbound traffic.
    rules.push(format!(
        "-A {CHAIN_OUTBOUND} -o lo ! -d {loopback} -m owner --uid-owner {uid} -j {CHAIN_INBOUND_REDIRECT}"
    ));
    rules.push(format!("-A {CHAIN_OUTBOUND} -o lo -m owner ! --uid-owner {uid} -j RETURN"));
    rules.push(format!("-A {CHAIN_OUTBOUND} -m owner --uid-owner {uid} -j RETURN"));
    rules.push(format!("-A {CHAIN_OUTBOUND} -d {loopback} -j RETURN"));
    for interface in &config.interface_exclusions {
        rules.push(format!("-A {CHAIN_OUTBOUND} -o {interface} -j RETURN"));
    }
    let ranges = |ranges: &crate::config::IpRanges| -> Vec<String> {
        match family {
            Family::Ipv4 => ranges.ipv4.iter().map(ToString::to_string).collect(),
            Family::Ipv6 => ranges.ipv6.iter().map(ToString::to_string).collect(),
        }
    };
    for range in ranges(&config.outbound_range_exclusions) {
        rules.push(format!("-A {CHAIN_OUTBOUND} -d {range} -j RETURN"));
    }
    ports_return(CHAIN_OUTBOUND, config.outbound_port_exclusions.iter(), rules);
    if config.outbound_range_inclusions.is_empty() {
        rules.push(format!("-A {CHAIN_OUTBOUND} -j {CHAIN_OUTBOUND_REDIRECT}"));
    } else {
        // An inclusion list of one family only still means "nothing else", so the other family ends at RETURN.
        for range in ranges(&config.outbound_range_inclusions) {
            rules.push(format!("-A {CHAIN_OUTBOUND} -d {range} -j {CHAIN_OUTBOUND_REDIRECT}"));
        }
        rules.push(format!("-A {CHAIN_OUTBOUND} -j RETURN"));
    }
    rules.push(format!("-A {CHAIN_OUTBOUND_REDIRECT} -p tcp -j REDIRECT --to-ports {}", config.proxy_ports.outbound));
}

/// Port of Envoy's admin interface.
const ADMIN_PORT: u16 = 15000;

fn hooks(config: &InterceptConfig, family: Family) -> Vec<String> {
    let mut hooks = Vec::new();
    if let LocalProxyMode::PodIp { ipv4, ipv6 } = config.local_proxy_mode {
        let address = match family {
            Family::Ipv4 => ipv4.map(|address| address.to_string()),
            Family::Ipv6 => ipv6.map(|address| address.to_string()),
        };
        if let Some(address) = address {
            // The admin interface is the proxy's own and listens on loopback: metrics are read from it.
            hooks.push(format!(
                "-I OUTPUT 1 -p tcp ! --dport {ADMIN_PORT} -o lo -d {} -m owner --uid-owner {} -m comment --comment {MARK} -j DNAT --to-destination {address}",
                family.loopback(),
                config.proxy_uid,
            ));
        }
    }
    hooks.push(format!("-A PREROUTING -p tcp -j {CHAIN_INBOUND}"));
    hooks.push(format!("-A OUTPUT -p tcp -j {CHAIN_OUTBOUND}"));
    hooks
}

/// As many `multiport` rules as it takes: one holds at most [`MULTIPORT_LIMIT`] ports.
fn ports_return<'a>(chain: &str, ports: impl Iterator<Item = &'a Port>, rules: &mut Vec<String>) {
    let ports: Vec<String> = ports.map(ToString::to_string).collect();
    for chunk in ports.chunks(MULTIPORT_LIMIT) {
        rules.push(format!("-A {chain} -p tcp -m multiport --dports {} -j RETURN", chunk.join(",")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{IpRanges, ProxyUid};

    fn port(number: u16) -> Port {
        Port::try_from(number).unwrap()
    }

    #[test]
    fn default_program_for_ipv4() {
        assert_eq!(
            rules(&InterceptConfig::default()).ipv4.program(),
            "\
*nat
:OSM_PROXY_INBOUND - [0:0]
:OSM_PROXY_IN_REDIRECT - [0:0]
:OSM_PROXY_OUTBOUND - [0:0]
:OSM_PROXY_OUT_REDIRECT - [0:0]
-A OSM_PROXY_INBOUND -p tcp -m multiport --dports 15010,15901,15902,15903,15904,15905 -j RETURN
-A OSM_PROXY_INBOUND -p tcp -j OSM_PROXY_IN_REDIRECT
-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15003
-A OSM_PROXY_OUTBOUND -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 1500 -j OSM_PROXY_IN_REDIRECT
-A OSM_PROXY_OUTBOUND -o lo -m owner ! --uid-owner 1500 -j RETURN
-A OSM_PROXY_OUTBOUND -m owner --uid-owner 1500 -j RETURN
-A OSM_PROXY_OUTBOUND -d 127.0.0.1/32 -j RETURN
-A OSM_PROXY_OUTBOUND -j OSM_PROXY_OUT_REDIRECT
-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-ports 15001
-A PREROUTING -p tcp -j OSM_PROXY_INBOUND
-A OUTPUT -p tcp -j OSM_PROXY_OUTBOUND
COMMIT
"
        );
    }

    #[test]
    fn everything_in_its_order_for_both_families() {
        let config = InterceptConfig {
            proxy_uid: ProxyUid::try_from(2102).unwrap(),
            inbound_port_exclusions: [port(22)].into(),
            outbound_port_exclusions: [port(5432), port(53)].into(),
            outbound_range_exclusions: IpRanges::parse(["169.254.169.254/32", "fd00:ec2::254/128"]).unwrap(),
            outbound_range_inclusions: IpRanges::parse(["10.0.0.0/8", "fd00::/8"]).unwrap(),
            interface_exclusions: ["net1".parse().unwrap()].into(),
            local_proxy_mode: LocalProxyMode::PodIp {
                ipv4: Some("10.244.0.7".parse().unwrap()),
                ipv6: Some("fd00:244::7".parse().unwrap()),
            },
            ..InterceptConfig::default()
        };
        let set = rules(&config);
        let expected = |loopback: &str, excluded: &str, included: &str| {
            vec![
                "-A OSM_PROXY_INBOUND -p tcp -m multiport --dports 22 -j RETURN".to_owned(),
                "-A OSM_PROXY_INBOUND -i net1 -j RETURN".to_owned(),
                "-A OSM_PROXY_INBOUND -p tcp -m multiport --dports 15010,15901,15902,15903,15904,15905 -j RETURN"
                    .to_owned(),
                "-A OSM_PROXY_INBOUND -p tcp -j OSM_PROXY_IN_REDIRECT".to_owned(),
                "-A OSM_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15003".to_owned(),
                format!(
                    "-A OSM_PROXY_OUTBOUND -o lo ! -d {loopback} -m owner --uid-owner 2102 -j OSM_PROXY_IN_REDIRECT"
                ),
                "-A OSM_PROXY_OUTBOUND -o lo -m owner ! --uid-owner 2102 -j RETURN".to_owned(),
                "-A OSM_PROXY_OUTBOUND -m owner --uid-owner 2102 -j RETURN".to_owned(),
                format!("-A OSM_PROXY_OUTBOUND -d {loopback} -j RETURN"),
                "-A OSM_PROXY_OUTBOUND -o net1 -j RETURN".to_owned(),
                format!("-A OSM_PROXY_OUTBOUND -d {excluded} -j RETURN"),
                "-A OSM_PROXY_OUTBOUND -p tcp -m multiport --dports 53,5432 -j RETURN".to_owned(),
                format!("-A OSM_PROXY_OUTBOUND -d {included} -j OSM_PROXY_OUT_REDIRECT"),
                "-A OSM_PROXY_OUTBOUND -j RETURN".to_owned(),
                "-A OSM_PROXY_OUT_REDIRECT -p tcp -j REDIRECT --to-ports 15001".to_owned(),
            ]
        };
        assert_eq!(set.ipv4.chains, expected("127.0.0.1/32", "169.254.169.254/32", "10.0.0.0/8"));
        assert_eq!(set.ipv6.chains, expected("::1/128", "fd00:ec2::254/128", "fd00::/8"));
        assert_eq!(
            set.ipv4.hooks[0],
            "-I OUTPUT 1 -p tcp ! --dport 15000 -o lo -d 127.0.0.1/32 -m owner --uid-owner 2102 -m comment --comment openservicemesh.io/intercept -j DNAT --to-destination 10.244.0.7"
        );
        assert!(set.ipv6.hooks[0].ends_with("-d ::1/128 -m owner --uid-owner 2102 -m comment --comment openservicemesh.io/intercept -j DNAT --to-destination fd00:244::7"));
    }

    #[test]
    fn more_than_fifteen_excluded_ports_take_several_rules() {
        let config =
            InterceptConfig { outbound_port_exclusions: (1..=40).map(port).collect(), ..InterceptConfig::default() };
        let counts: Vec<usize> = rules(&config)
            .ipv6
            .chains
            .iter()
            .filter(|rule| rule.starts_with("-A OSM_PROXY_OUTBOUND -p tcp -m multiport"))
            .map(|rule| rule.split(',').count())
            .collect();
        assert_eq!(counts, [15, 15, 10]);
    }

    #[test]
    fn an_inclusion_list_of_one_family_leaves_the_other_family_alone() {
        let config = InterceptConfig {
            outbound_range_inclusions: IpRanges::parse(["10.0.0.0/8"]).unwrap(),
            ..InterceptConfig::default()
        };
        let chains = rules(&config).ipv6.chains;
        assert!(!chains.iter().any(|rule| rule.ends_with("-j OSM_PROXY_OUT_REDIRECT")));
        assert!(chains.contains(&"-A OSM_PROXY_OUTBOUND -j RETURN".to_owned()));
    }

    #[test]
    fn no_rule_follows_one_that_takes_every_tcp_connection() {
        // OSM ends OSM_PROXY_OUT_REDIRECT with a rule that nothing can reach.
        let config = InterceptConfig { outbound_port_exclusions: (1..=40).map(port).collect(), ..Default::default() };
        for rules in [rules(&config).ipv4.chains, rules(&config).ipv6.chains] {
            for (index, rule) in rules.iter().enumerate() {
                let chain = rule.split(' ').nth(1).unwrap();
                let takes_all = [format!("-A {chain} -p tcp -j "), format!("-A {chain} -j ")]
                    .iter()
                    .any(|prefix| rule.starts_with(prefix.as_str()));
                let last = !rules[index + 1..].iter().any(|next| next.starts_with(&format!("-A {chain} ")));
                assert_eq!(takes_all, last, "{rule}");
            }
        }
    }

    #[test]
    fn pod_ip_mode_without_an_address_of_a_family_adds_no_rule_to_it() {
        let config = InterceptConfig {
            local_proxy_mode: LocalProxyMode::PodIp { ipv4: Some("10.0.0.1".parse().unwrap()), ipv6: None },
            ..InterceptConfig::default()
        };
        let set = rules(&config);
        assert_eq!(set.ipv4.hooks.len(), 3);
        assert_eq!(set.ipv6.hooks.len(), 2);
    }
}
