//! The four ways of talking. Each runs in a thread that lives in the client's namespace, until it is told to stop.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, ErrorKind, Read, Result, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::meter::Meter;

/// Between two messages of a session, two datagrams.
const PACE: Duration = Duration::from_millis(10);
/// Between two connections.
const CONNECTION_PACE: Duration = Duration::from_millis(100);
/// What is not answered in this time counts as lost.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long TCP may take to bring one message of a session through.
const SESSION_PATIENCE: Duration = Duration::from_secs(15);
/// How often a waiting thread looks whether it should end.
const GLANCE: Duration = Duration::from_millis(100);

/// One TCP connection with small messages back and forth, as SSH has. One that dies is counted, and opened again.
pub fn session(to: SocketAddr, meter: &Meter, stop: &AtomicBool) {
    let mut opened = false;
    while !stop.load(Ordering::Relaxed) {
        let outcome = connect(to).and_then(|(stream, name)| {
            if opened {
                meter.reopened();
            }
            opened = true;
            converse(stream, &name, meter, stop)
        });
        if let Err(error) = outcome {
            if opened && !stop.load(Ordering::Relaxed) {
                meter.died(error.to_string());
            }
            std::thread::sleep(GLANCE);
        }
    }
}

/// Messages until told to stop; an error when the session dies.
fn converse(mut stream: BufReader<TcpStream>, name: &str, meter: &Meter, stop: &AtomicBool) -> Result<()> {
    stream.get_ref().set_read_timeout(Some(GLANCE))?;
    let mut count = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let message = count.to_be_bytes();
        count += 1;
        meter.sent();
        stream.get_mut().write_all(&message)?;
        match read_message(&mut stream, stop)? {
            Some(back) if back == message => meter.answered(name),
            Some(_) => meter.garbled(),
            None => break,
        }
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// Eight bytes, or nothing when told to stop meanwhile.
fn read_message(stream: &mut impl Read, stop: &AtomicBool) -> Result<Option<[u8; 8]>> {
    let begun = Instant::now();
    let mut message = [0; 8];
    let mut filled = 0;
    while let Some(rest) = message.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => filled += length,
            Err(error) if is_timeout(&error) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if begun.elapsed() > SESSION_PATIENCE {
                    return Err(ErrorKind::TimedOut.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Some(message))
}

/// A new TCP connection each time, greeted by name.
pub fn connections(to: SocketAddr, meter: &Meter, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        meter.sent();
        match connect(to) {
            Ok((_, name)) => meter.answered(&name),
            Err(_) => meter.lost(),
        }
        std::thread::sleep(CONNECTION_PACE);
    }
}

/// A connection, and the name of who answered it.
fn connect(to: SocketAddr) -> Result<(BufReader<TcpStream>, String)> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let name = line.split_whitespace().next().ok_or(ErrorKind::UnexpectedEof)?;
    Ok((reader, name.to_owned()))
}

/// Numbered datagrams, each echoed behind the server's name.
pub fn datagrams(to: SocketAddr, meter: &Meter, stop: &AtomicBool) {
    let mut waiting = Waiting::default();
    let mut next = Instant::now();
    // A route may be away for a moment; then the socket cannot be made, and the datagram is as good as lost.
    let mut socket = datagram_socket(to);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            meter.sent();
            let number = waiting.put(now);
            match &socket {
                Ok(socket) => drop(socket.send(&number.to_be_bytes())),
                Err(_) => socket = datagram_socket(to),
            }
            next = (next + PACE).max(now);
        }
        waiting.give_up(now, meter);
        let pause = next.saturating_duration_since(now).max(Duration::from_micros(100));
        match &socket {
            Ok(socket) => listen(socket, pause, &mut waiting, meter),
            Err(_) => std::thread::sleep(pause),
        }
    }
    // What is under way may still arrive.
    let end = Instant::now() + PATIENCE;
    while let (Ok(socket), false) = (&socket, waiting.is_empty() || Instant::now() > end) {
        listen(socket, GLANCE, &mut waiting, meter);
    }
    waiting.give_up(Instant::now() + PATIENCE, meter);
}

