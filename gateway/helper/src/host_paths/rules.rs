//! The chains and rules of the nft table: a function of the node alone, no Service changes them.
//!
//! A rule is recognised by its comment, which holds a hash of its text: what nft lists reads differently from one
//! version to the next, the comment does not.

use std::fmt::Write;
use std::net::IpAddr;

use demux::policy::{Family, PortRange};

use super::inputs::{HostNode, PodsPorts};
use super::table::SetName;

/// What the kernel can do, found out once by trying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Features {
    /// nft's `socket` expression (CONFIG_NFT_SOCKET): rules can match frames that have a socket here.
    pub(crate) socket: bool,
}

/// A chain and its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Its name.
    pub(crate) name: &'static str,
    /// For a base chain: type, hook, priority.
    pub(crate) hook: Option<(&'static str, &'static str, i64)>,
}

/// A rule in its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NftRule {
    /// Its chain.
    pub(crate) chain: &'static str,
    /// Its text, in nft's language, without comment.
    pub(crate) text: String,
}

/// All chains, in the order they are made.
pub(crate) const CHAINS: [Chain; 8] = [
    // Chains that others jump to come first: they exist when they are named.
    Chain { name: "node_port", hook: None },
    Chain { name: "pods", hook: None },
    Chain { name: "stray", hook: None },
    Chain { name: "owned", hook: None },
    Chain { name: "out", hook: Some(("nat", "output", -100)) },
    Chain { name: "pre", hook: Some(("nat", "prerouting", -100)) },
    Chain { name: "post", hook: Some(("nat", "postrouting", 100)) },
    // Before the filter chains of others (0): they may answer with a reset of their own.
    Chain { name: "guard", hook: Some(("filter", "input", -10)) },
];

impl NftRule {
    /// The comment by which it is recognised.
    #[must_use]
    pub(crate) fn comment(&self) -> String {
        // FNV-1a: short, and stable across versions.
        let hash = self
            .chain
            .bytes()
            .chain([0])
            .chain(self.text.bytes())
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        format!("ovn-k8s {hash:016x}")
    }
}

/// The rules of a node, chain by chain, and what is left out with the reason.
pub(crate) fn rules(node: &HostNode, features: Features) -> (Vec<NftRule>, Vec<String>) {
    let mut out = Writer { rules: Vec::new(), left_out: Vec::new() };
    own_accesses(&mut out);
    arrivals(&mut out, node);
    sources(&mut out, node);
    guard(&mut out, node, features);
    (out.rules, out.left_out)
}

/// The range that takes the place of a source port which is the pods' or a NodePort: the first that has nothing in
/// common with those.
#[must_use]
pub(crate) fn alternate_range(node: &HostNode) -> Option<PortRange> {
    let taken: Vec<PortRange> = match node.pods {
        PodsPorts::Any => vec![node.node_port_range],
        PodsPorts::Range(range) => vec![node.node_port_range, range],
    };
    [(20000, 29999), (10000, 19999), (50000, 59999), (33000, 39999), (60000, 65535), (2000, 9999)]
        .into_iter()
        .filter_map(|(low, high)| PortRange::new(low, high).ok())
        .find(|range| taken.iter().all(|other| !range.overlaps(*other)))
}

/// The node's own accesses go to the cluster address, and with it over the management port.
fn own_accesses(out: &mut Writer) {
    for set in [SetName::Svc4, SetName::Svc6] {
        let (ip, name) = (keyword(family(set)), set.name());
        out.rule("out", format!("dnat {ip} to {ip} daddr . meta l4proto . th dport map @{name}"));
    }
}

/// What comes for endpoints of the host.
fn arrivals(out: &mut Writer, node: &HostNode) {
    if let Some((management, device)) =
        node.management.as_ref().and_then(|port| Some((port, quoted(&port.device)?)))
    {
        for path in &management.paths {
            let (ip, set) = match path.address {
                IpAddr::V4(_) => ("ip", SetName::Endpoints4.name()),
                IpAddr::V6(_) => ("ip6", SetName::Endpoints6.name()),
            };
            let address = path.address;
            out.rule(
                "pre",
                format!(
                    "iifname {device} {ip} daddr {address} dnat {ip} to meta l4proto . th dport map @{set}"
                ),
            );
        }
    }
    for set in [SetName::Direct4, SetName::Direct6] {
        let (ip, name) = (keyword(family(set)), set.name());
        out.rule("pre", format!("dnat {ip} to {ip} daddr . meta l4proto . th dport map @{name}"));
    }
}

/// Source addresses and ports of what the host sends.
fn sources(out: &mut Writer, node: &HostNode) {
    match node.management.as_ref().map(|port| quoted(&port.device)) {
        None => out.leave_out("the node's own accesses to services: there is no management port"),
        Some(None) => {
            out.leave_out("the node's own accesses to services: the management port's name is no device name")
        }
        Some(Some(device)) => {
            for family in Family::ALL {
                if let Some(addresses) = shared(node, family) {
                    let ip = keyword(family);
                    out.rule("post", format!("oifname {device} {ip} saddr {addresses} masquerade"));
                }
            }
        }
    }
    if quoted(&node.bridge).is_none() {
        out.leave_out("everything about the bridge: its name is no device name");
        return;
    }
    // While vswitchd is dead, management goes out by the uplink itself.
    let devices = shared_devices(node);
    let Some(alternate) = alternate_range(node) else {
        out.leave_out("host processes that bind a NodePort or a port of OVN's range: no other range is free");
        return;
    };
    for &address in &node.shared {
        let (ip, at) = match address {
            IpAddr::V4(_) => ("ip", address.to_string()),
            IpAddr::V6(_) => ("ip6", format!("[{address}]")),
        };
        let from = format!("oifname {{ {devices} }} {ip} saddr {address}");
        let to = format!("counter snat {ip} to {at}:{alternate}");
        // Of TCP the first segment only: a connection that was open before this table was made keeps its port.
        for (protocol, new) in [("tcp", "tcp flags & (syn | ack) == syn "), ("udp", ""), ("sctp", "")] {
            let number = number(protocol);
            let known = format!("meta l4proto {number} {new}");
            out.rule("post", format!("{from} {known}meta l4proto . {protocol} sport @node_ports {to}"));
            if let PodsPorts::Range(range) = node.pods {
                out.rule("post", format!("{from} {known}{protocol} sport {range} {to}"));
            }
        }
    }
}

