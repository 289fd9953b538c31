//! The log of the rollback watchdog: a file beside the journal, and the system's log.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::SystemTime;

use host::regular_file;

use super::PROGRAM;

/// From this size on the file begins again.
const ENOUGH: u64 = 256 * 1024;
/// Facility daemon (3), severity warning (4): syslog(3).
const PRIORITY: u32 = 3 * 8 + 4;

/// The log. Errors are ignored: nothing here may keep the rollback watchdog from its work.
pub(super) struct Log {
    file: Option<File>,
    run: String,
}

impl Log {
    /// The log in the journal's folder.
    pub(super) fn open(folder: &Path, run: &str) -> Self {
        let path = folder.join("watchdog.log");
        let long = std::fs::metadata(&path).is_ok_and(|file| file.len() > ENOUGH);
        if long {
            drop(std::fs::remove_file(&path));
        }
        let file = regular_file::open(OpenOptions::new().append(true).create(true).mode(0o600), &path).ok();
        Self { file, run: run.to_owned() }
    }

    /// A line into the file.
    pub(super) fn note(&mut self, what: &str) {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let line = format!("{}.{:03} {}: {what}\n", since.as_secs(), since.subsec_millis(), self.run);
        if let Some(file) = &mut self.file {
            drop(file.write_all(line.as_bytes()));
        }
    }

    /// The same, and to the system's log: for what an operator looks for there.
    pub(super) fn report(&mut self, what: &str) {
        self.note(what);
        let line = format!("<{PRIORITY}>{PROGRAM}[{}]: {what}", std::process::id());
        let sent = UnixDatagram::unbound().and_then(|socket| {
            // A log daemon that does not read must not block this process.
            socket.set_nonblocking(true)?;
            socket.send_to(line.as_bytes(), "/dev/log")
        });
        if sent.is_err()
            && let Ok(mut kernel) = OpenOptions::new().write(true).open("/dev/kmsg")
        {
            drop(kernel.write_all(line.as_bytes()));
        }
    }
}
