//! A snapshot of the rows of the switch's database.

use ovs::ovsdb::blocking::RowData;
use ovs::ovsdb::{Datum, OpResult, Operation, Uuid};

use super::{BRIDGE_ID, NIC, OWNER};

/// The columns that are read of an interface.
pub(super) const INTERFACE_COLUMNS: [&str; 10] = [
    "_uuid",
    "name",
    "type",
    "options",
    "ofport",
    "ofport_request",
    "error",
    "mac_in_use",
    "mtu_request",
    "external_ids",
];

/// The rows of the switch that plans depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OvsSnapshot {
    /// Whether the database has its one row of table `Open_vSwitch`.
    pub is_initialised: bool,
    /// `external_ids:ovn-bridge-datapath-type`: the datapath type of OVN's integration bridge.
    pub default_datapath: Option<String>,
    /// The datapath types of this ovs-vswitchd; empty when none ever ran.
    pub datapath_types: Vec<String>,
    /// `next_cfg`: number of the last requested change.
    pub next_cfg: i64,
    /// `cur_cfg`: number of the last change carried out.
    pub cur_cfg: i64,
    /// The bridges, by name.
    pub bridges: Vec<BridgeSnapshot>,
    /// The QoS rows of takeovers, each with its NIC.
    pub our_qos: Vec<(Uuid, Option<String>)>,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeSnapshot {
    /// Its row.
    pub uuid: Uuid,
    /// Its name.
    pub name: String,
    /// Which program made it.
    pub owner: Owner,
    /// Column `datapath_type`; empty is `system`.
    pub datapath_type: String,
    /// Column `fail_mode`.
    pub fail_mode: Option<String>,
    /// `other_config:hwaddr`.
    pub hwaddr: Option<String>,
    /// Its ports, its own device among them, by name.
    pub ports: Vec<PortSnapshot>,
}

/// Which program made a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This product's takeover.
    Uplink,
    /// The original `nics-to-bridge`: `external_ids:bridge-id` is the bridge's own name.
    Original,
    /// Another program.
    Other,
}

/// A port of a bridge; each member of a bond counts as one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSnapshot {
    /// The port's row.
    pub uuid: Uuid,
    /// The interface's row.
    pub interface: Uuid,
    /// The interface's name.
    pub name: String,
    /// The port's name; another one for a bond.
    pub port: String,
    /// `internal`, `patch`; empty for a device of the kernel.
    pub kind: String,
    /// `options:peer` of a patch port.
    pub peer: Option<String>,
    /// OpenFlow port number, once ovs-vswitchd has assigned one.
    pub ofport: Option<i64>,
    /// Requested port number.
    pub ofport_request: Option<i64>,
    /// Error that ovs-vswitchd reports.
    pub error: Option<String>,
    /// `other_config:transient`: removed when the switch starts.
    pub is_transient: bool,
    /// `mtu_request`.
    pub mtu_request: Option<i64>,
    /// Whether a takeover made it.
    pub is_ours: bool,
    /// The QoS row that it uses.
    pub qos: Option<Uuid>,
}

/// An interface's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceSnapshot {
    pub(super) ofport: Option<i64>,
    pub(super) error: Option<String>,
    pub(super) mac_in_use: Option<String>,
}

impl OvsSnapshot {
    /// A bridge by its name.
    pub(crate) fn bridge(&self, name: &str) -> Option<&BridgeSnapshot> {
        self.bridges.iter().find(|bridge| bridge.name == name)
    }

    /// The bridge that a device is a port of; its own device counts too.
    pub(crate) fn bridge_of(&self, device: &str) -> Option<&BridgeSnapshot> {
        self.bridges.iter().find(|bridge| bridge.port(device).is_some())
    }

    /// The interface row of this name.
    pub(super) fn interface(&self, name: &str) -> Option<Uuid> {
        Some(self.bridge_of(name)?.port(name)?.interface)
    }

