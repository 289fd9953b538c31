//! The switch: whether it answers, which datapath a bridge has, whether a name is free, whether a bridge may go.

use host::ingress_filter::IngressFilter;

use super::{Plan, UplinkPlan};
use crate::names::nic_of;
use crate::observe::{Bridge, Observed, SwitchSnapshot};
use crate::options::Datapath;

/// Refuses when the switch does not run.
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
            "ovs-vswitchd does not run: the bridge would be written to the database and not made",
            "start it (`systemctl start openvswitch-switch`)",
        );
    } else if observed.switch.uninitialised {
        plan.refuse(
            "switch-not-initialised",
            "Open vSwitch",
            "its database has no row in table Open_vSwitch",
            "start Open vSwitch as its package does, or run `ovs-vsctl init`",
        );
    }
}

/// The datapath of a bridge: its own if it exists, else the requested one, else that of OVN's bridge, else the kernel's.
#[must_use]
pub(crate) fn datapath(switch: &SwitchSnapshot, bridge: &str, asked: Option<Datapath>) -> Datapath {
    let own = switch.bridge(bridge).map(|found| found.datapath_type());
    let known = |text: &str| Datapath::of(text).unwrap_or(Datapath::System);
    own.map(known).or(asked).unwrap_or_else(|| known(&switch.datapath_type))
}

/// Refuses a datapath that the bridge does not have, of an unsupported type, or that ovs-vswitchd lacks. Whether it fits.
fn datapath_fits(plan: &mut Plan, observed: &Observed, uplink: &UplinkPlan, asked: Option<Datapath>) -> bool {
    let (nic, bridge, switch) = (uplink.nic.as_str(), uplink.bridge.as_str(), &observed.switch);
    let own = switch.bridge(bridge);
    if let (Some(found), Some(asked)) = (own, asked)
        && found.datapath_type() != asked.name()
    {
        plan.refuse(
            "datapath-differs",
            nic,
            format!(
                "bridge {bridge} exists with datapath type {}, requested is {asked}",
                found.datapath_type()
            ),
            "leave --datapath-type out, or remove the bridge first",
        );
        return false;
    }
    let (text, whose) = match (own, asked) {
        (Some(found), _) => (found.datapath_type(), bridge),
        (None, Some(asked)) => (asked.name(), bridge),
        (None, None) => (switch.datapath_type.as_str(), "external_ids:ovn-bridge-datapath-type"),
    };
    if Datapath::of(text).is_none() {
        plan.refuse(
            "datapath-unknown",
            nic,
            format!("{whose} has datapath type \"{text}\""),
            "only system and netdev can be taken over; --datapath-type names one for a new bridge",
        );
        return false;
    }
    let name = uplink.datapath.name();
    if !switch.datapath_types.is_empty() && !switch.datapath_types.iter().any(|has| has == name) {
        plan.refuse(
            "datapath-missing",
            nic,
            format!("this ovs-vswitchd has no datapath of type {name}"),
            format!("it has {}; --datapath-type names one", switch.datapath_types.join(", ")),
        );
        return false;
    }
    true
}

/// One run has one sequence of steps.
pub(super) fn refuse_mixed_datapaths(plan: &mut Plan, remedy: &str) {
    plan.refuse("datapaths-mixed", "this run", "its bridges have different datapaths", remedy);
}

/// Refuses a NIC that is a port of another bridge, and a bridge whose name is in use.
pub(super) fn name_is_free(
    plan: &mut Plan,
    observed: &Observed,
    uplink: &UplinkPlan,
    asked: Option<Datapath>,
) {
    let (nic, bridge) = (uplink.nic.as_str(), uplink.bridge.as_str());
    if let Some(other) = observed.switch.bridge_of(nic).filter(|other| other.name != bridge) {
        plan.refuse(
            "port-of-other-bridge",
            nic,
            format!("is a port of bridge {} already", other.name),
            format!("`ovs-vsctl del-port {} {nic}` first, if nothing uses that port", other.name),
        );
    }
    if observed.switch.bridge(nic).is_some() {
        let what = "is a bridge of Open vSwitch itself";
        plan.refuse("port-of-other-bridge", nic, what, "name the NIC, not its bridge");
    }
    let device = observed.link(bridge);
    let fits = !observed.switch.answers || datapath_fits(plan, observed, uplink, asked);
    match observed.switch.bridge(bridge) {
        None if device.is_some() && observed.switch.answers => plan.refuse(
            "bridge-name-taken",
            nic,
            format!("a device {bridge} exists that is no bridge of Open vSwitch"),
            format!("rename or remove it (`ip link del {bridge}`)"),
        ),
        Some(found) if fits && !uplink.half_way && !found.ours && !found.original => plan.refuse_unless_forced(
            "bridge-of-others",
            nic,
            format!(
                "bridge {bridge} exists and was not made by nics-to-bridge: it would get the NIC and its MAC, and bridge-to-nics would not remove it"
            ),
            format!("remove it if it is not needed (`ovs-vsctl del-br {bridge}`)"),
        ),
        _ => {}
    }
    let table = filter_of(bridge);
    if observed.foreign_guards.contains(&table) {
        plan.refuse(
            "guard-name-taken",
            nic,
            format!("an nftables table netdev {table} exists that is not ours"),
            format!("rename or remove it (`nft delete table netdev {table}`)"),
        );
    }
}

/// The nft table of a bridge's ingress filter.
pub(super) fn filter_of(bridge: &str) -> String {
    IngressFilter::table(bridge)
}

/// Refuses a bridge that must not be removed. Returns its NIC.
pub(super) fn may_go(plan: &mut Plan, observed: &Observed, bridge: &str) -> Option<String> {
    let named = nic_of(bridge).map(str::to_owned);
    if !observed.switch.answers {
        // Addresses and routes need no switch; the database's rows are removed when it is back.
        plan.warn(
            "switch-away",
            bridge,
            "the switch's database does not answer: addresses and routes go back, the bridge stays in the database",
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
            "nothing to do; the NIC gets what the bridge carries now",
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
    nic_of_bridge(plan, observed, found, named)
}

/// Refuses a bridge that a gateway router uses.
fn users(plan: &mut Plan, found: &Bridge) {
    if let Some(patch) = found.ports.iter().find(|port| port.kind == "patch") {
        let of = patch.of.as_deref().map(|of| format!(" ({of})")).unwrap_or_default();
        plan.refuse_unless_forced(
            "gateway-router",
            &found.name,
            format!("a gateway router uses it, by the patch port {}{of}: the pods would lose their external connections", patch.name),
            "stop ovn-k8s-gateway-helper and take the gateway away first (its router in OVN, ovn-bridge-mappings)",
        );
    }
}

/// The NIC that gets the addresses.
fn nic_of_bridge(
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
        plan.refuse_unless_forced(
            "other-ports",
            bridge,
            format!("has other ports, which would lose their switch: {}", others.join(", ")),
            format!("`ovs-vsctl del-port {bridge} PORT` for each that is not needed any more"),
        );
    }
    Some(nic)
}
