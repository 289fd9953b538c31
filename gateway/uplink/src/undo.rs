//! Management back to the NIC, from the journal and from what the kernel has: the undo, and `bridge-to-nics`.
//!
//! Network first, the switch's database last: neither of its daemons has to live, and nothing is executed. Every write
//! is "put it so" or "take it away if it is there"; what fails is noted and nothing stops it, so it ends with as much
//! put back as can be, and can be run again, or go on where another one was killed.

use std::time::{Duration, Instant};

use host::ingress_filter::IngressFilter;
use host::rtnl::{Device, DeviceMapping, Socket, link};

use super::device_config::{DeviceRows, Network};
use super::error::{Error, Result};
use super::fault;
use super::journal::{Journal, JournalState, Lock, Uplink};
use super::managers::{self, HandoverExecutor};
use super::migration::{self, Transfer};
use super::options::{Datapath, Direction};
use super::settings;
use super::steps::{DetachStep, clear, to_nic};
use super::switch_db::{OvsDb, PriorOvsConfig, Removal};
use super::switchover::{self, Migration};

/// How long the switch's database may take in an undo; after that the network is whole, and the rest waits.
pub(crate) const DATABASE: Duration = Duration::from_secs(1);

/// The same on the kernel's datapath: there the NIC gets its frames only when the switch has released it.
const DATABASE_OF_KERNEL: Duration = Duration::from_secs(5);

/// How long ovs-vswitchd may take to take a device away.
const REMOVAL: Duration = Duration::from_millis(200);
const LOOK: Duration = Duration::from_millis(1);

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Undone {
    /// What failed, in words.
    pub troubles: Vec<String>,
    /// The switch's database still holds what is ours.
    pub pending: bool,
}

/// Puts everything back and writes into the journal that it is. `journal` may be of a run that died anywhere, also in
/// an undo.
pub(crate) fn run(lock: &Lock, journal: &mut Journal) -> Undone {
    let mut undone = Undone::default();
    match Rollback::of(journal) {
        Ok(mut rollback) => {
            let datapath = rollback.datapath();
            rollback.all(to_nic(datapath), &mut undone.troubles);
            rollback.all(clear(datapath), &mut undone.troubles);
            undone.pending = rollback.pending;
        }
        Err(error) => undone.troubles.push(error.to_string()),
    }
    if let Err(error) = close(lock, journal, undone.pending) {
        undone.troubles.push(error.to_string());
    }
    undone
}

/// The journal of a run that is back on the NIC.
fn close(lock: &Lock, journal: &mut Journal, pending: bool) -> Result<()> {
    if pending {
        return lock.close(journal, JournalState::UndoneOvsdbPending);
    }
    // What was kept of an earlier takeover is of no use: there is no bridge.
    journal
        .uplinks
        .iter()
        .filter(|uplink| !uplink.held.bridge)
        .try_for_each(|uplink| lock.forget(&uplink.bridge))?;
    // An undone detach has reached its own target: the addresses are on the NIC.
    let state =
        if journal.direction == Direction::Detach { JournalState::Committed } else { JournalState::Undone };
    lock.close(journal, state)
}

/// The rollback of all uplinks of a journal.
#[derive(Debug)]
pub(crate) struct Rollback<'a> {
    socket: Socket,
    journal: &'a Journal,
    /// The database was not reached.
    pub pending: bool,
    /// What the NIC had before is put there where it lacks. Not after a boot in which the host's own configuration has
    /// given it addresses: those are the truth then.
    replay: bool,
    /// Numbers of devices in the journal mean something.
    this_boot: bool,
}

impl<'a> Rollback<'a> {
    /// Of a journal.
    pub(crate) fn of(journal: &'a Journal) -> Result<Self> {
        let socket = Socket::open()?;
        let this_boot = journal.is_of_this_boot()?;
        let replay = this_boot || !is_configured(&socket, journal)?;
        Ok(Self { socket, journal, pending: false, replay, this_boot })
    }

    /// What carries the bridges' frames: one for all.
    pub(crate) fn datapath(&self) -> Datapath {
        self.journal.uplinks.first().map_or(Datapath::Netdev, |uplink| uplink.datapath)
    }

    /// Does steps, each for all uplinks; what fails is noted.
    pub(crate) fn all(&mut self, steps: &[DetachStep], troubles: &mut Vec<String>) {
        for &step in steps {
            if step == DetachStep::Ovsdb {
                if let Err(error) = self.database() {
                    self.pending = true;
                    troubles.push(format!("{step}: {error}"));
                }
            } else {
                for uplink in &self.journal.uplinks {
                    match self.one(step, uplink) {
                        Ok(refused) => troubles.extend(refused.iter().map(|line| format!("{step}: {line}"))),
                        Err(error) => troubles.push(format!("{step} of {}: {error}", uplink.nic.name)),
                    }
                }
            }
            if let Err(error) = fault::after(step.name()) {
                troubles.push(error.to_string());
            }
        }
    }

