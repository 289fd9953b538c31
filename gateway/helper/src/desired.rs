//! From what is known to what should be: the split, the datapath, the node as Services are planned for it, the host's
//! part. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use demux::policy::{PortRange, ReplyRule, Split};
use ipnet::IpNet;

use crate::bridge::{BridgeView, PatchState};
use crate::facts::Facts;
use crate::host_paths::{HostNode, ManagementPath, ManagementPort, PodsPorts};
use crate::settings::{ReplySetting, Settings};
use flows::{FlowContext, SctpRule};
use services::NodeView;

/// UDP ports of the tunnels that end on the node itself: Geneve (RFC 8926) and VXLAN (RFC 7348).
const TUNNELS: [u16; 2] = [6081, 4789];
/// `IFNAMSIZ` allows 15 bytes; `k8s-` leaves eleven for the node's name.
const NODE_IN_DEVICE: usize = 11;

/// The shortest prefix of a service or join range: a route to a larger range would compete with the default route.
const SHORTEST_RANGE: u8 = 8;

/// Everything that should be, without the Services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Desired {
    /// The policy without its services.
    pub(crate) split: Split,
    /// What the policy is rendered for: port numbers, conntrack zone.
    pub(crate) datapath: FlowContext,
    /// The node as Services are planned for it.
    pub(crate) node: NodeView,
    /// The host's part without its Services.
    pub(crate) host: HostNode,
    /// What keeps the split from being in force, each a sentence with a remedy.
    pub(crate) problems: Vec<String>,
    /// What is unknown and left out, each with the setting that gives it.
    pub(crate) unknown: Vec<String>,
    /// Sockets of the host in the pods' port range: the partitioned rule waits until they are closed.
    pub(crate) waiting_for: Vec<String>,
    /// The node's name, where known.
    pub(crate) node_name: Option<String>,
}

/// What should be, given these facts and settings.
pub(crate) fn desired(facts: &Facts, settings: &Settings) -> Desired {
    let mut notes = Notes::default();
    let bridge = &facts.bridge;
    bridge_problems(bridge, settings, &mut notes);
    let node_name = node_name(facts, settings);
    if node_name.is_none() {
        notes.unknown("the node's name is unknown, so no endpoint counts as local: give --node-name");
    }
    let split = split(facts, settings, &mut notes);
    let datapath = FlowContext {
        uplink: bridge.uplink,
        overlay: bridge.overlay,
        zone: settings.policy.zone,
        sctp: if bridge.userspace { SctpRule::Learned } else { SctpRule::Tracked },
    };
    let node = NodeView {
        name: node_name.as_deref().map(Arc::from),
        // Without link-local ones: no endpoint has one, and every pod device that comes or goes does.
        addresses: facts
            .addresses
            .iter()
            .map(|(_, address)| address.addr())
            .filter(|address| !is_link_local(*address))
            .collect(),
        shared: split.shared.clone(),
        reaches: facts.reaches.clone(),
    };
    let host = host(facts, settings, &split, node_name.as_deref(), &mut notes);
    let waiting_for = if notes.waiting { facts.sockets_in_range.clone() } else { Vec::new() };
    Desired {
        split,
        datapath,
        node,
        host,
        problems: notes.problems,
        unknown: notes.unknown,
        waiting_for,
        node_name,
    }
}

#[derive(Default)]
struct Notes {
    problems: Vec<String>,
    unknown: Vec<String>,
    waiting: bool,
}

impl Notes {
    fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    fn unknown(&mut self, text: impl Into<String>) {
        self.unknown.push(text.into());
    }
}

fn bridge_problems(bridge: &BridgeView, settings: &Settings, notes: &mut Notes) {
    let (name, uplink) = (&settings.bridge, &settings.interface);
    if !bridge.present {
        notes.problem(format!(
            "physical bridge {name} does not exist; make it and put {uplink} and its addresses on it"
        ));
        return;
    }
    match (bridge.uplink, bridge.uplink_listed) {
        (Some(_), _) => {}
        (None, true) => {
            let reason = bridge.uplink_error.as_deref().unwrap_or("vswitchd has not opened it");
            notes.problem(format!("the uplink {uplink} is a port of {name} that does not work: {reason}"));
        }
        (None, false) => notes.problem(format!(
            "the uplink {uplink} is no port of {name}; add it with ovs-vsctl add-port {name} {uplink}"
        )),
    }
    if bridge.mac.is_none() {
        notes.problem(format!("the MAC of {name} is not known yet: is ovs-vswitchd running?"));
    }
    match bridge.patch {
        PatchState::Whole if bridge.overlay.is_none() => {
            notes.problem("the patch port to br-int has no ofport yet: is ovs-vswitchd running?");
        }
        PatchState::Whole => {}
        PatchState::Broken if !bridge.integration => {
            notes.problem("br-int does not exist yet; ovn-controller makes it");
        }
        PatchState::Broken => {
            notes.problem(format!("the patch pair between {name} and br-int is being created"));
        }
        PatchState::NameInUse => notes.problem(format!(
            "a port has the name of the patch to br-int but is no patch port; rename it (ovs-vsctl list interface k8s-patch-{name}-br-int)"
        )),
    }
}

