//! Sessions and streams that are held while something happens, and say afterwards what they saw.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use super::request::Request;
use crate::lab::{
    machine::scaled,
    netns::Namespace,
    process::{patience, wait_until},
};

/// An SSH-like TCP session: one connection, small messages back and forth at a pace.
#[derive(Debug)]
pub struct Session {
    seen_as: SocketAddr,
    stop: Arc<AtomicBool>,
    echoed: Arc<AtomicU64>,
    thread: JoinHandle<SessionReport>,
}

/// What a session saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// Messages that came back.
    pub echoed: u64,
    /// The longest time a message took to come back.
    pub longest: Duration,
    /// Why it ended before it was asked to; none when it lived.
    pub died: Option<String>,
}

impl Session {
    /// Opens a session to a [`super::Responder`].
    pub fn open(namespace: &Namespace, request: &Request, pace: Duration) -> Result<Self> {
        let mut stream =
            request.connect(namespace).with_context(|| format!("opening a session to {}", request.to))?;
        // TCP itself gives up much later; a session that stalls this long counts as dead.
        stream.set_read_timeout(Some(patience()))?;
        let greeting = read_line(&mut stream).context("waiting for the greeting of a session")?;
        let seen_as = greeting.split_whitespace().nth(1).and_then(|peer| peer.parse().ok());
        let seen_as = seen_as.with_context(|| format!("a greeting of another kind: {greeting:?}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let echoed = Arc::new(AtomicU64::new(0));
        let (flag, count) = (Arc::clone(&stop), Arc::clone(&echoed));
        let thread = std::thread::spawn(move || converse(stream, pace, &flag, &count));
        Ok(Self { seen_as, stop, echoed, thread })
    }

    /// Waits until so many more messages came back, or the session died, which [`Session::finish`] reports.
    pub fn wait_for_messages(&self, count: u64) -> Result<()> {
        let target = self.echoed.load(Ordering::Relaxed) + count;
        wait_until("messages of a session", || {
            Ok(self.echoed.load(Ordering::Relaxed) >= target || self.thread.is_finished())
        })
    }

    /// The client's address as the server saw it.
    pub fn seen_as(&self) -> SocketAddr {
        self.seen_as
    }

    /// Asks the session to end after its current message, and does not wait.
    pub fn wind_down(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the session after its current message.
    pub fn finish(self) -> Result<SessionReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a session's thread broke"))
    }
}

fn read_line(stream: &mut TcpStream) -> Result<String> {
    // Byte by byte: what follows the line is not ours to read.
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte)?;
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn converse(mut stream: TcpStream, pace: Duration, stop: &AtomicBool, echoed: &AtomicU64) -> SessionReport {
    let mut report = SessionReport::default();
    while !stop.load(Ordering::Relaxed) {
        let start = Instant::now();
        let message = report.echoed.to_be_bytes();
        let mut back = [0; 8];
        let exchanged = stream.write_all(&message).and_then(|()| stream.read_exact(&mut back));
        report.longest = report.longest.max(start.elapsed());
        match exchanged {
            Ok(()) if back == message => {
                report.echoed += 1;
                echoed.store(report.echoed, Ordering::Relaxed);
            }
            Ok(()) => {
                report.died = Some(format!("message {} came back as another", report.echoed));
                break;
            }
            Err(error) => {
                report.died = Some(format!("after {} messages: {error}", report.echoed));
                break;
            }
        }
        std::thread::sleep(pace);
    }
    report
}

/// A stream of numbered datagrams that are echoed.
#[derive(Debug)]
pub struct Stream {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<StreamReport>,
}

/// What a stream saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that never came back.
    pub lost: u64,
    /// The longest row of datagrams lost one after the other.
    pub row: u64,
    /// Datagrams that came back more than once.
    pub doubled: u64,
}

impl Stream {
    /// Starts a stream to a [`super::Responder`], a datagram every `pace`.
    pub fn open(namespace: &Namespace, request: &Request, pace: Duration) -> Result<Self> {
        let socket =
            request.datagrams(namespace).with_context(|| format!("opening a stream to {}", request.to))?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut seen: Vec<u32> = Vec::new();
            let mut buffer = [0; 512];
            let mut next = Instant::now();
            let mut end = None;
            loop {
                let now = Instant::now();
                if end.is_none() && flag.load(Ordering::Relaxed) {
                    // What is under way may still arrive.
                    end = Some(now + scaled(Duration::from_millis(500)));
                }
                if end.is_some_and(|end| now >= end) {
                    break;
                }
                if end.is_none() && now >= next {
                    // A send that fails (no route for a moment, an ICMP error) is a lost datagram.
                    drop(socket.send(&(seen.len() as u64).to_be_bytes()));
                    seen.push(0);
                    next = (next + pace).max(now);
                }
                let wait = if end.is_some() { pace } else { next.saturating_duration_since(now) };
                drop(socket.set_read_timeout(Some(wait.max(Duration::from_micros(100)))));
                match socket.recv(&mut buffer) {
                    Ok(length) => {
                        if let Some(count) =
                            number(buffer.get(..length).unwrap_or_default()).and_then(|n| seen.get_mut(n))
                        {
                            *count += 1;
                        }
                    }
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                    // A pending ICMP error is reported once.
                    Err(_) => {}
                }
            }
            StreamReport {
                sent: seen.len() as u64,
                lost: seen.iter().filter(|count| **count == 0).count() as u64,
                row: longest_row(&seen),
                doubled: seen.iter().filter(|count| **count > 1).count() as u64,
            }
        });
        Ok(Self { stop, thread })
    }

    /// Asks the stream to end, and does not wait.
    pub fn wind_down(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Ends the stream, waits for what is under way, and counts.
    pub fn finish(self) -> Result<StreamReport> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("a stream's thread broke"))
    }
}

/// The longest row of zeros.
fn longest_row(seen: &[u32]) -> u64 {
    let (longest, _) = seen.iter().fold((0, 0), |(longest, row), count| {
        let row = if *count == 0 { row + 1 } else { 0 };
        (u64::max(longest, row), row)
    });
    longest
}

/// The number behind the greeting's line.
fn number(answer: &[u8]) -> Option<usize> {
    let line = answer.iter().position(|byte| *byte == b'\n')?;
    let bytes: [u8; 8] = answer.get(line + 1..)?.try_into().ok()?;
    usize::try_from(u64::from_be_bytes(bytes)).ok()
}
