//! Rows of `OVN_Northbound`, the logical network as it is wanted (ovn-nb(5)).

use std::collections::BTreeMap;

use super::vswitch::parse_mac;
use super::{TypedRow, flag, optional, pairs, references, strings};
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

/// A router.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct LogicalRouter {
    pub uuid: Uuid,
    pub name: String,
    pub ports: Vec<Uuid>,
    pub nat: Vec<Uuid>,
    pub load_balancer: Vec<Uuid>,
    pub load_balancer_group: Vec<Uuid>,
    pub enabled: bool,
    /// `chassis` names the gateway node of a gateway router.
    pub options: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
}

/// A router's port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct LogicalRouterPort {
    pub uuid: Uuid,
    pub name: String,
    pub mac: [u8; 6],
    /// Addresses with prefix lengths, as written.
    pub networks: Vec<String>,
    pub peer: Option<String>,
    pub enabled: bool,
    pub external_ids: BTreeMap<String, String>,
}

/// A translation rule of a router.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct Nat {
    pub uuid: Uuid,
    pub kind: NatKind,
    pub external_ip: String,
    pub logical_ip: String,
    /// As written: `LOW-HIGH`, one port, or nothing.
    pub external_port_range: Option<String>,
    pub logical_port: Option<String>,
    pub external_mac: Option<String>,
    pub options: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
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

/// A switch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct LogicalSwitch {
    pub uuid: Uuid,
    pub name: String,
    pub ports: Vec<Uuid>,
    pub load_balancer: Vec<Uuid>,
    pub other_config: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
}

/// A switch's port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct LogicalSwitchPort {
    pub uuid: Uuid,
    pub name: String,
    /// Empty for a pod or machine, `router`, `localnet` and others.
    pub kind: String,
    pub addresses: Vec<String>,
    pub dynamic_addresses: Option<String>,
    /// Of kind `router`: `router-port` names the other end.
    pub options: BTreeMap<String, String>,
    pub up: bool,
    pub external_ids: BTreeMap<String, String>,
}

/// A load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct LoadBalancer {
    pub uuid: Uuid,
    pub name: String,
    pub protocol: Option<String>,
    /// From `ADDRESS:PORT` to the backends, with commas between.
    pub vips: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
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

impl TypedRow for LogicalRouter {
    const TABLE: &'static str = "Logical_Router";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "ports",
        "nat",
        "load_balancer",
        "load_balancer_group",
        "enabled",
        "options",
        "external_ids",
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            ports: references(row, "ports"),
            nat: references(row, "nat"),
            load_balancer: references(row, "load_balancer"),
            load_balancer_group: references(row, "load_balancer_group"),
            enabled: flag(row, "enabled").unwrap_or(true),
            options: pairs(row, "options"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for LogicalRouterPort {
    const TABLE: &'static str = "Logical_Router_Port";
    const COLUMNS: &'static [&'static str] = &["name", "mac", "networks", "peer", "enabled", "external_ids"];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            mac: parse_mac(row.string("mac")?).ok_or_else(|| row.problem("mac", "not a MAC address"))?,
            networks: strings(row, "networks"),
            peer: optional(row, "peer"),
            enabled: flag(row, "enabled").unwrap_or(true),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for Nat {
    const TABLE: &'static str = "NAT";
    const COLUMNS: &'static [&'static str] = &[
        "type",
        "external_ip",
        "logical_ip",
        "external_port_range",
        "logical_port",
        "external_mac",
        "options",
        "external_ids",
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            kind: match row.string("type")? {
                "snat" => NatKind::Source,
                "dnat" => NatKind::Destination,
                "dnat_and_snat" => NatKind::Both,
                _ => return Err(row.problem("type", "none of snat, dnat and dnat_and_snat")),
            },
            external_ip: row.string("external_ip")?.to_owned(),
            logical_ip: row.string("logical_ip")?.to_owned(),
            external_port_range: optional(row, "external_port_range"),
            logical_port: optional(row, "logical_port"),
            external_mac: optional(row, "external_mac"),
            options: pairs(row, "options"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for LogicalSwitch {
    const TABLE: &'static str = "Logical_Switch";
    const COLUMNS: &'static [&'static str] =
        &["name", "ports", "load_balancer", "other_config", "external_ids"];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            ports: references(row, "ports"),
            load_balancer: references(row, "load_balancer"),
            other_config: pairs(row, "other_config"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for LogicalSwitchPort {
    const TABLE: &'static str = "Logical_Switch_Port";
    const COLUMNS: &'static [&'static str] =
        &["name", "type", "addresses", "dynamic_addresses", "options", "up", "external_ids"];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            kind: optional(row, "type").unwrap_or_default(),
            addresses: strings(row, "addresses"),
            dynamic_addresses: optional(row, "dynamic_addresses"),
            options: pairs(row, "options"),
            up: flag(row, "up").unwrap_or(false),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for LoadBalancer {
    const TABLE: &'static str = "Load_Balancer";
    const COLUMNS: &'static [&'static str] = &["name", "protocol", "vips", "external_ids"];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            protocol: optional(row, "protocol"),
            vips: pairs(row, "vips"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}
