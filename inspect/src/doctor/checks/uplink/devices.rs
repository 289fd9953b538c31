//! NIC and bridge as network devices: link state, MAC, MTU, offloads, sysctls.

use uplink::observe::NicSnapshot;

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::UplinkSnapshot;

/// Link state, MAC and MTU.
pub(super) fn links(uplink: &UplinkSnapshot, nic: &NicSnapshot, own: &NicSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (nic_name, bridge) = (uplink.nic.as_str(), uplink.bridge.as_str());
    if !nic.link.up || !nic.link.carrier {
        let (what, remedy) = if nic.link.up {
            (
                "has no carrier",
                format!("check the cable and the other end; `ethtool {nic_name}` shows the link"),
            )
        } else {
            ("is down", format!("`ip link set {nic_name} up`"))
        };
        findings.push(Finding::error("link-down", nic_name, what, "it carries no frames", remedy));
    }
    let carries = !own.addresses.iter().all(|address| address.link_local);
    if carries && !own.link.up {
        findings.push(Finding::error(
            "link-down",
            bridge,
            "has addresses and is down",
            "management is cut off",
            format!("`ip link set {bridge} up`, or `ovn-k8s-util recover`"),
        ));
    } else if carries && !own.link.carrier {
        findings.push(Finding::warning(
            "link-down",
            bridge,
            "has no carrier",
            "ovs-vswitchd does not have the device open: it does not run, or it hangs",
            "`systemctl start openvswitch-switch`; ovs-vswitchd.log says why it ended",
        ));
    }
    if nic.link.mac != own.link.mac {
        findings.push(Finding::error(
            "mac-differs",
            bridge,
            format!("has the MAC {}, {nic_name} has {}", own.link.mac, nic.link.mac),
            "the NIC may not accept the answers to frames that the bridge sends",
            format!("`ovs-vsctl set bridge {bridge} other_config:hwaddr={}`", nic.link.mac),
        ));
    }
    if carries && nic.link.mtu != own.link.mtu {
        findings.push(Finding::warning(
            "mtu-differs",
            bridge,
            format!("has the MTU {}, {nic_name} has {}", own.link.mtu, nic.link.mtu),
            "with the larger MTU large packets are lost; with the smaller one packets are smaller than they could be",
            format!("`ovs-vsctl set interface {bridge} mtu_request={}`", nic.link.mtu),
        ));
    }
    findings
}

/// Receive offloads, whose merged packets the userspace datapath cannot forward.
pub(super) fn offloads(nic: &NicSnapshot) -> Option<Finding> {
    (!nic.offloads.is_empty()).then(|| {
        Finding::warning(
            "offloads",
            &nic.link.name,
            format!("merges received packets ({})", nic.offloads.join(", ")),
            "the switch receives frames that are too large to forward: connections through the bridge stall",
            format!("`ethtool -K {} gro off lro off`", nic.link.name),
        )
    })
}

/// Sysctls of the bridge.
pub(super) fn sysctls(uplink: &UplinkSnapshot, userspace: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bridge = uplink.bridge.as_str();
    let value = |name: &str| uplink.sysctls.get(name).map(String::as_str);
    // The larger of both values applies (Documentation/networking/ip-sysctl.rst).
    if value("ipv4/conf/rp_filter").max(uplink.rp_filter_all.as_deref()) == Some("1") {
        findings.push(Finding::note(
            "rp-filter",
            bridge,
            "has strict reverse path filtering (rp_filter 1)",
            "while management moves between NIC and bridge, packets are dropped until the routes have moved too",
            format!("`sysctl -w net.ipv4.conf.{bridge}.rp_filter=2` still filters, and is enough"),
        ));
    }
    if value("ipv6/conf/disable_ipv6") == Some("1") {
        findings.push(Finding::note(
            "ipv6-off",
            bridge,
            "has IPv6 disabled",
            "IPv6 addresses of the NIC could not move to it",
            format!("`sysctl -w net.ipv6.conf.{bridge}.disable_ipv6=0`"),
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
            bridge,
            format!("drops its neighbour entries when ovs-vswitchd restarts ({})", evicts.join(", ")),
            "each restart costs about a second until the next hop is resolved again",
            "`ovn-k8s-util recover` sets them to 0",
        ));
    }
    findings
}
