//! What is done, in words.

use super::{Plan, UplinkPlan};
use crate::managers::Handover;
use crate::observe::NicSnapshot;
use crate::options::Datapath;

/// How many routes are shown one by one; a router may have tens of thousands.
const SHOWN: usize = 24;

/// From the NIC onto the bridge.
pub(super) fn attach(plan: &mut Plan, found: &NicSnapshot, uplink: &UplinkPlan, handovers: &[Handover]) {
    let UplinkPlan { nic, bridge, datapath, .. } = uplink;
    let mut steps = vec![format!("{nic}: write the undo journal, start the rollback watchdog")];
    for handover in handovers {
        steps.extend(handover.prepare.iter().map(|act| format!("{}: {act}", handover.manager)));
    }
    steps.push(if uplink.half_way {
        format!("{bridge}: there already, with port {nic}")
    } else {
        let (mac, mtu) = (&found.link.mac, found.link.mtu);
        format!("{bridge}: make the bridge (datapath {datapath}, MAC {mac}, MTU {mtu}), port {nic}")
    });
    steps.push(match datapath {
        Datapath::Netdev => {
            let guard = super::switch::guard_of(bridge);
            format!("{bridge}: guard table netdev {guard}, so that no frame is heard twice")
        }
        Datapath::System => format!("{bridge}: rp_filter 2, as both devices have the addresses for a moment"),
    });
    if !found.offloads.is_empty() {
        let offloads = found.offloads.join(", ");
        steps.push(format!("{nic}: turn off {offloads} (frames too large for the switch's port)"));
    }
    moved(&mut steps, found, bridge);
    if let Some(qdisc) = &found.qdisc {
        steps.push(format!("{nic}: keep the root qdisc \"{qdisc}\" (QoS linux-noop on its port)"));
    }
    let hops: Vec<_> = found.next_hops().iter().take(SHOWN).map(ToString::to_string).collect();
    let when = match datapath {
        Datapath::Netdev => "and turn nothing before each has answered",
        Datapath::System => "right after the turn (on this datapath the port's addition turns the ears)",
    };
    steps.push(if hops.is_empty() {
        format!("{bridge}: no next hop to prove the way with")
    } else {
        format!("{bridge}: ask through it for {}, {when}", hops.join(", "))
    });
    steps.push(format!("turn: listen on {bridge}, route by {bridge}, take the addresses off {nic}"));
    steps.push("verify addresses, routes, next hops, connections; commit, or undo all of it".to_owned());
    for handover in handovers {
        steps.extend(handover.complete.iter().map(|act| format!("{}: {act}", handover.manager)));
    }
    plan.steps.extend(steps);
}

/// From the bridge back to the NIC.
pub(super) fn detach(plan: &mut Plan, found: &NicSnapshot, uplink: &UplinkPlan) {
    let UplinkPlan { nic, bridge, .. } = uplink;
    let mut steps = vec![format!("{bridge}: write the undo journal, start the rollback watchdog")];
    moved(&mut steps, found, nic);
    steps.push(format!("turn: route by {nic}, listen on both for a moment, then on {nic} alone"));
    steps.push("verify addresses, routes, next hops, connections".to_owned());
    steps.push(format!(
        "{bridge}: remove the bridge and its guard; give {nic} its offloads, qdisc and settings back"
    ));
    plan.steps.extend(steps);
}

fn moved(steps: &mut Vec<String>, found: &NicSnapshot, to: &str) {
    for address in found.addresses.iter().filter(|address| !address.temporary) {
        steps.push(format!("{to}: address {}", address.text));
    }
    let routes: Vec<_> = found.routes.iter().filter(|route| !route.by_kernel).collect();
    for route in routes.iter().take(SHOWN) {
        steps.push(format!("{to}: route {}", route.text));
    }
    if routes.len() > SHOWN {
        steps.push(format!("{to}: and {} more routes", routes.len() - SHOWN));
    }
    for rule in &found.rules {
        steps.push(format!("{to}: a twin of the rule \"{rule}\""));
    }
    for nexthop in &found.nexthops {
        steps.push(format!("{to}: nexthop {nexthop}"));
    }
    if found.neighbours > 0 {
        steps.push(format!("{to}: {} neighbours", found.neighbours));
    }
}