fn node_name(facts: &Facts, settings: &Settings) -> Option<String> {
    settings
        .node_name
        .clone()
        .or_else(|| facts.known_router().and_then(|router| router.node.clone()))
        .or_else(|| facts.bridge.external_ids.get("hostname").cloned())
}

fn split(facts: &Facts, settings: &Settings, notes: &mut Notes) -> Split {
    let bridge = &facts.bridge;
    let last = facts.last.as_ref();
    let mac = bridge.mac.or(last.map(|last| last.mac)).unwrap_or_default();
    let (shared, snat) = shared(facts, settings, notes);
    if let Some(router) =
        facts.router.as_ref().filter(|router| bridge.mac.is_some_and(|mac| mac != router.mac))
    {
        notes.problem(format!(
            "the gateway router {} has the MAC {} and the bridge {mac}: they must be the same; run gateway-init again or set other-config:hwaddr",
            router.name, router.mac
        ));
    }
    let mut ranges: BTreeSet<IpNet> = settings.policy.service_ranges.iter().copied().collect();
    if ranges.is_empty() {
        ranges.extend(facts.service_cidrs.iter().copied());
    }
    if ranges.is_empty() {
        ranges = last.map(|last| last.service_ranges.clone()).unwrap_or_default();
    }
    ranges.retain(|range| may_be_routed(*range, facts, settings, notes));
    if ranges.is_empty() {
        notes.unknown(
            "the service range is unknown, so cluster addresses are not routed and may leave by the uplink: give --service-cluster-ip-range",
        );
    }
    let reply = reply_rule(facts, settings, notes);
    Split {
        mac,
        shared,
        snat,
        service_ranges: ranges,
        tunnels: TUNNELS.into(),
        reply,
        other_ports: !bridge.other_ports.is_empty(),
    }
}

/// The addresses that host and router share, and those that only the router's SNAT uses.
fn shared(facts: &Facts, settings: &Settings, notes: &mut Notes) -> (BTreeSet<IpAddr>, BTreeSet<IpAddr>) {
    if let Some(router) = &facts.router {
        let snat = router.snat.difference(&router.addresses).copied().collect();
        return (router.addresses.clone(), snat);
    }
    let why = facts.router_missing.as_deref().unwrap_or("the northbound database has not answered yet");
    if let Some(last) = facts.last.as_ref().filter(|last| !last.shared.is_empty()) {
        notes.unknown(format!("the gateway router is unknown ({why}); its last known addresses are kept"));
        return (last.shared.clone(), last.snat.clone());
    }
    let own: BTreeSet<IpAddr> = facts
        .addresses
        .iter()
        // They are on the NIC while the bridge carries nothing.
        .filter(|(device, _)| *device == settings.bridge || *device == settings.interface)
        .map(|(_, address)| address.addr())
        .filter(|address| !is_link_local(*address))
        .collect();
    notes.unknown(format!(
        "the gateway router is unknown ({why}); the bridge's own addresses are used as its addresses"
    ));
    (own, BTreeSet::new())
}

fn reply_rule(facts: &Facts, settings: &Settings, notes: &mut Notes) -> ReplyRule {
    let Some(range) = pods_range(facts, settings, notes) else {
        if settings.policy.reply == ReplySetting::Partitioned {
            notes.problem(
                "the partitioned rule needs a source port range of OVN's SNAT: set external_port_range in the \
                 gateway router's NAT rows, or give --snat-ports; the tracked rule is used until then",
            );
        }
        return ReplyRule::Tracked;
    };
    if settings.policy.reply == ReplySetting::Tracked {
        return ReplyRule::Tracked;
    }
    let in_force = facts.last.as_ref().and_then(Split::partition) == Some(range);
    if !in_force && !facts.sockets_in_range.is_empty() {
        notes.waiting = true;
        return ReplyRule::Tracked;
    }
    ReplyRule::Partitioned { ports: range, drain: facts.draining }
}

