//! Reads the sources of a snapshot one after the other, each with a timeout.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use ovs::ovsdb::blocking::Client;
use ovs::ovsdb::{Datum, Remote};

use super::{Bridge, Observed, Port, SwitchSnapshot, firewall, kernel, sockets};
use crate::error::Result;
use crate::managers;
use crate::names::{bridge_of, nic_of};
use crate::options::Options;
use crate::switch_db::{self, OvsSnapshot, Owner, PortSnapshot};

/// How long the switch's database may take. A healthy one answers in a millisecond.
const PATIENCE: Duration = Duration::from_secs(8);

/// Observes the node with these NICs (or bridges).
pub(crate) fn observe(names: &[String], options: &Options) -> Result<Observed> {
    observe_at(names, &options.db, Path::new("/"))
}

/// The same, with files below another root. Devices, sockets and processes are those of this network namespace.
pub(crate) fn observe_at(names: &[String], db: &Remote, root: &Path) -> Result<Observed> {
    observe_with(names, observe_switch(db, PATIENCE), root)
}

/// The same with a snapshot of the switch that was taken before.
pub fn observe_with(names: &[String], switch: SwitchSnapshot, root: &Path) -> Result<Observed> {
    let pairs = pairs(names);
    let mut devices = names.to_vec();
    for (nic, bridge) in &pairs {
        devices.extend([nic, bridge].into_iter().filter(|name| !names.contains(name)).cloned());
    }
    devices.dedup();
    // Programs run first: the rows that an undo restores must be as recent as possible.
    let (firewall, firewall_unknown) = firewall::observe(root);
    let mut observed = Observed { switch, boot_id: host::boot::id()?, ..kernel::observe(&devices, root)? };
    for nic in &mut observed.nics {
        observed.unknown.extend(sockets::observe(nic));
    }
    match kernel::foreign_filters(&pairs) {
        Ok(foreign) => observed.foreign_guards = foreign,
        Err(error) => observed.unknown.push(format!("the ingress filters: {error}")),
    }
    let devices = pairs.iter().flat_map(|(nic, bridge)| [nic, bridge]);
    let devices: Vec<_> =
        devices.filter_map(|name| Some((name.clone(), observed.link(name)?.index))).collect();
    observed.managers = managers::detect(root, &devices);
    observed.firewall = firewall;
    observed.unknown.extend(firewall_unknown);
    Ok(observed)
}

/// The switch only, with a timeout.
pub fn observe_switch(db: &Remote, patience: Duration) -> SwitchSnapshot {
    switch(db, patience).unwrap_or_else(|error| SwitchSnapshot {
        error: Some(error.to_string()),
        ..SwitchSnapshot::default()
    })
}

/// Each NIC with its bridge; either of them may be named.
fn pairs(names: &[String]) -> BTreeMap<String, String> {
    let pair = |name: &String| match nic_of(name).filter(|nic| host::devices::exists(nic)) {
        Some(nic) => (nic.to_owned(), name.clone()),
        None => (name.clone(), bridge_of(name)),
    };
    names.iter().map(pair).collect()
}

fn switch(db: &Remote, patience: Duration) -> Result<SwitchSnapshot> {
    let deadline = Instant::now() + patience;
    let rows = switch_db::OvsDb::connect(db, patience)?.observe(deadline)?;
    let mut switch = SwitchSnapshot::from(&rows);
    let failed = crate::Error::database("read the switch's settings");
    let mut client = Client::connect(db, patience).map_err(failed)?;
    let failed = crate::Error::database("read the switch's settings");
    let rows = client
        .select("Open_vSwitch", &["external_ids", "other_config", "ovs_version"], deadline)
        .map_err(failed)?;
    if let Some(row) = rows.first() {
        switch.external_ids = map(row.get("external_ids"));
        switch.other_config = map(row.get("other_config"));
    }
    switch.vswitchd = vswitchd(db);
    Ok(switch)
}

impl From<&OvsSnapshot> for SwitchSnapshot {
    fn from(rows: &OvsSnapshot) -> Self {
        let bridges = rows.bridges.iter().map(|bridge| Bridge {
            name: bridge.name.clone(),
            datapath_type: bridge.datapath_type.clone(),
            fail_mode: bridge.fail_mode.clone().unwrap_or_default(),
            hwaddr: bridge.hwaddr.clone(),
            mtu_request: bridge.device().and_then(|device| device.mtu_request),
            ours: bridge.owner == Owner::Uplink,
            original: bridge.owner == Owner::Original,
            ports: bridge.ports.iter().filter(|port| port.name != bridge.name).map(port).collect(),
        });
        SwitchSnapshot {
            answers: true,
            datapath_type: rows.default_datapath.clone().unwrap_or_default(),
            uninitialised: !rows.is_initialised,
            datapath_types: rows.datapath_types.clone(),
            up_to_date: rows.cur_cfg >= rows.next_cfg,
            bridges: bridges.collect(),
            ..SwitchSnapshot::default()
        }
    }
}

fn port(row: &PortSnapshot) -> Port {
    Port {
        name: row.name.clone(),
        kind: row.kind.clone(),
        ofport: row.ofport,
        error: row.error.clone().unwrap_or_default(),
        ours: row.is_ours,
        of: row.peer.as_ref().map(|peer| format!("to {peer}")),
    }
}

/// Whether vswitchd runs, by the pidfile beside the database's socket; `None` without one.
fn vswitchd(db: &Remote) -> Option<bool> {
    let Remote::Unix(socket) = db else { return None };
    let pid = host::regular_file::read_text(&socket.with_file_name("ovs-vswitchd.pid")).ok()?;
    let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim().parse::<u32>().ok()?));
    Some(name.is_ok_and(|name| name.trim() == "ovs-vswitchd"))
}

fn map(datum: Option<&Datum>) -> BTreeMap<String, String> {
    let pairs = datum.map(Datum::pairs).unwrap_or_default();
    pairs
        .iter()
        .filter_map(|(key, value)| Some((key.as_str()?.to_owned(), value.as_str()?.to_owned())))
        .collect()
}
