//! The three destinations. Nothing here fails towards its caller, and nothing here waits for long: what cannot be
//! written is counted and forgotten.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};

use super::format::{Pattern, Record};
use super::levels::{Destination, PerDestination};

/// Lines that may wait for a slow disk.
const QUEUE: usize = 4096;

/// A pipe that polls writable takes this many bytes without blocking (pipe(7), PIPE_BUF).
const CONSOLE_LINE: usize = 4096;

/// Longer messages are cut: one line must not fill a disk or a datagram.
const MAX_LINE: usize = 32 << 10;

/// The facility of syslog messages (RFC 5424, table 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facility(u8);

/// By number; the names are those of ovs-appctl(8).
const FACILITIES: [&str; 24] = [
    "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "clock", "authpriv", "ftp",
    "ntp", "audit", "alert", "clock2", "local0", "local1", "local2", "local3", "local4", "local5", "local6",
    "local7",
];

impl Facility {
    /// Daemons.
    pub(super) const DAEMON: Self = Self(3);

    pub(super) fn parse(name: &str) -> Option<Self> {
        let at = FACILITIES.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        u8::try_from(at).ok().map(Self)
    }
}

/// The destinations of one process.
#[derive(Debug)]
pub(super) struct Sinks {
    program: String,
    patterns: RwLock<[Pattern; 3]>,
    facility: AtomicU8,
    syslog: Option<UnixDatagram>,
    remote: Option<(UdpSocket, SocketAddr, Pattern)>,
    file: Arc<Mutex<LogFile>>,
    queue: OnceLock<SyncSender<Job>>,
    lost: Arc<AtomicU64>,
    started: Instant,
}

/// The log file: named while closed, so that it can be opened again.
#[derive(Debug, Default)]
struct LogFile {
    path: Option<PathBuf>,
    open: Option<File>,
    /// The disk took only a part of the last line.
    torn: bool,
}

enum Job {
    Line(String),
    Flush(SyncSender<()>),
}

/// A line before its layout.
pub(super) struct Event<'a> {
    pub(super) module: &'a str,
    pub(super) level: super::Level,
    pub(super) message: &'a str,
    pub(super) sequence: u64,
}

impl Sinks {
    pub(super) fn new(program: &str, remote: Option<SocketAddr>) -> Self {
        // These texts are known to be patterns; a test holds it.
        let pattern = |text| Pattern::parse(text).unwrap_or_else(|_| unreachable!("a built-in pattern"));
        let remote = remote.and_then(|target| {
            let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some((socket, target, pattern("<%B>1 %D{%Y-%m-%dT%H:%M:%S.###Z} %E %A %P %c - \u{feff}%m")))
        });
        let syslog = UnixDatagram::unbound().ok().filter(|socket| socket.set_nonblocking(true).is_ok());
        Self {
            program: program.to_owned(),
            patterns: RwLock::new([
                pattern("%D{%Y-%m-%dT%H:%M:%SZ}|%05N|%c%T|%p|%m"),
                pattern("ovs|%05N|%c%T|%p|%m"),
                pattern("%D{%Y-%m-%dT%H:%M:%S.###Z}|%05N|%c%T|%p|%m"),
            ]),
            facility: AtomicU8::new(Facility::DAEMON.0),
            syslog,
            remote,
            file: Arc::default(),
            queue: OnceLock::new(),
            lost: Arc::default(),
            started: Instant::now(),
        }
    }

    /// Sends an event to every destination whose level lets it through.
    pub(super) fn emit(&self, event: &Event<'_>, levels: PerDestination) {
        let message = clean(event.message);
        let record = Record {
            program: &self.program,
            module: event.module,
            level: event.level,
            message: &message,
            sequence: event.sequence,
            time: std::time::SystemTime::now(),
            uptime: self.started.elapsed(),
            facility: self.facility.load(Ordering::Relaxed),
        };
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        for ((destination, level), pattern) in Destination::ALL.into_iter().zip(levels).zip(patterns.iter()) {
            if event.level > level {
                continue;
            }
            match destination {
                Destination::Console => self.to_console(pattern.line(&record)),
                Destination::Syslog => self.to_syslog(&record, &pattern.line(&record)),
                Destination::File => self.to_file(|| pattern.line(&record)),
            }
        }
    }

    pub(super) fn set_pattern(&self, destination: Option<Destination>, pattern: &Pattern) {
        let mut patterns = self.patterns.write().unwrap_or_else(PoisonError::into_inner);
        for (at, slot) in Destination::ALL.into_iter().zip(patterns.iter_mut()) {
            if destination.is_none_or(|wanted| wanted == at) {
                *slot = pattern.clone();
            }
        }
    }

    pub(super) fn list_patterns(&self) -> String {
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        let lines = Destination::ALL.into_iter().zip(patterns.iter());
        let mut text = "         Format\n         ------\n".to_owned();
        lines.for_each(|(destination, pattern)| text += &format!("{:<7}  {pattern}\n", destination.name()));
        text
    }

    pub(super) fn set_facility(&self, facility: Facility) {
        self.facility.store(facility.0, Ordering::Relaxed);
    }

