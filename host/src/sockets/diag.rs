//! sock_diag's messages (sock_diag(7), linux/inet_diag.h, linux/xdp_diag.h).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Progress, Protocol, Socket, State, XdpSocket};
use crate::netlink_format;
use crate::netlink_socket::NetlinkSocket;
use crate::{Error, Result};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// `struct inet_diag_msg`: 4 bytes, `struct inet_diag_sockid` (48), five u32.
const DIAG_MESSAGE: usize = 72;
const TCP_TIME_WAIT: u8 = 6;
const TCP_CLOSE: u8 = 7;
const TCP_LISTEN: u8 = 10;
const TCP_ESTABLISHED: u32 = 1 << 1;
const INET_DIAG_INFO: u16 = 2;
const XDP_SHOW_INFO: u32 = 1;
const XDP_DIAG_INFO: u16 = 0;
/// linux/unix_diag.h; the owner since Linux 5.3.
const UNIX_SHOW_NAME_AND_UID: u32 = 1 | 0x40;
const UNIX_DIAG_NAME: u16 = 0;
const UNIX_DIAG_UID: u16 = 7;

/// Which sockets to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    All,
    /// Connected ones with their TCP_INFO.
    Established,
}

/// A socket with its cookie, and its TCP_INFO when requested.
pub(super) struct Found {
    pub(super) socket: Socket,
    pub(super) cookie: u64,
    pub(super) progress: Option<Progress>,
}

/// The sockets of a family and protocol, without their processes. A kernel that cannot list them has none to list.
pub(super) fn dump(family: i32, protocol: Protocol, which: Which) -> Result<Vec<Found>> {
    list(&request(family, protocol, which), |body| parse(body, protocol))
}

/// The sockets of the eXpress Data Path.
pub(super) fn dump_xdp() -> Result<Vec<XdpSocket>> {
    // Family, protocol, padding, inode, what to show, cookie.
    let mut request = vec![libc::AF_XDP as u8, 0, 0, 0];
    request.extend([0; 4]);
    request.extend(XDP_SHOW_INFO.to_ne_bytes());
    request.extend([0; 8]);
    list(&request, parse_xdp)
}

