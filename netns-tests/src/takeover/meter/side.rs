//! The two threads of one side: one sends by the clock, one receives and echoes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd as _},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, send as send_to_peer},
};

use super::{
    clock::{Moment, take_precedence},
    ends::{Client, ClientSocket, Server},
    sockets,
};

/// Bytes of one TCP record, and of a UDP or ping payload's front part that matters.
const RECORD: usize = 32;

/// How far behind its clock a sender still makes up for what it missed.
const LATE: Duration = Duration::from_millis(10);

/// What the threads share.
#[derive(Debug)]
pub(super) struct Orders {
    /// Nothing more is sent.
    pub quiet: AtomicBool,
    /// Nothing more is received.
    pub end: AtomicBool,
    /// Per flow: datagrams, or bytes of TCP, that came back.
    pub answers: Vec<AtomicU64>,
    /// Per flow: bytes of TCP written.
    pub requests: Vec<AtomicU64>,
}

/// What the sender of a flow saw.
#[derive(Debug)]
pub(super) struct Sent {
    pub number: usize,
    pub times: Vec<Moment>,
    pub bytes: u64,
    pub died: Option<String>,
}

/// What a receiver of a flow saw: the asking end, or the answering end of TCP.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub number: usize,
    pub answers: Vec<(u32, Moment)>,
    pub bytes: u64,
    pub retransmits: u32,
    pub died: Option<String>,
}

/// What a receiver ends with: what it saw, and its sockets.
pub(super) type End = (Vec<Received>, Vec<Client>, Vec<Server>);

/// Sends requests of all clients, each at its own pace, until told to be quiet.
pub(super) fn send(clients: Vec<Client>, orders: &Orders) -> Vec<Sent> {
    take_precedence();
    let start = Instant::now();
    let mut sent: Vec<Sent> = clients
        .iter()
        .map(|client| Sent { number: client.number, times: Vec::new(), bytes: 0, died: None })
        .collect();
    let mut owed = vec![0_usize; clients.len()];
    let mut next: Vec<Instant> = clients.iter().map(|_| start).collect();
    while !orders.quiet.load(Ordering::Relaxed) {
        let mut now = Instant::now();
        for (((client, sent), owed), next) in clients.iter().zip(&mut sent).zip(&mut owed).zip(&mut next) {
            if *next > now {
                continue;
            }
            // One that was late sends what it missed at once, as a clocked source would have; but not for ever.
            *next += client.pace;
            if now.saturating_duration_since(*next) > LATE {
                *next = now + client.pace;
            }
            request(client, sent, owed, orders);
            now = Instant::now();
        }
        if let Some(soonest) = next.iter().min() {
            thread::sleep(soonest.saturating_duration_since(Instant::now()));
        }
    }
    sent
}

/// Sends one request. A send that fails (no route for a moment) is a lost packet.
fn request(client: &Client, sent: &mut Sent, owed: &mut usize, orders: &Orders) {
    let number = u32::try_from(sent.times.len()).unwrap_or(u32::MAX);
    let at = Moment::now();
    match &client.socket {
        ClientSocket::Udp(socket) => {
            let mut payload = [0; RECORD];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            // A pending ICMP error is reported instead of a send, once.
            if socket.send(&payload).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                drop(socket.send(&payload));
            }
        }
        ClientSocket::Ping(socket) => {
            let frame = sockets::echo_request(client.family, client.number, number);
            let _ = send_to_peer(socket.as_raw_fd(), &frame, MsgFlags::MSG_DONTWAIT);
        }
        ClientSocket::Tcp(stream) => {
            *owed += RECORD;
            match (&mut &*stream).write(&[0x5a; 8192][..(*owed).min(8192)]) {
                Ok(written) => {
                    *owed -= written.min(*owed);
                    sent.bytes += written as u64;
                    if let Some(count) = orders.requests.get(client.number) {
                        count.store(sent.bytes, Ordering::Relaxed);
                    }
                }
                Err(error) if passes(&error) => {}
                Err(error) => sent.died = sent.died.take().or_else(|| Some(format!("writing: {error}"))),
            }
        }
    }
    sent.times.push(at);
}

/// Nothing to read or no room now, or no way there at this moment: TCP goes on by itself, or is told as dead in the end
/// because its bytes never came back.
fn passes(error: &std::io::Error) -> bool {
    use ErrorKind::{HostUnreachable, Interrupted, NetworkUnreachable, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | HostUnreachable | NetworkUnreachable)
}

