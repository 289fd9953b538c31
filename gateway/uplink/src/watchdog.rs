//! The rollback watchdog: a process of its own that undoes when the one at work cannot.
//!
//! ```text
//!   at work:   journal on the disk --> arm --> ... --> commit --> dismiss
//!                                       |
//!   launcher:                           +--> own session, no inherited descriptor --> starts the watcher, ends
//!                                                                                          |
//!   watcher:   own control group, spared by the OOM killer; pidfd of the one at work --> "armed"
//!              its end, or the timer --> is the journal still open? --> lock (2 s at most) --> undo
//! ```
//!
//! - A pidfd says "look now", the lock says "nobody else is at work", and **the journal's state is the only truth** about
//!   whether there is something to undo.
//! - One who stands still beyond the timer is killed first, so that there are never two who write.
//! - A child of the one at work may have inherited the lock and live on: the lock is waited for, but not for ever.
//! - It is the same binary started twice over, not a fork: what was open or locked in the one at work is not in it. The
//!   one at work watches it as well ([`Armed::is_alive`]) and undoes itself when it is gone.
//!
//! It starts no program while it watches, takes no orders (hang-up, interrupt and termination are left lying), and it
//! never undoes what is committed or what belongs to another run.

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

/// The name the rollback watchdog is started by; nobody calls it by hand.
pub const PROGRAM: &str = "ovn-k8s-uplink-watchdog";

/// This very binary, also when the file was replaced meanwhile.
const ITSELF: &str = "/proc/self/exe";
/// How long it may take to start.
const START: Duration = Duration::from_secs(10);
const REMEDY: &str = "nothing was changed; is the machine out of memory or processes?";

/// A rollback watchdog that watches this process.
#[derive(Debug)]
pub struct Armed {
    process: PidFd,
}

/// Starts a rollback watchdog for this process. It returns when the rollback watchdog watches; the journal has to be on the disk, open.
///
/// `timeout` is counted from now: an open journal after that time is undone, whatever this process does.
pub fn arm(folder: &Folder, journal: &Journal, timeout: Duration) -> Result<Armed> {
    arm_by(Path::new(ITSELF), folder, journal, timeout)
}

/// The same with the product's binary at another place: for programs that only use this library.
pub fn arm_by(program: &Path, folder: &Folder, journal: &Journal, timeout: Duration) -> Result<Armed> {
    const ATTEMPTED: &str = "start the rollback watchdog";
    let own = std::process::id();
    let folder = std::path::absolute(folder.path()).map_err(Error::io(ATTEMPTED, REMEDY))?;
    let duty = WatchdogConfig {
        stage: Stage::Launch,
        folder,
        parent: own,
        started: host::process::start_time(own),
        run: journal.run.clone(),
        milliseconds: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let mut launcher =
        duty.command(program).stdout(Stdio::piped()).spawn().map_err(Error::io(ATTEMPTED, REMEDY))?;
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
            let what = line.strip_prefix("failed ").unwrap_or("it ended without a word");
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
        // What cannot be known is not relied on.
        !self.process.has_ended().unwrap_or(true)
    }

    /// Sends it home. It stays when the journal is unfinished: that is what it is for.
    pub fn dismiss(self, journal: &Journal) {
        if !journal.state.is_unfinished() {
            // It would see the journal's state and leave when this process ends; this way it does not wait for that.
            drop(self.process.kill());
        }
    }
}

/// Runs the rollback watchdog. `args` begin with its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let duty = match WatchdogConfig::try_parse_from(args) {
        Ok(duty) => duty,
        Err(_) => {
            eprintln!("{PROGRAM}: started by `ovn-k8s-util nics-to-bridge` alone (see ovn-k8s-util --help)");
            return ExitCode::FAILURE;
        }
    };
    let outcome = match duty.stage {
        Stage::Launch => detach::launch(&duty),
        Stage::Watch => watch::watch(&duty),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Who arms it reads this line; later nobody does, and it stands in the log.
            let _ = writeln!(std::io::stdout(), "failed {error}");
            ExitCode::FAILURE
        }
    }
}

/// What a rollback watchdog is told.
#[derive(Clone, Debug, Parser)]
#[command(name = PROGRAM)]
struct WatchdogConfig {
    #[arg(long)]
    stage: Stage,
    /// The journal's folder.
    #[arg(long)]
    folder: PathBuf,
    /// Who is at work.
    #[arg(long)]
    parent: u32,
    /// When that one started, so that another one of its number is told apart.
    #[arg(long)]
    started: Option<u64>,
    /// The run.
    #[arg(long)]
    run: String,
    /// When it has to be done.
    #[arg(long)]
    milliseconds: u64,
}

/// It is started twice over: only a child of a process that ended is nobody's child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    Launch,
    Watch,
}

impl WatchdogConfig {
    /// This duty as a command, with nothing inherited that is not said here.
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
