//! An uplink that is in use: bridge, port, guard, addresses, routes, and who else has a hand in it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use host::ingress_filter::Accepting;

use super::super::snapshot::{Seen, UplinkSeen};
use super::Finding;
use uplink::managers::Manager;
use uplink::observe::{Binding, Bridge, NicSnapshot};
use uplink::plan;

/// Less left of a lease than this and nobody known who renews it: it will be too late soon.
const SOON: u32 = 15 * 60;

/// Names of a plan's findings that hold for a NIC in use as well: what was true before the takeover bites now.
const STILL_TRUE: [&str; 4] = ["firewall-names-nic", "bound-socket", "multicast-membership", "afxdp-socket"];

/// Everything about one uplink.
pub(super) fn check(seen: &Seen, uplink: &UplinkSeen) -> Vec<Finding> {
    let (observed, mut findings) = (&seen.observed, Vec::new());
    let bridge = observed.switch.bridge(&uplink.bridge);
    if observed.switch.answers {
        match bridge {
            Some(bridge) => findings.extend(in_the_switch(seen, uplink, bridge)),
            None => findings.push(Finding::error(
                "bridge-missing",
                &uplink.bridge,
                "is on record as taken into use, and the switch does not have it",
                "addresses on it carry nothing",
                "`ovn-k8s-util recover`",
            )),
        }
    }
    let (Some(nic), Some(own)) = (observed.nic(&uplink.nic), observed.nic(&uplink.bridge)) else {
        let (gone, remedy) = if observed.nic(&uplink.nic).is_none() {
            (&uplink.nic, "see whether its driver has a problem (`dmesg`), or where it went (`ip -br link`)")
        } else {
            (
                &uplink.bridge,
                "`ovn-k8s-util recover` gives the NIC what it had; if ovs-vswitchd runs, its log says why it does not make it",
            )
        };
        findings.push(Finding::error(
            "device-missing",
            gone,
            "is not there as a network device",
            "management has nothing to go by",
            remedy,
        ));
        return findings;
    };
    findings.extend(bridge.and_then(|bridge| dead_port(seen, uplink, bridge, nic)));
    findings.extend(links(uplink, nic, own));
    let carrier = carrier(nic, own);
    findings.extend(addresses(seen, uplink, nic, own));
    let userspace = bridge.is_none_or(|bridge| bridge.datapath_type() == "netdev");
    if userspace {
        findings.extend(guard(uplink, carrier));
        findings.extend(offloads(nic));
    }
    findings.extend(sysctls(uplink, userspace));
    findings.extend(leases(seen, uplink, own));
    findings.extend(managers(seen, uplink));
    findings.extend(left_behind(seen, uplink));
    if findings.is_empty() {
        let what = format!("port, guard, addresses and routes of {} are as they should be", uplink.bridge);
        findings.push(Finding::ok("uplink", &uplink.nic, what));
    }
    findings
}

/// What the switch has of it.
fn in_the_switch(seen: &Seen, uplink: &UplinkSeen, bridge: &Bridge) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (nic, name) = (uplink.nic.as_str(), uplink.bridge.as_str());
    match bridge.ports.iter().find(|port| port.name == nic) {
        None => findings.push(Finding::error(
            "port-missing",
            name,
            format!("does not have {nic} as a port"),
            "nothing comes in or goes out by it",
            format!("`ovn-k8s-util recover` puts management on the NIC; from there `ovn-k8s-util nics-to-bridge {nic}` makes the port again"),
        )),
        Some(port) if !port.error.is_empty() || port.ofport.is_some_and(|number| number < 0) => {
            findings.push(Finding::error(
                "port-broken",
                nic,
                format!("ovs-vswitchd could not take it as a port of {name}: {}", port.error),
                "nothing comes in or goes out by the bridge",
                "ovs-vswitchd.log says more; `ovn-k8s-util bridge-to-nics` puts management on the NIC meanwhile",
            ));
        }
        Some(port) if port.ofport.is_none() && seen.observed.switch.vswitchd == Some(true) => {
            findings.push(Finding::warning(
                "port-broken",
                nic,
                "has no port number yet",
                "ovs-vswitchd has not taken it up",
                "look again; then ovs-vswitchd.log",
            ));
        }
        Some(_) => {}
    }
    if bridge.fail_mode == "secure" {
        findings.push(Finding::warning(
            "fail-mode",
            name,
            "has fail_mode secure",
            "whenever its flows are not there yet (a restart of ovs-vswitchd) the node is cut off",
            format!("`ovs-vsctl set-fail-mode {name} standalone` (this drops its flows once; the helper writes them again)"),
        ));
    }
    findings
}

