//! The bridge in the switch, and the NIC as its port.

use uplink::observe::{Binding, Bridge, NicSnapshot};

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{NodeSnapshot, UplinkSnapshot};

/// What the switch's database says of bridge and port.
pub(super) fn check(node: &NodeSnapshot, uplink: &UplinkSnapshot, bridge: &Bridge) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (nic, name) = (uplink.nic.as_str(), uplink.bridge.as_str());
    match bridge.ports.iter().find(|port| port.name == nic) {
        None => findings.push(Finding::error(
            "port-missing",
            name,
            format!("does not have {nic} as a port"),
            "no frame passes between the bridge and the NIC",
            format!("`ovn-k8s-util recover` puts management on the NIC; then `ovn-k8s-util nics-to-bridge {nic}` adds the port"),
        )),
        Some(port) if !port.error.is_empty() || port.ofport.is_some_and(|number| number < 0) => {
            findings.push(Finding::error(
                "port-broken",
                nic,
                format!("ovs-vswitchd could not open it as a port of {name}: {}", port.error),
                "no frame passes between the bridge and the NIC",
                format!("ovs-vswitchd.log has the cause; `ovn-k8s-util bridge-to-nics {name}` puts management on the NIC meanwhile"),
            ));
        }
        Some(port) if port.ofport.is_none() && node.observed.switch.vswitchd == Some(true) => {
            findings.push(Finding::warning(
                "port-broken",
                nic,
                "has no OpenFlow port number yet",
                "ovs-vswitchd has not opened it",
                "run doctor again; if it stays, ovs-vswitchd.log has the cause",
            ));
        }
        Some(_) => {}
    }
    if bridge.fail_mode == "secure" {
        findings.push(Finding::warning(
            "fail-mode",
            name,
            "has fail_mode secure",
            "after a restart of ovs-vswitchd the node is cut off until the flows are back",
            format!("`ovs-vsctl set-fail-mode {name} standalone` (it removes the flows once; the helper writes them again)"),
        ));
    }
    findings
}

/// A NIC that was recreated (driver reloaded, card replugged): the database lists the port without an error and with the
/// new number, but ovs-vswitchd's socket is on the device that is gone.
pub(super) fn dead(
    node: &NodeSnapshot,
    uplink: &UplinkSnapshot,
    bridge: &Bridge,
    nic: &NicSnapshot,
) -> Option<Finding> {
    let port = bridge.ports.iter().find(|port| port.name == uplink.nic)?;
    let is_open =
        port.kind.is_empty() && port.error.is_empty() && port.ofport.is_some_and(|number| number > 0);
    let is_unknown = |what: &String| what.contains(&format!("packet sockets of {}", uplink.nic));
    // Without root the owner of a socket is not known.
    if node.observed.unknown.iter().any(is_unknown)
        || !is_open
        || node.observed.switch.vswitchd != Some(true)
        || node.unprivileged
    {
        return None;
    }
    let is_received = if bridge.datapath_type() == "netdev" {
        let of_switch = |program: &Option<String>| program.as_deref().is_none_or(|it| it == "ovs-vswitchd");
        nic.bound.iter().any(|bound| bound.how == Binding::Packet && of_switch(&bound.program))
    } else {
        // The kernel's datapath is the master of its ports.
        nic.link.master.is_some()
    };
    if is_received {
        return None;
    }
    let indexes = match uplink.index_at_takeover.filter(|before| *before != nic.link.index) {
        Some(before) => format!(" (interface index {before} at the takeover, {} now)", nic.link.index),
        None => String::new(),
    };
    let (nic, bridge) = (&uplink.nic, &uplink.bridge);
    Some(Finding::error(
        "port-dead",
        nic,
        format!(
            "is listed as a port of {bridge}, but ovs-vswitchd receives nothing from it: the NIC was recreated{indexes}"
        ),
        "no frame passes between the bridge and the NIC, although both look healthy",
        format!(
            "`ovn-k8s-util recover` attaches it again; if its MAC changed, it is another NIC: `ovn-k8s-util bridge-to-nics {bridge}`, then `ovn-k8s-util nics-to-bridge {nic}`"
        ),
    ))
}
