//! The probe before a switchover, and the checks between switchover and commit.
//!
//! | check | how | when |
//! |---|---|---|
//! | a next hop replies through the bridge | ARP or ND on a packet socket, before the ingress filter | before and after the switchover |
//! | the bridge has the NIC's addresses and routes | compared as the kernel has them | after it |
//! | TCP connections with unacknowledged data progress | `TCP_INFO` | after it |
//! | routers that replied to a ping still reply | the node's own stack: ingress filter, routes, neighbours | after it |
//! | the operator's command succeeds | `--verify-cmd` | last |
//!
//! A *new connection from outside* cannot be made on the node: what it sends to itself does not pass the wire. The reply
//! to a ping comes in on the same path (wire, switch, ingress filter, stack), except for a firewall that filters new
//! connections by device, which the plan checks. To test such a connection, let `--verify-cmd` have another host connect.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use host::Mac;
use host::neighbour_probe::{Prober, Question};
use host::ping::ping;
use host::rtnl::link::Link;
use host::rtnl::{Device, Socket};
use host::sockets::{Connection, connections};

use super::device_config::{DeviceRows, Network};
use super::error::{Error, Result};
use super::journal::Uplink;
use super::migration;
use super::options::Datapath;
use super::probe_targets::{ProbePurpose, probe_targets};

mod command;

pub(crate) use command::run as run_command;

/// How long a next hop may take to reply through a bridge before it counts as dead.
const REPLY: Duration = Duration::from_secs(1);
/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(2);
/// How long to wait for the first reply; doubled until one comes.
const FIRST_WAIT: Duration = Duration::from_millis(6);
/// Without a reply for this long, none will come.
const NO_REPLY: Duration = Duration::from_secs(3);
/// A router that replies to a ping this fast before the switchover must reply after it.
const PING_BEFORE: Duration = Duration::from_millis(10);
/// How long that reply may take.
const PING_AFTER: Duration = Duration::from_secs(1);

/// Whether one of the targets replies on a device.
pub(crate) fn any_reply(device: u32, mac: Mac, probes: &[Question], deadline: Instant) -> Result<bool> {
    if probes.is_empty() {
        return Ok(false);
    }
    let prober = Prober::open(device, mac)?;
    let deadline = deadline.min(Instant::now() + NO_REPLY);
    let mut patience = FIRST_WAIT;
    while Instant::now() < deadline {
        if !prober.probe_all(probes, INTERVAL, patience)?.is_empty() {
            return Ok(true);
        }
        patience *= 2;
    }
    Ok(false)
}

/// Whether frames pass the bridge. Where that is unknown the bridge counts as alive.
pub(crate) fn is_alive(network: &Network, uplink: &Uplink) -> Result<bool> {
    let (nic, bridge) = (network.link(&uplink.nic.name), network.link(&uplink.bridge));
    let (Some(nic), Some(bridge)) = (nic, bridge) else { return Ok(true) };
    if !bridge.is_up() || uplink.datapath != Datapath::Netdev {
        return Ok(true);
    }
    // The tap loses its carrier when its process ends.
    if !bridge.has_carrier() {
        return Ok(false);
    }
    let probes = probe_targets(&network.of(&bridge.device()), ProbePurpose::Proof);
    let replies = |link: &Link| match link.mac() {
        Some(mac) => any_reply(link.index(), mac, &probes, Instant::now() + REPLY),
        None => Ok(false),
    };
    // A probe over a NIC with another MAC address would make neighbours send the bridge's traffic there.
    let is_same_mac = bridge.mac() == nic.mac();
    Ok(probes.is_empty() || replies(bridge)? || !is_same_mac || !replies(nic)?)
}

/// A next hop of the NIC replies through the bridge; an error otherwise.
pub(crate) fn prove(nic: &DeviceRows, bridge: &Device, mac: Mac, deadline: Instant) -> Result<()> {
    let probes = probe_targets(nic, ProbePurpose::Proof);
    if any_reply(bridge.index, mac, &probes, deadline)? {
        return Ok(());
    }
    let device = &nic.device.name;
    let probed: Vec<String> = probes.iter().take(4).map(|probe| probe.target.to_string()).collect();
    let what = match probed.len() {
        0 => format!("{device} has neither a next hop nor a neighbour to probe"),
        _ => format!("no probe got one ({})", probed.join(", ")),
    };
    Err(Error::failed(
        format!("get a reply through {}", bridge.name),
        what,
        "check the log of ovs-vswitchd; --no-probe skips the probe",
    ))
}