/// A NIC that was made anew (its driver was loaded again, its card came back): the switch still lists the port, says
/// nothing of an error, and has the new number in its database; but its socket was on the old device.
fn dead_port(seen: &Seen, uplink: &UplinkSeen, bridge: &Bridge, nic: &NicSnapshot) -> Option<Finding> {
    let port = bridge.ports.iter().find(|port| port.name == uplink.nic)?;
    let is_open =
        port.kind.is_empty() && port.error.is_empty() && port.ofport.is_some_and(|number| number > 0);
    let is_unknown = |what: &String| what.contains(&format!("packet sockets of {}", uplink.nic));
    // Without root it cannot be seen whose a socket is.
    if seen.observed.unknown.iter().any(is_unknown)
        || !is_open
        || seen.observed.switch.vswitchd != Some(true)
        || seen.unprivileged
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
    let anew = match uplink.index_then.filter(|then| *then != nic.link.index) {
        Some(then) => {
            format!(" (it had number {then} when it was taken over, and has {} now)", nic.link.index)
        }
        None => String::new(),
    };
    Some(Finding::error(
        "port-dead",
        &uplink.nic,
        format!(
            "is listed as a port of {}, and the switch hears nothing of it: the NIC was made anew{anew}",
            uplink.bridge
        ),
        "nothing comes in or goes out by the bridge, though port and bridge look well",
        format!(
            "`ovn-k8s-util recover` attaches it again; one with another MAC address is another NIC: `ovn-k8s-util bridge-to-nics {}`, then `ovn-k8s-util nics-to-bridge {}`",
            uplink.bridge, uplink.nic
        ),
    ))
}

/// The two devices themselves.
fn links(uplink: &UplinkSeen, nic: &NicSnapshot, own: &NicSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (nic_name, bridge) = (uplink.nic.as_str(), uplink.bridge.as_str());
    if !nic.link.up || !nic.link.carrier {
        let what = if nic.link.up { "has no carrier" } else { "is down" };
        let remedy = if nic.link.up {
            "see to the cable and the other end".to_owned()
        } else {
            format!("`ip link set {nic_name} up`")
        };
        findings.push(Finding::error("link-down", nic_name, what, "nothing comes in or goes out", remedy));
    }
    let carries = !own.addresses.iter().all(|address| address.link_local);
    if carries && !own.link.up {
        let remedy = format!("`ip link set {bridge} up`, or `ovn-k8s-util recover`");
        findings.push(Finding::error(
            "link-down",
            bridge,
            "has addresses and is down",
            "management is cut off",
            remedy,
        ));
    } else if carries && !own.link.carrier {
        findings.push(Finding::warning(
            "link-down",
            bridge,
            "has no carrier",
            "ovs-vswitchd does not have it open: it is away, or stuck",
            "start it; its log says why it ended",
        ));
    }
    if nic.link.mac != own.link.mac {
        findings.push(Finding::error(
            "mac-differs",
            bridge,
            format!("has the MAC {}, {nic_name} has {}", own.link.mac, nic.link.mac),
            "answers go to a MAC that the NIC may not listen to",
            format!("`ovs-vsctl set bridge {bridge} other_config:hwaddr={}`", nic.link.mac),
        ));
    }
    if carries && nic.link.mtu != own.link.mtu {
        findings.push(Finding::warning(
            "mtu-differs",
            bridge,
            format!("has an MTU of {}, {nic_name} of {}", own.link.mtu, nic.link.mtu),
            "large packets are lost, or smaller ones sent than could be",
            format!("`ovs-vsctl set interface {bridge} mtu_request={}`", nic.link.mtu),
        ));
    }
    findings
}

/// Which of the two carries the node's addresses.
fn carrier(nic: &NicSnapshot, own: &NicSnapshot) -> Option<Accepting> {
    match (global(nic).is_empty(), global(own).is_empty()) {
        (true, true) => None,
        (false, true) => Some(Accepting::Nic),
        (_, false) => Some(Accepting::Bridge),
    }
}

fn global(device: &NicSnapshot) -> BTreeSet<IpAddr> {
    device.addresses.iter().filter(|address| !address.link_local).map(|address| address.net.addr()).collect()
}