/// No frame that was the pods' is answered by the host.
///
/// While the flows are away (vswitchd just started, or management on the NIC itself), replies to pods and frames for
/// NodePorts reach the host's stack, which knows no such connection and would answer with RST or port unreachable:
/// that would end a connection that lives on in the pod. So what has neither connection state nor socket here is
/// dropped without an answer, before the filter chains of others can answer:
///
/// - for a NodePort, also when a host process listens there: only a connection the host itself made from that port
///   passes;
/// - for OVN's port range: all but what a socket here waits for. A segment that only a listener would get, and answer
///   with RST, is not waited for;
/// - where pods have no range (the tracked rule), any unprivileged port can be a pod's. A SYN is never a reply to one,
///   so a closed port answers it as ever; other segments without socket are dropped. UDP stays as it is: a datagram to
///   a closed port cannot be distinguished from a reply, and traceroute and fast failure need port unreachable.
fn guard(out: &mut Writer, node: &HostNode, features: Features) {
    let devices = shared_devices(node);
    let addresses = Family::ALL.map(|family| (keyword(family), shared(node, family)));
    if devices.is_empty() || addresses.iter().all(|(_, set)| set.is_none()) {
        out.leave_out("the guard against resets: the bridge has no shared address yet");
        return;
    }
    out.rule("guard", format!("iifname != {{ {devices} }} return"));
    out.rule("guard", "ct state established,related return");
    for (ip, set) in addresses {
        if let Some(set) = set {
            out.rule("guard", format!("{ip} daddr {set} goto owned"));
        }
    }
    out.rule("owned", "meta l4proto . th dport @node_ports goto node_port");
    let socket = features.socket;
    match node.pods {
        PodsPorts::Range(range) => out.rule("owned", format!("meta l4proto {{ 6, 17, 132 }} th dport {range} goto pods")),
        PodsPorts::Any if socket => {
            out.rule("owned", "tcp dport 1024-65535 tcp flags & (syn | ack) != syn goto stray");
        }
        PodsPorts::Any => out.leave_out(
            "the guard against resets for pods' replies: this kernel has no nft socket expression (CONFIG_NFT_SOCKET); give OVN's SNAT a port range (--snat-ports)",
        ),
    }

    out.rule("node_port", "tcp flags & (syn | ack) == syn counter drop");
    if socket {
        // Bound to an address: connected sockets are, a listener mostly is not.
        out.rule("node_port", "meta l4proto { 6, 17 } socket wildcard 0 return");
    }
    out.rule("node_port", "counter drop");

    if socket {
        out.rule("pods", "tcp flags & (syn | ack) != syn socket wildcard 1 counter drop");
        // Any socket: `transparent` is 0 or 1 for every kind, also in TIME-WAIT.
        out.rule("pods", "meta l4proto { 6, 17 } socket transparent { 0, 1 } return");
    }
    out.rule("pods", "counter drop");

    if socket {
        out.rule("stray", "tcp flags & (syn | ack) == (syn | ack) socket wildcard 1 counter drop");
        out.rule("stray", "meta l4proto 6 socket transparent { 0, 1 } return");
        out.rule("stray", "counter drop");
    }
}

struct Writer {
    rules: Vec<NftRule>,
    left_out: Vec<String>,
}

impl Writer {
    fn rule(&mut self, chain: &'static str, text: impl Into<String>) {
        self.rules.push(NftRule { chain, text: text.into() });
    }

    fn leave_out(&mut self, what: &str) {
        self.left_out.push(what.to_owned());
    }
}

/// The shared addresses of a family as an nft set, `None` when there is none.
fn shared(node: &HostNode, family: Family) -> Option<String> {
    let mut list = String::new();
    for address in node.shared.iter().filter(|address| Family::of(**address) == family) {
        let _ = write!(list, "{}{address}", if list.is_empty() { "" } else { ", " });
    }
    (!list.is_empty()).then(|| format!("{{ {list} }}"))
}

/// The devices by which frames of the shared addresses come and go: the bridge, and the uplink while management is on it.
fn shared_devices(node: &HostNode) -> String {
    let names = [Some(&node.bridge), node.uplink.as_ref()];
    let quoted: Vec<String> = names.into_iter().flatten().filter_map(|name| quoted(name)).collect();
    quoted.join(", ")
}

/// A device name as nft takes it. Names with another meaning there (quotes, a star at the end) give none.
fn quoted(device: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '*' | '/' | '$');
    (!device.is_empty() && device.len() < 16 && device.chars().all(plain)).then(|| format!("\"{device}\""))
}

fn family(set: SetName) -> Family {
    match set {
        SetName::Svc6 | SetName::Direct6 | SetName::Endpoints6 => Family::V6,
        _ => Family::V4,
    }
}

fn keyword(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn number(protocol: &str) -> u8 {
    match protocol {
        "tcp" => 6,
        "udp" => 17,
        _ => 132,
    }
}