/// The routers that reply to a ping now, at most two: they must reply after the switchover.
pub(crate) fn replying_routers(rows: &DeviceRows) -> Vec<IpAddr> {
    let defaults = rows.routes();
    let defaults = defaults.iter().filter(|route| route.is_default());
    let routers: std::collections::BTreeSet<IpAddr> =
        defaults.flat_map(|route| route.hops()).filter_map(|hop| hop.via).collect();
    let pings =
        |router: &IpAddr| matches!(ping(*router, rows.device.index, INTERVAL, PING_BEFORE), Ok(Some(_)));
    routers.into_iter().take(2).filter(pings).collect()
}

/// These routers still reply on `device`; an error otherwise.
pub(crate) fn still_reply(routers: &[IpAddr], device: &Device, deadline: Instant) -> Result<()> {
    for router in routers {
        let patience = PING_AFTER.min(deadline.saturating_duration_since(Instant::now()));
        if ping(*router, device.index, INTERVAL, patience)?.is_none() {
            return Err(Error::failed(
                format!("ping {router} on {}", device.name),
                "it replied before the switchover and does not reply now".to_owned(),
                "is there a firewall or a policy rule that names the other device?",
            ));
        }
    }
    Ok(())
}

/// TCP connections over the devices of a switchover, sampled right before it.
#[derive(Debug)]
pub(crate) struct Connections<'a> {
    before: Vec<&'a Connection>,
}

impl<'a> Connections<'a> {
    /// Those of `all` that have an address of these devices, without those that made no progress since `first`: their
    /// peer may be gone.
    pub(crate) fn before<'r>(
        first: &[Connection],
        all: &'a [Connection],
        devices: impl Iterator<Item = &'r DeviceRows>,
    ) -> Result<Self> {
        let stalled: Vec<u64> =
            host::sockets::stalled(first, all).into_iter().map(|one| one.cookie).collect();
        let addresses: Vec<IpAddr> =
            devices.flat_map(DeviceRows::addresses).filter_map(|address| address.local()).collect();
        let over = |connection: &&Connection| {
            addresses.contains(&connection.socket.local.ip().to_canonical())
                && !stalled.contains(&connection.cookie)
        };
        Ok(Self { before: all.iter().filter(over).collect() })
    }

    /// At least one of those with unacknowledged data progresses; an error otherwise. Idle ones prove nothing, and a
    /// single one that stalls may have lost its peer.
    pub(crate) fn progress(&self, deadline: Instant) -> Result<()> {
        let busy: Vec<Connection> = self
            .before
            .iter()
            .filter(|one| one.progress.unacknowledged > 0)
            .map(|one| (*one).clone())
            .collect();
        if busy.is_empty() {
            return Ok(());
        }
        let deadline = deadline.min(Instant::now() + NO_REPLY);
        loop {
            let now = connections()?;
            let left = now.iter().filter(|now| busy.iter().any(|one| one.cookie == now.cookie)).count();
            let stalled = host::sockets::stalled(&busy, &now);
            if left == 0 || stalled.len() < left {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let peers: Vec<String> =
                    stalled.iter().take(3).map(|one| format!("{:?}", one.socket.remote)).collect();
                return Err(Error::failed(
                    "keep the TCP connections",
                    format!("all {left} with unacknowledged data stall ({})", peers.join(", ")),
                    "is there a firewall or a policy rule that names the other device?",
                ));
            }
            std::thread::sleep(INTERVAL);
        }
    }
}

/// A device has these addresses and routes; an error otherwise.
pub(crate) fn carries(socket: &Socket, rows: &DeviceRows) -> Result<()> {
    let missing = migration::missing(rows, &Network::routing(socket)?);
    if missing.is_empty() {
        return Ok(());
    }
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Error::failed(
        format!("move addresses and routes to {}", rows.device.name),
        format!("still missing: {}", missing.join("; ")),
        "remove or correct them on the source device first",
    ))
}
