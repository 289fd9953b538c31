//! Addresses and routes: on which of the two devices they are, and when they expire.

use std::collections::BTreeSet;
use std::net::IpAddr;

use host::ingress_filter::Accepting;
use uplink::failover::ManagementLocation;
use uplink::observe::NicSnapshot;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{NodeSnapshot, UplinkSnapshot};

/// An address that expires sooner than this, and that nothing renews, is an error already.
const EXPIRES_SOON: u32 = 15 * 60;

/// Addresses and routes on the right device, and no default route lost.
pub(super) fn check(
    node: &NodeSnapshot,
    uplink: &UplinkSnapshot,
    nic: &NicSnapshot,
    own: &NicSnapshot,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (on_nic, on_bridge) = (global(nic), global(own));
    let list = |addresses: &mut dyn Iterator<Item = &IpAddr>| {
        addresses.map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let both = list(&mut on_nic.intersection(&on_bridge));
    let failed_over =
        node.status().is_some_and(|status| status.management.location == ManagementLocation::Nic);
    if !both.is_empty() {
        findings.push(Finding::warning(
            "address-twice",
            &uplink.nic,
            format!("has {both}, and so does {}", uplink.bridge),
            "connected routes send traffic to the NIC, where the ingress filter drops the answers; a network manager may have added the addresses",
            "`ovn-k8s-util recover`; finding `manager`, if there is one, names the program that adds them",
        ));
    } else if !on_nic.is_empty() && !failed_over {
        findings.push(Finding::warning(
            "address-on-nic",
            &uplink.nic,
            format!("has {} while it is a port of {}", list(&mut on_nic.iter()), uplink.bridge),
            "management is on the NIC, after a reboot or because of another tool: the bridge carries none of it",
            format!("`ovn-k8s-util nics-to-bridge {}` moves it to the bridge without interruption", uplink.nic),
        ));
    }
    if on_nic.is_empty() && on_bridge.is_empty() {
        findings.push(Finding::error(
            "no-address",
            &uplink.bridge,
            format!("has no address, and neither has {}", uplink.nic),
            "the node is not reachable over this uplink",
            "`ovn-k8s-util recover`; if they are from DHCP, check the DHCP client of the bridge",
        ));
    } else {
        findings.extend(lost_default_route(uplink, nic, own));
    }
    let stray = nic.routes.iter().filter(|route| !route.by_kernel && !route.via.is_empty());
    let stray: Vec<_> = stray.map(|route| route.text.as_str()).take(3).collect();
    if !stray.is_empty() && !on_bridge.is_empty() {
        findings.push(Finding::warning(
            "route-on-nic",
            &uplink.nic,
            format!("has routes of its own: {}", stray.join("; ")),
            "packets by these routes leave through the NIC, and the ingress filter drops the answers",
            "`ovn-k8s-util recover`",
        ));
    }
    findings
}

/// Which of the two devices has the node's addresses.
pub(super) fn location(nic: &NicSnapshot, own: &NicSnapshot) -> Option<Accepting> {
    match (global(nic).is_empty(), global(own).is_empty()) {
        (true, true) => None,
        (false, true) => Some(Accepting::Nic),
        (_, false) => Some(Accepting::Bridge),
    }
}

fn global(device: &NicSnapshot) -> BTreeSet<IpAddr> {
    device.addresses.iter().filter(|address| !address.link_local).map(|address| address.net.addr()).collect()
}

/// A family that had a default route over a router at the takeover and has none now.
fn lost_default_route(uplink: &UplinkSnapshot, nic: &NicSnapshot, own: &NicSnapshot) -> Option<Finding> {
    let has = |v6: bool| {
        let mut all = own.routes.iter().chain(&nic.routes);
        all.any(|route| route.to.prefix_len() == 0 && route.to.addr().is_ipv6() == v6)
    };
    let families = [("IPv4", false, uplink.had_default_v4), ("IPv6", true, uplink.had_default_v6)];
    let lost: Vec<_> =
        families.into_iter().filter(|(_, v6, had)| *had && !has(*v6)).map(|(name, ..)| name).collect();
    (!lost.is_empty()).then(|| {
        Finding::error(
            "no-route",
            &uplink.bridge,
            format!("has no default route ({}), and had one at the takeover", lost.join(", ")),
            "only directly connected networks are reachable; the kernel drops routes when a device goes down, as ovs-vswitchd does to change a MAC",
            format!("`ip route add default via ROUTER dev {}`, or restart the network manager of the bridge", uplink.bridge),
        )
    })
}

/// Addresses that expire.
pub(super) fn leases(node: &NodeSnapshot, uplink: &UplinkSnapshot, own: &NicSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bridge = uplink.bridge.as_str();
    let expiring = own.addresses.iter().filter(|it| !it.temporary && !it.link_local && !it.by_router);
    for (address, left) in expiring.filter_map(|address| Some((address, address.left?))) {
        let renewed = node.observed.managers.iter().any(|found| found.nic == bridge);
        let what = format!("{} expires in {left} s", address.net);
        findings.push(if renewed {
            Finding::note("lease", bridge, what, "its DHCP client runs and renews it", "nothing to do")
        } else {
            let why = "no program that renews it was found: then the node is unreachable";
            let remedy = format!("start a DHCP client on {bridge}, or configure the address as static");
            if left < EXPIRES_SOON {
                Finding::error("lease", bridge, what, why, remedy)
            } else {
                Finding::warning("lease", bridge, what, why, remedy)
            }
        });
    }
    findings
}
