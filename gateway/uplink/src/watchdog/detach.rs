//! Detaches the watchdog from what may end the run: its session, its control group, the OOM killer, its descriptors.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{dup2_stdout, setsid};

use super::{ITSELF, Stage, WatchdogConfig};
use crate::error::{Error, Result};

/// The first of the two starts: a session of its own, then the watcher; this process ends, so that the watcher
/// belongs to PID 1. The pipe to the run is the watcher's standard output.
pub(super) fn launch(config: &WatchdogConfig) -> Result<()> {
    const ATTEMPTED: &str = "start the rollback watchdog";
    // Already a leader is as good.
    let _ = setsid();
    // Inherited descriptors go no further, where the kernel can do that.
    let _ = host::pidfd::keep_descriptors();
    let watcher = WatchdogConfig { stage: Stage::Watch, ..config.clone() };
    watcher.command(Path::new(ITSELF)).spawn().map_err(Error::io(ATTEMPTED, super::REMEDY))?;
    Ok(())
}

/// Blocks the signals that are sent to a session or to all processes. Blocked, not ignored: that needs no handler, and the
/// watcher starts no program that could inherit it.
pub(super) fn block_signals() {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGPIPE,
        Signal::SIGTSTP,
        Signal::SIGTTIN,
        Signal::SIGTTOU,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
    ] {
        signals.add(signal);
    }
    // Of these signals it cannot fail.
    let _ = signals.thread_block();
}

/// Leaves the run's control group, and exempts the process from the OOM killer. Gives what failed.
pub(super) fn leave_group() -> Vec<String> {
    let own = std::process::id().to_string();
    let mut troubles = Vec::new();
    let mut write = |path: &Path, text: &str| {
        if let Err(error) = std::fs::write(path, text) {
            troubles.push(format!("cannot write {text} to {}: {error}", path.display()));
        }
    };
    write(Path::new("/proc/self/oom_score_adj"), "-1000");
    for root in roots(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) {
        write(&root.join("cgroup.procs"), &own);
    }
    troubles
}

/// Closes the pipe to the run: nothing more is sent that way.
pub(super) fn close_pipe() {
    if let Ok(null) = std::fs::OpenOptions::new().write(true).open("/dev/null") {
        // At worst it stays open, and is not read.
        let _ = dup2_stdout(null.as_fd());
    }
}

/// The roots of the hierarchies by which a service or a session is ended: the unified one, and systemd's own
/// (cgroups(7); the columns are those of proc(5), `mountinfo`).
fn roots(mountinfo: &str) -> Vec<PathBuf> {
    let root = |line: &str| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let wanted = match kind.next()? {
            "cgroup2" => true,
            "cgroup" => kind.any(|options| options.split(',').any(|option| option == "name=systemd")),
            _ => false,
        };
        wanted.then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    };
    mountinfo.lines().filter_map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup_hierarchies_that_systemd_uses_are_found() {
        let mountinfo = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:10 - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let expected = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        assert_eq!(roots(mountinfo), expected);
        assert!(roots("").is_empty());
        assert!(roots("nonsense\n - cgroup2").is_empty());
    }
}
