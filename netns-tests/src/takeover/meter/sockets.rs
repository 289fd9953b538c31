//! The sockets of a flow.

use std::{
    io::IoSliceMut,
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    cmsg_space,
    sys::{
        socket::{
            AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage,
            connect, recvmsg, setsockopt, socket, sockopt,
        },
        time::TimeSpec,
    },
};

use super::{
    clock::Moment,
    ends::{Client, ClientSocket, Server},
    flow::{Flow, Kind},
};
use crate::lab::{
    address::{Dual, Family},
    netns::Namespace,
    process::patience,
};

/// The first port of the meter's servers.
const PORT: u16 = 7100;

/// Both ends of a flow: the asking one in `here`, the answering one in `there`, which has the address `to`.
pub(super) fn pair(
    number: usize,
    flow: Flow,
    pace: Duration,
    here: &Namespace,
    there: &Namespace,
    to: Dual,
) -> Result<(Client, Option<Server>)> {
    let port = PORT + u16::try_from(number).unwrap_or(0);
    let target = to.port(flow.family, port);
    let any = match flow.family {
        Family::V4 => SocketAddr::from(([0, 0, 0, 0], port)),
        Family::V6 => SocketAddr::from(([0_u16; 8], port)),
    };
    let (socket, server) = match flow.kind {
        Kind::Udp => {
            let server = there.enter(|| UdpSocket::bind(any))?.context("binding the echo server")?;
            server.set_nonblocking(true)?;
            let from = SocketAddr::new(any.ip(), 0);
            let client = here.enter(|| UdpSocket::bind(from))?.context("making the asking socket")?;
            client.connect(target).with_context(|| format!("connecting to {target}"))?;
            client.set_nonblocking(true)?;
            stamp(&client)?;
            (ClientSocket::Udp(client), Some(Server::Udp(server)))
        }
        Kind::Ping => {
            let client = here.enter(|| ping_socket(flow.family, to))??;
            (ClientSocket::Ping(client), None)
        }
        Kind::Tcp => {
            let listener = there.enter(|| TcpListener::bind(any))?.context("listening")?;
            let client = here.enter(|| TcpStream::connect_timeout(&target, patience()))?;
            let client = client.with_context(|| format!("connecting to {target}"))?;
            let (stream, _) = listener.accept().context("accepting")?;
            for end in [&client, &stream] {
                end.set_nodelay(true)?;
                end.set_nonblocking(true)?;
            }
            (ClientSocket::Tcp(client), Some(Server::Tcp { number, stream, owed: 0, died: None }))
        }
    };
    Ok((Client { number, pace, family: flow.family, socket }, server))
}

/// A raw ICMP socket, connected to an address: it receives only what comes from there.
pub(crate) fn ping_socket(family: Family, to: Dual) -> Result<OwnedFd> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(domain, SockType::Raw, flags, protocol).context("opening a raw ICMP socket")?;
    let address = SockaddrStorage::from(to.port(family, 0));
    connect(made.as_raw_fd(), &address).with_context(|| format!("connecting to {}", to.of(family)))?;
    stamp(&made)?;
    Ok(made)
}

fn stamp(socket: &impl AsFd) -> Result<()> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true).context("asking for times of arrival")?;
    setsockopt(socket, sockopt::RcvBuf, &(1 << 20)).context("enlarging a receive buffer")
}

/// The next datagram of a socket that does not block, with its time of arrival. ICMP errors are passed over.
pub(crate) fn stamped(socket: &impl AsRawFd) -> Option<(Vec<u8>, Moment)> {
    let mut buffer = [0; 512];
    let mut control = cmsg_space!(TimeSpec);
    let (length, at) = loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let got = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT,
        );
        match got {
            Ok(message) => {
                let stamp = message.cmsgs().ok()?.find_map(|one| match one {
                    ControlMessageOwned::ScmTimestampns(at) => Some(at),
                    _ => None,
                });
                let at = stamp.map(|at| Moment(at.tv_sec() * 1_000_000_000 + at.tv_nsec()));
                break (message.bytes, at.unwrap_or_else(Moment::now));
            }
            Err(nix::errno::Errno::EAGAIN) => return None,
            // A pending ICMP error is reported once; the next call goes on.
            Err(_) => {}
        }
    };
    Some((buffer.get(..length)?.to_vec(), at))
}

/// An echo request of a flow (RFC 792, RFC 4443): the identifier tells the flow, the payload the full number.
pub(crate) fn echo_request(family: Family, flow: usize, number: u32) -> Vec<u8> {
    let kind = match family {
        Family::V4 => 8,
        Family::V6 => 128,
    };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(identifier(flow));
    message.extend(&number.to_be_bytes()[2..]);
    message.extend(number.to_be_bytes());
    message.extend([0; 20]);
    if family == Family::V4 {
        let sum = checksum(&message).to_be_bytes();
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
    message
}

/// The number of the request that a received message answers. A raw IPv4 socket gets the IP header, too.
pub(crate) fn echo_reply(family: Family, flow: usize, bytes: &[u8]) -> Option<u32> {
    let (message, kind) = match family {
        Family::V4 => (bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)?, 0),
        Family::V6 => (bytes, 129),
    };
    let [found, _, _, _, id_high, id_low, _, _, a, b, c, d, ..] = *message else { return None };
    (found == kind && [id_high, id_low] == identifier(flow)).then(|| u32::from_be_bytes([a, b, c, d]))
}

fn identifier(flow: usize) -> [u8; 2] {
    (0x4d00 | u16::try_from(flow & 0xff).unwrap_or(0)).to_be_bytes()
}

/// The checksum of the internet (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| {
        u32::from(pair.first().copied().unwrap_or(0)) << 8 | u32::from(pair.get(1).copied().unwrap_or(0))
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// How many segments this end of a connection sent again (`TCP_INFO`, tcp(7)).
#[allow(unsafe_code, reason = "getsockopt(2) for TCP_INFO has no safe wrapper")]
pub(super) fn retransmits(stream: &TcpStream) -> u32 {
    // SAFETY: all bits zero is a valid value of a structure of plain numbers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: pointer and length describe `info`, which the kernel fills at most up to that length.
    let code = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if code == 0 { info.tcpi_total_retrans } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_told_from_a_request_and_from_other_flows() {
        for (family, reply, header) in [(Family::V4, 0, vec![0x45; 20]), (Family::V6, 129, Vec::new())] {
            let mut bytes = header;
            let start = bytes.len();
            bytes.extend(echo_request(family, 3, 70_000));
            assert_eq!(echo_reply(family, 3, &bytes), None, "{family}: a request");
            bytes[start] = reply;
            assert_eq!(echo_reply(family, 3, &bytes), Some(70_000), "{family}");
            assert_eq!(echo_reply(family, 4, &bytes), None, "{family}: another flow");
            assert_eq!(echo_reply(family, 3, &bytes[..start + 9]), None, "{family}: cut short");
        }
        assert_eq!(checksum(&echo_request(Family::V4, 1, 9)), 0);
    }
}
