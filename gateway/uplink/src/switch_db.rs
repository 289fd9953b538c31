//! The switch's database: its rows of bridge and NIC, and the transactions that change them.
//!
//! [`OvsDb::observe`] reads everything in one transaction, as an [`OvsSnapshot`]. [`OvsDb::make_bridges`] and
//! [`OvsDb::add_ports`] are the steps `bridge-tx` and `port-tx`. The reply of a transaction says nothing about
//! ovs-vswitchd, so [`OvsDb::wait_for_devices`] and [`OvsDb::wait_for_ports`] wait for the rows that these transactions
//! made, by UUID. [`OvsDb::remove`] removes what a takeover made.
//!
//! Rows of a takeover have `external_ids:ovn-k8s-owner=uplink`. A bridge that existed before is kept with its ports; its
//! settings are restored from [`PriorOvsConfig`]. Every call has a deadline: in undo the database may be gone.

use std::time::{Duration, Instant};

use ovs::ovsdb::blocking::Client;
use ovs::ovsdb::{Atom, Condition, Datum, Operation, Remote, Uuid};
use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::options::Datapath;

mod reopen;
mod snapshot;
#[cfg(test)]
mod tests;

pub(crate) use snapshot::{BridgeSnapshot, OvsSnapshot, Owner, PortSnapshot};

/// Key and value of `external_ids` on rows of a takeover.
pub const OWNER: (&str, &str) = ("ovn-k8s-owner", "uplink");
/// Key of `external_ids` of a takeover's QoS row, with its NIC: the row outlives the NIC's port.
const NIC: &str = "ovn-k8s-nic";
/// Key of a bridge's `external_ids` whose value is the bridge's name.
pub(crate) const BRIDGE_ID: &str = "bridge-id";

/// What the switch's database had of one bridge and its NIC before the takeover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PriorOvsConfig {
    /// The bridge existed.
    pub bridge: bool,
    /// The NIC was a port of it.
    pub port: bool,
    /// `other_config:hwaddr` of a bridge that existed.
    pub hwaddr: Option<String>,
    /// `mtu_request` of the device of a bridge that existed.
    pub mtu_request: Option<i64>,
}

/// A bridge to make, and the NIC to add as its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BridgeSpec {
    /// The bridge.
    pub bridge: String,
    /// The NIC.
    pub nic: String,
    /// The NIC's MAC, with colons; the bridge gets it.
    pub mac: String,
    /// The NIC's MTU.
    pub mtu: u32,
    /// The bridge's datapath.
    pub datapath: Datapath,
}

/// What was written and ovs-vswitchd has to carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PendingChange {
    /// Names and rows of the interfaces.
    interfaces: Vec<(String, Uuid)>,
}

/// What [`OvsDb::remove`] did with one bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// It removed the bridge with its ports.
    Bridge,
    /// It removed the NIC's port; the bridge is of another owner, or has other ports.
    Port,
    /// Nothing: no row is a takeover's.
    Nothing,
}

/// A connection to the switch's database.
#[derive(Debug)]
pub(crate) struct OvsDb {
    client: Client,
}

impl OvsDb {
    /// Connects within `limit`.
    pub(crate) fn connect(remote: &Remote, limit: Duration) -> Result<Self> {
        let client = Client::connect(remote, limit).map_err(Error::database("reach the switch"))?;
        Ok(Self { client })
    }

    /// Everything that a plan needs, in one transaction.
    pub(crate) fn observe(&mut self, deadline: Instant) -> Result<OvsSnapshot> {
        let results = self.client.transact(&snapshot::queries(), deadline);
        Ok(OvsSnapshot::read(&results.map_err(Error::database("read the switch's database"))?))
    }