/// The pods' range of source ports, if no setting contradicts it.
fn pods_range(facts: &Facts, settings: &Settings, notes: &mut Notes) -> Option<PortRange> {
    let known = facts.known_router().map(|router| router.ports);
    let last = facts.last.as_ref().and_then(Split::partition);
    let range = match (settings.policy.snat_ports, known) {
        (Some(given), Some(Some(written))) if given != written => {
            notes.problem(format!(
                "--snat-ports is {given} and the gateway router's NAT rows have {written}: make them equal"
            ));
            return None;
        }
        (Some(given), Some(None)) => {
            notes.problem(format!(
                "--snat-ports is {given}, but the gateway router's NAT rows have no common external_port_range, so pods can use any port; set it with ovn-nbctl set nat ... external_port_range={given}"
            ));
            return None;
        }
        (Some(given), _) => given,
        (None, Some(written)) => written?,
        (None, None) => last?,
    };
    if range.low() <= settings.policy.node_port_range.high()
        && settings.policy.node_port_range.low() <= range.high()
    {
        notes.problem(format!(
            "the pods' source ports {range} overlap the NodePort range {}: choose another range",
            settings.policy.node_port_range
        ));
        return None;
    }
    Some(range)
}

fn host(
    facts: &Facts,
    settings: &Settings,
    split: &Split,
    node: Option<&str>,
    notes: &mut Notes,
) -> HostNode {
    let pods = pods_range(facts, settings, &mut Notes::default());
    let mut join: BTreeSet<IpNet> = settings.policy.join_ranges.iter().copied().collect();
    if join.is_empty() {
        join = facts.known_router().map(|router| router.join.clone()).unwrap_or_default();
    }
    join.retain(|range| may_be_routed(*range, facts, settings, notes));
    if join.is_empty() {
        notes.unknown(
            "the join range is unknown, so replies to gateway routers are not routed: give --join-subnet",
        );
    }
    HostNode {
        bridge: settings.bridge.clone(),
        uplink: Some(settings.interface.clone()),
        shared: split.shared.clone(),
        management: management(facts, node, notes),
        service_ranges: split.service_ranges.clone(),
        join_ranges: join,
        pods: pods.map_or(PodsPorts::Any, PodsPorts::Range),
        node_port_range: settings.policy.node_port_range,
    }
}

/// Whether a service or join range may be routed over the management port. A mistyped one would take over the routes
/// to the node's own network.
fn may_be_routed(range: IpNet, facts: &Facts, settings: &Settings, notes: &mut Notes) -> bool {
    let own = |(device, address): &&(String, IpNet)| {
        (*device == settings.bridge || *device == settings.interface) && range.contains(&address.addr())
    };
    if range.prefix_len() < SHORTEST_RANGE {
        notes.problem(format!(
            "the range {range} is refused: a service or join range has at least {SHORTEST_RANGE} bits; correct \
             --service-cluster-ip-range, --join-subnet, the ServiceCIDR object or the gateway router's port"
        ));
        false
    } else if let Some((_, address)) = facts.addresses.iter().find(own) {
        notes.problem(format!(
            "the range {range} is refused: it contains the node's own address {}; correct --service-cluster-ip-range, \
             --join-subnet, the ServiceCIDR object or the gateway router's port",
            address.addr()
        ));
        false
    } else {
        true
    }
}

/// The management port: the device that br-int binds to `k8s-<node>`, else the device of the usual name.
fn management(facts: &Facts, node: Option<&str>, notes: &mut Notes) -> Option<ManagementPort> {
    // The port's name has the node's name in lower case.
    let node = node?.to_lowercase();
    let device = facts
        .bridge
        .internal_ports
        .get(&format!("k8s-{node}"))
        .cloned()
        .unwrap_or_else(|| format!("k8s-{}", node.chars().take(NODE_IN_DEVICE).collect::<String>()));
    let paths: Vec<ManagementPath> = facts
        .addresses
        .iter()
        .filter(|(name, address)| *name == device && !is_link_local(address.addr()))
        .filter_map(|(_, address)| {
            Some(ManagementPath { address: address.addr(), gateway: first_of(address)? })
        })
        .collect();
    if paths.is_empty() {
        notes.unknown(format!(
            "the management port {device} has no address, so the node itself cannot reach services; run minion-init, which sets it up"
        ));
        return None;
    }
    let mut one_per_family: Vec<ManagementPath> = Vec::new();
    for path in paths {
        if one_per_family.iter().all(|other| other.address.is_ipv4() != path.address.is_ipv4()) {
            one_per_family.push(path);
        }
    }
    Some(ManagementPort { device, paths: one_per_family })
}

/// The router's address: the first one of the node's subnet.
fn first_of(network: &IpNet) -> Option<IpAddr> {
    match network.trunc() {
        IpNet::V4(net) => u32::from(net.network()).checked_add(1).map(|ip| IpAddr::V4(ip.into())),
        IpNet::V6(net) => u128::from(net.network()).checked_add(1).map(|ip| IpAddr::V6(ip.into())),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