/// The user that bound an abstract name, whichever process holds it; `None` where the kernel does not report it.
pub(crate) fn owner_of_name(name: &str) -> Result<Option<u32>> {
    // Family, protocol, padding, states, inode, what to show, cookie.
    let mut request = vec![libc::AF_UNIX as u8, 0, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    request.extend([0; 4]);
    request.extend(UNIX_SHOW_NAME_AND_UID.to_ne_bytes());
    request.extend([0; 8]);
    Ok(list(&request, |body| parse_owner(body, name))?.first().copied())
}

fn parse_owner(body: &[u8], name: &str) -> Option<u32> {
    // Family, type, state, padding, inode, cookie.
    let attributes = body.get(16..)?;
    let found = netlink_format::find(attributes, UNIX_DIAG_NAME)?.strip_prefix(&[0])?;
    (found == name.as_bytes())
        .then(|| netlink_format::number(netlink_format::find(attributes, UNIX_DIAG_UID)?, 0))?
}

/// Parses a message's body in every way, for fuzzing.
pub(crate) fn parse_any(body: &[u8]) {
    let _ = (parse(body, Protocol::Tcp), parse_xdp(body), parse_owner(body, "x"));
}

fn list<T>(request: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> Result<Vec<T>> {
    let failed = |detail, source| Error::Sockets { detail, source };
    let mut found = Vec::new();
    let socket = NetlinkSocket::open(libc::NETLINK_SOCK_DIAG)?;
    let outcome = socket.dump("list the sockets", SOCK_DIAG_BY_FAMILY, request, |message| match message {
        None => found.clear(),
        Some(message) if message.kind == SOCK_DIAG_BY_FAMILY => found.extend(read(message.body)),
        Some(_) => {}
    });
    match outcome {
        Ok(()) => Ok(found),
        // No handler for the protocol (each is a module of its own): nothing to list.
        Err(Error::Netlink { errno: libc::ENOENT | libc::EOPNOTSUPP | libc::EAFNOSUPPORT, .. }) => {
            Ok(Vec::new())
        }
        Err(Error::Netlink { errno, .. }) => {
            Err(failed("the kernel refused", std::io::Error::from_raw_os_error(errno)))
        }
        Err(Error::Kernel { source, .. }) => Err(failed("read the answer", source)),
        Err(error) => Err(error),
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: i32, protocol: Protocol, which: Which) -> Vec<u8> {
    let protocol = match protocol {
        Protocol::Tcp => libc::IPPROTO_TCP,
        Protocol::Udp => libc::IPPROTO_UDP,
        Protocol::Raw => libc::IPPROTO_RAW,
    };
    let (extensions, states) = match which {
        Which::All => (0, u32::MAX),
        Which::Established => (1 << (INET_DIAG_INFO - 1), TCP_ESTABLISHED),
    };
    let mut bytes = vec![family as u8, protocol as u8, extensions, 0];
    bytes.extend(states.to_ne_bytes());
    bytes.extend([0; 48]); // any tuple
    bytes
}

fn parse(body: &[u8], protocol: Protocol) -> Option<Found> {
    let attributes = body.get(DIAG_MESSAGE..)?;
    let body: &[u8; DIAG_MESSAGE] = body.first_chunk()?;
    let (v6, state) = (i32::from(body[0]) == libc::AF_INET6, body[1]);
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let address = |at: usize| -> Option<IpAddr> {
        let raw: [u8; 16] = *body[at..].first_chunk()?;
        // An IPv6 socket that uses IPv4 is listed with the mapped address.
        let v4 = || IpAddr::V4(Ipv4Addr::new(raw[0], raw[1], raw[2], raw[3]));
        Some(if v6 { Ipv6Addr::from(raw).to_canonical() } else { v4() })
    };
    let remote = SocketAddr::new(address(24)?, port(6));
    let state = match state {
        TCP_TIME_WAIT => State::TimeWait,
        TCP_LISTEN => State::Accepting,
        TCP_CLOSE if protocol != Protocol::Tcp => State::Accepting,
        _ => State::Connected,
    };
    let info = netlink_format::find(attributes, INET_DIAG_INFO);
    let socket = Socket {
        protocol,
        // Raw sockets have the IP protocol in the port's place.
        local: SocketAddr::new(address(8)?, port(4)),
        remote: (remote.port() != 0).then_some(remote),
        state,
        device: netlink_format::number(body, 40).filter(|index| *index != 0),
        inode: netlink_format::number(body, 68)?,
        process: None,
    };
    let cookie = u64::from_ne_bytes(*body[44..].first_chunk()?);
    Some(Found { socket, cookie, progress: info.and_then(progress) })
}

/// `struct tcp_info` up to what Linux 4.2 has; longer ones go on behind.
fn progress(info: &[u8]) -> Option<Progress> {
    let long = |at: usize| Some(u64::from_ne_bytes(*info.get(at..)?.first_chunk()?));
    Some(Progress {
        unacknowledged: netlink_format::number(info, 24)?,
        retransmitted: netlink_format::number(info, 100)?,
        acknowledged: long(120)?,
        received: long(128)?,
    })
}

fn parse_xdp(body: &[u8]) -> Option<XdpSocket> {
    // Family, type, padding, inode, cookie.
    let inode = netlink_format::number(body, 4)?;
    let info = netlink_format::find(body.get(16..)?, XDP_DIAG_INFO)?;
    let (device, queue) = (netlink_format::number(info, 0)?, netlink_format::number(info, 4)?);
    Some(XdpSocket { device, queue, inode, process: None })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_socket_of_the_express_data_path_is_read() {
        let mut body = vec![libc::AF_XDP as u8, 3, 0, 0];
        body.extend(4711_u32.to_ne_bytes());
        body.extend([0; 8]);
        let mut info = 7_u32.to_ne_bytes().to_vec();
        info.extend(2_u32.to_ne_bytes());
        netlink_format::push_attribute(&mut body, XDP_DIAG_INFO, &info);
        let expected = XdpSocket { device: 7, queue: 2, inode: 4711, process: None };
        assert_eq!(parse_xdp(&body), Some(expected));
        // One that was never bound.
        assert_eq!(parse_xdp(&body[..16]), None);
        // The kernel may lack them; that is no error.
        dump_xdp().unwrap();
    }

    #[test]
    fn truncated_answers_are_not_read_beyond_their_end() {
        assert!(parse(&[0; DIAG_MESSAGE - 1], Protocol::Tcp).is_none());
        assert!(parse(&[0; DIAG_MESSAGE], Protocol::Tcp).is_some());
        assert_eq!(progress(&[0; 135]), None);
        assert!(progress(&[0; 136]).is_some());
    }

    proptest! {
        #[test]
        fn any_answer_is_read_without_panic(body in prop::collection::vec(prop_oneof![0_u8..9, any::<u8>()], 0..300)) {
            let _ = (parse(&body, Protocol::Tcp), parse_xdp(&body), parse_owner(&body, "x"));
        }
    }
}
