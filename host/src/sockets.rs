//! Sockets of this network namespace by local port or by device, with the process that holds them, and the progress of
//! their connections.
//!
//! Listed by sock_diag(7), which returns a namespace's sockets whichever process holds them: TCP, UDP and (where the
//! kernel can) raw ones over IPv4 and IPv6, and AF_XDP. Packet sockets and multicast memberships are in /proc/net alone.
//! The process is looked up by inode in /proc/PID/fd, only when a socket was found.

use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::ports::PortSet;
use crate::{Error, Result};

mod diag;
mod holders;
mod tables;

use diag::Which;
pub(crate) use diag::{owner_of_name, parse_any};

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Local address and port.
    pub local: SocketAddr,
    /// Remote address and port, when connected.
    pub remote: Option<SocketAddr>,
    /// State.
    pub state: State,
    /// Index of the device it is bound to, by request (`SO_BINDTODEVICE`) or by an address of that link alone.
    pub device: Option<u32>,
    /// Inode; 0 when no process holds it any more (TIME-WAIT).
    pub inode: u32,
    /// The process that holds it; `None` when none does or /proc does not show it.
    pub process: Option<Holder>,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holder {
    /// Holder id.
    pub pid: u32,
    /// Its name (`/proc/PID/comm`).
    pub name: String,
}

/// Protocols that are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Protocol {
    Tcp,
    Udp,
    Raw,
}

/// The state of a socket, as far as it concerns the use of its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Accepts connections, or is bound (UDP) without a peer.
    Accepting,
    /// Has a peer: connecting, connected or closing.
    Connected,
    /// Closed; the kernel keeps the tuple for a while.
    TimeWait,
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Raw => "raw",
        };
        write!(f, "{protocol} {}", self.local)?;
        if let Some(remote) = self.remote {
            write!(f, " to {remote}")?;
        }
        match (self.state, &self.process) {
            (State::TimeWait, _) => f.write_str(" (closed, in TIME-WAIT)"),
            (_, Some(process)) => write!(f, " of {} (pid {})", process.name, process.pid),
            (_, None) => f.write_str(" of an unknown process"),
        }
    }
}

/// The progress of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// Segments sent and not acknowledged yet.
    pub unacknowledged: u32,
    /// Segments sent again, in all.
    pub retransmitted: u32,
    /// Bytes that the other end has acknowledged, in all.
    pub acknowledged: u64,
    /// Bytes received, in all.
    pub received: u64,
}

/// An established TCP connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// Its socket.
    pub socket: Socket,
    /// The kernel's number for it, never used again.
    pub cookie: u64,
    /// Its progress.
    pub progress: Progress,
}

/// A packet socket (packet(7)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketSocket {
    /// Index of its device; `None` for all.
    pub device: Option<u32>,
    /// The Ethernet protocol that it receives, or 3 for all.
    pub protocol: u16,
    /// Inode.
    pub inode: u32,
    /// The process that holds it.
    pub process: Option<Holder>,
}

/// A socket of the eXpress Data Path (AF_XDP).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct XdpSocket {
    /// Index of its device.
    pub device: u32,
    /// The device's queue it is bound to.
    pub queue: u32,
    /// Inode.
    pub inode: u32,
    /// The process that holds it.
    pub process: Option<Holder>,
}

/// A multicast group of a device. The kernel does not report which socket joined it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Membership {
    /// The group.
    pub group: IpAddr,
    /// How many sockets joined.
    pub users: u32,
}

impl Socket {
    /// Its local or remote address is link-local: that binds it to the device, and ends with the address.
    #[must_use]
    pub fn is_link_local(&self) -> bool {
        let local = |address: IpAddr| matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        local(self.local.ip()) || self.remote.is_some_and(|remote| local(remote.ip()))
    }
}

impl Connection {
    /// Something has been acknowledged or received since.
    #[must_use]
    fn has_moved_since(&self, earlier: &Self) -> bool {
        self.progress.acknowledged > earlier.progress.acknowledged
            || self.progress.received > earlier.progress.received
    }
}

