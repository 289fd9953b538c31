//! Sockets of this network namespace by local port, with the process that holds them.
//!
//! Asked by sock_diag (`sock_diag(7)`), which needs no walk over /proc/net and lists a namespace's sockets whoever
//! holds them. TCP and UDP over IPv4 and IPv6. The process is looked up by inode in /proc/PID/fd, only when something
//! was found.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::ports::PortSet;
use crate::{Error, Result};

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Socket {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Own address and port.
    pub local: SocketAddr,
    /// The other end, when connected.
    pub remote: Option<SocketAddr>,
    /// State.
    pub state: State,
    /// Inode; 0 when no process holds it any more (TIME-WAIT).
    pub inode: u32,
    /// Who holds it. `None` when nobody does or /proc does not tell.
    pub process: Option<Process>,
}

/// A process that holds a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
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
}

/// What a socket does, as far as it matters to who may use its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Waits for connections, or is bound (UDP) without a peer.
    Listening,
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

/// All sockets whose local port is among these, sorted.
pub fn on_ports(ports: &PortSet) -> Result<Vec<Socket>> {
    let mut found = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for family in [libc::AF_INET, libc::AF_INET6] {
            dump(family, protocol, ports, &mut found)?;
        }
    }
    if found.iter().any(|socket| socket.inode != 0) {
        let holders = holders();
        for socket in &mut found {
            socket.process = holders.get(&socket.inode).cloned();
        }
    }
    found.sort();
    Ok(found)
}

// linux/sock_diag.h, linux/inet_diag.h, net/tcp_states.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const HEADER: usize = 16;
/// `struct inet_diag_msg`: 4 bytes, `struct inet_diag_sockid` (48), five u32.
const DIAG_MESSAGE: usize = 72;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;

fn dump(family: i32, protocol: Protocol, ports: &PortSet, found: &mut Vec<Socket>) -> Result<()> {
    let failed = |detail| move |errno: Errno| Error::Sockets { detail, source: errno.into() };
    let diag =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkSockDiag)
            .map_err(failed("open a netlink socket"))?;
    send(diag.as_raw_fd(), &request(family, protocol), MsgFlags::empty()).map_err(failed("ask"))?;
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let length = match recv(diag.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => continue,
            outcome => outcome.map_err(failed("read the answer"))?,
        };
        let mut rest = &buffer[..length];
        while let Some((kind, body, after)) = message(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |raw| i32::from_ne_bytes(*raw));
                    // No handler for the protocol (udp_diag is a module of its own): nothing to list.
                    return match Errno::from_raw(code.saturating_neg()) {
                        Errno::ENOENT => Ok(()),
                        errno => Err(failed("the kernel refused")(errno)),
                    };
                }
                SOCK_DIAG_BY_FAMILY => {
                    found.extend(parse(body, protocol).filter(|socket| ports.contains(socket.local.port())));
                }
                _ => {}
            }
            rest = after;
        }
        if length == 0 {
            return Err(Error::Sockets {
                detail: "the answer ended early",
                source: std::io::ErrorKind::UnexpectedEof.into(),
            });
        }
    }
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2` for all states.
fn request(family: i32, protocol: Protocol) -> Vec<u8> {
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
    };
    let mut bytes = Vec::with_capacity(HEADER + 56);
    bytes.extend(72_u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    bytes.extend([0; 8]); // sequence, port id
    bytes.extend([family as u8, protocol as u8, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // states
    bytes.extend([0; 48]); // any tuple
    bytes
}

/// Splits off the first message: its type, its body, what follows.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let body = bytes.get(HEADER..length)?;
    Some((kind, body, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn parse(body: &[u8], protocol: Protocol) -> Option<Socket> {
    let body: &[u8; DIAG_MESSAGE] = body.first_chunk()?;
    let (v6, state) = (i32::from(body[0]) == libc::AF_INET6, body[1]);
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        let raw: [u8; 16] = *body[at..].first_chunk()?;
        // An IPv6 socket that speaks IPv4 is listed with the mapped address.
        let v4 = || IpAddr::V4(Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3]));
        Some(if v6 { Ipv6Addr::from(raw).to_canonical() } else { v4() })
    };
    let remote = SocketAddr::new(address(24)?, port(6));
    let state = match state {
        TCP_TIME_WAIT => State::TimeWait,
        TCP_LISTEN => State::Listening,
        TCP_CLOSE if protocol == Protocol::Udp => State::Listening,
        _ => State::Connected,
    };
    Some(Socket {
        protocol,
        local: SocketAddr::new(address(8)?, port(4)),
        remote: (remote.port() != 0).then_some(remote),
        state,
        inode: u32::from_ne_bytes(*body[68..].first_chunk()?),
        process: None,
    })
}

/// Processes by the inodes of the sockets they hold. What cannot be read (gone meanwhile, not ours to read) is left
/// out.
fn holders() -> BTreeMap<u32, Process> {
    let mut holders = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        for fd in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let Ok(target) = fs::read_link(fd.path()) else { continue };
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode {
                holders.entry(inode).or_insert_with(|| Process { pid, name: name.clone() });
            }
        }
    }
    holders
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    #[test]
    fn sockets_are_found_by_port_with_their_process() {
        let work = || {
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let range: PortSet = "40000-59999".parse().unwrap();
            assert_eq!(on_ports(&range).unwrap(), []);
            let listener = TcpListener::bind("127.0.0.1:40000").unwrap();
            let _outside = TcpListener::bind("127.0.0.1:39999").unwrap();
            let client = TcpStream::connect("127.0.0.1:40000").unwrap();
            let _udp = UdpSocket::bind("[::]:59999").unwrap();
            let found = on_ports(&range).unwrap();
            let me = std::process::id();
            let listening: Vec<_> = found.iter().filter(|socket| socket.state == State::Listening).collect();
            assert_eq!(listening.len(), 2, "{found:?}");
            assert_eq!(listening[0].local, listener.local_addr().unwrap());
            assert_eq!(listening[1].local, "[::]:59999".parse().unwrap());
            assert!(
                listening.iter().all(|socket| socket.process.as_ref().is_some_and(|holder| holder.pid == me))
            );
            let peer = client.local_addr().unwrap();
            assert!(
                found.iter().any(|socket| socket.remote == Some(peer) && socket.state == State::Connected)
            );
            assert!(found.iter().all(|socket| range.contains(socket.local.port())));
            let said = listening[0].to_string();
            assert!(
                said.contains("tcp 127.0.0.1:40000 of ") && said.contains(&format!("pid {me}")),
                "{said}"
            );
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn thousands_are_listed_whole() {
        let work = || {
            assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let held: Vec<_> =
                (41000..41900).map(|port| UdpSocket::bind(("127.0.0.1", port)).unwrap()).collect();
            assert_eq!(on_ports(&"41000-41899".parse().unwrap()).unwrap().len(), held.len());
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn truncated_answers_are_not_read_beyond_their_end() {
        let bytes = request(libc::AF_INET, Protocol::Tcp);
        for cut in 0..bytes.len() {
            assert!(message(&bytes[..cut]).is_none());
        }
        assert!(parse(&[0; DIAG_MESSAGE - 1], Protocol::Tcp).is_none());
    }
}
