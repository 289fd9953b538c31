//! A NIC that was made anew (its driver was loaded again, it was plugged in again): the same name and MAC address, another
//! device.
//!
//! ovs-vswitchd goes on listening to the one that is gone, and says nothing of it: only its packet sockets tell. The
//! guard's chain on the NIC and the NIC's own settings went with it.

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
/// One that has just started may not have opened its ports yet.
const GRACE: Duration = Duration::from_millis(300);
/// How long the kernel may take to give a device its address of the link: it looks at carriers once a second.
const OF_THE_LINK: Duration = Duration::from_millis(1500);
const LOOK: Duration = Duration::from_millis(20);

/// Whether ovs-vswitchd of this number hears the NIC of this number; `None` when that cannot be told.
pub fn is_received(pid: u32, nic: u32) -> Option<bool> {
    host::sockets::receives_from(pid, nic).ok().flatten()
}

/// Sets a device up that is down: what is put on it would lose its routes.
pub fn raise(socket: &Socket, name: &str) -> Result<()> {
    match link::named(socket, name)?.filter(|link| !link.is_up()) {
        Some(link) => Ok(socket.apply(&link::set_up(link.index()))?),
        None => Ok(()),
    }
}

/// What the way of the frames needs is made again: the port's device opened anew, the NIC up, no larger frames than
/// the bridge has, none put together. `false`: the port is not ours. `known`: it was taken over, as the record says.
pub fn again(db: &Remote, bridge: &str, nic: &str, known: bool) -> Result<bool> {
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

/// Keeps the record's number of the NIC up to date.
pub fn note(lock: &Lock, taken: &TakeoverRecord, index: u32) -> Result<()> {
    if taken.uplink.nic.index == index {
        return Ok(());
    }
    let mut taken = taken.clone();
    taken.uplink.nic.index = index;
    lock.keep(&taken)
}

/// For `recover`, under the lock: attaches a NIC that was made anew. Whether it did.
pub fn mend(lock: &Lock, taken: &TakeoverRecord, db: &Remote) -> Result<bool> {
    let uplink = &taken.uplink;
    let Ok(pid) = read_pid(&Paths::from_env().pidfile("ovs-vswitchd", "")) else { return Ok(false) };
    let Some(nic) = beside_its_bridge(taken)? else { return Ok(false) };
    let end = Instant::now() + GRACE;
    while Instant::now() < end {
        match is_received(pid, nic.index) {
            Some(false) => {}
            Some(true) => return note(lock, taken, nic.index).map(|()| false),
            None => return Ok(false),
        }
        std::thread::sleep(LOOK);
    }
    let done = again(db, &uplink.bridge, &uplink.nic.name, true)?;
    if done {
        note(lock, taken, nic.index)?;
    }
    Ok(done)
}

/// Takes off the new NIC what the kernel gave it of itself, where everything else is on the bridge: its address of the
/// link, which comes some time after the device is up.
pub fn tidy(taken: &TakeoverRecord) -> Result<()> {
    let socket = Socket::open()?;
    let end = Instant::now() + OF_THE_LINK;
    loop {
        let network = Network::observe(&socket)?;
        let device = |name: &str| network.link(name).map(Link::device);
        let (Some(nic), Some(bridge)) = (device(&taken.uplink.nic.name), device(&taken.uplink.bridge)) else {
            return Ok(());
        };
        let addresses = |device: &Device| network.of(device).addresses();
        let (own, there) = (addresses(&nic), addresses(&bridge));
        if there.iter().all(Address::is_link_local) || !own.iter().all(Address::is_link_local) {
            return Ok(());
        }
        if !own.is_empty() {
            let way = Migration::new(&socket, &nic, &bridge);
            way.move_routes()?;
            way.remove_old()?;
            return Ok(());
        }
        if Instant::now() >= end {
            return Ok(());
        }
        std::thread::sleep(LOOK);
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
