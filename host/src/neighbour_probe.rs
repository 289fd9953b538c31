//! Probes: does a neighbour answer on a device? The question is the one every router answers: which MAC address has this
//! IP address?
//!
//! The frames are built here, and sent and received by a packet socket of the device (packet(7)), so the host's routes, its
//! neighbour table and the ingress filter ([`crate::ingress_filter`]) have no influence: a socket for all protocols is a
//! tap, which comes before the ingress hook. (A socket for ARP alone comes after it and receives nothing.) An answer proves
//! the path in both directions through whatever switches the device's frames.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, send};

use crate::deferred_close::DeferredClose;
use crate::{Error, Mac, Result};

pub(crate) mod frames;

pub use frames::Reply;

/// A socket that probes on one device.
#[derive(Debug)]
pub struct Prober {
    socket: DeferredClose<OwnedFd>,
    device: u32,
    mac: Mac,
}

/// The address to probe, and the address that probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The address whose MAC address is requested.
    pub target: IpAddr,
    /// An own address of the same family, which the answer names. The unspecified address leaves no entry in the neighbour's
    /// table.
    pub source: IpAddr,
}

/// A neighbour answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The probed address.
    pub target: IpAddr,
    /// Its MAC address.
    pub mac: Mac,
    /// Time since the first probe.
    pub after: Duration,
}

impl Prober {
    /// For a device by its index. `mac` is its MAC address.
    pub fn open(device: u32, mac: Mac) -> Result<Self> {
        let failed =
            |source| Error::Kernel { attempted: format!("open a packet socket on device {device}"), source };
        // Without a protocol it receives nothing until it is bound: no frame of another device, none unfiltered.
        let socket = packet_socket().map_err(failed)?;
        set_filter(&socket).map_err(failed)?;
        bind(&socket, device).map_err(failed)?;
        Ok(Self { socket: DeferredClose::new(socket), device, mac })
    }

    /// Probes all, every `every`, until each has answered or `timeout` has passed. The answers, in the order of their
    /// arrival.
    pub fn probe_all(
        &self,
        questions: &[Question],
        every: Duration,
        timeout: Duration,
    ) -> Result<Vec<Answer>> {
        // An answer to an earlier probe must not count.
        while self.receive()?.is_some() {}
        let start = Instant::now();
        let deadline = start + timeout;
        let mut open = questions.to_vec();
        let mut answers = Vec::new();
        let mut next = start;
        while !open.is_empty() {
            let now = Instant::now();
            if now >= next {
                for question in &open {
                    self.send(question)?;
                }
                next = now + every;
            }
            self.wait(next.min(deadline).saturating_duration_since(Instant::now()))?;
            while let Some(reply) = self.receive()? {
                open.retain(|question| {
                    let answered = question.is_answered_by(&reply);
                    if answered {
                        answers.push(Answer { target: reply.target, mac: reply.mac, after: start.elapsed() });
                    }
                    !answered
                });
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(answers)
    }

    /// Probes one address; the answer, if one arrives in time.
    pub fn probe(&self, question: Question, every: Duration, timeout: Duration) -> Result<Option<Answer>> {
        Ok(self.probe_all(&[question], every, timeout)?.into_iter().next())
    }

    /// Sends one probe, for a caller that waits for other events as well: the socket is readable when there may be an answer.
    pub fn send(&self, question: &Question) -> Result<()> {
        let Some(frame) = frames::question(self.mac, question.source, question.target) else {
            return Ok(());
        };
        match send(self.socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT) {
            // A device that is down or without carrier, or a full queue: as if the frame had been lost.
            Ok(_) | Err(Errno::ENETDOWN | Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("probe a neighbour", errno)),
        }
    }

    /// The next answer that has arrived.
    pub fn receive(&self) -> Result<Option<Reply>> {
        let mut buffer = [0; 2048];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let ours = from.is_none_or(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    if let Some(reply) = frames::answer(&buffer[..length]).filter(|_| !ours) {
                        return Ok(Some(reply));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                // Reported once when the device goes down; it may come up again.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(errno) => return Err(self.failed("receive from a neighbour", errno)),
            }
        }
    }

    fn wait(&self, at_most: Duration) -> Result<()> {
        let at_most = PollTimeout::try_from(at_most.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], at_most) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("receive from a neighbour", errno)),
        }
    }

    fn failed(&self, what: &str, errno: Errno) -> Error {
        Error::Kernel { attempted: format!("{what} on device {}", self.device), source: errno.into() }
    }
}

impl AsFd for Prober {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Question {
    /// Whether it answers this probe. An answer to another address, or to all, does not prove the path to us.
    #[must_use]
    pub fn is_answered_by(&self, reply: &Reply) -> bool {
        reply.target == self.target && reply.requester == self.source
    }
}

#[allow(unsafe_code, reason = "nix only makes such sockets with a protocol")]
fn packet_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket(2) takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ARP and neighbour advertisements only: on a busy device other frames would fill the receive buffer.
#[allow(unsafe_code, reason = "nix has no name for this option")]
fn set_filter(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |width: u32, at: u32| step(libc::BPF_LD | width | libc::BPF_ABS, 0, 0, at);
    let equal = |value: u32, jt: u8, jf: u8| step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let mut program = [
        load(libc::BPF_H, 12),
        equal(0x0806, 5, 0),
        equal(0x86dd, 0, 5),
        load(libc::BPF_B, 20), // next header
        equal(58, 0, 3),
        load(libc::BPF_B, 54), // type
        equal(136, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let size = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program is valid until the call returns, which copies it; length and size are its own.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[allow(unsafe_code, reason = "nix makes no such address")]
fn bind(socket: &OwnedFd, device: u32) -> io::Result<()> {
    // SAFETY: all zeros are an address of no family.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(device).map_err(|_| io::ErrorKind::InvalidInput)?;
    if address.sll_ifindex == 0 {
        // That would be all devices.
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    let size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the address is a valid sockaddr_ll of that size, which is only read.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
