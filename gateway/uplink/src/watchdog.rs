//! The rollback watchdog: a process of its own that undoes a run when the run's process cannot.
//!
//! ```text
//!   run:       journal on the disk --> arm --> ... --> commit --> dismiss
//!                                       |
//!   launcher:                           +--> own session, no inherited descriptor --> starts the watcher, ends
//!                                                                                          |
//!   watcher:   own control group, spared by the OOM killer; pidfd of the run --> "armed"
//!              its end, or the timer --> is the journal still open? --> lock (2 s at most) --> undo
//! ```
//!
//! - The pidfd tells when to check, the lock that no other process changes the uplink, and **the journal's state alone
//!   decides** whether there is something to undo.
//! - A run that hangs beyond the timer is killed first, so that there are never two writers.
//! - A child of the run may have inherited the lock and live on: the wait for the lock is bounded.
//! - It is the same binary started twice over, not a fork: nothing that is open or locked in the run is in it. The run
//!   watches it as well ([`Armed::is_alive`]) and undoes itself when it is gone.
//!
//! It starts no program while it watches, blocks the signals of terminals and sessions, and never undoes what is committed
//! or what belongs to another run.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use host::pidfd::PidFd;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::error::{Error, Result};
use super::journal::{Folder, Journal};

mod detach;
mod log;
mod watch;

/// The name the rollback watchdog is started by; it is not called by hand.
pub const PROGRAM: &str = "ovn-k8s-uplink-watchdog";

/// This binary, also when the file was replaced meanwhile.
const ITSELF: &str = "/proc/self/exe";
/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
const REMEDY: &str = "nothing was changed; is the machine out of memory or processes?";

/// A rollback watchdog that watches this process.
#[derive(Debug)]
pub struct Armed {
    process: PidFd,
}

/// Starts a rollback watchdog for this process and returns when it watches. The journal has to be on the disk, open.
///
/// `timeout` is counted from now: an open journal after that time is undone, whatever this process does.
pub(crate) fn arm(folder: &Folder, journal: &Journal, timeout: Duration) -> Result<Armed> {
    arm_by(Path::new(ITSELF), folder, journal, timeout)
}

/// The same with the product's binary at another place: for programs that only use this library.
pub fn arm_by(program: &Path, folder: &Folder, journal: &Journal, timeout: Duration) -> Result<Armed> {
    const ATTEMPTED: &str = "start the rollback watchdog";
    let own = std::process::id();
    let folder = std::path::absolute(folder.path()).map_err(Error::io(ATTEMPTED, REMEDY))?;
    let config = WatchdogConfig {
        stage: Stage::Launch,
        folder,
        parent: own,
        started: host::process::start_time(own),
        run: journal.run.clone(),
        milliseconds: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let mut launcher =
        config.command(program).stdout(Stdio::piped()).spawn().map_err(Error::io(ATTEMPTED, REMEDY))?;
    let line = match &mut launcher.stdout {
        Some(pipe) => first_line(pipe, Instant::now() + START).map_err(Error::io(ATTEMPTED, REMEDY)),
        None => Ok(String::new()),
    };
    reap(launcher);
    let line = line?;
    let pid = line.strip_prefix("armed ").and_then(|pid| pid.parse().ok());
    match pid {
        Some(pid) => Ok(Armed { process: PidFd::open(pid, None)? }),
        None => {
            let what = line.strip_prefix("failed ").unwrap_or("it ended without an error message");
            Err(Error::failed(ATTEMPTED, what, REMEDY))
        }
    }
}

impl Armed {
    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its end, to be waited for.
    pub fn watch(&self) -> &PidFd {
        &self.process
    }

    /// Whether it watches. Without it nothing may be changed any more.
    pub fn is_alive(&self) -> bool {
        // What is not known is not relied on.
        !self.process.has_ended().unwrap_or(true)
    }

    /// Ends it. It stays when the journal is unfinished: that is what it is for.
    pub fn dismiss(self, journal: &Journal) {
        if !journal.state.is_unfinished() {
            // It would end with this process; this way it ends now.
            drop(self.process.kill());
        }
    }
}

/// Runs the rollback watchdog. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let config = match WatchdogConfig::try_parse_from(args) {
        Ok(config) => config,
        Err(_) => {
            eprintln!("{PROGRAM}: started by `ovn-k8s-util nics-to-bridge` alone (see ovn-k8s-util --help)");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match config.stage {
        Stage::Launch => detach::launch(&config),
        Stage::Watch => watch::watch(&config),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The run reads this line while it arms; later errors are in the log.
            let _ = writeln!(std::io::stdout(), "failed {error}");
            ExitCode::FAILURE
        }
    }
}

/// The command line of a rollback watchdog.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM)]
struct WatchdogConfig {
    #[arg(long)]
    stage: Stage,
    /// The journal's folder.
    #[arg(long)]
    folder: PathBuf,
    /// The run's process.
    #[arg(long)]
    parent: u32,
    /// When that process started, so that another one of its number is not taken for it.
    #[arg(long)]
    started: Option<u64>,
    /// The run.
    #[arg(long)]
    run: String,
    /// The timeout.
    #[arg(long)]
    milliseconds: u64,
}

/// It is started twice over: the child of a process that has ended belongs to PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    Launch,
    Watch,
}

impl WatchdogConfig {
    /// This value as a command, with nothing inherited that is not named here.
    fn command(&self, program: &Path) -> Command {
        let stage = match self.stage {
            Stage::Launch => "launch",
            Stage::Watch => "watch",
        };
        let mut command = Command::new(program);
        command.arg0(PROGRAM).arg("--stage").arg(stage).arg("--folder").arg(&self.folder);
        command.arg("--parent").arg(self.parent.to_string()).arg("--run").arg(&self.run);
        command.arg("--milliseconds").arg(self.milliseconds.to_string());
        if let Some(started) = self.started {
            command.arg("--started").arg(started.to_string());
        }
        command.current_dir("/").stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

/// The first line that comes by the deadline, or what came until the end.
fn first_line(pipe: &mut ChildStdout, deadline: Instant) -> std::io::Result<String> {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(std::io::ErrorKind::TimedOut.into()),
            Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
            Ok(_) => {}
        }
        match pipe.read(&mut byte)? {
            1 if byte != *b"\n" => text.extend(byte),
            _ => return Ok(String::from_utf8_lossy(&text).into_owned()),
        }
    }
}

/// The launcher has ended, or never will.
fn reap(mut launcher: Child) {
    let end = Instant::now() + Duration::from_secs(1);
    while let Ok(None) = launcher.try_wait() {
        if Instant::now() >= end {
            drop(launcher.kill());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
