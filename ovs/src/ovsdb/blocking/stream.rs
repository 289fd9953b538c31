//! A byte stream that is read and written until a deadline.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::ovsdb::{Error, Remote};

/// Room made for each read.
const READ_SIZE: usize = 64 * 1024;
/// How often a socket whose queue is full is tried again (its server does not accept).
const RETRY: Duration = Duration::from_millis(2);

/// A connection whose descriptor never blocks.
#[derive(Debug)]
pub(super) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// Why nothing more comes or goes.
#[derive(Debug)]
pub(super) enum Cut {
    /// Not by the deadline.
    Late,
    /// The peer has gone.
    Closed,
    /// Something else.
    Io(io::Error),
}

impl Stream {
    /// Connects by the deadline. The descriptor goes to no child process.
    pub(super) fn connect(remote: &Remote, deadline: Instant) -> Result<Self, Error> {
        let failed = |source| Error::Connect { remote: remote.clone(), source };
        match remote {
            Remote::Unix(path) => unix(path, deadline).map(Stream::Unix).map_err(failed),
            Remote::Tcp(endpoint) => {
                let name = (endpoint.host.as_str(), endpoint.port);
                let addresses: Vec<SocketAddr> = name.to_socket_addrs().map_err(failed)?.collect();
                tcp(&addresses, deadline).map(Stream::Tcp).map_err(failed)
            }
            Remote::Ssl(_) => {
                let reason = "there is no TLS on the way to the node's own switch";
                Err(Error::BadRemote { text: remote.to_string(), reason })
            }
        }
    }

    /// Reads what is there, waiting for it until the deadline.
    pub(super) fn read(&mut self, buffer: &mut BytesMut, deadline: Instant) -> Result<(), Cut> {
        buffer.reserve(READ_SIZE);
        let mut bytes = [0_u8; 16 * 1024];
        loop {
            let read = match self {
                Stream::Unix(stream) => stream.read(&mut bytes),
                Stream::Tcp(stream) => stream.read(&mut bytes),
            };
            match read {
                Ok(0) => return Err(Cut::Closed),
                Ok(length) => {
                    buffer.put_slice(bytes.get(..length).unwrap_or_default());
                    return Ok(());
                }
                Err(error) => self.wait_after(error, PollFlags::POLLIN, deadline)?,
            }
        }
    }

    /// Writes all of it by the deadline.
    pub(super) fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), Cut> {
        while !bytes.is_empty() {
            // Of a closed pipe std gives an error, no signal: MSG_NOSIGNAL.
            let written = match self {
                Stream::Unix(stream) => stream.write(bytes),
                Stream::Tcp(stream) => stream.write(bytes),
            };
            match written {
                Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
                Err(error) => self.wait_after(error, PollFlags::POLLOUT, deadline)?,
            }
        }
        Ok(())
    }

    /// Waits after an attempt that would block; any other error is returned.
    fn wait_after(&self, error: io::Error, wanted: PollFlags, deadline: Instant) -> Result<(), Cut> {
        match error.kind() {
            io::ErrorKind::WouldBlock => match poll_until(self.descriptor(), wanted, deadline) {
                Ok(true) => Ok(()),
                Ok(false) => Err(Cut::Late),
                Err(error) => Err(Cut::Io(error)),
            },
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Err(Cut::Closed),
            _ => Err(Cut::Io(error)),
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match self {
            Stream::Unix(stream) => stream.as_fd(),
            Stream::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// Whether the descriptor became ready by the deadline.
fn poll_until(descriptor: BorrowedFd<'_>, wanted: PollFlags, deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a poll that ends early would spin through the last millisecond.
        let millis = left.as_micros().div_ceil(1000).min(i32::MAX as u128);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor, wanted)], timeout) {
            Ok(0) if Instant::now() >= deadline => return Ok(false),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A server that is stopped with its queue full would make a blocking connect(2) wait for ever (unix(7)).
fn unix(path: &Path, deadline: Instant) -> io::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let address = UnixAddr::new(path)?;
    loop {
        match connect(made.as_raw_fd(), &address) {
            Ok(()) => return Ok(made.into()),
            Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(RETRY),
            Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn tcp(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(address, left) {
            Ok(stream) => {
                stream.set_nonblocking(true)?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