    fn one(&self, step: DetachStep, uplink: &Uplink) -> Result<switchover::Refusals> {
        let network = Network::observe(&self.socket)?;
        // A NIC that does not exist any more does not stop the cleanup.
        let nic = || nic(&network, uplink, self.this_boot);
        let found = network.link(&uplink.bridge);
        let bridge = found.filter(|link| is_of_switch(link)).map(link::Link::device);
        let name = nic().map_or_else(|_| uplink.nic.name.clone(), |nic| nic.name);
        let filter = IngressFilter::new(&name, &uplink.bridge);
        let migration = || nic().map(|nic| self.migration(uplink, &nic, bridge.as_ref()));
        let caught = uplink.datapath == Datapath::System
            && network.link(&name).is_some_and(|link| link.master().is_some());
        match step {
            DetachStep::Down if found.is_some() && bridge.is_none() => {
                Ok(vec![format!("{} is no bridge of Open vSwitch, and is left as it is", uplink.bridge)])
            }
            // The kernel still gives every frame to the bridge: down or without addresses it would cut the node off.
            DetachStep::OldOff | DetachStep::Down if caught => Ok(vec![format!(
                "{} is still a port of the kernel's datapath; {} keeps its addresses until ovs-vswitchd has released it",
                uplink.nic.name, uplink.bridge
            )]),
            DetachStep::Addresses => migration()?.prepare(),
            DetachStep::Routes => migration()?.move_routes(),
            DetachStep::IngressFilter if bridge.is_some() && filter.observe()?.is_some() => {
                switchover::accept_from_nic(&filter).map(|()| Vec::new())
            }
            // A filter without its bridge only drops the NIC's frames.
            DetachStep::IngressFilter => Ok(filter.remove().map(|()| Vec::new())?),
            DetachStep::OldOff => {
                let mut refused = migration()?.remove_rule_twins()?;
                refused.extend(migration()?.remove_old()?);
                Ok(refused)
            }
            DetachStep::Down => {
                if let Some(bridge) = bridge.filter(|_| goes_down(self.journal.direction, uplink)) {
                    self.socket.apply(&link::set_down(bridge.index))?;
                }
                Ok(Vec::new())
            }
            DetachStep::Guard => {
                filter.remove()?;
                let mut refused = match nic() {
                    // After a reboot the settings are gone, and the indexes are those of other devices.
                    Ok(nic) if self.this_boot => settings::restore(&self.socket, &nic, &uplink.rows),
                    Ok(_) => Vec::new(),
                    Err(error) => vec![error.to_string()],
                };
                let handovers = managers::from_journal(&uplink.managers);
                if !handovers.is_empty() {
                    // The network is restored by now; a manager may be slow.
                    refused.extend(HandoverExecutor::host().take_back(&handovers));
                }
                Ok(refused)
            }
            // The run does these itself, or once for all uplinks.
            DetachStep::Journal | DetachStep::Verify | DetachStep::Commit | DetachStep::Ovsdb => {
                Ok(Vec::new())
            }
        }
    }

