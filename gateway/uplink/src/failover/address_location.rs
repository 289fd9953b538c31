//! Where the node's addresses are: pure, over the kernel's rows.

use std::net::IpAddr;

use host::ingress_filter::Accepting;
use host::rtnl::Row;
use host::rtnl::address::Address;
use host::rtnl::route::Route;

use super::observation::AddressLocation;
use crate::device_config::DeviceRows;
use crate::probe_targets::is_beyond_link;

/// Whether a device carries addresses by which the node is known to others.
pub(super) fn carries(addresses: &[Row], device: u32) -> bool {
    let counts = |address: &Address| {
        address.device() == device && !address.is_temporary() && address.local().is_some_and(is_beyond_link)
    };
    addresses.iter().filter_map(Address::of).any(|address| counts(&address))
}

/// Whether one of the devices has an address.
pub(super) fn is_own(addresses: &[Row], devices: &[u32], address: IpAddr) -> bool {
    let mut rows = addresses.iter().filter_map(Address::of);
    rows.any(|row| devices.contains(&row.device()) && row.local() == Some(address))
}

/// Whether routes lead over a device: networks that are not its own, gateways.
pub(super) fn has_routes(rows: &DeviceRows) -> bool {
    let leads_away = |route: &Route| {
        !route.is_connected()
            && !route.is_local()
            && route.destination().is_none_or(|net| is_beyond_link(net.addr()) || net.prefix_len() == 0)
    };
    rows.routes().iter().any(leads_away)
}

/// Where management is. `stray_routes`: routes lead over the NIC beside those over the bridge. `is_taken`: the bridge
/// was taken over, by us and in this boot.
pub(super) fn location(
    on_bridge: bool,
    on_nic: bool,
    stray_routes: bool,
    accepting: Option<Accepting>,
    is_taken: impl Fn() -> bool,
) -> AddressLocation {
    match (on_bridge, on_nic || (on_bridge && stray_routes)) {
        // Another program's bridge: what that keeps on the NIC beside it is not ours.
        (true, true) if accepting != Some(Accepting::Nic) && !is_taken() => AddressLocation::Bridge,
        (true, true) => AddressLocation::Both,
        (true, false) => AddressLocation::Bridge,
        (false, true) => AddressLocation::Nic,
        (false, false) => AddressLocation::Nowhere,
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
    fn a_link_local_address_does_not_count() {
        assert!(carries(&rows(&[("172.18.0.11", 24)]).addresses, 7));
        assert!(!carries(&rows(&[("172.18.0.11", 24)]).addresses, 8));
        assert!(!carries(&rows(&[("fe80::1", 64)]).addresses, 7));
        assert!(is_own(&rows(&[("fe80::1", 64)]).addresses, &[8, 7], "fe80::1".parse().unwrap()));
        assert!(!is_own(&rows(&[("fe80::1", 64)]).addresses, &[8], "fe80::1".parse().unwrap()));
        assert!(!is_own(&rows(&[("fe80::1", 64)]).addresses, &[7], "fe80::2".parse().unwrap()));
    }

    #[test]
    fn addresses_on_both_devices_count_only_on_a_bridge_of_a_takeover() {
        use AddressLocation::{Both, Bridge, Nic, Nowhere};
        // On the bridge, on the NIC, stray routes, ingress filter, taken over.
        for (on_bridge, on_nic, stray, accepting, taken, found) in [
            (true, false, false, Some(Accepting::Bridge), true, Bridge),
            (true, true, false, Some(Accepting::Bridge), true, Both),
            (true, false, true, Some(Accepting::Bridge), true, Both),
            (true, true, false, None, false, Bridge),
            (true, false, true, None, false, Bridge),
            (true, true, false, Some(Accepting::Nic), false, Both),
            (false, true, true, None, false, Nic),
            (false, false, true, Some(Accepting::Nic), true, Nowhere),
        ] {
            assert_eq!(location(on_bridge, on_nic, stray, accepting, || taken), found);
        }
    }
}
