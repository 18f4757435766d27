//! What to intercept, in types that cannot hold a wrong value.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU16;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A value that cannot be used for interception.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// A port outside 1 to 65535, or not a number.
    #[error("port {value:?} is not a number from 1 to 65535")]
    Port {
        /// What was given.
        value: String,
    },
    /// Not an address range of either family.
    #[error("address range {value:?} is not an IPv4 or IPv6 CIDR such as 10.0.0.0/8 or fd00::/8")]
    Range {
        /// What was given.
        value: String,
    },
    /// Not a name the kernel would give a network interface.
    #[error("network interface name {value:?} is not usable: {reason}")]
    Interface {
        /// What was given.
        value: String,
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// A user id that cannot be the proxy's.
    #[error("proxy user id {value:?} is not a number from 1 to 4294967294")]
    Uid {
        /// What was given.
        value: String,
    },
}

/// A TCP port, 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }

    const fn known(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(number) => Self(number),
            None => Self(NonZeroU16::MIN),
        }
    }
}

impl TryFrom<u16> for Port {
    type Error = InvalidValue;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        NonZeroU16::new(number).map(Self).ok_or_else(|| InvalidValue::Port { value: number.to_string() })
    }
}

impl FromStr for Port {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.trim().parse().map(Self).map_err(|_| InvalidValue::Port { value: text.to_owned() })
    }
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The user id the proxy runs as. Root (0) is refused: its processes would all bypass the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProxyUid(u32);

impl ProxyUid {
    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for ProxyUid {
    type Error = InvalidValue;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        // The largest value means "no user" to the kernel.
        if number == 0 || number == u32::MAX {
            return Err(InvalidValue::Uid { value: number.to_string() });
        }
        Ok(Self(number))
    }
}

impl FromStr for ProxyUid {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number: u32 = text.trim().parse().map_err(|_| InvalidValue::Uid { value: text.to_owned() })?;
        Self::try_from(number)
    }
}

impl fmt::Display for ProxyUid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The name of a network interface: 1 to 15 bytes, no white space, no `/`, and no trailing `+` (which the packet filter reads as "starts with").
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as the kernel knows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let reason = if text.is_empty() {
            "it is empty"
        } else if text.len() > 15 {
            "it is longer than 15 bytes"
        } else if text == "." || text == ".." {
            "the kernel reserves it"
        } else if text.starts_with('-') || text.starts_with('!') {
            "it starts with a character the packet filter reads as an option"
        } else if text.ends_with('+') {
            "a trailing + would match every interface that starts so"
        } else if !text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'"' | b'\'' | b'\\')) {
            "only visible ASCII characters without / \\ and quotes are supported"
        } else {
            return Ok(Self(text.to_owned()));
        };
        Err(InvalidValue::Interface { value: text.to_owned(), reason })
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Address ranges, split by family. Host bits are cleared, so `10.1.2.3/8` and `10.0.0.0/8` are the same range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IpRanges {
    /// IPv4 ranges.
    pub ipv4: BTreeSet<Ipv4Net>,
    /// IPv6 ranges.
    pub ipv6: BTreeSet<Ipv6Net>,
}

impl IpRanges {
    /// Reads ranges as users write them, in either family and any order.
    ///
    /// # Errors
    /// The first range that is not a CIDR.
    pub fn parse<'a>(ranges: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidValue> {
        let mut parsed = Self::default();
        for text in ranges {
            let range: IpNet = text.trim().parse().map_err(|_| InvalidValue::Range { value: text.to_owned() })?;
            parsed.insert(range);
        }
        Ok(parsed)
    }

    /// Adds one range.
    pub fn insert(&mut self, range: IpNet) {
        match range {
            IpNet::V4(range) => self.ipv4.insert(range.trunc()),
            IpNet::V6(range) => self.ipv6.insert(range.trunc()),
        };
    }

    /// No range of either family.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }
}

/// Where the proxy finds the application (`MeshConfig` `spec.sidecar.localProxyMode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LocalProxyMode {
    /// On the loopback address, which is what most applications listen on.
    #[default]
    Localhost,
    /// On the pod's address, for applications that listen nowhere else: what the proxy sends to the loopback address goes there instead.
    PodIp {
        /// The pod's IPv4 address, if it has one.
        ipv4: Option<Ipv4Addr>,
        /// The pod's IPv6 address, if it has one.
        ipv6: Option<Ipv6Addr>,
    },
}

