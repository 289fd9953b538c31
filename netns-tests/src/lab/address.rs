//! Who has which address in the lab. Every number stands here and nowhere else.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// IP version 4 or 6. The lab is dual stack everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// An address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dual {
    /// The IPv4 address.
    pub v4: Ipv4Addr,
    /// The IPv6 address.
    pub v6: Ipv6Addr,
}

impl Dual {
    /// The address of that family.
    pub fn of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.v4.into(),
            Family::V6 => self.v6.into(),
        }
    }

    /// The address of that family with a port.
    pub fn port(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.of(family), port)
    }

    /// Both addresses.
    pub fn both(self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// The fabric: what the nodes' NICs are plugged into.
pub fn fabric(last: u8) -> Dual {
    Dual { v4: Ipv4Addr::new(172, 18, 0, last), v6: Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, digits(last)) }
}

/// The default gateway of the fabric.
pub fn router() -> Dual {
    fabric(1)
}

/// The machine that runs OVN's databases.
pub fn central() -> Dual {
    fabric(2)
}

/// The physical address of node `number`, shared by its host and its gateway router.
pub fn node(number: usize) -> Dual {
    fabric(10 + small(number))
}

/// Host `last` of the network behind the router that stands for the internet.
pub fn internet(last: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(203, 0, 113, last),
        v6: Ipv6Addr::new(0x2001, 0xdb8, 0x203, 0, 0, 0, 0, digits(last)),
    }
}

/// Host `last` of the administrators' network behind the router.
pub fn administration(last: u8) -> Dual {
    Dual { v4: Ipv4Addr::new(192, 0, 2, last), v6: Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, digits(last)) }
}

/// Address `last` of the pods' network of node `number`: 1 is the router, 2 the node's management port.
pub fn subnet(number: usize, last: u8) -> Dual {
    Dual {
        v4: Ipv4Addr::new(10, 244, small(number), last),
        v6: Ipv6Addr::new(0xfd10, 0x244, 0, u16::from(small(number)), 0, 0, 0, digits(last)),
    }
}

/// The management address of node `number`: the host as the overlay sees it.
pub fn management(number: usize) -> Dual {
    subnet(number, 2)
}

/// An address of the network between cluster router (1) and gateway routers (1 + node number).
pub fn join(last: usize) -> Dual {
    let last = small(last);
    Dual { v4: Ipv4Addr::new(100, 64, 1, last), v6: Ipv6Addr::new(0xfd98, 0, 0, 0, 0, 0, 0, digits(last)) }
}

/// The join address of the gateway router of node `number`.
pub fn gateway(number: usize) -> Dual {
    join(1 + number)
}

/// Cluster address `number` of the service range.
pub fn cluster_ip(number: u16) -> Dual {
    let [high, low] = number.to_be_bytes();
    Dual { v4: Ipv4Addr::new(10, 96, high, low), v6: Ipv6Addr::new(0xfd10, 0x96, 0, 0, 0, 0, 0, number) }
}

/// All pods' networks, as a pair of prefixes.
pub const CLUSTER: [&str; 2] = ["10.244.0.0/16", "fd10:244::/48"];
/// The join network, as a pair of prefixes.
pub const JOIN: [&str; 2] = ["100.64.1.0/24", "fd98::/64"];
/// The service range, as a pair of prefixes.
pub const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd10:96::/112"];
/// The fabric, as a pair of prefixes.
pub const FABRIC: [&str; 2] = ["172.18.0.0/24", "fd00:18::/64"];
/// A routed range for external addresses that no link holds: tests route parts of it to a node.
pub const ROUTED_EXTERNAL: [&str; 2] = ["198.51.100.0/24", "2001:db8:198::/64"];

/// A locally administered MAC address: what it is (`kind`), and which.
pub fn mac(kind: u8, node: usize, number: usize) -> [u8; 6] {
    [0x0a, 0x58, kind, 0, small(node), small(number)]
}

/// A MAC address in its usual notation.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A number whose hexadecimal digits are the decimal ones of `last`: both families' addresses end alike.
fn digits(last: u8) -> u16 {
    u16::from(last / 100) * 0x100 + u16::from(last % 100 / 10) * 0x10 + u16::from(last % 10)
}

/// Labs have a handful of nodes and pods; more than 200 would need wider address plans than these.
fn small(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
