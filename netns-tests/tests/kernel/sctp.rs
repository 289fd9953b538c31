//! SCTP through the split, with the kernel's own stack at both ends: its conntrack knows the ports.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netns_tests::lab::{
    address::{Dual, Family},
    cluster::Cluster,
    netns::Namespace,
    process::patience,
};
use nix::sys::{
    socket::{
        AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect, listen,
        setsockopt, socket, sockopt,
    },
    time::{TimeVal, TimeValLike},
};

const PORT: u16 = 9899;

/// A host and two pods of its gateway, each with an association to one server, all at once and at the first try.
pub fn one_server(cluster: &Cluster) -> Result<()> {
    let lab = cluster.lab();
    let internet = lab.world().internet();
    let stop = AtomicBool::new(false);
    for family in Family::ALL {
        let server = serve_at(internet.namespace(), internet.address(), family)?;
        thread::scope(|scope| -> Result<()> {
            scope.spawn(|| echo(&server, &stop));
            let asked = ask_all(cluster, internet.address().port(family, PORT));
            stop.store(true, Ordering::Relaxed);
            asked.with_context(|| format!("SCTP, {family}"))
        })?;
        stop.store(false, Ordering::Relaxed);
    }
    Ok(())
}

fn ask_all(cluster: &Cluster, to: SocketAddr) -> Result<()> {
    let lab = cluster.lab();
    let starts = [
        lab.pod(1, 1)?.namespace(),
        lab.pod(1, 2)?.namespace(),
        lab.node(1)?.namespace(),
        lab.pod(2, 1)?.namespace(),
        lab.node(2)?.namespace(),
    ];
    let mut open = Vec::new();
    for namespace in starts {
        let mut stream = associate(namespace, to)?;
        exchange(&mut stream, namespace)?;
        open.push((stream, namespace));
    }
    // All of them live side by side.
    for (stream, namespace) in &mut open {
        exchange(stream, namespace)?;
    }
    Ok(())
}

fn exchange(stream: &mut TcpStream, namespace: &Namespace) -> Result<()> {
    let said = namespace.name().as_bytes();
    stream.write_all(said).with_context(|| format!("sending from {}", namespace.name()))?;
    let mut back = vec![0; said.len()];
    stream.read_exact(&mut back).with_context(|| format!("an echo to {}", namespace.name()))?;
    ensure!(back == said, "{} got another's echo", namespace.name());
    Ok(())
}

/// One-to-one sockets (sctp(7)) are used like TCP's.
fn open(family: Family) -> Result<std::os::fd::OwnedFd> {
    let kind = if family == Family::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    socket(kind, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp)
        .context("making an SCTP socket")
}

fn associate(namespace: &Namespace, to: SocketAddr) -> Result<TcpStream> {
    let limit = TimeVal::milliseconds(i64::try_from(patience().as_millis())?);
    let socket = namespace.enter(|| open(Family::of(to.ip())))??;
    setsockopt(&socket, sockopt::SendTimeout, &limit)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
        .with_context(|| format!("an association from {} to {to}", namespace.name()))?;
    Ok(TcpStream::from(socket))
}

fn serve_at(namespace: &Namespace, address: Dual, family: Family) -> Result<TcpListener> {
    let socket = namespace.enter(|| open(family))??;
    let at = address.port(family, PORT);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at)).with_context(|| format!("binding to {at}"))?;
    listen(&socket, Backlog::new(16)?)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Echoes what every association says, until told to stop.
fn echo(listener: &TcpListener, stop: &AtomicBool) {
    let mut open: Vec<TcpStream> = Vec::new();
    let mut buffer = [0; 1024];
    while !stop.load(Ordering::Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                open.push(stream);
            }
        }
        open.retain_mut(|stream| match stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => stream.write_all(buffer.get(..length).unwrap_or_default()).is_ok(),
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        thread::sleep(Duration::from_millis(5));
    }
}