    /// Reads the results of [`queries`].
    pub(super) fn read(results: &[OpResult]) -> Self {
        let rows = |index: usize| results.get(index).map(OpResult::rows).unwrap_or_default();
        let (root, bridges, ports, interfaces, qos) = (rows(0).first(), rows(1), rows(2), rows(3), rows(4));
        let our_qos = qos.iter().filter(|row| is_ours(row));
        let our_qos = our_qos.filter_map(|row| Some((uuid(row)?, key(row, "external_ids", NIC)))).collect();
        let read_ports = |bridge: &RowData| {
            let ports = references(bridge, "ports").filter_map(|port| by_uuid(ports, port));
            let mut read: Vec<PortSnapshot> = ports
                .flat_map(|port| {
                    let members = references(port, "interfaces").filter_map(|uuid| by_uuid(interfaces, uuid));
                    members.filter_map(|interface| PortSnapshot::read(port, interface))
                })
                .collect();
            read.sort_by(|left, right| left.name.cmp(&right.name));
            read
        };
        let mut bridges: Vec<BridgeSnapshot> = bridges
            .iter()
            .filter_map(|row| {
                let name = text(row, "name")?;
                Some(BridgeSnapshot {
                    uuid: uuid(row)?,
                    owner: match key(row, "external_ids", BRIDGE_ID) {
                        _ if is_ours(row) => Owner::Uplink,
                        Some(id) if id == name => Owner::Original,
                        _ => Owner::Other,
                    },
                    datapath_type: text(row, "datapath_type").unwrap_or_default(),
                    fail_mode: text(row, "fail_mode"),
                    hwaddr: key(row, "other_config", "hwaddr"),
                    ports: read_ports(row),
                    name,
                })
            })
            .collect();
        bridges.sort_by(|left, right| left.name.cmp(&right.name));
        let setting = |name| root.and_then(|root| key(root, "external_ids", name));
        let counter = |column| root.and_then(|root| root.get(column)?.as_integer()).unwrap_or_default();
        let types = root.and_then(|root| root.get("datapath_types")).map(Datum::atoms).unwrap_or_default();
        Self {
            is_initialised: root.is_some(),
            default_datapath: setting("ovn-bridge-datapath-type"),
            datapath_types: types.iter().filter_map(|atom| atom.as_str().map(str::to_owned)).collect(),
            next_cfg: counter("next_cfg"),
            cur_cfg: counter("cur_cfg"),
            bridges,
            our_qos,
        }
    }
}

impl BridgeSnapshot {
    /// A port by its device's name.
    pub(crate) fn port(&self, device: &str) -> Option<&PortSnapshot> {
        self.ports.iter().find(|port| port.name == device)
    }

    /// Its own device.
    pub(crate) fn device(&self) -> Option<&PortSnapshot> {
        self.port(&self.name)
    }

    /// Its ports except its own device and this NIC.
    pub(crate) fn others<'a>(&'a self, nic: &'a str) -> impl Iterator<Item = &'a PortSnapshot> {
        self.ports.iter().filter(move |port| port.name != self.name && port.name != nic)
    }
}

impl PortSnapshot {
    fn read(port: &RowData, interface: &RowData) -> Option<Self> {
        let row = InterfaceSnapshot::read(interface);
        Some(Self {
            uuid: uuid(port)?,
            interface: uuid(interface)?,
            name: text(interface, "name")?,
            port: text(port, "name")?,
            kind: text(interface, "type").unwrap_or_default(),
            peer: key(interface, "options", "peer"),
            ofport: row.ofport,
            ofport_request: interface.get("ofport_request").and_then(Datum::as_integer),
            error: row.error,
            is_transient: key(port, "other_config", "transient").as_deref() == Some("true"),
            mtu_request: interface.get("mtu_request").and_then(Datum::as_integer),
            is_ours: is_ours(port),
            qos: references(port, "qos").next(),
        })
    }
}

impl InterfaceSnapshot {
    pub(super) fn read(row: &RowData) -> Self {
        Self {
            ofport: row.get("ofport").and_then(Datum::as_integer),
            error: text(row, "error"),
            mac_in_use: text(row, "mac_in_use"),
        }
    }
}

/// The queries, in the order in which [`OvsSnapshot::read`] reads the results.
pub(super) fn queries() -> Vec<Operation> {
    let columns: [(&str, &[&str]); 5] = [
        ("Open_vSwitch", &["external_ids", "datapath_types", "next_cfg", "cur_cfg"]),
        ("Bridge", &["_uuid", "name", "ports", "datapath_type", "fail_mode", "other_config", "external_ids"]),
        ("Port", &["_uuid", "name", "interfaces", "qos", "other_config", "external_ids"]),
        ("Interface", &INTERFACE_COLUMNS),
        ("QoS", &["_uuid", "external_ids"]),
    ];
    columns.iter().map(|(table, columns)| Operation::select(table).columns(columns)).collect()
}

fn is_ours(row: &RowData) -> bool {
    key(row, "external_ids", OWNER.0).as_deref() == Some(OWNER.1)
}

fn by_uuid(rows: &[RowData], wanted: Uuid) -> Option<&RowData> {
    rows.iter().find(|row| uuid(row) == Some(wanted))
}

fn uuid(row: &RowData) -> Option<Uuid> {
    row.get("_uuid")?.as_uuid()
}

/// A column's text; `None` when empty.
fn text(row: &RowData, column: &str) -> Option<String> {
    row.get(column)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn key(row: &RowData, column: &str, key: &str) -> Option<String> {
    row.get(column)?.get(key).map(str::to_owned)
}

fn references(row: &RowData, column: &str) -> impl Iterator<Item = Uuid> {
    row.get(column).into_iter().flat_map(Datum::atoms).filter_map(|atom| atom.as_uuid())
}