/// Receives answers and echoes requests until told to end. The sockets are given back: the other side would take their
/// closing for the end of a connection.
pub(super) fn receive(clients: Vec<Client>, mut servers: Vec<Server>, orders: &Orders) -> End {
    take_precedence();
    let mut received: Vec<Received> = clients.iter().map(|client| nothing(client.number)).collect();
    while !orders.end.load(Ordering::Relaxed) {
        for ready in wait(&clients, &servers) {
            if let Some(server) = ready.checked_sub(clients.len()) {
                if let Some(server) = servers.get_mut(server) {
                    echo(server, orders);
                }
            } else if let (Some(client), Some(received)) = (clients.get(ready), received.get_mut(ready)) {
                answers(client, received, orders);
            }
        }
        // What could not be echoed before may go now.
        servers.iter_mut().for_each(settle_debt);
    }
    for (client, received) in clients.iter().zip(&mut received) {
        if let ClientSocket::Tcp(stream) = &client.socket {
            received.retransmits = sockets::retransmits(stream);
        }
    }
    received.extend(servers.iter().filter_map(|server| match server {
        Server::Udp(_) => None,
        Server::Tcp { number, stream, died, .. } => Some(Received {
            retransmits: sockets::retransmits(stream),
            died: died.clone(),
            ..nothing(*number)
        }),
    }));
    (received, clients, servers)
}

fn nothing(number: usize) -> Received {
    Received { number, answers: Vec::new(), bytes: 0, retransmits: 0, died: None }
}

/// Indices of the sockets with something to read: clients first, then servers. Broken connections are left out.
fn wait(clients: &[Client], servers: &[Server]) -> Vec<usize> {
    let asking = clients.iter().map(|client| match &client.socket {
        ClientSocket::Udp(socket) => socket.as_fd(),
        ClientSocket::Ping(socket) => socket.as_fd(),
        ClientSocket::Tcp(stream) => stream.as_fd(),
    });
    let answering = servers.iter().map(|server| match server {
        Server::Udp(socket) => socket.as_fd(),
        Server::Tcp { stream, .. } => stream.as_fd(),
    });
    let mut polled: Vec<PollFd<'_>> =
        asking.chain(answering).map(|socket| PollFd::new(socket, PollFlags::POLLIN)).collect();
    if poll(&mut polled, PollTimeout::from(20_u8)).is_err() {
        return Vec::new();
    }
    let ready = polled.iter().enumerate();
    ready
        .filter(|(_, one)| one.revents().is_some_and(|events| !events.is_empty()))
        .map(|(index, _)| index)
        .collect()
}

/// Takes all answers that lie in a client's socket.
fn answers(client: &Client, received: &mut Received, orders: &Orders) {
    let count = |number: u64| {
        if let Some(count) = orders.answers.get(client.number) {
            count.fetch_add(number, Ordering::Relaxed);
        }
    };
    match &client.socket {
        ClientSocket::Udp(socket) => {
            while let Some((bytes, at)) = sockets::stamped(socket) {
                if let Some(number) = bytes.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)) {
                    received.answers.push((number, at));
                    count(1);
                }
            }
        }
        ClientSocket::Ping(socket) => {
            while let Some((bytes, at)) = sockets::stamped(socket) {
                if let Some(number) = sockets::echo_reply(client.family, client.number, &bytes) {
                    received.answers.push((number, at));
                    count(1);
                }
            }
        }
        ClientSocket::Tcp(stream) => {
            let mut buffer = [0; 8192];
            match (&mut &*stream).read(&mut buffer) {
                // The other side may have seen the order to end first, and gone.
                Ok(0) | Err(_) if orders.end.load(Ordering::Relaxed) => {}
                Ok(0) => {
                    received.died = Some("the far end closed it".to_owned());
                    thread::sleep(Duration::from_micros(200));
                }
                Ok(length) => {
                    received.bytes += length as u64;
                    received.answers.push((0, Moment::now()));
                    count(length as u64);
                }
                Err(error) if passes(&error) => {}
                Err(error) => {
                    received.died = Some(format!("reading: {error}"));
                    thread::sleep(Duration::from_micros(200));
                }
            }
        }
    }
}

/// Echoes what lies in a server's socket.
fn echo(server: &mut Server, orders: &Orders) {
    match server {
        Server::Udp(socket) => {
            let mut buffer = [0; 512];
            loop {
                match socket.recv_from(&mut buffer) {
                    Ok((length, from)) => answer(socket, buffer.get(..length).unwrap_or_default(), from),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
        Server::Tcp { stream, owed, died, .. } => {
            let mut buffer = [0; 8192];
            match stream.read(&mut buffer) {
                Ok(0) => thread::sleep(Duration::from_micros(200)),
                Ok(length) => *owed += length,
                Err(error) if passes(&error) => {}
                Err(_) if orders.end.load(Ordering::Relaxed) => {}
                Err(error) => {
                    *died = Some(format!("the answering end, reading: {error}"));
                    thread::sleep(Duration::from_micros(200));
                }
            }
            settle_debt(server);
        }
    }
}

fn answer(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    drop(socket.send_to(bytes, to));
}

/// Writes back what a TCP server owes.
fn settle_debt(server: &mut Server) {
    let Server::Tcp { stream, owed, .. } = server else { return };
    while *owed > 0 {
        match stream.write(&[0xa5; 8192][..(*owed).min(8192)]) {
            Ok(written) if written > 0 => *owed -= written.min(*owed),
            _ => break,
        }
    }
}