/// The connections that waited for an acknowledgement before and still do, without progress in between. Idle ones and
/// those that have ended are not among them.
#[must_use]
pub fn stalled<'a>(before: &[Connection], now: &'a [Connection]) -> Vec<&'a Connection> {
    let waits = |connection: &Connection| connection.progress.unacknowledged > 0;
    now.iter()
        .filter(|now| {
            let earlier = before.iter().find(|before| before.cookie == now.cookie);
            earlier.is_some_and(|earlier| waits(earlier) && waits(now) && !now.has_moved_since(earlier))
        })
        .collect()
}

/// All sockets whose local port is among these, sorted.
pub fn on_ports(ports: &PortSet) -> Result<Vec<Socket>> {
    all(&[Protocol::Tcp, Protocol::Udp], |socket| ports.contains(socket.local.port()))
}

/// All sockets that are bound to the device, sorted: they send and receive by no other device.
pub fn bound_to(device: u32) -> Result<Vec<Socket>> {
    all(&[Protocol::Tcp, Protocol::Udp, Protocol::Raw], |socket| socket.device == Some(device))
}

/// The established TCP connections, without their processes.
pub fn connections() -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in FAMILIES {
        let sockets = diag::dump(family, Protocol::Tcp, Which::Established)?;
        found.extend(sockets.into_iter().filter(|found| found.socket.state == State::Connected).map(
            |found| Connection {
                socket: found.socket,
                cookie: found.cookie,
                progress: found.progress.unwrap_or_default(),
            },
        ));
    }
    Ok(found)
}

/// The packet sockets that are bound to the device.
pub fn packet_sockets_on(device: u32) -> Result<Vec<PacketSocket>> {
    let mut found = tables::packet(&table("packet")?);
    found.retain(|socket| socket.device == Some(device));
    if !found.is_empty() {
        let holders = holders::holders();
        for socket in &mut found {
            socket.process = holders.get(&socket.inode).cloned();
        }
    }
    Ok(found)
}

/// Whether a process holds a packet socket that is bound to the device. `None` when /proc does not show it.
pub fn receives_from(pid: u32, device: u32) -> Result<Option<bool>> {
    let Some(held) = holders::held_by(pid) else { return Ok(None) };
    let bound = tables::packet(&table("packet")?);
    Ok(Some(bound.iter().any(|socket| socket.device == Some(device) && held.contains(&socket.inode))))
}

/// The AF_XDP sockets that are bound to the device. Empty where the kernel cannot list them.
pub fn xdp_sockets(device: u32) -> Result<Vec<XdpSocket>> {
    let mut found = diag::dump_xdp()?;
    found.retain(|socket| socket.device == device);
    if !found.is_empty() {
        let holders = holders::holders();
        for socket in &mut found {
            socket.process = holders.get(&socket.inode).cloned();
        }
    }
    Ok(found)
}

/// The multicast groups that programs joined on the device, without those that the kernel joins on every device.
pub fn memberships(device: u32) -> Result<Vec<Membership>> {
    let mut found = tables::igmp(&table("igmp")?, device);
    found.extend(tables::igmp6(&table("igmp6")?, device));
    found.retain(|membership| !tables::is_kernels(membership.group));
    Ok(found)
}

const FAMILIES: [i32; 2] = [libc::AF_INET, libc::AF_INET6];

fn all(protocols: &[Protocol], wanted: impl Fn(&Socket) -> bool) -> Result<Vec<Socket>> {
    let mut found = Vec::new();
    for protocol in protocols {
        for family in FAMILIES {
            let sockets = diag::dump(family, *protocol, Which::All)?;
            found.extend(sockets.into_iter().map(|found| found.socket).filter(&wanted));
        }
    }
    if found.iter().any(|socket| socket.inode != 0) {
        let holders = holders::holders();
        for socket in &mut found {
            socket.process = holders.get(&socket.inode).cloned();
        }
    }
    found.sort();
    Ok(found)
}

/// A table of /proc/net of the calling thread's namespace; empty where the kernel has none.
fn table(name: &'static str) -> Result<String> {
    match fs::read_to_string(format!("/proc/thread-self/net/{name}")) {
        Ok(table) => Ok(table),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(Error::Sockets { detail: name, source }),
    }
}

#[cfg(test)]
mod tests;