/// The ports of the proxy that take part in interception.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyPorts {
    /// Receives what other workloads send: 15003.
    pub inbound: Port,
    /// Receives what the application sends: 15001.
    pub outbound: Port,
    /// Reached from outside as they are, whatever is excluded: metrics (15010), rewritten health probes (15901 to 15904), and whether the
    /// proxy itself is configured (15905).
    pub direct: BTreeSet<Port>,
}

impl Default for ProxyPorts {
    fn default() -> Self {
        Self {
            inbound: Port::known(15003),
            outbound: Port::known(15001),
            direct: [15010, 15901, 15902, 15903, 15904, 15905].map(Port::known).into(),
        }
    }
}

/// Everything that decides the rules of one workload.
///
/// The lists are the union of what `MeshConfig` (`spec.traffic`) and the pod's annotations name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterceptConfig {
    /// Who the proxy is: its own connections are not intercepted again. 1500 by default.
    pub proxy_uid: ProxyUid,
    /// Ports of the proxy.
    pub proxy_ports: ProxyPorts,
    /// Ports of the workload that clients reach without the proxy (`inboundPortExclusionList`). Any number of them.
    pub inbound_port_exclusions: BTreeSet<Port>,
    /// Destination ports the application reaches without the proxy (`outboundPortExclusionList`). Any number of them.
    pub outbound_port_exclusions: BTreeSet<Port>,
    /// Destinations the application reaches without the proxy (`outboundIPRangeExclusionList`). They win over inclusions.
    pub outbound_range_exclusions: IpRanges,
    /// If not empty, only these destinations are intercepted, in both families (`outboundIPRangeInclusionList`).
    pub outbound_range_inclusions: IpRanges,
    /// Interfaces whose traffic is left alone, in both directions (`networkInterfaceExclusionList`).
    pub interface_exclusions: BTreeSet<InterfaceName>,
    /// Where the proxy finds the application.
    pub local_proxy_mode: LocalProxyMode,
}

impl Default for InterceptConfig {
    fn default() -> Self {
        Self {
            proxy_uid: ProxyUid(1500),
            proxy_ports: ProxyPorts::default(),
            inbound_port_exclusions: BTreeSet::new(),
            outbound_port_exclusions: BTreeSet::new(),
            outbound_range_exclusions: IpRanges::default(),
            outbound_range_inclusions: IpRanges::default(),
            interface_exclusions: BTreeSet::new(),
            local_proxy_mode: LocalProxyMode::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_outside_the_range_are_refused_with_the_value() {
        for text in ["0", "65536", "-1", "http", ""] {
            let error = text.parse::<Port>().unwrap_err();
            assert_eq!(error, InvalidValue::Port { value: text.to_owned() });
        }
        assert_eq!(" 65535 ".parse::<Port>().unwrap().get(), 65535);
        assert!(Port::try_from(0).is_err());
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "veth1234567890a", "br-lan.12@x", "a"] {
            assert_eq!(good.parse::<InterfaceName>().unwrap().as_str(), good);
        }
        for bad in ["", "sixteen-bytes-xx", "eth 0", "a/b", "eth+", "-j", "!eth0", "..", "eth0\n-A", "é", "a\"b"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn ranges_are_split_by_family_and_lose_their_host_bits() {
        let ranges = IpRanges::parse(["10.1.2.3/8", "fd00::1/8", "10.0.0.0/8"]).unwrap();
        assert_eq!(ranges.ipv4.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.0/8"]);
        assert_eq!(ranges.ipv6.iter().map(ToString::to_string).collect::<Vec<_>>(), ["fd00::/8"]);
        for bad in ["10.0.0.1", "10.0.0.0/33", "fd00::/129", "any", ""] {
            assert_eq!(IpRanges::parse([bad]).unwrap_err(), InvalidValue::Range { value: bad.to_owned() });
        }
    }

    #[test]
    fn root_is_not_a_proxy_user() {
        assert!("0".parse::<ProxyUid>().is_err());
        assert!("4294967295".parse::<ProxyUid>().is_err());
        assert_eq!("1500".parse::<ProxyUid>().unwrap(), InterceptConfig::default().proxy_uid);
    }
}
