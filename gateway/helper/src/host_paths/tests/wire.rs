//! Segments made by hand, from outside, and what comes back.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use host::netns::Namespace;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, sendto,
    setsockopt, socket, sockopt,
};

use super::world::{NODE, OUTSIDE, OUTSIDE6, World, run};

pub(super) const SYN: u8 = 0x02;
pub(super) const ACK: u8 = 0x10;

const WATCH: &str = "table inet watch {
 counter resets { }
 counter opened { }
 counter unreachable { }
 counter other { }
 chain c {
  type filter hook prerouting priority -300
  tcp flags & rst == rst counter name resets
  tcp flags & (syn | ack) == (syn | ack) counter name opened
  icmp type destination-unreachable counter name unreachable
  icmpv6 type destination-unreachable counter name unreachable
  meta l4proto 132 counter name other
 }
}";

/// What came back to the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) resets: u64,
    pub(super) opened: u64,
    pub(super) unreachable: u64,
    pub(super) sctp: u64,
}

impl Answers {
    pub(super) fn is_silent(&self) -> bool {
        *self == Self::default()
    }
}

/// The outside, with a count of what comes back.
pub(super) struct Outside<'a> {
    world: &'a World,
    seen: Answers,
    /// A port of the node that always answers: when it has, what was sent before has had its answer.
    echo: UdpSocket,
    own: UdpSocket,
}

impl<'a> Outside<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        let unlimited = || {
            std::fs::write("/proc/sys/net/ipv4/icmp_ratelimit", "0").unwrap();
            std::fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
            UdpSocket::bind((NODE, 777)).unwrap()
        };
        let echo = world.node.run(unlimited).unwrap();
        let own = || {
            super::world::block_on(host::nft::Nft::default().apply("watch", WATCH)).unwrap();
            UdpSocket::bind((OUTSIDE, 778)).unwrap()
        };
        let own = world.outside.run(own).unwrap();
        for socket in [&echo, &own] {
            socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        }
        Self { world, seen: Answers::default(), echo, own }
    }

    /// Sends one TCP segment, and says what came back.
    pub(super) fn tcp(&mut self, node: &str, port: u16, flags: u8) -> Answers {
        let to: IpAddr = node.parse().unwrap();
        let from: IpAddr = if to.is_ipv4() { OUTSIDE } else { OUTSIDE6 }.parse().unwrap();
        // From a port that nobody here waits on: each test frame is a connection of its own to connection tracking.
        let source = self.next_port();
        let segment = tcp_segment(from, to, source, port, flags);
        self.world.outside.run(|| raw(SockProtocol::Tcp, to, &segment)).unwrap();
        self.answers()
    }

    /// Sends one datagram.
    pub(super) fn udp(&mut self, node: &str, port: u16) -> Answers {
        let to = SocketAddr::new(node.parse().unwrap(), port);
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        self.world.outside.run(|| UdpSocket::bind(any).unwrap().send_to(b"x", to).unwrap()).unwrap();
        self.answers()
    }

    /// Sends an SCTP packet (RFC 9260) that opens an association, IPv4.
    pub(super) fn sctp(&mut self, port: u16) -> Answers {
        let (from, to): (IpAddr, IpAddr) = (OUTSIDE.parse().unwrap(), NODE.parse().unwrap());
        let (IpAddr::V4(source), IpAddr::V4(target)) = (from, to) else { unreachable!() };
        let mut packet = vec![0x45, 0, 0, 52, 0, 0, 0, 0, 64, 132, 0, 0];
        packet.extend(source.octets());
        packet.extend(target.octets());
        let mut sctp = vec![];
        sctp.extend(self.next_port().to_be_bytes());
        sctp.extend(port.to_be_bytes());
        sctp.extend([0; 8]);
        sctp.extend([1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1]);
        let checksum = crc32c(&sctp).to_le_bytes();
        sctp[8..12].copy_from_slice(&checksum);
        packet.extend(sctp);
        self.world.outside.run(|| raw(SockProtocol::Raw, to, &packet)).unwrap();
        self.answers()
    }

    fn next_port(&self) -> u16 {
        use std::sync::atomic::{AtomicU16, Ordering};
        static NEXT: AtomicU16 = AtomicU16::new(0);
        2000 + NEXT.fetch_add(1, Ordering::Relaxed) % 6000
    }

    fn answers(&mut self) -> Answers {
        let mut buffer = [0; 8];
        for _ in 0..2 {
            self.own.send_to(b"ping", (NODE, 777)).unwrap();
            let (length, from) = self.echo.recv_from(&mut buffer).unwrap();
            self.echo.send_to(&buffer[..length], from).unwrap();
            self.own.recv_from(&mut buffer).unwrap();
        }
        let count = |name: &str| {
            let text = run("nft", &format!("list counter inet watch {name}"));
            text.split_whitespace()
                .skip_while(|word| *word != "packets")
                .nth(1)
                .unwrap()
                .parse::<u64>()
                .unwrap()
        };
        let look = || Answers {
            resets: count("resets"),
            opened: count("opened"),
            unreachable: count("unreachable"),
            sctp: count("other"),
        };
        let now = self.world.outside.run(look).unwrap();
        let before = std::mem::replace(&mut self.seen, now);
        Answers {
            resets: now.resets - before.resets,
            opened: now.opened - before.opened,
            unreachable: now.unreachable - before.unreachable,
            sctp: now.sctp - before.sctp,
        }
    }
}

