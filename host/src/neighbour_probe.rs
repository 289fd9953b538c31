//! Is there somebody on the other side of a device? Asked by the question every router answers: who has this address?
//!
//! The frames are made here and sent and heard by a packet socket of the device (packet(7)), so that neither the host's
//! routes nor its neighbour table nor the guard ([`crate::ears`]) stand between: a socket for all protocols is a tap,
//! which is served before the ingress hook. (One for ARP alone is served after it and hears nothing.) An answer proves
//! the whole way there and back through whatever switches the device's frames.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, MsgFlags, recvfrom, send};

use crate::deferred_close::DeferredClose;
use crate::{Error, Mac, Result};

pub mod frames;

use frames::Heard;

/// A socket that asks and hears on one device.
#[derive(Debug)]
pub struct Prober {
    socket: DeferredClose<OwnedFd>,
    device: u32,
    mac: Mac,
}

/// Who is asked for, and in whose name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// Whose MAC address is asked for.
    pub target: IpAddr,
    /// An own address of the same family: the answer is for it. The unspecified one leaves no trace at the other end.
    pub source: IpAddr,
}

/// Somebody answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Who.
    pub target: IpAddr,
    /// With this MAC address.
    pub mac: Mac,
    /// So long after the first question.
    pub after: Duration,
}

impl Prober {
    /// For a device by its index. `mac` is its MAC address.
    pub fn open(device: u32, mac: Mac) -> Result<Self> {
        let failed = |source| Error::Kernel { attempted: format!("listen on device {device}"), source };
        // Without a protocol it hears nothing until it is bound: no frame of another device, none unfiltered.
        let socket = packet_socket().map_err(failed)?;
        set_filter(&socket).map_err(failed)?;
        bind(&socket, device).map_err(failed)?;
        Ok(Self { socket: DeferredClose::new(socket), device, mac })
    }

    /// Asks all, again and again (`every`) until each has answered or the time is over. The answers, in the order of
    /// their coming.
    pub fn ask(&self, questions: &[Question], every: Duration, timeout: Duration) -> Result<Vec<Answer>> {
        // What is an answer to an earlier question must not pass for one to this.
        while self.hear()?.is_some() {}
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
            while let Some(heard) = self.hear()? {
                open.retain(|question| {
                    let answered = question.is_answered_by(&heard);
                    if answered {
                        answers.push(Answer { target: heard.target, mac: heard.mac, after: start.elapsed() });
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

    /// Asks one; the answer, if there is one in time.
    pub fn ask_one(&self, question: Question, every: Duration, timeout: Duration) -> Result<Option<Answer>> {
        Ok(self.ask(&[question], every, timeout)?.into_iter().next())
    }

    /// Asks once, for those who wait for other things as well: readable when there may be an answer.
    pub fn send(&self, question: &Question) -> Result<()> {
        let Some(frame) = frames::question(self.mac, question.source, question.target) else {
            return Ok(());
        };
        match send(self.socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT) {
            // A device that is down or without carrier, or a full queue: as if the frame had been lost.
            Ok(_) | Err(Errno::ENETDOWN | Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("ask for a neighbour", errno)),
        }
    }

    /// The next answer that is here already.
    pub fn hear(&self) -> Result<Option<Heard>> {
        let mut buffer = [0; 2048];
        loop {
            match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
                Ok((length, from)) => {
                    let ours = from.is_none_or(|from| from.pkttype() == libc::PACKET_OUTGOING);
                    if let Some(heard) = frames::answer(&buffer[..length]).filter(|_| !ours) {
                        return Ok(Some(heard));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(None),
                // Told once when the device goes down; it may come back.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(errno) => return Err(self.failed("hear a neighbour", errno)),
            }
        }
    }

    fn wait(&self, at_most: Duration) -> Result<()> {
        let at_most = PollTimeout::try_from(at_most.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], at_most) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(self.failed("hear a neighbour", errno)),
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
    /// An answer for somebody else, or for nobody in particular, says nothing of the way to us.
    #[must_use]
    pub fn is_answered_by(&self, heard: &Heard) -> bool {
        heard.target == self.target && heard.asker == self.source
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
    // SAFETY: the descriptor was just made and is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// ARP and neighbour advertisements only: a busy device would bury the answer.
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
    // SAFETY: the program lives until the call returns, which copies it; length and size are its own.
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
    // SAFETY: the address is a living sockaddr_ll of that size, which is only read.
    let outcome = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests;
