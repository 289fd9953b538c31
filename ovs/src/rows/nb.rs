//! Rows of `OVN_Northbound`, the logical network as it is wanted (ovn-nb(5)).

use std::collections::BTreeMap;

use super::TypedRow;
use super::columns::{
    false_if_unset, mac, optional, pairs, references, row, text, text_or_empty, texts, true_if_unset,
};
use crate::ovsdb::{Error, MonitorTable, Row, Snapshot, Uuid};

/// The database's name.
pub const DATABASE: &str = "OVN_Northbound";

/// All that the rows of this module read, load balancers (there may be very many) left out.
pub fn monitors() -> Vec<MonitorTable> {
    vec![
        LogicalRouter::monitor(),
        LogicalRouterPort::monitor(),
        Nat::monitor(),
        LogicalSwitch::monitor(),
        LogicalSwitchPort::monitor(),
    ]
}

row! {
    /// A router.
    LogicalRouter in "Logical_Router" {
        name: String = text("name"),
        ports: Vec<Uuid> = references("ports"),
        nat: Vec<Uuid> = references("nat"),
        load_balancer: Vec<Uuid> = references("load_balancer"),
        load_balancer_group: Vec<Uuid> = references("load_balancer_group"),
        enabled: bool = true_if_unset("enabled"),
        /// `chassis` names the gateway node of a gateway router.
        options: BTreeMap<String, String> = pairs("options"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// A router's port.
    LogicalRouterPort in "Logical_Router_Port" {
        name: String = text("name"),
        mac: [u8; 6] = mac("mac"),
        /// Addresses with prefix lengths, as written.
        networks: Vec<String> = texts("networks"),
        peer: Option<String> = optional("peer"),
        enabled: bool = true_if_unset("enabled"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// A translation rule of a router.
    Nat in "NAT" {
        kind: NatKind = nat_kind("type"),
        external_ip: String = text("external_ip"),
        logical_ip: String = text("logical_ip"),
        /// As written: `LOW-HIGH`, one port, or nothing.
        external_port_range: Option<String> = optional("external_port_range"),
        logical_port: Option<String> = optional("logical_port"),
        external_mac: Option<String> = optional("external_mac"),
        options: BTreeMap<String, String> = pairs("options"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

/// Which direction is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NatKind {
    /// `snat`: sources of what leaves.
    Source,
    /// `dnat`: destinations of what comes in.
    Destination,
    /// `dnat_and_snat`: both.
    Both,
}

row! {
    /// A switch.
    LogicalSwitch in "Logical_Switch" {
        name: String = text("name"),
        ports: Vec<Uuid> = references("ports"),
        load_balancer: Vec<Uuid> = references("load_balancer"),
        other_config: BTreeMap<String, String> = pairs("other_config"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// A switch's port.
    LogicalSwitchPort in "Logical_Switch_Port" {
        name: String = text("name"),
        /// Empty for a pod or machine, `router`, `localnet` and others.
        kind: String = text_or_empty("type"),
        addresses: Vec<String> = texts("addresses"),
        dynamic_addresses: Option<String> = optional("dynamic_addresses"),
        /// Of kind `router`: `router-port` names the other end.
        options: BTreeMap<String, String> = pairs("options"),
        up: bool = false_if_unset("up"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// A load balancer.
    LoadBalancer in "Load_Balancer" {
        name: String = text("name"),
        protocol: Option<String> = optional("protocol"),
        /// From `ADDRESS:PORT` to the backends, with commas between.
        vips: BTreeMap<String, String> = pairs("vips"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

impl LogicalRouter {
    /// The ports of this router that are in the snapshot.
    pub fn ports(&self, snapshot: &Snapshot) -> Vec<LogicalRouterPort> {
        self.ports.iter().filter_map(|port| LogicalRouterPort::one(snapshot, *port)).collect()
    }

    /// The translation rules of this router.
    pub fn nats(&self, snapshot: &Snapshot) -> Vec<Nat> {
        self.nat.iter().filter_map(|nat| Nat::one(snapshot, *nat)).collect()
    }

    /// The router that has this port.
    pub fn with_port(snapshot: &Snapshot, port: Uuid) -> Option<Self> {
        let row = snapshot.rows(Self::TABLE).find(|row| row.references("ports").any(|one| one == port))?;
        Self::from_row(row).ok()
    }

    /// The router at the other side of a switch's port: found by the names OVN ties together, a switch port of
    /// type `router` with `options:router-port`.
    pub fn behind(snapshot: &Snapshot, port: &LogicalSwitchPort) -> Option<Self> {
        let router_port = LogicalRouterPort::named(snapshot, port.options.get("router-port")?)?;
        Self::with_port(snapshot, router_port.uuid)
    }
}

impl LogicalSwitch {
    /// The ports of this switch that are in the snapshot.
    pub fn ports(&self, snapshot: &Snapshot) -> Vec<LogicalSwitchPort> {
        self.ports.iter().filter_map(|port| LogicalSwitchPort::one(snapshot, *port)).collect()
    }

    /// The switch that has this port.
    pub fn with_port(snapshot: &Snapshot, port: Uuid) -> Option<Self> {
        let row = snapshot.rows(Self::TABLE).find(|row| row.references("ports").any(|one| one == port))?;
        Self::from_row(row).ok()
    }
}

impl Nat {
    /// The source ports this rule keeps to, both ends included; `None` if it has no range, or one that OVN
    /// would not take either.
    pub fn port_range(&self) -> Option<std::ops::RangeInclusive<u16>> {
        let text = self.external_port_range.as_deref()?;
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let (low, high) = (low.trim().parse().ok()?, high.trim().parse().ok()?);
        (low > 0 && low <= high).then_some(low..=high)
    }
}

fn nat_kind(row: &Row, column: &str) -> Result<NatKind, Error> {
    match row.string(column)? {
        "snat" => Ok(NatKind::Source),
        "dnat" => Ok(NatKind::Destination),
        "dnat_and_snat" => Ok(NatKind::Both),
        _ => Err(row.problem(column, "none of snat, dnat and dnat_and_snat")),
    }
}