/// On which device addresses and routes are.
fn addresses(seen: &Seen, uplink: &UplinkSeen, nic: &NicSnapshot, own: &NicSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (on_nic, on_bridge) = (global(nic), global(own));
    let both: Vec<_> = on_nic.intersection(&on_bridge).map(ToString::to_string).collect();
    let failed_over = seen
        .helper
        .as_ref()
        .and_then(|helper| helper.status.as_ref().ok())
        .is_some_and(|status| status.management.at == uplink::failover::At::Nic);
    if !both.is_empty() {
        findings.push(Finding::warning(
            "address-twice",
            &uplink.nic,
            format!("has {} as well as {}", both.join(", "), uplink.bridge),
            "its connected routes pull traffic to the NIC, where the guard drops the answers; a network manager may have put them back",
            "`ovn-k8s-util recover`; then see who put them there (managers are listed here)",
        ));
    } else if !on_nic.is_empty() && !failed_over {
        let stray: Vec<_> = on_nic.iter().map(ToString::to_string).collect();
        findings.push(Finding::warning(
            "address-on-nic",
            &uplink.nic,
            format!("has {} while it is a port of {}", stray.join(", "), uplink.bridge),
            "after a reboot, or by another tool, management is on the NIC: the bridge carries none of it",
            format!("`ovn-k8s-util nics-to-bridge {}` takes it over from here without a gap", uplink.nic),
        ));
    }
    if on_nic.is_empty() && on_bridge.is_empty() {
        findings.push(Finding::error(
            "no-address",
            &uplink.bridge,
            format!("has no address, and neither has {}", uplink.nic),
            "the node cannot be reached by this uplink",
            "see who looks after its addresses (managers are listed here); `ovn-k8s-util recover`",
        ));
    }
    let gone = lost_families(uplink, nic, own);
    let has_addresses = !on_nic.is_empty() || !on_bridge.is_empty();
    if has_addresses && !gone.is_empty() {
        findings.push(Finding::error(
            "no-route",
            &uplink.bridge,
            format!("has no default route ({}), and had one when it was taken over", gone.join(", ")),
            "what is not on its own networks cannot be reached: routes go when a device is set down, as ovs-vswitchd does for another MAC",
            format!("add it again (`ip route add default via ROUTER dev {}`), or have its network manager do so", uplink.bridge),
        ));
    }
    let stray = nic.routes.iter().filter(|route| !route.by_kernel && !route.via.is_empty());
    let stray: Vec<_> = stray.map(|route| route.text.as_str()).take(3).collect();
    if !stray.is_empty() && !on_bridge.is_empty() {
        findings.push(Finding::warning(
            "route-on-nic",
            &uplink.nic,
            format!("has routes of its own: {}", stray.join("; ")),
            "what goes by them leaves by the NIC, and its answers are dropped by the guard",
            "`ovn-k8s-util recover`",
        ));
    }
    findings
}

/// Families that had a default route over a router at the takeover, and have none now. Those that routers announce come
/// again by themselves.
fn lost_families(uplink: &UplinkSeen, nic: &NicSnapshot, own: &NicSnapshot) -> Vec<&'static str> {
    let has = |v6: bool| {
        let mut all = own.routes.iter().chain(&nic.routes);
        all.any(|route| route.to.prefix_len() == 0 && route.to.addr().is_ipv6() == v6)
    };
    let families = [("IPv4", false, uplink.default_v4), ("IPv6", true, uplink.default_v6)];
    families.into_iter().filter(|(_, v6, had)| *had && !has(*v6)).map(|(name, ..)| name).collect()
}

/// The guard against hearing frames twice.
fn guard(uplink: &UplinkSeen, carrier: Option<Accepting>) -> Option<Finding> {
    const REMEDY: &str = "`ovn-k8s-util recover`, or start ovn-k8s-gateway-helper, which keeps it";
    let about = uplink.bridge.as_str();
    let carrier = carrier?;
    let Some(guard) = uplink.guard.filter(|guard| guard.whole) else {
        return Some(Finding::error(
            "guard-missing",
            about,
            "has no guard, or half of one",
            "the host hears every frame twice, at the NIC and at the bridge: answers are doubled, counters are wrong, and pods' frames may be reset",
            REMEDY,
        ));
    };
    match guard.listening {
        None => Some(Finding::error(
            "guard-wrong",
            about,
            "its guard drops what comes in by both devices",
            "the node hears nothing on this uplink",
            REMEDY,
        )),
        Some(Accepting::Both) => Some(Finding::error(
            "guard-wrong",
            about,
            "its guard lets both devices through",
            "the host hears every frame twice",
            REMEDY,
        )),
        Some(turned) if turned != carrier => Some(Finding::error(
            "guard-wrong",
            about,
            format!("its guard listens to {turned}, the addresses are on {carrier}"),
            "what comes in is dropped where the addresses are, so that only part of the traffic passes",
            REMEDY,
        )),
        Some(_) => None,
    }
}