    /// The migration from the bridge to the NIC: the journal's rows and those found, without the bridge's own.
    fn migration(&self, uplink: &Uplink, nic: &Device, bridge: Option<&Device>) -> Migration<'_> {
        let missing = Device { index: 0, name: uplink.bridge.clone() };
        let bridge = bridge.unwrap_or(&missing);
        let from = |rows: &DeviceRows| {
            migration::moved(&rows.own(), &DeviceMapping { from: rows.device.clone(), to: nic.clone() })
        };
        let mut wanted = if self.replay { from(&uplink.rows) } else { DeviceRows::none(nic) };
        let mut own = DeviceRows::none(bridge);
        if let Some(rows) = &uplink.bridge_rows {
            match self.journal.direction {
                Direction::Detach => wanted = migration::union(&wanted, &from(rows)),
                Direction::Attach => {
                    own = migration::moved(
                        rows,
                        &DeviceMapping { from: rows.device.clone(), to: bridge.clone() },
                    );
                }
            }
        }
        Migration::of(&self.socket, Transfer { wanted, own, ..Transfer::new(bridge, nic) })
    }

    fn database(&self) -> Result<()> {
        let kernel = self.journal.uplinks.iter().any(|uplink| uplink.datapath == Datapath::System);
        let patience = if kernel { DATABASE_OF_KERNEL } else { DATABASE };
        let deadline = Instant::now() + patience;
        let remote = self.journal.db.parse().map_err(|error| {
            Error::failed(
                format!("reach the switch's database at {}", self.journal.db),
                format!("{error}"),
                "was the journal edited? remove the bridge with ovs-vsctl del-br",
            )
        })?;
        let mut switch = OvsDb::connect(&remote, patience)?;
        let uplinks: Vec<(&str, &str, &PriorOvsConfig)> = self
            .journal
            .uplinks
            .iter()
            .map(|uplink| (uplink.bridge.as_str(), uplink.nic.name.as_str(), &uplink.held))
            .collect();
        let by_name = self.journal.direction == Direction::Detach;
        let removed = switch.remove(&uplinks, by_name, deadline)?;
        for (uplink, _) in
            self.journal.uplinks.iter().zip(removed).filter(|(_, what)| *what == Removal::Bridge)
        {
            self.remove_device(&uplink.bridge)?;
        }
        if self.journal.uplinks.iter().all(|uplink| self.is_released(uplink, deadline)) {
            return Ok(());
        }
        Err(Error::failed(
            "take the NIC off the kernel's datapath",
            "ovs-vswitchd does not release it",
            "start ovs-vswitchd; then `ovn-k8s-util recover` finishes this",
        ))
    }
}

impl Rollback<'_> {
    /// Waits until the kernel's datapath has released the NIC. (The userspace one only opens a packet socket.)
    fn is_released(&self, uplink: &Uplink, deadline: Instant) -> bool {
        if uplink.datapath == Datapath::Netdev || uplink.held.port {
            return true;
        }
        loop {
            let nic = link::named(&self.socket, &uplink.nic.name).unwrap_or_default();
            if nic.is_none_or(|link| link.master().is_none()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Waits until ovs-vswitchd has removed the device of a bridge that is no longer in its database, else removes it: an
    /// ovs-vswitchd that starts later does not know it. (With the bridge still in the database a running ovs-vswitchd
    /// would recreate the device in a loop.) Devices of the kernel's datapath are removed by ovs-vswitchd only.
    fn remove_device(&self, bridge: &str) -> Result<()> {
        let end = Instant::now() + REMOVAL;
        loop {
            let Some(link) = link::named(&self.socket, bridge)? else { return Ok(()) };
            if Instant::now() < end {
                std::thread::sleep(LOOK);
            } else if link.kind().as_deref() == Some("tun") {
                return Ok(self.socket.apply(&link::remove(link.index()))?);
            } else {
                return Ok(());
            }
        }
    }
}

/// Every NIC of a journal has addresses (of more than the link).
fn is_configured(socket: &Socket, journal: &Journal) -> Result<bool> {
    let network = Network::observe(socket)?;
    Ok(journal.uplinks.iter().all(|uplink| {
        network.link(&uplink.nic.name).is_some_and(|link| network.of(&link.device()).has_address())
    }))
}

/// The NIC as it is now, under whatever name: in the boot of the journal its number and its MAC address say which it is
/// (udev may rename it under way).
fn nic(network: &Network, uplink: &Uplink, this_boot: bool) -> Result<Device> {
    let is_it = |link: &&link::Link| {
        let mac = link.mac().map(|mac| mac.to_string());
        this_boot
            && link.index() == uplink.nic.index
            && mac.is_some_and(|mac| mac.eq_ignore_ascii_case(&uplink.nic.mac))
            && link.name() != uplink.bridge
    };
    let found = network.links.iter().find(is_it).or_else(|| network.link(&uplink.nic.name));
    found.filter(|link| !link.is_loopback()).map(link::Link::device).ok_or_else(|| {
        Error::failed(
            format!("restore {}", uplink.nic.name),
            "it does not exist",
            "what configures it gives it its addresses when it is back",
        )
    })
}

/// Whether a device is one that a switch makes for a bridge: the tap of the userspace datapath, or the kernel's internal
/// port. Nothing else is taken for a bridge, whatever a journal says.
pub(super) fn is_of_switch(link: &link::Link) -> bool {
    matches!(link.kind().as_deref(), Some("tun" | "openvswitch"))
}

/// Whether the bridge is set down: a bridge that was up before the takeover stays up.
fn goes_down(direction: Direction, uplink: &Uplink) -> bool {
    direction == Direction::Detach
        || uplink
            .bridge_rows
            .as_ref()
            .and_then(|rows| rows.link.as_ref())
            .is_none_or(|row| link::Link::of(row).is_none_or(|link| !link.is_up()))
}

#[cfg(test)]
mod tests;
