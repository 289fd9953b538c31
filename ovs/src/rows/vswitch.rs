//! Rows of `Open_vSwitch`, the database of the local switch (ovs-vswitchd.conf.db(5)).

use std::collections::BTreeMap;

use super::{TypedRow, integer, optional, pairs, references, strings};
use crate::openflow::flow::OfPort;
use crate::ovsdb::{Error, MonitorTable, Row, Snapshot, Uuid};

/// The database's name.
pub const DATABASE: &str = "Open_vSwitch";

/// All that the rows of this module read.
pub fn monitors() -> Vec<MonitorTable> {
    vec![OpenVSwitch::monitor(), Bridge::monitor(), Port::monitor(), Interface::monitor()]
}

/// The one row of table `Open_vSwitch`: settings of the whole switch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct OpenVSwitch {
    pub uuid: Uuid,
    pub bridges: Vec<Uuid>,
    pub external_ids: BTreeMap<String, String>,
    pub other_config: BTreeMap<String, String>,
    /// Incremented by who changes the configuration.
    pub next_cfg: i64,
    /// The `next_cfg` that vswitchd has carried out.
    pub cur_cfg: i64,
    pub ovs_version: Option<String>,
    pub db_version: Option<String>,
    pub datapath_types: Vec<String>,
}

/// A bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct Bridge {
    pub uuid: Uuid,
    pub name: String,
    pub ports: Vec<Uuid>,
    /// `system` (also when unset) or `netdev`.
    pub datapath_type: String,
    /// 16 hexadecimal digits, once vswitchd has made the bridge.
    pub datapath_id: Option<String>,
    pub fail_mode: Option<String>,
    pub protocols: Vec<String>,
    pub controller: Vec<Uuid>,
    pub other_config: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
}

/// A port of a bridge: one interface, or the several of a bond.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct Port {
    pub uuid: Uuid,
    pub name: String,
    pub interfaces: Vec<Uuid>,
    pub tag: Option<i64>,
    pub vlan_mode: Option<String>,
    pub other_config: BTreeMap<String, String>,
    pub external_ids: BTreeMap<String, String>,
}

/// An interface of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the columns of the schema")]
pub struct Interface {
    pub uuid: Uuid,
    pub name: String,
    /// `system` (empty in the database), `internal`, `patch`, a tunnel's kind.
    pub kind: String,
    pub options: BTreeMap<String, String>,
    /// Unset while vswitchd has not seen the interface or could not make it.
    pub ofport: Option<OfPort>,
    /// Six octets, as vswitchd writes them with colons.
    pub mac_in_use: Option<[u8; 6]>,
    /// What vswitchd says is wrong with it.
    pub error: Option<String>,
    /// Unset while it does not exist.
    pub admin_up: Option<bool>,
    /// Unset while it does not exist.
    pub link_up: Option<bool>,
    pub ifindex: Option<i64>,
    pub mtu: Option<i64>,
    pub external_ids: BTreeMap<String, String>,
    pub other_config: BTreeMap<String, String>,
}

impl OpenVSwitch {
    /// The one row; `None` before `ovs-vsctl init` or the like made it.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        Self::all(snapshot).find_map(Result::ok)
    }
}

impl Bridge {
    /// The ports of this bridge that are in the snapshot.
    pub fn ports(&self, snapshot: &Snapshot) -> Vec<Port> {
        self.ports.iter().filter_map(|port| Port::one(snapshot, *port)).collect()
    }

    /// The interfaces of this bridge's ports.
    pub fn interfaces(&self, snapshot: &Snapshot) -> Vec<Interface> {
        let ports = self.ports(snapshot);
        let interfaces = ports.iter().flat_map(|port| &port.interfaces);
        interfaces.filter_map(|interface| Interface::one(snapshot, *interface)).collect()
    }
}

impl TypedRow for OpenVSwitch {
    const TABLE: &'static str = "Open_vSwitch";
    const COLUMNS: &'static [&'static str] = &[
        "bridges",
        "external_ids",
        "other_config",
        "next_cfg",
        "cur_cfg",
        "ovs_version",
        "db_version",
        "datapath_types",
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            bridges: references(row, "bridges"),
            external_ids: pairs(row, "external_ids"),
            other_config: pairs(row, "other_config"),
            next_cfg: integer(row, "next_cfg").unwrap_or_default(),
            cur_cfg: integer(row, "cur_cfg").unwrap_or_default(),
            ovs_version: optional(row, "ovs_version"),
            db_version: optional(row, "db_version"),
            datapath_types: strings(row, "datapath_types"),
        })
    }
}

impl TypedRow for Bridge {
    const TABLE: &'static str = "Bridge";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "ports",
        "datapath_type",
        "datapath_id",
        "fail_mode",
        "protocols",
        "controller",
        "other_config",
        "external_ids",
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            ports: references(row, "ports"),
            datapath_type: optional(row, "datapath_type").unwrap_or_else(|| "system".to_owned()),
            datapath_id: optional(row, "datapath_id"),
            fail_mode: optional(row, "fail_mode"),
            protocols: strings(row, "protocols"),
            controller: references(row, "controller"),
            other_config: pairs(row, "other_config"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for Port {
    const TABLE: &'static str = "Port";
    const COLUMNS: &'static [&'static str] =
        &["name", "interfaces", "tag", "vlan_mode", "other_config", "external_ids"];

    fn from_row(row: &Row) -> Result<Self, Error> {
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            interfaces: references(row, "interfaces"),
            tag: integer(row, "tag"),
            vlan_mode: optional(row, "vlan_mode"),
            other_config: pairs(row, "other_config"),
            external_ids: pairs(row, "external_ids"),
        })
    }
}

impl TypedRow for Interface {
    const TABLE: &'static str = "Interface";
    const COLUMNS: &'static [&'static str] = &[
        "name",
        "type",
        "options",
        "ofport",
        "mac_in_use",
        "error",
        "admin_state",
        "link_state",
        "ifindex",
        "mtu",
        "external_ids",
        "other_config",
    ];

    fn from_row(row: &Row) -> Result<Self, Error> {
        let is_up = |column| optional(row, column).map(|state| state == "up");
        Ok(Self {
            uuid: row.uuid(),
            name: row.string("name")?.to_owned(),
            kind: optional(row, "type").unwrap_or_else(|| "system".to_owned()),
            options: pairs(row, "options"),
            // vswitchd writes -1 when it could not make the interface.
            ofport: integer(row, "ofport").and_then(|port| u32::try_from(port).ok()).map(OfPort),
            mac_in_use: match optional(row, "mac_in_use") {
                None => None,
                Some(text) => {
                    Some(parse_mac(&text).ok_or_else(|| row.problem("mac_in_use", "not a MAC address"))?)
                }
            },
            error: optional(row, "error"),
            admin_up: is_up("admin_state"),
            link_up: is_up("link_state"),
            ifindex: integer(row, "ifindex"),
            mtu: integer(row, "mtu"),
            external_ids: pairs(row, "external_ids"),
            other_config: pairs(row, "other_config"),
        })
    }
}

/// Six octets in hexadecimal with colons between.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part =
            parts.next().filter(|part| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}