/// What the userspace datapath's port cannot take.
fn offloads(nic: &NicSnapshot) -> Option<Finding> {
    (!nic.offloads.is_empty()).then(|| {
        let all = nic.offloads.join(", ");
        Finding::warning(
            "offloads",
            &nic.link.name,
            format!("puts received packets together ({all})"),
            "the switch gets frames that are too large to send on: connections through the bridge stall",
            format!("`ethtool -K {} gro off lro off`", nic.link.name),
        )
    })
}

/// Sysctls of the bridge.
fn sysctls(uplink: &UplinkSeen, userspace: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let about = uplink.bridge.as_str();
    let value = |name: &str| uplink.sysctls.get(name).map(String::as_str);
    // The larger of both counts (Documentation/networking/ip-sysctl.rst).
    let strict = value("ipv4/conf/rp_filter").max(uplink.rp_filter_all.as_deref()) == Some("1");
    if strict {
        findings.push(Finding::note(
            "rp-filter",
            about,
            "has strict reverse path filtering (rp_filter 1)",
            "while management changes between NIC and bridge, packets are dropped until its routes have",
            format!("`sysctl -w net.ipv4.conf.{about}.rp_filter=2` is enough and still filters"),
        ));
    }
    if value("ipv6/conf/disable_ipv6") == Some("1") {
        findings.push(Finding::note(
            "ipv6-off",
            about,
            "has no IPv6",
            "if the NIC had some, it was lost",
            format!("`sysctl -w net.ipv6.conf.{about}.disable_ipv6=0`"),
        ));
    }
    let evicts: Vec<_> = ["ipv4/conf/arp_evict_nocarrier", "ipv6/conf/ndisc_evict_nocarrier"]
        .into_iter()
        .filter(|name| value(name) == Some("1"))
        .map(|name| name.rsplit('/').next().unwrap_or(name))
        .collect();
    if userspace && !evicts.is_empty() {
        findings.push(Finding::note(
            "evict-nocarrier",
            about,
            format!("forgets its neighbours when ovs-vswitchd restarts ({})", evicts.join(", ")),
            "a second is lost with each restart, for the first ARP request",
            "`ovn-k8s-util recover` sets them to 0",
        ));
    }
    findings
}

/// Addresses with an end.
fn leases(seen: &Seen, uplink: &UplinkSeen, own: &NicSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ending = own.addresses.iter().filter(|it| !it.temporary && !it.link_local && !it.by_router);
    for (address, left) in ending.filter_map(|address| Some((address, address.left?))) {
        let about = uplink.bridge.as_str();
        let kept = seen.observed.managers.iter().any(|found| found.nic == uplink.bridge);
        let what = format!("{} ends in {left} s", address.net);
        findings.push(if kept {
            Finding::note("lease", about, what, "its DHCP client runs and renews it", "nothing to do")
        } else {
            let why = "nothing was found that renews it: the node is unreachable then";
            let remedy = format!("start a DHCP client on {about}, or make the address static");
            if left < SOON {
                Finding::error("lease", about, what, why, remedy)
            } else {
                Finding::warning("lease", about, what, why, remedy)
            }
        });
    }
    findings
}

/// Managers that still have the NIC.
fn managers(seen: &Seen, uplink: &UplinkSeen) -> Vec<Finding> {
    let of_nic = seen.observed.managers.iter().filter(|found| found.nic == uplink.nic);
    // ifupdown and netplan act only when somebody calls them.
    let acting = of_nic.filter(|found| !matches!(found.manager, Manager::Ifupdown | Manager::Netplan));
    acting
        .filter(|found| !found.evidence.contains("00-ovn-k8s-"))
        .map(|found| {
            Finding::warning(
                "manager",
                &uplink.nic,
                format!("{} still looks after it ({})", found.manager, found.evidence),
                "it puts addresses and routes back on the NIC, or waits in vain for answers there",
                format!(
                    "`ovn-k8s-util nics-to-bridge {}` hands it over; or tell it to leave the NIC alone",
                    uplink.nic
                ),
            )
        })
        .collect()
}

/// What was bound to the NIC, or named it, and does not work any more.
fn left_behind(seen: &Seen, uplink: &UplinkSeen) -> Vec<Finding> {
    let left = plan::left_behind(&seen.observed, &uplink.nic);
    let refused = left.refusals.into_iter();
    let warned = left.warnings.into_iter();
    let all =
        refused.map(|it| (it.name, it.what, it.remedy)).chain(warned.map(|it| (it.name, it.what, it.remedy)));
    all.filter(|(name, ..)| STILL_TRUE.contains(name))
        .map(|(name, what, remedy)| {
            Finding::warning(name, &uplink.nic, what, "management is on the bridge: this holds now", remedy)
        })
        .collect()
}
