//! One question: connect or send, and read who answered.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
    },
};

use crate::lab::{machine::scaled, netns::Namespace, service::Protocol};

/// A question to a [`super::Responder`].
#[derive(Debug, Clone)]
pub struct Request {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Whom to ask.
    pub to: SocketAddr,
    /// The source to bind to; a free one when none is given.
    pub from: Option<SocketAddr>,
    /// How many bytes to have echoed behind the question.
    pub bytes: usize,
    /// How long to wait for the answer.
    pub patience: Duration,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The name of the server that answered.
    pub name: String,
    /// The client's address as the server saw it.
    pub seen_as: SocketAddr,
    /// The client's address as the client sees it.
    pub local: SocketAddr,
}

impl Request {
    /// A TCP question.
    pub fn tcp(to: SocketAddr) -> Self {
        Self::new(Protocol::Tcp, to)
    }

    /// A UDP question. It is sent once.
    pub fn udp(to: SocketAddr) -> Self {
        Self::new(Protocol::Udp, to)
    }

    /// A question by `protocol`.
    pub fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Self { protocol, to, from: None, bytes: 0, patience: scaled(Duration::from_secs(3)) }
    }

    /// The same from this address and port (0: any).
    pub fn from(mut self, source: SocketAddr) -> Self {
        self.from = Some(source);
        self
    }

    /// The same with so many bytes to be echoed.
    pub fn echo(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// The same with another patience (longer where `LAB_SLOWNESS` says so).
    pub fn within(mut self, patience: Duration) -> Self {
        self.patience = scaled(patience);
        self
    }

    /// Asks from inside a namespace.
    pub fn send(&self, namespace: &Namespace) -> Result<Answer> {
        match self.protocol {
            Protocol::Tcp => self.send_tcp(namespace),
            Protocol::Udp => self.send_udp(namespace),
        }
        .with_context(|| format!("{} to {} from {}", self.protocol.name(), self.to, namespace.name()))
    }

    /// Opens a TCP connection and leaves it open.
    pub fn connect(&self, namespace: &Namespace) -> Result<TcpStream> {
        let socket = self.socket(namespace, SockType::Stream)?;
        match connect_to(&socket, self.to) {
            Ok(()) => {}
            Err(Errno::EINPROGRESS) => {
                let limit =
                    PollTimeout::try_from(self.patience).map_err(|_| anyhow!("a patience too long"))?;
                if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], limit)? == 0 {
                    bail!("no answer to the connection attempt within {:?}", self.patience);
                }
            }
            Err(error) => return Err(error).context("connecting"),
        }
        let stream = TcpStream::from(socket);
        if let Some(error) = stream.take_error()? {
            return Err(error).context("connecting");
        }
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.patience))?;
        stream.set_write_timeout(Some(self.patience))?;
        Ok(stream)
    }

    fn send_tcp(&self, namespace: &Namespace) -> Result<Answer> {
        let stream = self.connect(namespace)?;
        let local = stream.local_addr()?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let answer = read_greeting(&mut reader, local)?;
        if self.bytes > 0 {
            let payload = pattern(self.bytes);
            let (mut writer, sent) = (stream.try_clone()?, payload.clone());
            let feeder = std::thread::spawn(move || writer.write_all(&sent));
            let mut back = vec![0; self.bytes];
            let read = reader.read_exact(&mut back);
            // The peer's reset or our own end lets a blocked writer go.
            if read.is_err() {
                drop(stream.shutdown(std::net::Shutdown::Both));
            }
            feeder.join().map_err(|_| anyhow!("the writer broke"))?.context("sending")?;
            read.context("reading the echo")?;
            if back != payload {
                bail!("the echo differs from what was sent");
            }
        }
        Ok(answer)
    }

    fn send_udp(&self, namespace: &Namespace) -> Result<Answer> {
        let socket = self.datagrams(namespace)?;
        let local = socket.local_addr()?;
        let payload = pattern(self.bytes);
        socket.send(&payload).context("sending")?;
        let mut buffer = vec![0; 65535];
        let length = socket.recv(&mut buffer).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => anyhow!("no answer within {:?}", self.patience),
            _ => anyhow!(error).context("receiving"),
        })?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        let answer = read_greeting(&mut rest, local)?;
        if rest != payload {
            bail!("the echo differs from what was sent");
        }
        Ok(answer)
    }

    /// A UDP socket connected to the server.
    pub(super) fn datagrams(&self, namespace: &Namespace) -> Result<UdpSocket> {
        let socket = self.socket(namespace, SockType::Datagram)?;
        connect_to(&socket, self.to).context("connecting")?;
        let socket = UdpSocket::from(socket);
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(self.patience))?;
        Ok(socket)
    }

    fn socket(&self, namespace: &Namespace, kind: SockType) -> Result<OwnedFd> {
        let family = if self.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        namespace.enter(|| -> Result<OwnedFd> {
            let socket = socket(family, kind, flags, None).context("making a socket")?;
            if let Some(source) = self.from {
                setsockopt(&socket, sockopt::ReuseAddr, &true)?;
                bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(source))
                    .with_context(|| format!("binding to {source}"))?;
            }
            Ok(socket)
        })?
    }
}

fn connect_to(socket: &OwnedFd, to: SocketAddr) -> nix::Result<()> {
    connect(std::os::fd::AsRawFd::as_raw_fd(socket), &SockaddrStorage::from(to))
}

/// The first line of every answer: the server's name and the client as it saw it.
fn read_greeting(reader: &mut impl BufRead, local: SocketAddr) -> Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => anyhow!("connected, but nothing was said"),
        _ => anyhow!(error).context("reading the answer"),
    })?;
    let (name, peer) =
        line.trim().split_once(' ').with_context(|| format!("an answer of another kind: {line:?}"))?;
    let seen_as = peer.parse().with_context(|| format!("an answer of another kind: {line:?}"))?;
    Ok(Answer { name: name.to_owned(), seen_as, local })
}

/// Bytes in which a piece that is missing, moved or doubled shows.
fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| u8::try_from(index % 251).unwrap_or(0)).collect()
}
