//! Users of the device that loses its addresses: sockets, routes, multicast groups, filters.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Plan, UplinkPlan};
use crate::observe::{Binding, BoundSocket, NicSnapshot, RouteSnapshot};
use crate::options::{Direction, Options};

/// Programs without which a node cannot be administered or leaves its cluster.
const VITAL: [&str; 5] = ["sshd", "sshd-session", "dropbear", "kubelet", "k3s"];

/// Programs whose sockets on the device are those of a DHCP client, a manager or the switch: other checks cover these.
const KNOWN: [&str; 8] = [
    "dhclient",
    "udhcpc",
    "busybox",
    "dhcpcd",
    "NetworkManager",
    "systemd-network",
    "systemd-networkd",
    "ovs-vswitchd",
];

/// Sockets that are bound to the device.
pub(super) fn bound_sockets(plan: &mut Plan, device: &NicSnapshot, uplink: &UplinkPlan) {
    for socket in device.bound.iter().filter(|socket| !is_checked_elsewhere(socket)) {
        bound_socket(plan, socket, uplink);
    }
}

fn is_checked_elsewhere(socket: &BoundSocket) -> bool {
    socket.pid == Some(std::process::id())
        || socket.program.as_deref().is_some_and(|program| KNOWN.contains(&program))
}

fn bound_socket(plan: &mut Plan, socket: &BoundSocket, uplink: &UplinkPlan) {
    let (from, to) = ends(uplink);
    let vital = socket.program.as_deref().is_some_and(|program| VITAL.contains(&program));
    let program = socket.program.as_deref().unwrap_or("its program");
    let listen = format!("have {program} listen on addresses instead of a device, or restart it afterwards");
    let (name, what, remedy, is_refused) = match socket.how {
        Binding::Device => (
            "bound-socket",
            format!("{socket} is bound to the device: it receives nothing while management is on {to}"),
            listen,
            vital,
        ),
        Binding::Xdp => (
            "afxdp-socket",
            format!("{socket} takes frames before the switch sees them"),
            format!("end {program} first"),
            true,
        ),
        Binding::LinkLocal => (
            "link-local-connection",
            format!("{socket} goes over a link-local address of {from}: such connections break"),
            if vital {
                "connect to another address of the node, then run this again".to_owned()
            } else {
                format!("{program} has to connect again")
            },
            vital,
        ),
        Binding::Packet => (
            "packet-socket",
            format!(
                "{socket} receives the device's frames: it still does, but what it sends does not pass the bridge"
            ),
            listen,
            false,
        ),
    };
    if is_refused {
        plan.refuse_unless_forced(name, from, what, remedy);
    } else {
        plan.warn(name, from, what, remedy);
    }
}

/// Warns of what is not moved: multicast groups, tc filters, temporary addresses.
pub(super) fn what_is_not_carried(plan: &mut Plan, device: &NicSnapshot, uplink: &UplinkPlan) {
    let (from, to) = ends(uplink);
    if !device.memberships.is_empty() {
        plan.warn(
            "multicast-membership",
            from,
            format!(
                "programs have joined {} on it: they no longer receive those groups",
                list(&device.memberships)
            ),
            format!("restart them, or have them join on {to}"),
        );
    }
    if device.clsact {
        plan.warn(
            "clsact-filters",
            from,
            format!(
                "has tc filters (clsact or ingress): they stay, but the node's own traffic passes {to} now, and the switch sees frames before they act"
            ),
            format!("set those that are meant for the node's traffic on {to}"),
        );
    }
    if device.addresses.iter().any(|address| address.temporary) {
        plan.warn(
            "temporary-addresses",
            from,
            format!(
                "has temporary (privacy) addresses: they are not carried over, the kernel makes new ones on {to}; connections from the old ones break"
            ),
            "nothing to do, unless a long connection uses one",
        );
    }
}

/// Warns of routes that the kernel would reject on the bridge.
pub(super) fn routes(plan: &mut Plan, device: &NicSnapshot) {
    // Few distinct next hops, even with ten thousand routes.
    let off_link: BTreeSet<_> =
        device.next_hops().into_iter().filter(|&via| !is_on_link(device, via)).collect();
    for route in device.routes.iter().filter(|route| !route.onlink && !route.by_nexthop) {
        for via in route.via.iter().filter(|via| off_link.contains(via)) {
            plan.warn(
                "route-not-remakeable",
                &device.link.name,
                format!(
                    "the route \"{}\" has a next hop that no address and no route of the device reaches: the kernel keeps such a route but refuses to make it again, so it is made with `onlink`",
                    route.text
                ),
                format!("check whether it is still needed; a route to {via} on the device makes it valid"),
            );
        }
    }
}

/// The kernel's check for a new route (`fib_check_nh()`): the next hop is reached without another next hop.
fn is_on_link(device: &NicSnapshot, via: IpAddr) -> bool {
    if matches!(via, IpAddr::V6(via) if via.is_unicast_link_local()) {
        return true;
    }
    let direct = |route: &&RouteSnapshot| route.via.is_empty() && !route.by_nexthop;
    device.routes.iter().filter(direct).any(|route| route.to.contains(&via))
        || device.addresses.iter().any(|address| address.net.contains(&via))
}

/// The probe needs a next hop.
pub(super) fn can_be_proved(plan: &mut Plan, device: &NicSnapshot, uplink: &UplinkPlan, options: &Options) {
    let name = device.link.name.as_str();
    if device.addresses.iter().all(|address| address.link_local) {
        plan.warn("no-address", name, "has no address: there is nothing to move", "nothing to do");
        return;
    }
    if !device.next_hops().is_empty() {
        return;
    }
    let what = format!("has no route over a next hop: there is nothing to probe through {}", uplink.bridge);
    if options.probe {
        plan.refuse_unless_forced("no-next-hop", name, what, "--no-probe skips the probe");
    } else {
        plan.warn("no-next-hop", name, what, "have a console at hand in case the node becomes unreachable");
    }
}

/// The source and the target device.
pub(super) fn ends(uplink: &UplinkPlan) -> (&str, &str) {
    match uplink.direction {
        Direction::Attach => (&uplink.nic, &uplink.bridge),
        Direction::Detach => (&uplink.bridge, &uplink.nic),
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