    /// Makes the bridges (step `bridge-tx`), each with its own device only; one transaction. An existing bridge is kept,
    /// and gets the NIC's MAC and MTU.
    pub(crate) fn make_bridges(&mut self, wanted: &[BridgeSpec], deadline: Instant) -> Result<PendingChange> {
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.bridge.as_str()).collect();
        let attempted = format!("make {} in the switch's database", names.join(", "));
        let seen = self.observe(deadline)?;
        let mut operations = vec![Operation::comment(&format!("ovn-k8s-util: make {}", names.join(", ")))];
        for (index, wanted) in wanted.iter().enumerate() {
            match seen.bridge(&wanted.bridge) {
                Some(bridge) => operations.extend(adopt(bridge, wanted)),
                None => operations.extend(make(index, wanted)),
            }
        }
        self.write(operations, &attempted, deadline)?;
        self.written(names.iter().map(|name| (*name).to_owned()).collect(), &attempted, deadline)
    }

    /// Makes each NIC a port of its bridge (step `port-tx`); one transaction. An existing port is kept.
    pub(crate) fn add_ports(&mut self, wanted: &[BridgeSpec], deadline: Instant) -> Result<PendingChange> {
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.nic.as_str()).collect();
        let attempted = format!("add {} to its bridge in the switch's database", names.join(", "));
        let seen = self.observe(deadline)?;
        let mut operations = vec![Operation::comment(&format!("ovn-k8s-util: add {}", names.join(", ")))];
        for (index, wanted) in wanted.iter().enumerate() {
            match seen.bridge_of(&wanted.nic) {
                Some(bridge) if bridge.name == wanted.bridge => {}
                Some(other) => {
                    return Err(Error::failed(
                        &attempted,
                        format!("{} has become a port of {}", wanted.nic, other.name),
                        "find the program that did that; then run this again",
                    ));
                }
                None => {
                    operations.extend(remove_qos(&seen, &wanted.nic));
                    operations.extend(add(index, wanted));
                }
            }
        }
        self.write(operations, &attempted, deadline)?;
        self.written(names.iter().map(|name| (*name).to_owned()).collect(), &attempted, deadline)
    }

    /// Waits until each bridge's device exists with the wanted MAC: what is configured before that is lost.
    pub(crate) fn wait_for_devices(
        &mut self,
        wanted: &[BridgeSpec],
        written: &PendingChange,
        deadline: Instant,
    ) -> Result<()> {
        self.wait(written, deadline, |name, interface| {
            let mac = wanted.iter().find(|wanted| wanted.bridge == name).map(|wanted| wanted.mac.as_str());
            interface.ofport.is_some() && interface.mac_in_use.as_deref() == mac
        })
    }

    /// Waits until each NIC has a port number (step `ofport`).
    pub(crate) fn wait_for_ports(&mut self, written: &PendingChange, deadline: Instant) -> Result<()> {
        self.wait(written, deadline, |_, interface| interface.ofport.is_some_and(|port| port > 0))
    }

    /// Removes what a takeover made of each bridge and NIC, and restores the settings of a bridge that existed before. One
    /// transaction; rows that are gone already are no error.
    ///
    /// `original` also removes a bridge with the mark of the original `nics-to-bridge`: for a bridge named by the operator.
    pub(crate) fn remove(
        &mut self,
        uplinks: &[(&str, &str, &PriorOvsConfig)],
        original: bool,
        deadline: Instant,
    ) -> Result<Vec<Removal>> {
        let names: Vec<&str> = uplinks.iter().map(|(bridge, ..)| *bridge).collect();
        let attempted = format!("remove {} from the switch's database", names.join(", "));
        loop {
            let seen = self.observe(deadline)?;
            let mut operations =
                vec![Operation::comment(&format!("ovn-k8s-util: remove {}", names.join(", ")))];
            let mut removed = Vec::with_capacity(uplinks.len());
            for (bridge, nic, held) in uplinks {
                let (what, more) = removal(&seen, bridge, nic, held, original);
                removed.push(what);
                operations.extend(more);
            }
            if operations.len() == 1 {
                return Ok(removed);
            }
            match self.write(operations, &attempted, deadline) {
                // A bridge's ports changed between the read and the write.
                Err(Error::Database { source, .. })
                    if source.is_wait_failed() && Instant::now() < deadline => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(removed),
            }
        }
    }

    /// Sends operations and increments `next_cfg`, as ovs-vsctl does.
    fn write(&mut self, mut operations: Vec<Operation>, attempted: &str, deadline: Instant) -> Result<()> {
        operations.push(Operation::mutate("Open_vSwitch").add("next_cfg", 1));
        self.client.transact(&operations, deadline).map_err(Error::database(attempted))?;
        Ok(())
    }

    /// The interface rows that have these names now.
    fn written(&mut self, names: Vec<String>, attempted: &str, deadline: Instant) -> Result<PendingChange> {
        let seen = self.observe(deadline)?;
        let row = |name: String| match seen.interface(&name) {
            Some(uuid) => Ok((name, uuid)),
            None => Err(Error::failed(
                attempted,
                format!("another program removed {name} right after it was written"),
                "find the program that changes the switch's database; then run this again",
            )),
        };
        Ok(PendingChange { interfaces: names.into_iter().map(row).collect::<Result<_>>()? })
    }

    /// Waits until all interfaces are good, or one is removed or has an error.
    fn wait(
        &mut self,
        written: &PendingChange,
        deadline: Instant,
        is_good: impl Fn(&str, &snapshot::InterfaceSnapshot) -> bool,
    ) -> Result<()> {
        let mut waits_for = String::new();
        let outcome = self.client.wait("Interface", &snapshot::INTERFACE_COLUMNS, deadline, |rows| {
            for (name, uuid) in &written.interfaces {
                let row = rows.iter().find(|row| row.get("_uuid").and_then(Datum::as_uuid) == Some(*uuid));
                let Some(interface) = row.map(snapshot::InterfaceSnapshot::read) else {
                    return Some(Err(format!("another program removed {name} from the switch's database")));
                };
                if let Some(error) = interface.error {
                    return Some(Err(format!("ovs-vswitchd reports for {name}: {error}")));
                }
                if !is_good(name, &interface) {
                    waits_for = format!(
                        "{name} (ofport {}, MAC {})",
                        interface.ofport.map_or("none".to_owned(), |port| port.to_string()),
                        interface.mac_in_use.as_deref().unwrap_or("none")
                    );
                    return None;
                }
            }
            Some(Ok(()))
        });
        const ATTEMPTED: &str = "get the devices from ovs-vswitchd";
        match outcome.map_err(Error::database("wait for ovs-vswitchd"))? {
            Some(Ok(())) => Ok(()),
            Some(Err(what)) => Err(Error::failed(ATTEMPTED, what, "check its log")),
            None => Err(Error::failed(
                ATTEMPTED,
                format!("still waiting for {waits_for}"),
                "does ovs-vswitchd run, and has it this datapath? check its log",
            )),
        }
    }
}

