//! Carrier and counters of one device, cheap enough to read twenty times a second.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netlink_format::{self, NLM_F_REQUEST, NLMSG_ERROR};
use crate::{Error, Mac, Result};

/// The state of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkStats {
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: Mac,
    /// It is set up.
    pub up: bool,
    /// It has a carrier; a tap has one while a process holds it.
    pub carrier: bool,
    /// Frames received by the host; for a tap, those written by the process that holds it.
    pub received: u64,
    /// Frames sent by the host.
    pub sent: u64,
}

/// Reads devices, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct LinkMonitor {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

// linux/if_link.h: struct rtnl_link_stats64 begins with rx_packets, tx_packets.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_STATS64: u16 = 23;
const IFLA_CARRIER: u16 = 33;
const INDEX: usize = 4;
const FLAGS: usize = 8;
const IFF_UP: u32 = 0x1;
const IFINFOMSG: usize = 16;

impl LinkMonitor {
    /// Opens one.
    pub fn open() -> Result<Self> {
        let failed = |errno: Errno| Error::NetlinkSocket { source: errno.into() };
        let (kind, flags) = (SockType::Raw, SockFlag::SOCK_CLOEXEC);
        let socket =
            socket(AddressFamily::Netlink, kind, flags, SockProtocol::NetlinkRoute).map_err(failed)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(failed)?;
        // The kernel answers before send(2) returns.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0)).map_err(failed)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; 32 * 1024] })
    }

    /// The state of a device; `None` when there is none of that name.
    pub fn read(&mut self, device: &str) -> Result<Option<LinkStats>> {
        let attempted = || format!("read the state of device {device}");
        let failed = |errno: Errno| Error::Kernel { attempted: attempted(), source: errno.into() };
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = Vec::new();
        netlink_format::push_message(&mut request, libc::RTM_GETLINK, NLM_F_REQUEST, self.sequence, |body| {
            body.extend([0; IFINFOMSG]);
            netlink_format::push_attribute(body, IFLA_IFNAME, &netlink_format::terminated(device));
        });
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty()).map_err(failed)?;
        loop {
            let length = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => continue,
                outcome => outcome.map_err(failed)?,
            };
            let datagram = self.buffer.get(..length).unwrap_or_default();
            let answer = netlink_format::messages(datagram).find(|message| message.sequence == self.sequence);
            match answer {
                // A late answer to an earlier request.
                None => {}
                Some(message) if message.kind == NLMSG_ERROR => {
                    let answer = message.answer();
                    return match answer.errno {
                        libc::ENODEV => Ok(None),
                        _ => Err(crate::netlink_socket::refusal(&attempted(), answer)),
                    };
                }
                Some(message) => return Ok(parse(message.body)),
            }
        }
    }
}

fn parse(body: &[u8]) -> Option<LinkStats> {
    let up = netlink_format::number(body, FLAGS)? & IFF_UP != 0;
    let mut stats = LinkStats { index: netlink_format::number(body, INDEX)?, up, ..LinkStats::default() };
    for (kind, value) in netlink_format::attributes(body.get(IFINFOMSG..)?) {
        match kind & netlink_format::NLA_TYPE_MASK {
            IFLA_ADDRESS => stats.mac = Mac::from_bytes(value).unwrap_or_default(),
            IFLA_CARRIER => stats.carrier = value.first().is_some_and(|carrier| *carrier != 0),
            IFLA_STATS64 => {
                let number = |at: usize| {
                    value.get(at..).and_then(<[u8]>::first_chunk).map(|bytes| u64::from_ne_bytes(*bytes))
                };
                stats.received = number(0).unwrap_or_default();
                stats.sent = number(8).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(stats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_a_state_and_a_missing_device_has_none() {
        let mut monitor = LinkMonitor::open().unwrap();
        let before = monitor.read("lo").unwrap().unwrap();
        assert!(before.carrier && before.index > 0);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        let after = monitor.read("lo").unwrap().unwrap();
        assert!(after.received > before.received && after.sent > before.sent, "{before:?} {after:?}");
        assert_eq!(monitor.read("no-such-device0").unwrap(), None);
    }
}