/// Connects from a chosen port.
pub(super) fn connect_from(ns: &Namespace, from: SocketAddr, to: SocketAddr) -> TcpStream {
    let work = || {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
        connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
        TcpStream::from(fd)
    };
    ns.run(work).unwrap()
}

/// Sends a datagram from a chosen port and an answer back, and says which port the other end saw.
pub(super) fn udp_source(ns: &Namespace, from: SocketAddr, to: &UdpSocket) -> u16 {
    let client = ns.run(|| UdpSocket::bind(from).unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    to.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client.send_to(b"there", to.local_addr().unwrap()).unwrap();
    let mut buffer = [0; 8];
    let (_, seen) = to.recv_from(&mut buffer).unwrap();
    to.send_to(b"back", seen).unwrap();
    client.recv_from(&mut buffer).unwrap();
    seen.port()
}

/// One byte from the first to the second.
pub(super) fn exchange(from: &mut TcpStream, to: &mut TcpStream) {
    let started = Instant::now();
    to.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    from.write_all(b"x").unwrap();
    let mut byte = [0];
    let read = to.read_exact(&mut byte);
    assert!(
        read.is_ok(),
        "{:?} to {:?}: {read:?} after {:?}",
        from.local_addr(),
        to.local_addr(),
        started.elapsed()
    );
}

fn raw(protocol: SockProtocol, to: IpAddr, bytes: &[u8]) {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(fd.as_raw_fd(), bytes, &to, MsgFlags::empty()).unwrap();
}

/// A TCP header (RFC 9293) with a right checksum and a byte of payload where a segment may have one.
fn tcp_segment(from: IpAddr, to: IpAddr, source: u16, port: u16, flags: u8) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(source.to_be_bytes());
    segment.extend(port.to_be_bytes());
    segment.extend(0x0102_0304_u32.to_be_bytes());
    segment.extend(if flags & ACK == 0 { 0 } else { 0x0506_0708_u32 }.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    if flags == ACK {
        segment.extend(b"xy");
    }
    let mut sum: u32 = 6 + segment.len() as u32;
    let mut add = |bytes: &[u8]| {
        sum += bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>()
    };
    for address in [from, to] {
        match address {
            IpAddr::V4(v4) => add(&v4.octets()),
            IpAddr::V6(v6) => add(&v6.octets()),
        }
    }
    add(&segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    segment[16..18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    segment
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 },
        )
    })
}
