//! Rows of `Open_vSwitch`, the database of the local switch (ovs-vswitchd.conf.db(5)).

use std::collections::BTreeMap;

use super::TypedRow;
use super::columns::{
    counter, integer, ofport, optional, optional_mac, pairs, references, row, text, texts, type_or_system, up,
};
use crate::openflow::flow::OfPort;
use crate::ovsdb::blocking::LOCAL_DATABASE;
use crate::ovsdb::{Error, MonitorTable, Row, Snapshot, Uuid};

/// The database's name.
pub const DATABASE: &str = LOCAL_DATABASE;

/// All that the rows of this module read.
pub fn monitors() -> Vec<MonitorTable> {
    vec![OpenVSwitch::monitor(), Bridge::monitor(), Port::monitor(), Interface::monitor()]
}

row! {
    /// The one row of table `Open_vSwitch`: settings of the whole switch.
    OpenVSwitch in "Open_vSwitch" {
        bridges: Vec<Uuid> = references("bridges"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
        other_config: BTreeMap<String, String> = pairs("other_config"),
        /// Incremented by who changes the configuration.
        next_cfg: i64 = counter("next_cfg"),
        /// The `next_cfg` that vswitchd has carried out.
        cur_cfg: i64 = counter("cur_cfg"),
        ovs_version: Option<String> = optional("ovs_version"),
        db_version: Option<String> = optional("db_version"),
        datapath_types: Vec<String> = texts("datapath_types"),
    }
}

row! {
    /// A bridge.
    Bridge in "Bridge" {
        name: String = text("name"),
        ports: Vec<Uuid> = references("ports"),
        /// `system` (also when unset) or `netdev`.
        datapath_type: String = type_or_system("datapath_type"),
        /// 16 hexadecimal digits, once vswitchd has made the bridge.
        datapath_id: Option<String> = optional("datapath_id"),
        fail_mode: Option<String> = optional("fail_mode"),
        protocols: Vec<String> = texts("protocols"),
        controller: Vec<Uuid> = references("controller"),
        other_config: BTreeMap<String, String> = pairs("other_config"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// A port of a bridge: one interface, or the several of a bond.
    Port in "Port" {
        name: String = text("name"),
        interfaces: Vec<Uuid> = references("interfaces"),
        tag: Option<i64> = integer("tag"),
        vlan_mode: Option<String> = optional("vlan_mode"),
        other_config: BTreeMap<String, String> = pairs("other_config"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
    }
}

row! {
    /// An interface of a port.
    Interface in "Interface" {
        name: String = text("name"),
        /// `system` (empty in the database), `internal`, `patch`, a tunnel's kind.
        kind: String = type_or_system("type"),
        options: BTreeMap<String, String> = pairs("options"),
        /// Unset while vswitchd has not seen the interface or could not make it.
        ofport: Option<OfPort> = ofport("ofport"),
        /// Six octets, as vswitchd writes them with colons.
        mac_in_use: Option<[u8; 6]> = optional_mac("mac_in_use"),
        /// The error that vswitchd reports.
        error: Option<String> = optional("error"),
        /// Unset while it does not exist.
        admin_up: Option<bool> = up("admin_state"),
        /// Unset while it does not exist.
        link_up: Option<bool> = up("link_state"),
        ifindex: Option<i64> = integer("ifindex"),
        mtu: Option<i64> = integer("mtu"),
        external_ids: BTreeMap<String, String> = pairs("external_ids"),
        other_config: BTreeMap<String, String> = pairs("other_config"),
    }
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
