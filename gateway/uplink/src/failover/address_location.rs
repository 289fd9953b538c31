//! Who is where, and who can be asked: pure, over the kernel's rows.

use std::net::IpAddr;

use host::neighbour_probe::Question;
use host::rtnl::Row;
use host::rtnl::address::Address;
use host::rtnl::neighbour::Neighbour;
use host::rtnl::route::Route;

use super::state_machine::Place;
use crate::device_config::DeviceRows;

/// More next hops than this are not asked: one answer is enough.
const ENOUGH: usize = 4;
/// Neighbours that answered once (`NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE`, linux/neighbour.h).
const ANSWERED: u16 = 0x02 | 0x04 | 0x08 | 0x10;

/// Whether a device carries addresses by which the node is known to others.
pub fn carries(addresses: &[Row], device: u32) -> bool {
    let counts = |address: &Address| {
        address.device() == device && !address.is_temporary() && address.local().is_some_and(is_worldly)
    };
    addresses.iter().filter_map(Address::of).any(|address| counts(&address))
}

/// Whether one of the devices has an address.
pub fn is_own(addresses: &[Row], devices: &[u32], address: IpAddr) -> bool {
    let mut rows = addresses.iter().filter_map(Address::of);
    rows.any(|row| devices.contains(&row.device()) && row.local() == Some(address))
}

/// Whether routes lead over a device: networks that are not its own, gateways.
pub fn leads_somewhere(rows: &DeviceRows) -> bool {
    let worldly = |route: &Route| {
        !route.is_connected()
            && !route.is_local()
            && route.destination().is_none_or(|net| is_worldly(net.addr()) || net.prefix_len() == 0)
    };
    rows.routes().iter().any(worldly)
}

/// Where management is.
pub fn place(on_bridge: bool, on_nic: bool) -> Place {
    match (on_bridge, on_nic) {
        (true, true) => Place::Both,
        (true, false) => Place::Bridge,
        (false, true) => Place::Nic,
        (false, false) => Place::Nowhere,
    }
}

/// Who is asked whether frames get through: the routers, and without any the neighbours that have answered before.
pub fn questions(rows: &DeviceRows) -> Vec<Question> {
    let own: Vec<(IpAddr, u8)> = rows
        .addresses()
        .iter()
        .filter(|address| !address.is_tentative())
        .filter_map(|address| Some((address.local()?, address.prefix())))
        .collect();
    let mut whom = rows.routers();
    if whom.is_empty() {
        let entries = rows.neighbours.iter().filter_map(Neighbour::of);
        let known = entries.filter(|entry| !entry.is_proxy() && entry.state() & ANSWERED != 0);
        whom = known.filter_map(|entry| entry.address()).filter(|address| is_worldly(*address)).collect();
    }
    whom.sort_unstable();
    whom.dedup();
    let ask = |whom: IpAddr| own_address(&own, whom).map(|source| Question { target: whom, source });
    whom.into_iter().filter_map(ask).take(ENOUGH).collect()
}

/// The own address in whose name a neighbour is asked: one of its network, else any of its family and scope.
fn own_address(own: &[(IpAddr, u8)], whom: IpAddr) -> Option<IpAddr> {
    let fits = |address: &&(IpAddr, u8)| {
        address.0.is_ipv4() == whom.is_ipv4() && is_worldly(address.0) == is_worldly(whom)
    };
    let near = |(address, prefix): &&(IpAddr, u8)| {
        ipnet::IpNet::new(*address, *prefix).is_ok_and(|net| net.contains(&whom))
    };
    let fitting: Vec<&(IpAddr, u8)> = own.iter().filter(fits).collect();
    fitting.iter().copied().find(near).or(fitting.first().copied()).map(|(address, _)| *address)
}

/// Neither of the link alone, nor of the host alone.
fn is_worldly(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => {
            !ip.is_unicast_link_local() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use host::rtnl::Device;

    use super::*;

    fn rows(addresses: &[(&str, u8)]) -> DeviceRows {
        let device = Device { index: 7, name: "breth0".into() };
        let mut rows = DeviceRows::none(&device);
        rows.addresses = addresses
            .iter()
            .map(|(address, prefix)| Address::new(7, address.parse().unwrap(), *prefix).into_row())
            .collect();
        rows
    }

    #[test]
    fn an_address_of_the_link_alone_is_no_management() {
        assert!(carries(&rows(&[("172.18.0.11", 24)]).addresses, 7));
        assert!(!carries(&rows(&[("172.18.0.11", 24)]).addresses, 8));
        assert!(!carries(&rows(&[("fe80::1", 64)]).addresses, 7));
        assert!(is_own(&rows(&[("fe80::1", 64)]).addresses, &[8, 7], "fe80::1".parse().unwrap()));
        assert!(!is_own(&rows(&[("fe80::1", 64)]).addresses, &[8], "fe80::1".parse().unwrap()));
        assert!(!is_own(&rows(&[("fe80::1", 64)]).addresses, &[7], "fe80::2".parse().unwrap()));
        assert_eq!(place(true, false), Place::Bridge);
        assert_eq!(place(true, true), Place::Both);
    }

    #[test]
    fn a_neighbour_is_asked_in_the_name_of_its_own_network() {
        let own = [
            ("10.0.0.5".parse().unwrap(), 24),
            ("172.18.0.11".parse().unwrap(), 24),
            ("fe80::5".parse().unwrap(), 64),
            ("fc00::5".parse().unwrap(), 64),
        ];
        let from = |whom: &str| own_address(&own, whom.parse().unwrap()).map(|from| from.to_string());
        assert_eq!(from("172.18.0.1").as_deref(), Some("172.18.0.11"));
        assert_eq!(
            from("192.0.2.1").as_deref(),
            Some("10.0.0.5"),
            "an on-link gateway of no network of ours"
        );
        assert_eq!(from("fe80::1").as_deref(), Some("fe80::5"));
        assert_eq!(from("fc00::1").as_deref(), Some("fc00::5"));
        assert_eq!(own_address(&own[..1], "fc00::1".parse().unwrap()), None);
    }
}
