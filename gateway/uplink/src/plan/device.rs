//! The kind and state of the device, and the devices above and below it.

use super::Plan;
use crate::observe::{LinkSnapshot, NicSnapshot, Observed};
use crate::options::Datapath;

/// Kinds whose `IFLA_LINK` is a peer, not the device below.
const PEER_KINDS: [&str; 2] = ["veth", "netkit"];

/// The longest name the kernel takes (`IFNAMSIZ` without the final zero).
const LONGEST: usize = 15;

/// Refuses a device that cannot be the uplink of a bridge. Whether it did.
pub(super) fn is_no_nic(plan: &mut Plan, nic: &NicSnapshot) -> bool {
    let (link, name) = (&nic.link, nic.link.name.as_str());
    let before = plan.refusals.len();
    if link.loopback {
        plan.refuse(
            "loopback",
            name,
            "is the loopback, not a NIC",
            "name the NIC that has the node's address",
        );
    } else if !link.ethernet {
        plan.refuse(
            "not-ethernet",
            name,
            "is no Ethernet device, so it cannot be a port of a bridge",
            "name an Ethernet device (`ip -br link`)",
        );
    }
    if super::bridge_of(name).len() > LONGEST {
        plan.refuse(
            "name-too-long",
            name,
            format!("its bridge br{name} would have a name longer than the kernel's {LONGEST} bytes"),
            "give the NIC a name of at most 13 bytes (systemd.link(5): Name=)",
        );
    }
    plan.refusals.len() > before
}

/// Refuses a NIC that is part of another device, or that another device depends on.
pub(super) fn has_no_master_or_upper(
    plan: &mut Plan,
    observed: &Observed,
    nic: &NicSnapshot,
    datapath: Datapath,
) {
    let (link, name) = (&nic.link, nic.link.name.as_str());
    if !link.up {
        let remedy = format!("`ip link set {name} up`");
        plan.refuse_unless_forced("down", name, "is down: no next hop can be probed", remedy);
    } else if !link.carrier {
        let remedy = "check the cable and the other end";
        plan.refuse_unless_forced("down", name, "has no carrier: no next hop can be probed", remedy);
    }
    if link.wireless {
        plan.refuse_unless_forced(
            "wireless",
            name,
            "is wireless: an access point accepts frames of one MAC only, others may be lost",
            "use a wired NIC",
        );
    }
    has_master(plan, observed, link);
    let is_above = |other: &&LinkSnapshot| {
        other.lower == Some(link.index)
            && other.index != link.index
            && !PEER_KINDS.contains(&other.kind.as_str())
    };
    for above in observed.links.iter().filter(is_above) {
        has_upper(plan, name, above, datapath);
    }
    match link.xdp.as_deref() {
        Some("generic") => plan.warn(
            "xdp-attached",
            name,
            "has a generic XDP program: it still acts before the switch sees a frame",
            format!("`ip link set {name} xdpgeneric off` if it is no longer wanted"),
        ),
        Some(mode) => plan.refuse_unless_forced(
            "xdp-attached",
            name,
            format!("has an XDP program ({mode}): the switch does not see what it takes or drops"),
            format!("end the program that attached it, or `ip link set {name} xdp off`"),
        ),
        None => {}
    }
    for what in &nic.device_offloads {
        plan.refuse_unless_forced(
            "device-offload",
            name,
            format!("does {what} in hardware: frames of the bridge do not pass it"),
            format!("turn off the offload of {what} and let the kernel do it"),
        );
    }
}

fn has_master(plan: &mut Plan, observed: &Observed, link: &LinkSnapshot) {
    let Some(index) = link.master else { return };
    let (name, master) = (link.name.as_str(), observed.indexed(index));
    let master_name = master.map_or("another device", |found| found.name.as_str());
    match master.map_or("", |found| found.kind.as_str()) {
        // The kernel datapath's own device: other checks cover the port.
        "openvswitch" => {}
        kind @ ("bond" | "team") => plan.refuse(
            "bond-slave",
            name,
            format!("is a slave of {kind} {master_name}: its frames are the {kind}'s"),
            format!("take the {kind} itself: nics-to-bridge {master_name}"),
        ),
        kind => plan.refuse(
            "nic-has-master",
            name,
            format!("is a port of {master_name} ({})", kind_name(kind)),
            format!("`ip link set {name} nomaster` first, with its addresses on {name}"),
        ),
    }
}

fn has_upper(plan: &mut Plan, nic: &str, above: &LinkSnapshot, datapath: Datapath) {
    let (name, kind) = (&above.name, above.kind.as_str());
    match (kind, datapath) {
        ("vlan", Datapath::Netdev) => plan.refuse_unless_forced(
            "vlan-child",
            nic,
            format!(
                "VLAN {name} is on top of it and would receive nothing: the ingress filter is below it"
            ),
            format!("make the VLAN on the bridge instead (an internal port of br{nic} with that tag), or take {name} itself as the uplink"),
        ),
        // The kernel delivers to VLAN devices before the receive handler of its datapath.
        ("vlan", Datapath::System) => plan.warn(
            "vlan-child",
            nic,
            format!("VLAN {name} is on top of it and keeps its frames: the bridge does not see that VLAN"),
            "make the VLAN on the bridge (a port with that tag) if pods need it",
        ),
        _ => plan.refuse_unless_forced(
            "nic-is-lower-device",
            nic,
            format!("{name} ({}) is on top of it and would be cut off", kind_name(kind)),
            format!("remove it first (`ip link del {name}`) and make it on br{nic} afterwards"),
        ),
    }
}

/// Warns about a bond and a VLAN device; both are supported.
pub(super) fn bond_or_vlan(plan: &mut Plan, observed: &Observed, nic: &NicSnapshot) {
    let name = nic.link.name.as_str();
    match nic.link.kind.as_str() {
        kind @ ("bond" | "team") => plan.warn(
            "bond",
            name,
            format!(
                "is a {kind}: it stays one, slaves, hash and LACP are as before; the bridge keeps the MAC the {kind} has now"
            ),
            "do not run it with fail_over_mac=active: its MAC would change under the bridge",
        ),
        "vlan" => {
            let below = nic.link.lower.and_then(|index| observed.indexed(index));
            let below = below.map_or("the device below", |link| link.name.as_str());
            plan.warn(
                "tagged-uplink",
                name,
                format!(
                    "is a VLAN of {below}: the bridge sees its frames without the tag, {below} is left as it is"
                ),
                "nothing to do; the VLAN must stay as long as the bridge does",
            );
        }
        _ => {}
    }
}

fn kind_name(kind: &str) -> &str {
    if kind.is_empty() { "unknown kind" } else { kind }
}