/// Echo requests, by an ICMP socket (icmp(7)): the kernel gives identifier and checksum, and takes only our answers.
/// `name` is who is asked, for an echo reply says no name. The port of `to` means nothing.
pub fn pings(to: SocketAddr, name: &str, meter: &Meter, stop: &AtomicBool) {
    let (kind, answer) = if to.is_ipv4() { (8, 0) } else { (128, 129) };
    let mut waiting = Waiting::default();
    let mut next = Instant::now();
    let mut socket = ping_socket(to);
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        if now >= next {
            meter.sent();
            let number = waiting.put(now);
            let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
            message.extend(number.to_be_bytes());
            match &socket {
                Ok(socket) => drop(socket.send(&message)),
                Err(_) => socket = ping_socket(to),
            }
            next = (next + PACE).max(now);
        }
        waiting.give_up(now, meter);
        let pause = next.saturating_duration_since(now).max(Duration::from_micros(100));
        let Ok(socket) = &socket else {
            std::thread::sleep(pause);
            continue;
        };
        let mut buffer = [0; 64];
        drop(socket.set_read_timeout(Some(pause)));
        // Errors: nothing came in time, or an ICMP error, which is reported once.
        if let Ok(length) = socket.recv(&mut buffer) {
            let number = buffer.get(8..length).and_then(|rest| rest.try_into().ok()).map(u64::from_be_bytes);
            match number.filter(|_| buffer[0] == answer) {
                Some(number) => waiting.take(number, name, meter),
                None => meter.garbled(),
            }
        }
    }
    waiting.give_up(Instant::now() + PATIENCE, meter);
}

/// An ICMP socket works as a datagram socket does once it is connected.
fn ping_socket(to: SocketAddr) -> Result<UdpSocket> {
    let (family, protocol) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
    let socket = UdpSocket::from(socket);
    socket.connect(to)?;
    Ok(socket)
}

fn datagram_socket(to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    Ok(socket)
}

/// Waits for one answer.
fn listen(socket: &UdpSocket, length: Duration, waiting: &mut Waiting, meter: &Meter) {
    let mut buffer = [0; 512];
    drop(socket.set_read_timeout(Some(length)));
    // Errors: nothing came in time, or an ICMP error, which is reported once.
    if let Ok(length) = socket.recv(&mut buffer) {
        match buffer.get(..length).and_then(read_answer) {
            Some((name, number)) => waiting.take(number, &name, meter),
            None => meter.garbled(),
        }
    }
}

/// The server's name, and the number behind its line.
fn read_answer(answer: &[u8]) -> Option<(String, u64)> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = (answer.get(..end)?, answer.get(end + 1..)?);
    let name = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
    Some((name.to_owned(), u64::from_be_bytes(rest.try_into().ok()?)))
}

/// Datagrams that were sent and have not come back.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    young: VecDeque<(u64, Instant)>,
    /// Given up; one that comes after all is taken back.
    old: Vec<u64>,
}

impl Waiting {
    fn put(&mut self, now: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.young.push_back((number, now));
        number
    }

    fn take(&mut self, number: u64, name: &str, meter: &Meter) {
        if let Some(index) = self.young.iter().position(|(young, _)| *young == number) {
            self.young.remove(index);
            meter.answered(name);
        } else if let Some(index) = self.old.iter().position(|old| *old == number) {
            self.old.swap_remove(index);
            meter.found();
            meter.answered(name);
        }
    }

    fn give_up(&mut self, now: Instant, meter: &Meter) {
        while let Some((number, _)) =
            self.young.pop_front_if(|(_, sent)| now.duration_since(*sent) >= PATIENCE)
        {
            self.old.push(number);
            meter.lost();
        }
    }

    fn is_empty(&self) -> bool {
        self.young.is_empty()
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::meter::Owner;

    #[test]
    fn a_late_answer_is_not_lost() {
        let meter = Meter::new(Owner::Management, "a way", "node1");
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        let numbers: Vec<u64> = (0..3).map(|_| waiting.put(now)).collect();
        assert_eq!(numbers, [0, 1, 2]);
        waiting.take(1, "node1", &meter);
        waiting.give_up(now + PATIENCE, &meter);
        assert_eq!(meter.read().lost, 2);
        waiting.take(0, "node1", &meter);
        waiting.take(0, "node1", &meter);
        let reading = meter.read();
        assert_eq!((reading.lost, reading.answered), (1, 2));
    }

    #[test]
    fn an_answer_is_a_name_and_a_number() {
        let mut answer = b"pod11 203.0.113.10:40000\n".to_vec();
        answer.extend(7_u64.to_be_bytes());
        assert_eq!(read_answer(&answer), Some(("pod11".to_owned(), 7)));
        assert_eq!(read_answer(b"pod11"), None);
        assert_eq!(read_answer(b"\n12345678"), None);
    }
}
