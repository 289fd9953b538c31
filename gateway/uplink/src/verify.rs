//! Is it as it was, and does it work? Before anything is turned (the proof), and before anything is committed.
//!
//! | asked | how | when |
//! |---|---|---|
//! | a next hop answers through the bridge | ARP, ND, by a packet socket that no guard deafens | before the turn, and after it |
//! | addresses and routes are what the NIC's were | both compared as the kernel has them | after it |
//! | TCP connections that waited for an answer got on | `TCP_INFO` | after it |
//! | the routers answer a ping that answered one before | the node's own stack: ears, mouth, neighbours | after it |
//! | the operator's own command succeeds | `--verify-cmd` | last |
//!
//! A *new connection from outside* cannot be made from here: what the node sends to itself does not pass the wire, and
//! what is put onto the NIC goes out, not in. The ping's answer takes the same way in (wire, switch, ears, stack); what
//! it does not take is a firewall that judges new connections by the device they come from, which the plan looks for.
//! Who wants that tried says so with `--verify-cmd`, which may ask a host outside to connect.

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

pub use command::run as run_command;

/// How long a next hop may take to reply through a bridge that is taken to be well.
const ANSWER: Duration = Duration::from_secs(1);
/// Between two probes.
const EVERY: Duration = Duration::from_millis(2);
/// How long the first reply is waited for; it doubles until one comes.
const FIRST: Duration = Duration::from_millis(6);
/// Without a reply for so long, none will come.
const NO_REPLY: Duration = Duration::from_secs(3);
/// How long a router may take to answer its ping before the turn, to be expected to answer afterwards.
const SOON: Duration = Duration::from_millis(10);
/// How long it may take afterwards.
const LATER: Duration = Duration::from_secs(1);

/// Whether one of the targets replies on a device.
pub fn any_reply(device: u32, mac: Mac, probes: &[Question], deadline: Instant) -> Result<bool> {
    if probes.is_empty() {
        return Ok(false);
    }
    let prober = Prober::open(device, mac)?;
    let deadline = deadline.min(Instant::now() + NO_REPLY);
    let mut patience = FIRST;
    while Instant::now() < deadline {
        if !prober.probe_all(probes, EVERY, patience)?.is_empty() {
            return Ok(true);
        }
        patience *= 2;
    }
    Ok(false)
}

/// Whether frames pass the bridge. What cannot be found out counts as alive.
pub(crate) fn is_alive(network: &Network, uplink: &Uplink) -> Result<bool> {
    let (nic, bridge) = (network.link(&uplink.nic.name), network.link(&uplink.bridge));
    let (Some(nic), Some(bridge)) = (nic, bridge) else { return Ok(true) };
    if !bridge.is_up() || uplink.datapath != Datapath::Netdev {
        return Ok(true);
    }
    // The tap loses its carrier with the process that holds it.
    if !bridge.has_carrier() {
        return Ok(false);
    }
    let probes = probe_targets(&network.of(&bridge.device()), ProbePurpose::Proof);
    let replies = |link: &Link| match link.mac() {
        Some(mac) => any_reply(link.index(), mac, &probes, Instant::now() + ANSWER),
        None => Ok(false),
    };
    // A probe over a NIC with another MAC address would make neighbours send the bridge's traffic there.
    let one = bridge.mac() == nic.mac();
    Ok(probes.is_empty() || replies(bridge)? || !one || !replies(nic)?)
}

/// A next hop of the NIC answers through the bridge; an error otherwise.
pub fn prove(nic: &DeviceRows, bridge: &Device, mac: Mac, deadline: Instant) -> Result<()> {
    let probes = probe_targets(nic, ProbePurpose::Proof);
    if any_reply(bridge.index, mac, &probes, deadline)? {
        return Ok(());
    }
    let device = &nic.device.name;
    let probed: Vec<String> = probes.iter().take(4).map(|probe| probe.target.to_string()).collect();
    let what = match probed.len() {
        0 => format!("{device} has neither a route over a router nor a neighbour to probe"),
        _ => format!("no reply comes through it ({})", probed.join(", ")),
    };
    Err(Error::failed(
        format!("prove the way through {}", bridge.name),
        what,
        "ovs-vswitchd's log may say why; --no-probe goes on without a proof",
    ))
}

