//! A snapshot of the node for a takeover and `doctor`.
//!
//! `observe` reads the kernel, the switch's database, the host's firewall and the host's network managers. Every
//! decision ([`crate::plan`], `doctor`) is a pure function of an [`Observed`].
//!
//! It changes nothing. Each source has a timeout; one that does not answer is an entry of [`Observed::unknown`], not an
//! error, except for the kernel's tables, which every decision needs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::device_config::{DeviceRows, Network};
use super::managers::DetectedManager;
use super::switch_db::PriorOvsConfig;

mod firewall;
mod gather;
mod kernel;
mod sockets;

pub(crate) use gather::observe;
pub use gather::{observe_switch, observe_with};

/// The snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// All network devices.
    pub links: Vec<LinkSnapshot>,
    /// The requested NICs that exist, in the requested order.
    pub nics: Vec<NicSnapshot>,
    /// The switch's database.
    pub switch: SwitchSnapshot,
    /// Rules of the host's firewall that name a device.
    pub firewall: Vec<FirewallRule>,
    /// Network managers and DHCP clients of the NICs.
    pub managers: Vec<DetectedManager>,
    /// nft tables that have the name of an ingress filter but not its mark.
    pub foreign_guards: Vec<String>,
    /// What could not be read, and why.
    pub unknown: Vec<String>,
    /// Boot id.
    #[serde(default)]
    pub boot_id: String,
    /// The kernel's tables.
    #[serde(skip)]
    pub network: Network,
    /// The requested NICs and bridges: their rows and settings.
    #[serde(skip)]
    pub devices: BTreeMap<String, DeviceRows>,
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkSnapshot {
    /// Kernel index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind of a virtual device (`bridge`, `vlan`, `bond`, `veth`...), empty for hardware.
    pub kind: String,
    /// Its link type is Ethernet (`ARPHRD_ETHER`), and it is not the loopback.
    pub ethernet: bool,
    /// The loopback.
    pub loopback: bool,
    /// Wireless.
    pub wireless: bool,
    /// Administratively up.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// MAC, as text.
    pub mac: String,
    /// MTU.
    pub mtu: u32,
    /// The device it is a port, slave or member of.
    pub master: Option<u32>,
    /// The device below it (of a VLAN, macvlan...), in this namespace.
    pub lower: Option<u32>,
    /// Mode of an attached XDP program: `native` (driver), `generic` (stack) or `offloaded` (card).
    pub xdp: Option<String>,
}

/// A NIC, with everything that uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSnapshot {
    /// The device.
    pub link: LinkSnapshot,
    /// Driver, if known.
    pub driver: Option<String>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<AddressSnapshot>,
    /// Routes of all tables that name it, without the local table.
    pub routes: Vec<RouteSnapshot>,
    /// Policy rules that name it, as `ip rule` prints them.
    pub rules: Vec<String>,
    /// Nexthop objects that name it, as `ip nexthop` prints them.
    pub nexthops: Vec<String>,
    /// Neighbour entries with a MAC.
    pub neighbours: usize,
    /// Root qdisc that is not the default, as `tc qdisc` prints it.
    pub qdisc: Option<String>,
    /// It has a clsact or ingress qdisc, which tc filters attach to.
    pub clsact: bool,
    /// Active offloads that a port of the userspace datapath does not work with (`gro`, `lro`).
    pub offloads: Vec<String>,
    /// Crypto that the card does (`xfrm`, `macsec`).
    pub device_offloads: Vec<String>,
    /// Sockets bound to it.
    pub bound: Vec<BoundSocket>,
    /// Multicast groups that programs joined on it.
    pub memberships: Vec<IpAddr>,
}

/// A socket that is bound to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSocket {
    /// How.
    pub how: Binding,
    /// Description (`udp 0.0.0.0:68`).
    pub what: String,
    /// Name of the program, if known.
    pub program: Option<String>,
    /// Process id.
    pub pid: Option<u32>,
}

/// How a socket is bound to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// `SO_BINDTODEVICE`.
    Device,
    /// `AF_PACKET`: it receives the device's frames and sends on it.
    Packet,
    /// `AF_XDP`: it takes the device's frames.
    Xdp,
    /// A connection over link-local addresses.
    LinkLocal,
}

/// An address on a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSnapshot {
    /// Address and prefix.
    pub net: IpNet,
    /// As `ip address` prints it.
    pub text: String,
    /// Valid lifetime in seconds; `None` without a limit.
    pub left: Option<u32>,
    /// A temporary one (RFC 8981).
    pub temporary: bool,
    /// Of link scope.
    pub link_local: bool,
    /// The kernel made it from router advertisements, and renews it on the device that has it.
    pub by_router: bool,
}

/// A route of a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Destination.
    pub to: IpNet,
    /// As `ip route` prints it.
    pub text: String,
    /// Routing table.
    pub table: u32,
    /// Next hops on this NIC.
    pub via: Vec<IpAddr>,
    /// Flag `onlink`: the next hop counts as on the link.
    pub onlink: bool,
    /// A connected route, which the kernel made with an address.
    pub by_kernel: bool,
    /// It uses a nexthop object, which is moved instead.
    pub by_nexthop: bool,
}

