//! The node, as far as a takeover and `doctor` have to know: one value, gathered once.
//!
//! [`observe`] asks the kernel, the switch's database, the host's firewall and the host's network managers. Everything
//! that is decided ([`crate::plan`], `doctor`) is a pure function of an [`Observed`].
//!
//! Changes nothing. Each source has a timeout; one that did not answer is a line in [`Observed::unknown`] and not an error,
//! except for the kernel's own tables, without which nothing can be decided.

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

pub use gather::{observe, observe_at, observe_switch, observe_with};

/// The node as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// All network devices.
    pub links: Vec<LinkSnapshot>,
    /// The NICs that were asked for and are there, in the order asked for.
    pub nics: Vec<NicSnapshot>,
    /// The switch's database.
    pub switch: SwitchSnapshot,
    /// Rules of the host's firewall that name a device.
    pub firewall: Vec<FirewallRule>,
    /// Host network managers and DHCP clients that have to do with one of the NICs.
    pub managers: Vec<DetectedManager>,
    /// nft tables with the name of an ingress filter of ours and without our mark.
    pub foreign_guards: Vec<String>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
    /// This boot.
    #[serde(default)]
    pub boot_id: String,
    /// The kernel's tables: what is carried from one device to another.
    #[serde(skip)]
    pub network: Network,
    /// The NICs and bridges that were asked for: their part of the tables, with their settings.
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
    /// Kind of a device made by software (`bridge`, `vlan`, `bond`, `veth`...), empty for hardware.
    pub kind: String,
    /// Speaks Ethernet (`ARPHRD_ETHER`), and is not the loopback.
    pub ethernet: bool,
    /// The loopback.
    pub loopback: bool,
    /// Wireless.
    pub wireless: bool,
    /// Set up by the administrator.
    pub up: bool,
    /// Has a carrier.
    pub carrier: bool,
    /// MAC, as text.
    pub mac: String,
    /// MTU.
    pub mtu: u32,
    /// The device it is a port, slave or member of.
    pub master: Option<u32>,
    /// The device it stands on (VLAN, macvlan...), in this namespace.
    pub lower: Option<u32>,
    /// An XDP program is attached: in the driver (`native`), before the stack (`generic`), in the card (`offloaded`).
    pub xdp: Option<String>,
}

/// A NIC, with everything that uses it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicSnapshot {
    /// The device.
    pub link: LinkSnapshot,
    /// Driver, where it tells.
    pub driver: Option<String>,
    /// Its addresses, in the kernel's order.
    pub addresses: Vec<AddressSnapshot>,
    /// Routes of all tables that name it, without the kernel's own local ones.
    pub routes: Vec<RouteSnapshot>,
    /// Policy rules that name it, as `ip rule` has them.
    pub rules: Vec<String>,
    /// Nexthop objects that name it, as `ip nexthop` has them.
    pub nexthops: Vec<String>,
    /// Neighbour entries with a MAC.
    pub neighbours: usize,
    /// Root qdisc that somebody has set, as `tc qdisc` has it.
    pub qdisc: Option<String>,
    /// It has a clsact or ingress qdisc, where filters hang.
    pub clsact: bool,
    /// Offloads that are on and that a port of the userspace datapath cannot live with (`gro`, `lro`).
    pub offloads: Vec<String>,
    /// IPsec or MACsec is done by the card (`xfrm`, `macsec`).
    pub device_offloads: Vec<String>,
    /// Sockets bound to it.
    pub bound: Vec<BoundSocket>,
    /// Groups that programs joined on it (those that the kernel joins by itself are left out).
    pub memberships: Vec<IpAddr>,
}

/// A socket that is bound to a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundSocket {
    /// How.
    pub how: Binding,
    /// What it is, in words (`udp 0.0.0.0:68`).
    pub what: String,
    /// Name of the program, where it can be told.
    pub program: Option<String>,
    /// Its process.
    pub pid: Option<u32>,
}

/// How a socket is bound to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binding {
    /// `SO_BINDTODEVICE`.
    Device,
    /// `AF_PACKET`: it sees the device's frames, and sends by it.
    Packet,
    /// `AF_XDP`: it takes the device's frames.
    Xdp,
    /// A connection over link-local addresses.
    LinkLocal,
}

/// An address on a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSnapshot {
    /// AddressSnapshot and prefix.
    pub net: IpNet,
    /// As `ip address` has it.
    pub text: String,
    /// Seconds until it is gone, when it does not stay for ever.
    pub left: Option<u32>,
    /// A temporary one (RFC 8981).
    pub temporary: bool,
    /// Of link scope.
    pub link_local: bool,
    /// It comes from a router's announcements, which the kernel hears on whichever device has it.
    pub by_router: bool,
}

/// A route by a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSnapshot {
    /// Where to.
    pub to: IpNet,
    /// As `ip route` has it.
    pub text: String,
    /// Routing table.
    pub table: u32,
    /// Next hops that are asked for on this NIC.
    pub via: Vec<IpAddr>,
    /// The next hop is on the link whatever the addresses say.
    pub onlink: bool,
    /// The kernel made it, with an address.
    pub by_kernel: bool,
    /// It goes by a nexthop object, which carries it over.
    pub by_nexthop: bool,
}

/// What the switch's database says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwitchSnapshot {
    /// It answered.
    pub answers: bool,
    /// Why it did not.
    pub said: Option<String>,
    /// The datapath that bridges shall have (`external_ids:ovn-bridge-datapath-type`), empty when nothing is said.
    pub datapath_type: String,
    /// The bridges.
    pub bridges: Vec<Bridge>,
    /// `external_ids` of table `Open_vSwitch`.
    pub external_ids: BTreeMap<String, String>,
    /// `other_config` of table `Open_vSwitch`.
    pub other_config: BTreeMap<String, String>,
    /// vswitchd runs; `None` when that cannot be told.
    pub vswitchd: Option<bool>,
    /// The database has no settings row: nothing can be made in it.
    #[serde(default)]
    pub uninitialised: bool,
    /// The datapath types that this ovs-vswitchd has; empty when that is not known.
    #[serde(default)]
    pub datapath_types: Vec<String>,
    /// vswitchd has done what the database says (`cur_cfg` is `next_cfg`).
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
    /// Made by a takeover of ours.
    pub ours: bool,
    /// Made by the original `nics-to-bridge` (`external_ids:bridge-id` is its name), which left no other mark.
    pub original: bool,
    /// Its ports, without its own.
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
    /// What vswitchd says is wrong with it.
    pub error: String,
    /// Made by a takeover of ours.
    pub ours: bool,
    /// `ovn-localnet-port` or the like: whose it is.
    pub of: Option<String>,
}

/// A rule of the host's firewall that names a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirewallRule {
    /// Whose: `nft`, `iptables`, `firewalld`.
    pub source: String,
    /// Where it stands (`inet filter input`).
    pub place: String,
    /// The rule, in its own language.
    pub text: String,
    /// Devices it names, as written (`eth*` is a pattern, see [`FirewallRule::names`]).
    pub devices: Vec<String>,
    /// It lets packets pass that its table would drop otherwise: where it stops matching, new connections stop.
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
    /// A NIC that was asked for.
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

    /// What the database holds of a bridge and a NIC before a takeover.
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
    /// Its datapath type by name: an empty column is the kernel's.
    #[must_use]
    pub fn datapath_type(&self) -> &str {
        if self.datapath_type.is_empty() { "system" } else { &self.datapath_type }
    }
}

impl NicSnapshot {
    /// Where its routes go over another station: who can be asked whether the wire answers.
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