/// The mark of a takeover, as `external_ids`.
fn owner() -> Datum {
    Datum::map([OWNER])
}

/// A new bridge with its own device.
fn make(index: usize, wanted: &BridgeSpec) -> [Operation; 4] {
    let [interface, port, bridge] = ["interface", "port", "bridge"].map(|what| format!("{what}{index}"));
    [
        Operation::insert("Interface")
            .named(&interface)
            .set("name", wanted.bridge.as_str())
            .set("type", "internal")
            .set("mtu_request", i64::from(wanted.mtu))
            .set("external_ids", owner()),
        Operation::insert("Port")
            .named(&port)
            .set("name", wanted.bridge.as_str())
            .set("interfaces", Atom::named(&interface))
            .set("external_ids", owner()),
        Operation::insert("Bridge")
            .named(&bridge)
            .set("name", wanted.bridge.as_str())
            .set("ports", Atom::named(&port))
            .set("datapath_type", wanted.datapath.name())
            .set("fail_mode", "standalone")
            .set("other_config", Datum::map([("hwaddr", wanted.mac.as_str())]))
            .set("external_ids", Datum::map([OWNER, (BRIDGE_ID, wanted.bridge.as_str())])),
        Operation::mutate("Open_vSwitch").put("bridges", Atom::named(&bridge)),
    ]
}

/// An existing bridge: it gets the NIC's MAC and MTU, nothing else.
fn adopt(bridge: &BridgeSnapshot, wanted: &BridgeSpec) -> Vec<Operation> {
    let mut operations = Vec::new();
    if bridge.hwaddr.as_deref() != Some(wanted.mac.as_str()) {
        operations.push(Operation::mutate("Bridge").row(bridge.uuid).put_key(
            "other_config",
            "hwaddr",
            &wanted.mac,
        ));
    }
    if let Some(device) = bridge.device()
        && device.mtu_request != Some(i64::from(wanted.mtu))
    {
        operations.push(set_mtu(device.interface, Some(i64::from(wanted.mtu))));
    }
    operations
}