/// The routers that reply to a ping now: they have to afterwards.
pub fn replying_routers(rows: &DeviceRows) -> Vec<IpAddr> {
    let defaults = rows.routes();
    let defaults = defaults.iter().filter(|route| route.is_default());
    let routers: std::collections::BTreeSet<IpAddr> =
        defaults.flat_map(|route| route.hops()).filter_map(|hop| hop.via).collect();
    let pings = |router: &IpAddr| matches!(ping(*router, rows.device.index, EVERY, SOON), Ok(Some(_)));
    routers.into_iter().take(2).filter(pings).collect()
}

/// Those routers still reply, over the device that the routes name now.
pub fn still_reply(routers: &[IpAddr], device: &Device, deadline: Instant) -> Result<()> {
    for router in routers {
        let patience = LATER.min(deadline.saturating_duration_since(Instant::now()));
        if ping(*router, device.index, EVERY, patience)?.is_none() {
            return Err(Error::failed(
                format!("reach {router} by {}", device.name),
                "it answered before, and does not answer now".to_owned(),
                "is there a firewall or a policy rule that names the other device?",
            ));
        }
    }
    Ok(())
}

/// TCP connections over the devices that were turned, as they stood right before.
#[derive(Debug)]
pub struct Connections<'a> {
    before: Vec<&'a Connection>,
}

impl<'a> Connections<'a> {
    /// Those of all that have one of these devices' addresses. One that stood still before already has lost its peer,
    /// and tells nothing.
    pub fn before<'r>(
        first: &[Connection],
        all: &'a [Connection],
        devices: impl Iterator<Item = &'r DeviceRows>,
    ) -> Result<Self> {
        let still: Vec<u64> = host::sockets::stalled(first, all).into_iter().map(|one| one.cookie).collect();
        let addresses: Vec<IpAddr> =
            devices.flat_map(DeviceRows::addresses).filter_map(|address| address.local()).collect();
        let over = |connection: &&Connection| {
            addresses.contains(&connection.socket.local.ip().to_canonical())
                && !still.contains(&connection.cookie)
        };
        Ok(Self { before: all.iter().filter(over).collect() })
    }

    /// At least one of those that waited for an answer has got on. Quiet ones tell nothing; a single one that stands
    /// still may have lost its peer at any time.
    pub fn move_on(&self, deadline: Instant) -> Result<()> {
        let waited: Vec<Connection> = self
            .before
            .iter()
            .filter(|one| one.progress.unacknowledged > 0)
            .map(|one| (*one).clone())
            .collect();
        if waited.is_empty() {
            return Ok(());
        }
        let deadline = deadline.min(Instant::now() + NO_REPLY);
        loop {
            let now = connections()?;
            let here = now.iter().filter(|now| waited.iter().any(|one| one.cookie == now.cookie)).count();
            let stalled = host::sockets::stalled(&waited, &now);
            if here == 0 || stalled.len() < here {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let peers: Vec<String> =
                    stalled.iter().take(3).map(|one| format!("{:?}", one.socket.remote)).collect();
                return Err(Error::failed(
                    "keep the TCP connections moving",
                    format!("all {here} that were busy stand still ({})", peers.join(", ")),
                    "is there a firewall or a policy rule that names the other device?",
                ));
            }
            std::thread::sleep(EVERY);
        }
    }
}

/// A device carries these addresses and routes.
pub fn carries(socket: &Socket, rows: &DeviceRows) -> Result<()> {
    let lacks = migration::missing(rows, &Network::routing(socket)?);
    if lacks.is_empty() {
        return Ok(());
    }
    let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
    Err(Error::failed(
        format!("put everything onto {}", rows.device.name),
        format!("it lacks what these would make: {}", lacks.join("; ")),
        "what the kernel does not take has to be taken away first",
    ))
}
