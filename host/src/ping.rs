//! A ping over the host's routes (RFC 792, RFC 4443).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvfrom, sendto, socket,
};

use crate::neighbour_probe::frames::internet_checksum;
use crate::{Error, Result};

/// Pings an address every `every` until it answers or `timeout` has passed; returns how long the answer took. A
/// link-local address needs the device's index; others ignore it.
pub fn ping(target: IpAddr, device: u32, every: Duration, timeout: Duration) -> Result<Option<Duration>> {
    let failed = |source: io::Error| Error::Kernel { attempted: format!("ping {target}"), source };
    let (family, protocol) = match target {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let pinger = socket(family, SockType::Raw, flags, protocol).map_err(|e| failed(e.into()))?;
    let to = SockaddrStorage::from(address(target, device));
    let start = Instant::now();
    let deadline = start + timeout;
    let mark = mark();
    let mut next = start;
    for sequence in 0_u16.. {
        let request = request(target, mark, sequence);
        match sendto(pinger.as_raw_fd(), &request, &to, MsgFlags::empty()) {
            // No route now, or an ICMP error: there may be one a moment later.
            Ok(_)
            | Err(
                Errno::ENETUNREACH
                | Errno::EHOSTUNREACH
                | Errno::ENETDOWN
                | Errno::ENOBUFS
                | Errno::EAGAIN
                | Errno::EADDRNOTAVAIL
                | Errno::ECONNREFUSED
                | Errno::EINTR,
            ) => {}
            Err(errno) => return Err(failed(errno.into())),
        }
        next += every;
        loop {
            if answered(&pinger, target, mark).map_err(|e| failed(e.into()))? {
                return Ok(Some(start.elapsed()));
            }
            let now = Instant::now();
            if now >= deadline {
                return Ok(None);
            }
            if now >= next {
                break;
            }
            let left = next.min(deadline).saturating_duration_since(now).as_micros().div_ceil(1000);
            let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(pinger.as_fd(), PollFlags::POLLIN)], left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
        }
    }
    Ok(None)
}

/// Whether an answer has arrived.
fn answered(pinger: &OwnedFd, target: IpAddr, mark: [u8; 2]) -> nix::Result<bool> {
    let mut buffer = [0; 2048];
    loop {
        match recvfrom::<SockaddrStorage>(pinger.as_raw_fd(), &mut buffer) {
            Ok((length, from)) => {
                let from = from.as_ref().and_then(sender);
                if from == Some(target) && is_reply(target, &buffer[..length], mark) {
                    return Ok(true);
                }
            }
            Err(Errno::EAGAIN) => return Ok(false),
            // A raw socket reports ICMP errors.
            Err(Errno::EINTR | Errno::EHOSTUNREACH | Errno::ENETUNREACH | Errno::ECONNREFUSED) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn request(target: IpAddr, mark: [u8; 2], sequence: u16) -> Vec<u8> {
    let kind = if target.is_ipv4() { 8 } else { 128 };
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(mark);
    bytes.extend(sequence.to_be_bytes());
    if target.is_ipv4() {
        // The kernel does it for ICMPv6.
        let sum = internet_checksum(&bytes);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

fn is_reply(target: IpAddr, bytes: &[u8], mark: [u8; 2]) -> bool {
    // A raw IPv4 socket is given the IP header as well.
    let (kind, message) = match target {
        IpAddr::V4(_) => {
            let header = usize::from(bytes.first().copied().unwrap_or_default() & 0xf) * 4;
            (0, bytes.get(header..).unwrap_or_default())
        }
        IpAddr::V6(_) => (129, bytes),
    };
    message.first() == Some(&kind) && message.get(4..6) == Some(&mark)
}

/// The identifier that distinguishes our pings from those of other programs.
fn mark() -> [u8; 2] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let pid = std::process::id() as u16;
    pid.wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
}

fn address(target: IpAddr, device: u32) -> SocketAddr {
    match target {
        IpAddr::V4(target) => SocketAddrV4::new(target, 0).into(),
        IpAddr::V6(target) => {
            let scope = if target.is_unicast_link_local() { device } else { 0 };
            SocketAddrV6::new(target, 0, 0, scope).into()
        }
    }
}

fn sender(from: &SockaddrStorage) -> Option<IpAddr> {
    match (from.as_sockaddr_in(), from.as_sockaddr_in6()) {
        (Some(from), _) => Some(from.ip().into()),
        (_, Some(from)) => Some(from.ip().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    const STEP: Duration = Duration::from_millis(20);

    #[test]
    fn an_existing_address_answers_and_a_missing_one_does_not() {
        let work = || {
            for line in ["link set lo up", "addr add 10.1.0.1/32 dev lo", "addr add fd01::1/128 dev lo nodad"]
            {
                assert!(Command::new("ip").args(line.split_whitespace()).status().unwrap().success());
            }
            for target in ["10.1.0.1", "127.0.0.1", "fd01::1", "::1"] {
                let target = target.parse().unwrap();
                assert!(ping(target, 0, STEP, Duration::from_secs(30)).unwrap().is_some(), "{target}");
            }
            for target in ["10.9.0.1", "fd09::1"] {
                let target = target.parse().unwrap();
                assert_eq!(ping(target, 0, STEP, STEP * 5).unwrap(), None, "{target}");
            }
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn only_a_reply_counts() {
        let target: IpAddr = "10.0.0.1".parse().unwrap();
        let mut reply = vec![0x45; 20];
        reply.extend([0, 0, 0, 0, 7, 8, 0, 1]);
        assert!(is_reply(target, &reply, [7, 8]));
        assert!(!is_reply(target, &reply, [7, 9]));
        for cut in 0..26 {
            assert!(!is_reply(target, &reply[..cut], [7, 8]));
        }
        // The socket also receives a request to ourselves.
        assert!(!is_reply("::1".parse().unwrap(), &request("::1".parse().unwrap(), [7, 8], 1), [7, 8]));
    }
}
