//! Becoming a daemon the way the OVS family does: `--detach`, `--monitor`, `--pidfile`.
//!
//! ```text
//! caller ---- fork ---- [monitor ---- fork ----] daemon
//!    |  waits on a pipe      |  waits on a pipe     |  checks, pidfile, control socket
//!    |  <------------------- ready <--------------- Starting::complete
//!    exits 0                 restarts it after a crash
//! ```
//!
//! The order every daemon keeps: read the flags, start vlog, check all that can be checked, [`daemonize`], start the
//! runtime, open the control socket, [`Starting::complete`], run. What fails before `complete` is reported on the
//! caller's terminal and the caller exits with the daemon's own status. A fork copies only the thread that calls it:
//! [`daemonize`] refuses to run beside other threads, so a runtime used for the checks must be gone by then.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use crate::paths::Paths;
use crate::pidfile::{Pidfile, PidfileError};

mod monitor;

/// The flags of a daemon, spelt as the OVS family spells them (ovs-vswitchd(8), "Daemon Options").
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Daemon options")]
pub struct DaemonArgs {
    /// Write the process id to FILE (default: RUNDIR/PROGRAM.pid)
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub pidfile: Option<String>,
    /// Take over the pidfile when a running process holds it
    #[arg(long)]
    pub overwrite_pidfile: bool,
    /// Run in the background, once all is checked and ready
    #[arg(long)]
    pub detach: bool,
    /// Do not change to / when detaching
    #[arg(long)]
    pub no_chdir: bool,
    /// Start the daemon again when it crashes
    #[arg(long)]
    pub monitor: bool,
    /// Control socket (default: RUNDIR/PROGRAM.PID.ctl; "none" opens none)
    #[arg(long, value_name = "SOCKET")]
    pub unixctl: Option<String>,
}

impl DaemonArgs {
    /// Where the pidfile goes, if there is one.
    pub fn pidfile_path(&self, program: &str, paths: &Paths) -> Option<PathBuf> {
        self.pidfile.as_deref().map(|name| paths.pidfile(program, name))
    }

    /// Where the control socket goes, for the process that calls this; `None` when none is wanted.
    pub fn unixctl_path(&self, program: &str, paths: &Paths) -> Option<PathBuf> {
        match self.unixctl.as_deref() {
            Some("none") => None,
            Some(name) => Some(paths.rundir.join(name)),
            None => Some(paths.ctl(program, std::process::id())),
        }
    }
}

/// Why a process could not become a daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The pidfile could not be had.
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    /// The process has other threads, which a fork would lose.
    #[error("cannot detach: {0} threads are running, a fork keeps only one (this is a fault of the program)")]
    Threads(usize),
    /// A system call failed.
    #[error("cannot {what}: {errno}")]
    System {
        /// What was attempted.
        what: &'static str,
        /// What came back.
        errno: nix::Error,
    },
}

/// Goes into the background as `args` ask and makes the pidfile. Returns only in the process that does the work:
/// the caller's process and the monitor end inside.
pub fn daemonize(args: &DaemonArgs, program: &str, paths: &Paths) -> Result<Starting, DaemonError> {
    let pidfile = args.pidfile_path(program, paths);
    if let Some(path) = pidfile.as_deref().filter(|_| !args.overwrite_pidfile) {
        Pidfile::check(path)?;
    }
    let mut ready = None;
    if args.detach || args.monitor {
        refuse_threads()?;
    }
    if args.detach {
        match fork_with_pipe()? {
            Fork::Child(notify) => {
                ready = Some(notify);
                nix::unistd::setsid()
                    .map_err(|errno| DaemonError::System { what: "start a session", errno })?;
            }
            Fork::Parent(child) => std::process::exit(monitor::hand_on(child.wait_for_startup())),
        }
    }
    if args.monitor {
        ready = Some(monitor::supervise(ready, args)?);
    }
    let pidfile = match pidfile {
        Some(path) => Some(Pidfile::create(&path, args.overwrite_pidfile)?),
        None => None,
    };
    Ok(Starting { pidfile, ready, detached: args.detach, chdir: args.detach && !args.no_chdir })
}