    pub(super) fn open_file(&self, path: &Path) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        *lock(&self.file) = LogFile { path: Some(path.to_owned()), open: Some(file), torn: false };
        Ok(())
    }

    pub(super) fn close_file(&self) {
        self.flush();
        lock(&self.file).open = None;
    }

    pub(super) fn file_path(&self) -> Option<PathBuf> {
        lock(&self.file).path.clone()
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Without a thread (none can be had) lines go on being written in place.
    pub(super) fn start_writer(&self) {
        if self.queue.get().is_some() {
            return;
        }
        let (sender, receiver) = sync_channel(QUEUE);
        let (file, lost) = (self.file.clone(), self.lost.clone());
        let spawned = std::thread::Builder::new()
            .name("vlog_writer".to_owned())
            .spawn(move || write_queued(&receiver, &file, &lost));
        if spawned.is_ok() {
            let _ = self.queue.set(sender);
        }
    }

    pub(super) fn flush(&self) {
        let Some(queue) = self.queue.get() else { return };
        let (done, wait) = sync_channel(1);
        if queue.try_send(Job::Flush(done)).is_ok() {
            let _ = wait.recv_timeout(Duration::from_secs(1));
        }
    }

    fn to_console(&self, mut line: String) {
        cut(&mut line, CONSOLE_LINE - 1);
        line.push('\n');
        let stderr = io::stderr();
        // Before the writer runs a person is probably watching, so the line may wait a little for a slow pipe.
        let timeout: u16 = if self.queue.get().is_some() { 0 } else { 100 };
        let mut wanted = [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)];
        let writable = poll(&mut wanted, timeout).is_ok_and(|ready| ready > 0);
        if !writable || stderr.lock().write_all(line.as_bytes()).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn to_syslog(&self, record: &Record<'_>, line: &str) {
        if let Some(socket) = &self.syslog {
            let priority = record.facility * 8 + record.level.severity();
            let datagram = format!("<{priority}>{}[{}]: {line}", self.program, std::process::id());
            match socket.send_to(datagram.as_bytes(), "/dev/log") {
                Ok(_) => {}
                // No syslog daemon, as in a container: nothing is lost.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Err(_) => {
                    self.lost.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if let Some((socket, target, pattern)) = &self.remote {
            let _ = socket.send_to(pattern.line(record).as_bytes(), target);
        }
    }

    fn to_file(&self, line: impl FnOnce() -> String) {
        let Some(queue) = self.queue.get() else {
            write_line(&self.file, line, &self.lost);
            return;
        };
        // The writer holds the lock while the disk makes it wait; then the file is surely open.
        if self.file.try_lock().is_ok_and(|file| file.open.is_none()) {
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) = queue.try_send(Job::Line(line()))
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn write_queued(queue: &Receiver<Job>, file: &Mutex<LogFile>, lost: &AtomicU64) {
    for job in queue {
        match job {
            Job::Line(line) => write_line(file, || line, lost),
            Job::Flush(done) => drop(done.send(())),
        }
    }
}

/// Writes one line in one piece, so that lines of several processes do not mix.
fn write_line(file: &Mutex<LogFile>, line: impl FnOnce() -> String, lost: &AtomicU64) {
    let mut file = lock(file);
    let torn = file.torn;
    let Some(open) = &mut file.open else { return };
    let mut line = line();
    line.push('\n');
    if torn {
        line.insert(0, '\n');
    }
    match open.write(line.as_bytes()) {
        Ok(written) if written == line.len() => file.torn = false,
        Ok(_) => {
            file.torn = true;
            lost.fetch_add(1, Ordering::Relaxed);
        }
        Err(_) => {
            lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn lock(file: &Mutex<LogFile>) -> MutexGuard<'_, LogFile> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One line, whatever a peer has put into an error text: control characters are shown, not obeyed.
fn clean(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for next in message.trim_end().chars() {
        if next.is_control() && next != '\t' {
            line.extend(next.escape_default());
        } else {
            line.push(next);
        }
        if line.len() > MAX_LINE {
            break;
        }
    }
    cut(&mut line, MAX_LINE);
    line
}

/// Shortens to at most `limit` bytes, between characters.
fn cut(line: &mut String, limit: usize) {
    if line.len() > limit {
        let mut at = limit - "...".len();
        while !line.is_char_boundary(at) {
            at -= 1;
        }
        line.truncate(at);
        line.push_str("...");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_on_its_line() {
        assert_eq!(clean("a\nb\x1b[31m\tc\n"), "a\\nb\\u{1b}[31m\tc");
        let long = clean(&"ä".repeat(MAX_LINE));
        assert!(long.len() <= MAX_LINE && long.ends_with("..."));
    }

    #[test]
    fn the_built_in_patterns_can_be_read() {
        let sinks = Sinks::new("p", Some(([127, 0, 0, 1], 1).into()));
        assert!(sinks.remote.is_some());
        assert!(sinks.list_patterns().contains("file     %D{"));
    }

    #[test]
    fn facilities_have_the_numbers_of_the_rfc() {
        assert_eq!(Facility::parse("daemon"), Some(Facility::DAEMON));
        assert_eq!(Facility::parse("LOCAL7"), Some(Facility(23)));
        assert_eq!(Facility::parse("x"), None);
    }
}
