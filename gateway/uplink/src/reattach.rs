//! The steps that attach a recreated NIC (its driver was loaded again, it was plugged in again) to its bridge: the same name
//! and MAC address, another device. When they are needed, the failover decides (`failover/reattach_detection.rs`), and
//! `ovn-k8s-util recover` by [`reattach_recorded`].
//!
//! ovs-vswitchd goes on receiving from the device that is gone, and reports nothing: only its packet sockets show it. The
//! ingress filter's chain on the NIC and the NIC's own settings went with that device.

use std::time::{Duration, Instant};

use host::rtnl::address::Address;
use host::rtnl::link::{self, Link};
use host::rtnl::{Device, Socket};
use ovs::ovsdb::Remote;
use ovs::paths::Paths;
use ovs::pidfile::read_pid;

use super::device_config::{DeviceRows, Network};
use super::error::Result;
use super::journal::{Lock, TakeoverRecord};
use super::options::Datapath;
use super::settings;
use super::switch_db::OvsDb;
use super::switchover::Migration;

/// How long database and ovs-vswitchd may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// A vswitchd that has just started may not have opened its ports yet.
const GRACE: Duration = Duration::from_millis(300);
/// How long the kernel may take to give a device its link-local address: it checks carriers once a second.
const LINK_LOCAL: Duration = Duration::from_millis(1500);
/// Between two observations.
const PAUSE: Duration = Duration::from_millis(20);

/// Whether ovs-vswitchd (process `pid`) receives from the NIC of this index; `None` when that cannot be known.
pub(crate) fn is_received(pid: u32, nic: u32) -> Option<bool> {
    host::sockets::receives_from(pid, nic).ok().flatten()
}

/// Sets a device up that is down: what is put on a device that is down loses its routes.
pub(crate) fn raise(socket: &Socket, name: &str) -> Result<()> {
    match link::named(socket, name)?.filter(|link| !link.is_up()) {
        Some(link) => Ok(socket.apply(&link::set_up(link.index()))?),
        None => Ok(()),
    }
}

/// Restores what frames need: the switch opens the port's device again, the NIC is up, its MTU is no smaller than the
/// bridge's, and its offloads merge no frames. `false`: the port is not ours. `known`: it was taken over, as the record
/// says.
pub(crate) fn reattach(db: &Remote, bridge: &str, nic: &str, known: bool) -> Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    let mut switch = OvsDb::connect(db, PATIENCE)?;
    if !switch.reopen(bridge, nic, known, deadline)? {
        return Ok(false);
    }
    let socket = Socket::open()?;
    let network = Network::observe(&socket)?;
    let (Some(own), Some(of_bridge)) = (network.link(nic), network.link(bridge)) else { return Ok(true) };
    let mut rows = DeviceRows::none(&own.device());
    settings::observe(&socket, &mut rows)?;
    for line in settings::stop_merging(&rows) {
        tracing::warn!("{line}");
    }
    if own.mtu() < of_bridge.mtu() {
        socket.apply(&link::set_mtu(own.index(), of_bridge.mtu()))?;
    }
    if !own.is_up() {
        socket.apply(&link::set_up(own.index()))?;
    }
    Ok(true)
}

/// Writes the NIC's new index into the record.
pub(crate) fn record_index(lock: &Lock, taken: &TakeoverRecord, index: u32) -> Result<()> {
    if taken.uplink.nic.index == index {
        return Ok(());
    }
    let mut taken = taken.clone();
    taken.uplink.nic.index = index;
    lock.keep(&taken)
}

/// For `recover`, under the lock: attaches the NIC of a record where the switch does not receive from it. Whether it did.
pub(crate) fn reattach_recorded(lock: &Lock, taken: &TakeoverRecord, db: &Remote) -> Result<bool> {
    let uplink = &taken.uplink;
    let Ok(pid) = read_pid(&Paths::from_env().pidfile("ovs-vswitchd", "")) else { return Ok(false) };
    let Some(nic) = beside_its_bridge(taken)? else { return Ok(false) };
    let end = Instant::now() + GRACE;
    while Instant::now() < end {
        match is_received(pid, nic.index) {
            Some(false) => {}
            Some(true) => return record_index(lock, taken, nic.index).map(|()| false),
            None => return Ok(false),
        }
        std::thread::sleep(PAUSE);
    }
    let done = reattach(db, &uplink.bridge, &uplink.nic.name, true)?;
    if done {
        record_index(lock, taken, nic.index)?;
    }
    Ok(done)
}

/// Moves the link-local address that the kernel gives a new NIC, some time after it is up, to the bridge, where everything
/// else is.
pub(crate) fn move_link_local(taken: &TakeoverRecord) -> Result<()> {
    let socket = Socket::open()?;
    let end = Instant::now() + LINK_LOCAL;
    loop {
        let network = Network::observe(&socket)?;
        let device = |name: &str| network.link(name).map(Link::device);
        let (Some(nic), Some(bridge)) = (device(&taken.uplink.nic.name), device(&taken.uplink.bridge)) else {
            return Ok(());
        };
        let addresses = |device: &Device| network.of(device).addresses();
        let (on_nic, on_bridge) = (addresses(&nic), addresses(&bridge));
        if on_bridge.iter().all(Address::is_link_local) || !on_nic.iter().all(Address::is_link_local) {
            return Ok(());
        }
        if !on_nic.is_empty() {
            let migration = Migration::new(&socket, &nic, &bridge);
            migration.move_routes()?;
            migration.remove_old()?;
            return Ok(());
        }
        if Instant::now() >= end {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
}

/// The NIC of a record, where it may be attached: on the userspace datapath, with its bridge's MAC address.
fn beside_its_bridge(taken: &TakeoverRecord) -> Result<Option<Device>> {
    let uplink = &taken.uplink;
    if uplink.datapath != Datapath::Netdev || !taken.is_of_this_boot()? {
        return Ok(None);
    }
    let network = Network::observe(&Socket::open()?)?;
    let (Some(nic), Some(bridge)) = (network.link(&uplink.nic.name), network.link(&uplink.bridge)) else {
        return Ok(None);
    };
    let same = |link: &Link| link.mac().is_some() && link.mac() == bridge.mac();
    Ok(same(nic).then(|| nic.device()))
}