/// A daemon that has its pidfile and is not ready yet. Dropping it reports the failure to the waiting caller, by
/// the end of the process.
#[derive(Debug)]
pub struct Starting {
    pidfile: Option<Pidfile>,
    ready: Option<OwnedFd>,
    detached: bool,
    chdir: bool,
}

impl Starting {
    /// Reports "ready" to the caller, which then exits 0; gives up the terminal and the working directory. Call it when
    /// the control socket is open.
    pub fn complete(self) -> Result<Running, DaemonError> {
        if self.chdir {
            nix::unistd::chdir("/").map_err(|errno| DaemonError::System { what: "change to /", errno })?;
        }
        if self.detached {
            leave_terminal()?;
        }
        if let Some(ready) = self.ready {
            // A caller that did not wait for us does no harm to us.
            let _ = File::from(ready).write_all(&[0]);
        }
        Ok(Running { pidfile: self.pidfile })
    }
}

/// A running daemon. Dropping it removes the pidfile, so keep it until the last.
#[derive(Debug)]
pub struct Running {
    pidfile: Option<Pidfile>,
}

impl Running {
    /// Where the pidfile is, when there is one.
    pub fn pidfile(&self) -> Option<&std::path::Path> {
        self.pidfile.as_ref().map(Pidfile::path)
    }
}

/// The two sides of a fork.
enum Fork {
    /// The new process, with the pipe on which it reports that it is ready.
    Child(OwnedFd),
    /// The old one, with what it needs to wait for the new one.
    Parent(Forked),
}

/// A child that was just started, seen by its parent.
struct Forked {
    pid: Pid,
    ready: OwnedFd,
}

/// What became of a child's start.
enum Startup {
    Ready,
    Died(WaitStatus),
}

impl Forked {
    /// Waits until the child reports that it is ready, or ends.
    fn wait_for_startup(&self) -> Startup {
        let mut byte = [0];
        let read = self.ready.try_clone().and_then(|pipe| File::from(pipe).read(&mut byte));
        match read {
            Ok(1) => Startup::Ready,
            // Closed without a byte: the child is gone, or as good as gone.
            _ => Startup::Died(monitor::wait(self.pid)),
        }
    }
}

/// Forks, with a pipe from the child to the parent. The one place of the product that forks.
fn fork_with_pipe() -> Result<Fork, DaemonError> {
    let failed = |what| move |errno| DaemonError::System { what, errno };
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(failed("make a pipe"))?;
    // What std has buffered would else be written twice.
    let _ = std::io::stdout().flush();
    #[allow(unsafe_code, reason = "there is no other way to start a process that goes on from here")]
    // SAFETY: callers have checked that no other thread exists (`refuse_threads`; the monitor never starts one), so
    // no lock can be held by a thread that the child lacks, and the child may go on as a normal process.
    match unsafe { nix::unistd::fork() }.map_err(failed("fork"))? {
        nix::unistd::ForkResult::Child => Ok(Fork::Child(write)),
        nix::unistd::ForkResult::Parent { child } => Ok(Fork::Parent(Forked { pid: child, ready: read })),
    }
}

/// Fails when this process has more than one thread. One that was joined just now stays listed for a moment more, and
/// the kernel does not report when it is gone: hence a short wait.
fn refuse_threads() -> Result<(), DaemonError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match std::fs::read_dir("/proc/self/task").map(Iterator::count) {
            Ok(count) if count > 1 && Instant::now() > deadline => return Err(DaemonError::Threads(count)),
            Ok(count) if count > 1 => std::thread::sleep(Duration::from_millis(1)),
            _ => return Ok(()),
        }
    }
}

/// Points the standard descriptors at /dev/null, so that no terminal is kept busy.
fn leave_terminal() -> Result<(), DaemonError> {
    let null =
        File::options().read(true).write(true).open("/dev/null").map_err(|error| DaemonError::System {
            what: "open /dev/null",
            errno: error.raw_os_error().map_or(nix::Error::UnknownErrno, nix::Error::from_raw),
        })?;
    let failed = |errno| DaemonError::System { what: "leave the terminal", errno };
    nix::unistd::dup2_stdin(null.as_fd()).map_err(failed)?;
    nix::unistd::dup2_stdout(null.as_fd()).map_err(failed)?;
    nix::unistd::dup2_stderr(null.as_fd()).map_err(failed)
}
