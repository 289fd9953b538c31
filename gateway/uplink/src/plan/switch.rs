//! What the switch has to say: whether it answers, whether the name is free, whether the bridge may go.

use host::ingress_filter::IngressFilter;

use super::{Plan, UplinkPlan, nic_of};
use crate::observe::{Bridge, Observed};

/// Nothing can be built without the switch.
pub(super) fn answers(plan: &mut Plan, observed: &Observed) {
    if !observed.switch.answers {
        plan.refuse(
            "switch-away",
            "Open vSwitch",
            "its database does not answer",
            "start it (`systemctl start openvswitch-switch`), or name its socket with --db",
        );
    } else if observed.switch.vswitchd == Some(false) {
        plan.refuse(
            "switch-away",
            "Open vSwitch",
            "ovs-vswitchd does not run: a bridge could be written down, not made",
            "start it (`systemctl start openvswitch-switch`)",
        );
    }
}

/// The NIC must not be a port elsewhere, the bridge's name must not be somebody else's.
pub(super) fn name_is_free(plan: &mut Plan, observed: &Observed, uplink: &UplinkPlan) {
    let (nic, bridge) = (uplink.nic.as_str(), uplink.bridge.as_str());
    if let Some(other) = observed.switch.bridge_of(nic).filter(|other| other.name != bridge) {
        plan.refuse(
            "port-of-other-bridge",
            nic,
            format!("is a port of bridge {} already", other.name),
            format!("`ovs-vsctl del-port {} {nic}` first, if nothing uses it there", other.name),
        );
    }
    if observed.switch.bridge(nic).is_some() {
        let what = "is a bridge of Open vSwitch itself";
        plan.refuse("port-of-other-bridge", nic, what, "name the NIC, not its bridge");
    }
    let device = observed.link(bridge);
    match observed.switch.bridge(bridge) {
        None if device.is_some() && observed.switch.answers => plan.refuse(
            "bridge-name-taken",
            nic,
            format!("a device {bridge} is there that is no bridge of Open vSwitch"),
            format!("rename or remove it (`ip link del {bridge}`)"),
        ),
        Some(there) if there.datapath_type() != uplink.datapath.name() => plan.refuse(
            "datapath-differs",
            nic,
            format!(
                "bridge {bridge} is there with datapath type {}, asked for is {}",
                there.datapath_type(),
                uplink.datapath
            ),
            "leave --datapath-type out",
        ),
        Some(there) if !uplink.half_way && !there.ours && !there.original => plan.warn_off(
            "bridge-of-others",
            nic,
            format!(
                "bridge {bridge} is there and not of our making: it would get the NIC and its MAC, and bridge-to-nics would not take it back"
            ),
            format!("remove it if nobody needs it (`ovs-vsctl del-br {bridge}`)"),
        ),
        _ => {}
    }
    let guard = guard_of(bridge);
    if observed.foreign_guards.contains(&guard) {
        plan.refuse(
            "guard-name-taken",
            nic,
            format!("an nftables table netdev {guard} is there that is not ours"),
            format!("rename or remove it (`nft delete table netdev {guard}`)"),
        );
    }
}

/// The guard table of a bridge.
pub(super) fn guard_of(bridge: &str) -> String {
    IngressFilter::table(bridge)
}

/// Whether the bridge may go; its NIC.
pub(super) fn may_go(plan: &mut Plan, observed: &Observed, bridge: &str) -> Option<String> {
    let named = nic_of(bridge).map(str::to_owned);
    if !observed.switch.answers {
        // The network's part needs no switch; what the database holds goes when it is back.
        plan.warn(
            "switch-away",
            bridge,
            "the switch's database does not answer: addresses and routes can go back, the bridge stays in the database",
            "run this again when the switch is back",
        );
        return named;
    }
    let Some(found) = observed.switch.bridge(bridge) else {
        let (name, what) = match observed.link(bridge) {
            None => ("not-found", "there is no such bridge"),
            Some(_) => ("not-ours", "is no bridge of Open vSwitch"),
        };
        plan.refuse(name, bridge, what, "`ovs-vsctl list-br` lists the bridges");
        return None;
    };
    if found.original {
        plan.warn(
            "original-bridge",
            bridge,
            "was made by the original nics-to-bridge: what the NIC had before is not on record",
            "nothing to do; what the bridge carries now goes to the NIC",
        );
    } else if !found.ours {
        plan.refuse(
            "not-ours",
            bridge,
            "was not made by nics-to-bridge (external_ids:ovn-k8s-owner is not \"uplink\")",
            "move its addresses by hand, and remove it with `ovs-vsctl del-br`",
        );
        return None;
    }
    users(plan, found);
    nic_to_go_to(plan, observed, found, named)
}

/// Who else uses the bridge.
fn users(plan: &mut Plan, found: &Bridge) {
    if let Some(patch) = found.ports.iter().find(|port| port.kind == "patch") {
        let of = patch.of.as_deref().map(|of| format!(" ({of})")).unwrap_or_default();
        plan.warn_off(
            "gateway-router",
            &found.name,
            format!("a gateway router uses it, by the patch port {}{of}: the pods would lose the outside", patch.name),
            "stop ovn-k8s-gateway-helper and take the gateway away first (its router in OVN, ovn-bridge-mappings)",
        );
    }
}

/// The NIC the addresses go back to.
fn nic_to_go_to(
    plan: &mut Plan,
    observed: &Observed,
    found: &Bridge,
    named: Option<String>,
) -> Option<String> {
    let bridge = found.name.as_str();
    let is_nic =
        |name: &String| found.ports.iter().any(|port| port.name == *name) || observed.link(name).is_some();
    let by_mark = found.ports.iter().find(|port| port.ours && port.kind.is_empty());
    let Some(nic) = by_mark.map(|port| port.name.clone()).or(named.filter(is_nic)) else {
        plan.refuse("not-found", bridge, "has no NIC to go back to", "move its addresses by hand");
        return None;
    };
    let is_other =
        |name: &str| name != nic && found.ports.iter().any(|port| port.name == name && port.kind != "patch");
    let others: Vec<_> =
        found.ports.iter().map(|port| port.name.as_str()).filter(|name| is_other(name)).collect();
    if !others.is_empty() {
        plan.warn_off(
            "other-ports",
            bridge,
            format!("has other ports, which would lose their switch: {}", others.join(", ")),
            format!("`ovs-vsctl del-port {bridge} PORT` for each that is not needed any more"),
        );
    }
    if observed.link(&nic).is_none() {
        plan.refuse(
            "not-found",
            bridge,
            format!("its NIC {nic} is not there"),
            "see whether its driver is loaded (`ip -br link`, `dmesg`)",
        );
        return None;
    }
    Some(nic)
}