fn set_mtu(interface: Uuid, mtu: Option<i64>) -> Operation {
    let mtu = mtu.map_or_else(Datum::empty_set, Datum::from);
    Operation::update("Interface").row(interface).set("mtu_request", mtu)
}

/// A NIC as a port. `linux-noop` in the same transaction: without it ovs-vswitchd removes the NIC's root qdisc.
/// `transient`: the port is gone after a reboot, until `recover` has run.
fn add(index: usize, wanted: &BridgeSpec) -> [Operation; 4] {
    let [interface, port, qos] = ["interface", "port", "qos"].map(|what| format!("{what}{index}"));
    [
        Operation::insert("QoS")
            .named(&qos)
            .set("type", "linux-noop")
            .set("external_ids", Datum::map([OWNER, (NIC, wanted.nic.as_str())])),
        Operation::insert("Interface")
            .named(&interface)
            .set("name", wanted.nic.as_str())
            .set("external_ids", owner()),
        Operation::insert("Port")
            .named(&port)
            .set("name", wanted.nic.as_str())
            .set("interfaces", Atom::named(&interface))
            .set("qos", Atom::named(&qos))
            .set("other_config", Datum::map([("transient", "true")]))
            .set("external_ids", owner()),
        Operation::mutate("Bridge")
            .filter(Condition::equal("name", wanted.bridge.as_str()))
            .put("ports", Atom::named(&port)),
    ]
}

/// What to remove of one bridge and NIC, and the operations for it.
fn removal(
    seen: &OvsSnapshot,
    bridge: &str,
    nic: &str,
    held: &PriorOvsConfig,
    original: bool,
) -> (Removal, Vec<Operation>) {
    let row = seen.bridge(bridge);
    // A port that stays needs its QoS row: without it ovs-vswitchd removes the root qdisc.
    let stays = held.port && row.is_some_and(|row| row.port(nic).is_some());
    let mut operations = if stays { Vec::new() } else { remove_qos(seen, nic) };
    let Some(row) = row else { return (Removal::Nothing, operations) };
    let port = row.port(nic);
    let ours = match row.owner {
        Owner::Uplink => true,
        Owner::Original => original,
        Owner::Other => false,
    };
    // The bridge must still have exactly the observed ports, so that no other is removed.
    let unchanged = Operation::wait_equal("Bridge")
        .row(row.uuid)
        .set("ports", Datum::set(row.ports.iter().map(|port| port.uuid)));
    if ours && !held.bridge && row.others(nic).next().is_none() {
        operations.push(unchanged);
        operations.push(Operation::mutate("Open_vSwitch").take("bridges", row.uuid));
        return (Removal::Bridge, operations);
    }
    if held.bridge {
        operations.extend(restore(row, held));
    }
    match port {
        Some(port) if !held.port && (port.is_ours || (ours && original)) => {
            operations.push(Operation::mutate("Bridge").row(row.uuid).take("ports", port.uuid));
            (Removal::Port, operations)
        }
        _ => (Removal::Nothing, operations),
    }
}

/// Removes the takeover's QoS rows of a NIC. They are root rows: they stay when the port is removed, and cannot be removed
/// while a port names them.
fn remove_qos(seen: &OvsSnapshot, nic: &str) -> Vec<Operation> {
    let ours = seen.our_qos.iter().filter(|(_, of)| of.as_deref() == Some(nic));
    ours.flat_map(|(qos, _)| {
        let users = Operation::mutate("Port").filter(Condition::includes("qos", *qos));
        [users.take("qos", *qos), Operation::delete("QoS").row(*qos)]
    })
    .collect()
}

/// Restores the settings of a bridge that existed before.
fn restore(bridge: &BridgeSnapshot, held: &PriorOvsConfig) -> Vec<Operation> {
    let mut operations = Vec::new();
    if bridge.hwaddr != held.hwaddr {
        let mutate = Operation::mutate("Bridge").row(bridge.uuid);
        operations.push(match &held.hwaddr {
            Some(hwaddr) => mutate.put_key("other_config", "hwaddr", hwaddr),
            None => mutate.take("other_config", Datum::set(["hwaddr"])),
        });
    }
    if let Some(device) = bridge.device()
        && device.mtu_request != held.mtu_request
    {
        operations.push(set_mtu(device.interface, held.mtu_request));
    }
    operations
}
