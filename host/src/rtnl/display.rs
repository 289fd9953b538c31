//! Numbers of rtnetlink as ip(8) prints them, and addresses from bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Family;

/// An address from an attribute's bytes.
pub(super) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
        16 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// An address as an attribute's bytes.
pub(super) fn bytes(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The unspecified address of a family.
pub(super) fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// A MAC address, or another link-layer address.
pub(super) fn mac(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// `rtm_scope`, `ifa_scope`.
pub(super) fn scope(number: u8) -> String {
    match number {
        0 => "global".into(),
        200 => "site".into(),
        253 => "link".into(),
        254 => "host".into(),
        255 => "nowhere".into(),
        other => other.to_string(),
    }
}

/// `rtm_protocol` (/etc/iproute2/rt_protos).
pub(super) fn protocol(number: u8) -> String {
    match number {
        0 => "unspec".into(),
        1 => "redirect".into(),
        2 => "kernel".into(),
        3 => "boot".into(),
        4 => "static".into(),
        9 => "ra".into(),
        16 => "dhcp".into(),
        18 => "keepalived".into(),
        42 => "babel".into(),
        186 => "bgp".into(),
        188 => "ospf".into(),
        other => other.to_string(),
    }
}

/// A routing table.
pub(super) fn table(number: u32) -> String {
    match number {
        253 => "default".into(),
        254 => "main".into(),
        255 => "local".into(),
        other => other.to_string(),
    }
}

/// `rtm_type`.
pub(super) fn kind(number: u8) -> String {
    match number {
        0 => "unspec".into(),
        1 => "unicast".into(),
        2 => "local".into(),
        3 => "broadcast".into(),
        4 => "anycast".into(),
        5 => "multicast".into(),
        6 => "blackhole".into(),
        7 => "unreachable".into(),
        8 => "prohibit".into(),
        9 => "throw".into(),
        10 => "nat".into(),
        other => other.to_string(),
    }
}

/// Seconds, or `forever`.
pub(super) fn seconds(seconds: Option<u32>) -> String {
    seconds.map_or_else(|| "forever".to_owned(), |seconds| format!("{seconds}sec"))
}
