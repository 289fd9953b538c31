//! The supervisor of `--monitor`: starts the daemon again when it died of a fault, at most once in ten seconds.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{DaemonArgs, DaemonError, Fork, Startup, fork_with_pipe, leave_terminal};

/// Two starts are never closer than this.
const PAUSE: Duration = Duration::from_secs(10);

/// The exit code with which a daemon requests a restart.
const RESTART_CODE: i32 = 5;

/// Forks the daemon and stays behind as its monitor. Returns in the daemon, with the pipe on which it reports that it
/// is ready; the monitor ends with the daemon.
///
/// `caller` is the pipe to the process that waits for the first start.
pub(super) fn supervise(caller: Option<OwnedFd>, args: &DaemonArgs) -> Result<OwnedFd, DaemonError> {
    let mut caller = caller;
    loop {
        let started = Instant::now();
        let child = match fork_with_pipe()? {
            Fork::Child(notify) => return Ok(notify),
            Fork::Parent(child) => child,
        };
        let status = match child.wait_for_startup() {
            Startup::Ready => {
                // Only now: until the first start has succeeded, errors belong on the caller's terminal.
                if let Some(caller) = caller.take() {
                    let _ = std::fs::File::from(caller).write_all(&[0]);
                    if args.detach {
                        leave_terminal()?;
                    }
                    if !args.no_chdir {
                        let _ = nix::unistd::chdir("/");
                    }
                }
                let _ = nix::sys::prctl::set_name(c"monitor");
                wait(child.pid)
            }
            Startup::Died(status) => status,
        };
        // A start that fails in front of the caller is the caller's to judge.
        if caller.is_some() || !should_restart(&status) {
            tracing::info!(target: "daemon", "pid {} died, {}, exiting", child.pid, describe(&status));
            std::process::exit(exit_code(&status));
        }
        tracing::error!(target: "daemon", emer = true, "pid {} died, {}, restarting", child.pid, describe(&status));
        // One core dump is enough; a loop of them fills the disk.
        if matches!(status, WaitStatus::Signaled(_, _, true)) {
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
        }
        if let Some(rest) = PAUSE.checked_sub(started.elapsed()) {
            tracing::warn!(target: "daemon", "waiting until 10 seconds since last restart");
            std::thread::sleep(rest);
        }
    }
}

/// What the caller's own process exits with, once the daemon is ready or has failed.
pub(super) fn hand_on(startup: Startup) -> i32 {
    match startup {
        Startup::Ready => 0,
        Startup::Died(status) => {
            if let WaitStatus::Signaled(..) = status {
                tracing::error!(target: "daemon", "the daemon died while starting, {}", describe(&status));
            }
            exit_code(&status)
        }
    }
}

/// Waits for the end of a child, whatever interrupts the wait.
pub(super) fn wait(pid: Pid) -> WaitStatus {
    loop {
        match waitpid(pid, None) {
            Err(nix::Error::EINTR) => {}
            Ok(WaitStatus::Stopped(..) | WaitStatus::Continued(_)) => {}
            Ok(status) => return status,
            // It was waited for already: nothing more can be learnt.
            Err(_) => return WaitStatus::Exited(pid, 1),
        }
    }
}

/// Whether this end was a fault that a new start may mend. An exit, even with 1, was meant.
fn should_restart(status: &WaitStatus) -> bool {
    match status {
        WaitStatus::Exited(_, code) => *code == RESTART_CODE,
        WaitStatus::Signaled(_, signal, _) => matches!(
            signal,
            Signal::SIGABRT
                | Signal::SIGALRM
                | Signal::SIGBUS
                | Signal::SIGFPE
                | Signal::SIGILL
                | Signal::SIGPIPE
                | Signal::SIGSEGV
                | Signal::SIGXCPU
                | Signal::SIGXFSZ
        ),
        _ => false,
    }
}

/// A child's end as a sentence, as OVS writes it (`process_status_msg`).
fn describe(status: &WaitStatus) -> String {
    match status {
        WaitStatus::Exited(_, code) => format!("exit status {code}"),
        WaitStatus::Signaled(_, signal, core) => {
            format!("killed ({signal}){}", if *core { ", core dumped" } else { "" })
        }
        other => format!("{other:?}"),
    }
}

/// The exit code a parent hands on: the child's own, and a failure for a child killed by a signal.
fn exit_code(status: &WaitStatus) -> i32 {
    match status {
        WaitStatus::Exited(_, code) => *code,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_faults_are_restarted() {
        let pid = Pid::from_raw(7);
        assert!(should_restart(&WaitStatus::Exited(pid, 5)));
        assert!(should_restart(&WaitStatus::Signaled(pid, Signal::SIGSEGV, true)));
        assert!(should_restart(&WaitStatus::Signaled(pid, Signal::SIGABRT, false)));
        assert!(!should_restart(&WaitStatus::Exited(pid, 0)));
        assert!(!should_restart(&WaitStatus::Exited(pid, 1)));
        assert!(!should_restart(&WaitStatus::Signaled(pid, Signal::SIGTERM, false)));
        assert!(!should_restart(&WaitStatus::Signaled(pid, Signal::SIGKILL, false)));
    }

    #[test]
    fn a_failed_start_hands_on_its_own_status() {
        let pid = Pid::from_raw(7);
        assert_eq!(hand_on(Startup::Ready), 0);
        assert_eq!(hand_on(Startup::Died(WaitStatus::Exited(pid, 3))), 3);
        assert_eq!(hand_on(Startup::Died(WaitStatus::Signaled(pid, Signal::SIGKILL, false))), 1);
    }
}