/// The switch's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSnapshot {
    /// It answered.
    pub answers: bool,
    /// Why it did not answer.
    #[serde(rename = "said")]
    pub error: Option<String>,
    /// Default datapath type of new bridges (`external_ids:ovn-bridge-datapath-type`), empty when not set.
    pub datapath_type: String,
    /// The bridges.
    pub bridges: Vec<Bridge>,
    /// `external_ids` of table `Open_vSwitch`.
    pub external_ids: BTreeMap<String, String>,
    /// `other_config` of table `Open_vSwitch`.
    pub other_config: BTreeMap<String, String>,
    /// vswitchd runs; `None` when that is unknown.
    pub vswitchd: Option<bool>,
    /// The database has no row in `Open_vSwitch`: no bridge can be made.
    #[serde(default)]
    pub uninitialised: bool,
    /// The datapath types of this ovs-vswitchd; empty when unknown.
    #[serde(default)]
    pub datapath_types: Vec<String>,
    /// vswitchd has carried out the last change (`cur_cfg` is `next_cfg`).
    pub up_to_date: bool,
}

/// A bridge of the switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Name.
    pub name: String,
    /// `datapath_type`.
    pub datapath_type: String,
    /// `fail_mode`.
    pub fail_mode: String,
    /// `other_config:hwaddr`.
    #[serde(default)]
    pub hwaddr: Option<String>,
    /// `mtu_request` of its own device.
    #[serde(default)]
    pub mtu_request: Option<i64>,
    /// Made by a takeover.
    pub ours: bool,
    /// Made by the original `nics-to-bridge`: its only mark is `external_ids:bridge-id` with the bridge's name.
    pub original: bool,
    /// Its ports, without its own device.
    pub ports: Vec<Port>,
}

/// A port of a bridge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Name.
    pub name: String,
    /// Type of its interface (`patch`, `internal`...), empty for a device.
    pub kind: String,
    /// `ofport`; negative when vswitchd could not open it.
    pub ofport: Option<i64>,
    /// Error that vswitchd reports.
    pub error: String,
    /// Made by a takeover.
    pub ours: bool,
    /// Owner or peer (`ovn-localnet-port`...).
    pub of: Option<String>,
}

/// A rule of the host's firewall that names a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// `nft`, `iptables` or `firewalld`.
    pub source: String,
    /// Table and chain, or zone (`inet filter input`).
    pub place: String,
    /// The rule, in its tool's syntax.
    pub text: String,
    /// Devices it names, as written (`eth*` is a pattern, see [`FirewallRule::names`]).
    pub devices: Vec<String>,
    /// It accepts packets that its table would drop otherwise: without a match, new connections fail.
    pub lets_in: bool,
}

impl FirewallRule {
    /// Whether it matches a device of this name.
    #[must_use]
    pub fn names(&self, device: &str) -> bool {
        self.devices.iter().any(|pattern| match pattern.strip_suffix(['*', '+']) {
            Some(start) => device.starts_with(start),
            None => pattern == device,
        })
    }
}

impl Observed {
    /// A requested NIC, by name.
    #[must_use]
    pub fn nic(&self, name: &str) -> Option<&NicSnapshot> {
        self.nics.iter().find(|nic| nic.link.name == name)
    }

    /// A device by name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkSnapshot> {
        self.links.iter().find(|link| link.name == name)
    }

    /// A device by kernel index.
    #[must_use]
    pub fn indexed(&self, index: u32) -> Option<&LinkSnapshot> {
        self.links.iter().find(|link| link.index == index)
    }
}

impl SwitchSnapshot {
    /// A bridge by name.
    #[must_use]
    pub fn bridge(&self, name: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The database's configuration of a bridge and a NIC before a takeover.
    #[must_use]
    pub fn prior_config(&self, bridge: &str, nic: &str) -> PriorOvsConfig {
        let Some(found) = self.bridge(bridge) else { return PriorOvsConfig::default() };
        PriorOvsConfig {
            bridge: true,
            port: found.ports.iter().any(|port| port.name == nic),
            hwaddr: found.hwaddr.clone(),
            mtu_request: found.mtu_request,
        }
    }

    /// The bridge that a device is a port of.
    #[must_use]
    pub fn bridge_of(&self, device: &str) -> Option<&Bridge> {
        self.bridges.iter().find(|bridge| bridge.ports.iter().any(|port| port.name == device))
    }
}

impl Bridge {
    /// Its datapath type; an empty column means `system`.
    #[must_use]
    pub fn datapath_type(&self) -> &str {
        if self.datapath_type.is_empty() { "system" } else { &self.datapath_type }
    }
}

impl NicSnapshot {
    /// The next hops of its routes, each once.
    #[must_use]
    pub fn next_hops(&self) -> Vec<IpAddr> {
        let mut hops: Vec<_> = self.routes.iter().flat_map(|route| route.via.iter().copied()).collect();
        hops.sort();
        hops.dedup();
        hops
    }
}

impl fmt::Display for BoundSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match (&self.program, self.pid) {
            (Some(program), Some(pid)) => write!(f, " of {program} (pid {pid})"),
            (Some(program), None) => write!(f, " of {program}"),
            _ => f.write_str(" of an unknown process"),
        }
    }
}

#[cfg(test)]
mod tests;
