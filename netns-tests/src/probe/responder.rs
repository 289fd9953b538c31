//! Servers that answer with their own name, so that a test knows who was reached.

use std::{
    io::{ErrorKind, IoSlice, IoSliceMut, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    cmsg_space,
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
        SockaddrStorage, bind, listen, recvmsg, sendmsg, setsockopt, socket, sockopt,
    },
    unistd::pipe2,
};

use crate::lab::{netns::Namespace, service::Protocol};

/// What a responder listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Address and port; the unspecified address means all of its family.
    pub at: SocketAddr,
}

impl Listen {
    /// TCP and UDP, IPv4 and IPv6, all addresses.
    pub fn everywhere(port: u16) -> Vec<Self> {
        let any: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self::at(any, port)
    }

    /// TCP and UDP at these addresses.
    pub fn at(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Vec<Self> {
        let both =
            |address| Protocol::ALL.map(|protocol| Self { protocol, at: SocketAddr::new(address, port) });
        addresses.into_iter().flat_map(both).collect()
    }
}

/// A server: greets every TCP connection and every datagram with `NAME CLIENT\n`, then echoes. Ends when dropped.
#[derive(Debug)]
pub struct Responder {
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    waker: Option<OwnedFd>,
}

#[derive(Debug)]
enum Server {
    Tcp(TcpListener),
    Udp(UdpSocket),
}

impl Responder {
    /// Starts a server inside a namespace; it listens when this returns.
    pub fn start(namespace: &Namespace, name: &str, listens: &[Listen]) -> Result<Self> {
        let servers = namespace
            .enter(|| listens.iter().copied().map(open).collect::<Result<Vec<_>>>())?
            .with_context(|| format!("starting the server {name} in {}", namespace.name()))?;
        // Programs started later must not hold the end whose closing is the event.
        let (quit, waker) = pipe2(OFlag::O_CLOEXEC).context("making a pipe")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (name, flag) = (name.to_owned(), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name(format!("server {name}"))
            .spawn(move || serve(&name, &servers, &quit, &flag))
            .context("starting a thread")?;
        Ok(Self { thread: Some(thread), stop, waker: Some(waker) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Closing the pipe is an event for poll.
        self.waker = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open(wanted: Listen) -> Result<Server> {
    let family = if wanted.at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let kind = match wanted.protocol {
        Protocol::Tcp => SockType::Stream,
        Protocol::Udp => SockType::Datagram,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, kind, flags, None).context("making a socket")?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if wanted.at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(wanted.at))
        .with_context(|| format!("binding to {}", wanted.at))?;
    match wanted.protocol {
        Protocol::Tcp => {
            listen(&socket, Backlog::new(1024)?)?;
            Ok(Server::Tcp(TcpListener::from(socket)))
        }
        Protocol::Udp => {
            // A server on all addresses must answer from the one that was asked.
            if wanted.at.is_ipv4() {
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            } else {
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
            Ok(Server::Udp(UdpSocket::from(socket)))
        }
    }
}

fn serve(name: &str, servers: &[Server], quit: &OwnedFd, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let mut wanted: Vec<PollFd<'_>> = servers
            .iter()
            .map(|server| match server {
                Server::Tcp(listener) => listener.as_fd(),
                Server::Udp(socket) => socket.as_fd(),
            })
            .chain([quit.as_fd()])
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut wanted, PollTimeout::NONE).is_err() {
            continue;
        }
        let ready: Vec<bool> =
            wanted.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
        for (server, _) in servers.iter().zip(ready).filter(|(_, ready)| *ready) {
            match server {
                Server::Tcp(listener) => {
                    while let Ok((stream, peer)) = listener.accept() {
                        let (name, stop) = (name.to_owned(), Arc::clone(stop));
                        std::thread::spawn(move || drop(converse(&name, stream, peer, &stop)));
                    }
                }
                // A client that went away answers with an ICMP error; the server goes on.
                Server::Udp(socket) => while answer_datagram(name, socket).is_ok() {},
            }
        }
    }
}

fn converse(name: &str, mut stream: TcpStream, peer: SocketAddr, stop: &AtomicBool) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_millis(250)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(format!("{name} {peer}\n").as_bytes())?;
    let mut buffer = vec![0; 65536];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => stream.write_all(buffer.get(..length).unwrap_or_default())?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error).context("reading"),
        }
    }
    Ok(())
}

fn answer_datagram(name: &str, socket: &UdpSocket) -> Result<()> {
    let mut buffer = vec![0; 65535];
    let mut space = cmsg_space!(libc::in6_pktinfo, libc::in_pktinfo);
    let (length, peer, asked) = {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        let received = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let asked = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Ipv4PacketInfo(info) => Some(Asked::V4(info)),
            ControlMessageOwned::Ipv6PacketInfo(info) => Some(Asked::V6(info)),
            _ => None,
        });
        (received.bytes, received.address.ok_or_else(|| anyhow!("a datagram from nowhere"))?, asked)
    };
    let greeting = format!("{name} {peer}\n");
    let payload = buffer.get(..length).unwrap_or_default();
    let slices = [IoSlice::new(greeting.as_bytes()), IoSlice::new(payload)];
    let flags = MsgFlags::empty();
    let socket = socket.as_raw_fd();
    match asked {
        Some(Asked::V4(mut info)) => {
            // The route decides on the device, the asked address is the source (ip(7), IP_PKTINFO).
            info.ipi_ifindex = 0;
            info.ipi_spec_dst = info.ipi_addr;
            sendmsg(socket, &slices, &[ControlMessage::Ipv4PacketInfo(&info)], flags, Some(&peer))?;
        }
        Some(Asked::V6(mut info)) => {
            info.ipi6_ifindex = 0;
            sendmsg(socket, &slices, &[ControlMessage::Ipv6PacketInfo(&info)], flags, Some(&peer))?;
        }
        None => {
            sendmsg(socket, &slices, &[], flags, Some(&peer))?;
        }
    }
    Ok(())
}

/// The address a datagram was sent to.
enum Asked {
    V4(libc::in_pktinfo),
    V6(libc::in6_pktinfo),
}
