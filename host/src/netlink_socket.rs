//! A raw netlink socket: requests in one `sendmsg`, answers matched by sequence number, dumps repeated until whole.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, recv, send, setsockopt, sockopt};

use crate::netlink_format::{
    self, Answer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use crate::{Error, Result};

/// Attempts at a dump that concurrent changes interrupt.
const DUMP_TRIES: usize = 20;
/// The kernel answers before `sendmsg` returns, so an answer that is missing after this will not come.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A caller that drains the socket is not kept for longer by messages that keep coming.
const MOST_DRAINED: usize = 1024;
/// A datagram of a dump is no longer than the buffer it is read with, and 32 KiB unless one object is longer.
const BUFFER: usize = 256 * 1024;

/// A netlink socket of the calling thread's network namespace.
#[derive(Debug)]
pub(crate) struct NetlinkSocket {
    socket: OwnedFd,
    sequence: Cell<u32>,
}

impl NetlinkSocket {
    /// Opens one for a protocol (`NETLINK_ROUTE`...).
    pub(crate) fn open(protocol: i32) -> Result<Self> {
        let failed = |source: io::Error| Error::NetlinkSocket { source };
        let socket = raw_socket(protocol).map_err(failed)?;
        bind(socket.as_raw_fd(), &nix::sys::socket::NetlinkAddr::new(0, 0)).map_err(|e| failed(e.into()))?;
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
            // Kernels before 4.20 lack the last one: their dumps hold more than requested, which the caller filters.
            let _ = set_option(&socket, libc::SOL_NETLINK, option, 1);
        }
        let timeout = nix::sys::time::TimeVal::new(ANSWER_TIMEOUT.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout).map_err(|e| failed(e.into()))?;
        Ok(Self { socket, sequence: Cell::new(1) })
    }

    /// Joins a multicast group.
    pub(crate) fn join(&self, group: i32) -> Result<()> {
        set_option(&self.socket, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
            .map_err(|source| Error::NetlinkSocket { source })
    }

    /// Waits for a multicast message, at most so long (`None`: without limit), and drops those that have arrived, 1024 at
    /// most. True when there was one, or the receive buffer overflowed; more may then be left.
    pub(crate) fn wait_for_event(&self, timeout: Option<Duration>) -> Result<bool> {
        let failed = |errno: Errno| Error::Kernel {
            attempted: "wait for changes of the network".into(),
            source: errno.into(),
        };
        let deadline = timeout.map(|timeout| Instant::now() + timeout);
        loop {
            let left = deadline.map_or(PollTimeout::NONE, |at| {
                let left = at.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                Ok(0) if deadline.is_some_and(|at| Instant::now() >= at) => return Ok(false),
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let mut buffer = [0; 64];
            for _ in 0..MOST_DRAINED {
                // A longer message is cut: only its arrival counts.
                match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                    Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                    Err(Errno::EAGAIN) => return Ok(true),
                    Err(errno) => return Err(failed(errno)),
                }
            }
            return Ok(true);
        }
    }

    /// Reserves `count` sequence numbers and returns the first.
    pub(crate) fn sequences(&self, count: usize) -> u32 {
        let first = self.sequence.get();
        self.sequence.set(first.wrapping_add(count as u32));
        first
    }

    /// Sends all in one `sendmsg`, then reads the acknowledgements of the `count` requests numbered from `first`, each of
    /// which must have NLM_F_ACK. An error when the message before them (the start of a transaction) is refused.
    pub(crate) fn exchange(&self, what: &str, bytes: &[u8], first: u32, count: usize) -> Result<Vec<Answer>> {
        let mut answers = vec![None; count];
        if count == 0 || bytes.is_empty() {
            return Ok(Vec::new());
        }
        let failed =
            |step: &str, source: io::Error| Error::Kernel { attempted: format!("{what} ({step})"), source };
        // An answer takes about 768 bytes of the receive buffer, whatever its length.
        self.raise(libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, bytes.len() + 4096);
        self.raise(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, count * 1024 + 64 * 1024);
        let sent = retry_on_eintr(|| send(self.socket.as_raw_fd(), bytes, MsgFlags::empty()))
            .map_err(|errno| failed("sending", errno.into()))?;
        if sent != bytes.len() {
            return Err(failed("sending", io::ErrorKind::WriteZero.into()));
        }
        let mut buffer = vec![0; 16 * 1024];
        let mut left = count;
        while left > 0 {
            // An acknowledgement without its request is short, so its length needs no peek, ten thousand times.
            let datagram = self.take(&mut buffer).map_err(|source| failed("reading the answers", source))?;
            for message in netlink_format::messages(datagram).filter(|message| message.kind == NLMSG_ERROR) {
                let at = message.sequence.wrapping_sub(first) as usize;
                if message.sequence == first.wrapping_sub(1) && message.answer().errno != 0 {
                    return Err(refusal(what, message.answer()));
                }
                if let Some(slot @ None) = answers.get_mut(at) {
                    *slot = Some(message.answer());
                    left -= 1;
                }
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// Requests a list and passes each of its messages to the closure; `None` tells the closure to discard what it has,
    /// because the list is read again.
    pub(crate) fn dump(
        &self,
        what: &str,
        kind: u16,
        request: &[u8],
        mut each: impl FnMut(Option<netlink_format::Message<'_>>),
    ) -> Result<()> {
        let failed = |source: io::Error| Error::Kernel { attempted: what.to_owned(), source };
        let mut buffer = vec![0; BUFFER];
        for _ in 0..DUMP_TRIES {
            let sequence = self.sequences(1);
            let mut bytes = Vec::new();
            netlink_format::push_message(&mut bytes, kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, |body| {
                body.extend(request);
            });
            retry_on_eintr(|| send(self.socket.as_raw_fd(), &bytes, MsgFlags::empty()))
                .map_err(|errno| failed(errno.into()))?;
            let mut whole = true;
            'dump: loop {
                let datagram = self.receive(&mut buffer).map_err(failed)?;
                for message in
                    netlink_format::messages(datagram).filter(|message| message.sequence == sequence)
                {
                    whole &= message.flags & NLM_F_DUMP_INTR == 0;
                    match message.kind {
                        NLMSG_DONE | NLMSG_ERROR => {
                            let answer = message.answer();
                            match answer.errno {
                                0 => break 'dump,
                                libc::EINTR | libc::EAGAIN => {
                                    whole = false;
                                    break 'dump;
                                }
                                _ => return Err(refusal(what, answer)),
                            }
                        }
                        _ => each(Some(message)),
                    }
                }
            }
            if whole {
                return Ok(());
            }
            each(None);
        }
        Err(failed(io::Error::new(io::ErrorKind::Interrupted, "the list kept changing while it was read")))
    }

    /// One whole datagram; the buffer grows to the length of a longer one first.
    fn receive<'a>(&self, buffer: &'a mut Vec<u8>) -> io::Result<&'a [u8]> {
        let fd = self.socket.as_raw_fd();
        let length = retry_on_eintr(|| recv(fd, buffer, MsgFlags::MSG_TRUNC | MsgFlags::MSG_PEEK))?;
        if length > buffer.len() {
            buffer.resize(length, 0);
        }
        self.take(buffer)
    }

    /// One datagram that fits the buffer.
    fn take<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = retry_on_eintr(|| recv(self.socket.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC))?;
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.get(..length).ok_or_else(|| io::Error::other("a message longer than it was"))
    }

    /// Raises a buffer of the socket; without CAP_NET_ADMIN up to the system's limit.
    fn raise(&self, force: i32, plain: i32, bytes: usize) {
        // The kernel doubles the value and keeps its own overhead in it.
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX / 4).clamp(256 * 1024, i32::MAX / 4);
        if set_option(&self.socket, libc::SOL_SOCKET, force, bytes).is_err() {
            let _ = set_option(&self.socket, libc::SOL_SOCKET, plain, bytes);
        }
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A refusal as an error.
pub(crate) fn refusal(attempted: &str, answer: Answer) -> Error {
    Error::Netlink { attempted: attempted.to_owned(), message: message_of(&answer), errno: answer.errno }
}

/// The text of a refusal: the kernel's extended acknowledgement, if there is one, and errno's.
pub(crate) fn message_of(answer: &Answer) -> String {
    let errno = io::Error::from_raw_os_error(answer.errno).to_string();
    match &answer.message {
        Some(message) => format!("{message} ({errno})"),
        None => errno,
    }
}

fn retry_on_eintr<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            outcome => return outcome,
        }
    }
}

#[allow(unsafe_code, reason = "nix knows only some of netlink's protocols")]
fn raw_socket(protocol: i32) -> io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    let kind = SockType::Raw as i32 | SockFlag::SOCK_CLOEXEC.bits();
    // SAFETY: socket(2) takes three numbers.
    let fd = unsafe { libc::socket(AddressFamily::Netlink as i32, kind, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[allow(unsafe_code, reason = "nix has no name for these options")]
fn set_option(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer and the size are those of a valid i32, which is only read.
    let outcome =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
