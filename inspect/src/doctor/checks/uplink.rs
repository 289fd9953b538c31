//! An uplink that is taken over: bridge and port, devices, addresses and routes, ingress filter, network managers.

use uplink::observe::NicSnapshot;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{NodeSnapshot, UplinkSnapshot};

mod addresses;
mod devices;
mod filter;
mod managers;
mod port;

/// All findings about one uplink.
pub(super) fn check(node: &NodeSnapshot, uplink: &UplinkSnapshot) -> Vec<Finding> {
    let (observed, mut findings) = (&node.observed, Vec::new());
    let bridge = observed.switch.bridge(&uplink.bridge);
    if observed.switch.answers {
        match bridge {
            Some(bridge) => findings.extend(port::check(node, uplink, bridge)),
            None => findings.push(Finding::error(
                "bridge-missing",
                &uplink.bridge,
                "has a takeover record, but the switch has no such bridge",
                "addresses on it carry no traffic",
                "`ovn-k8s-util recover`",
            )),
        }
    }
    let (Some(nic), Some(own)) = (observed.nic(&uplink.nic), observed.nic(&uplink.bridge)) else {
        findings.push(missing(uplink, observed.nic(&uplink.nic)));
        return findings;
    };
    findings.extend(bridge.and_then(|bridge| port::dead(node, uplink, bridge, nic)));
    findings.extend(devices::links(uplink, nic, own));
    findings.extend(addresses::check(node, uplink, nic, own));
    let userspace = bridge.is_none_or(|bridge| bridge.datapath_type() == "netdev");
    if userspace {
        findings.extend(filter::check(uplink, addresses::location(nic, own)));
        findings.extend(devices::offloads(nic));
    }
    findings.extend(devices::sysctls(uplink, userspace));
    findings.extend(addresses::leases(node, uplink, own));
    findings.extend(managers::check(node, uplink));
    findings.extend(managers::left_behind(node, uplink));
    if findings.is_empty() {
        let what = format!("port, addresses, routes and ingress filter of {} are right", uplink.bridge);
        findings.push(Finding::ok("uplink", &uplink.nic, what));
    }
    findings
}

/// One of the two network devices does not exist.
fn missing(uplink: &UplinkSnapshot, nic: Option<&NicSnapshot>) -> Finding {
    let (about, remedy) = match nic {
        None => (
            &uplink.nic,
            "`dmesg` shows driver errors; `ip -br link` lists the devices under their present names",
        ),
        Some(_) => (
            &uplink.bridge,
            "`ovn-k8s-util recover` gives the NIC its addresses back; if ovs-vswitchd runs, ovs-vswitchd.log says why it does not create the device",
        ),
    };
    Finding::error(
        "device-missing",
        about,
        "does not exist as a network device",
        "management has no device for its addresses",
        remedy,
    )
}
