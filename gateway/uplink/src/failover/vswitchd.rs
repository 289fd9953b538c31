//! ovs-vswitchd as a process: found by its pidfile, watched by pidfd.
//!
//! The pidfd of a process fires when its last thread is gone, which for one as large as vswitchd is 16 to 33 ms after a
//! kill: its memory is freed first. So its threads are watched as well (Linux 6.9): the first of them that ends is a reason
//! to check whether the process is ending.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use host::pidfd::PidFd;
use ovs::pidfile::read_pid;

use super::observation::SwitchProcess;

/// The name of the program, as the kernel has it.
const PROGRAM: &str = "ovs-vswitchd";

/// vswitchd, as far as it is known.
#[derive(Debug)]
pub(super) struct Vswitchd {
    pidfile: PathBuf,
    life: Option<Life>,
    /// One that was known has ended, and no other was found since.
    ended: bool,
    /// The tap has lost its carrier since.
    lost_carrier: bool,
}

#[derive(Debug)]
struct Life {
    pid: u32,
    process: PidFd,
    threads: Vec<PidFd>,
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stat {
    Alive,
    Stopped,
    Ending,
}

impl Vswitchd {
    /// One that is found by its pidfile.
    pub(super) fn of(pidfile: &Path) -> Self {
        Self { pidfile: pidfile.to_owned(), life: None, ended: false, lost_carrier: false }
    }

    /// Its state now. `carrier`: whether a process holds the bridge's tap; `None` where there is no bridge.
    pub(super) fn observe(&mut self, carrier: Option<bool>) -> SwitchProcess {
        if let Some(life) = &self.life {
            match stat(life.pid) {
                Some(Stat::Alive) => return SwitchProcess::Running,
                Some(Stat::Stopped) => return SwitchProcess::Stopped,
                Some(Stat::Ending) | None => {
                    (self.life, self.ended, self.lost_carrier) = (None, true, false);
                }
            }
        }
        self.lost_carrier |= carrier == Some(false);
        if let Some(life) = Life::find(&self.pidfile) {
            (self.life, self.ended) = (Some(life), false);
            return SwitchProcess::Running;
        }
        // It has no pidfile, or another process namespace: only its tap shows whether it runs.
        match carrier {
            Some(true) if !self.ended || self.lost_carrier => {
                self.ended = false;
                SwitchProcess::Running
            }
            None if !self.ended => SwitchProcess::Running,
            _ => SwitchProcess::Gone,
        }
    }

    /// Its process ID, while it is known.
    pub(super) fn pid(&self) -> Option<u32> {
        self.life.as_ref().map(|life| life.pid)
    }

    /// They become readable when it, or one of its threads, ends.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.life.iter().flat_map(|life| {
            std::iter::once(life.process.as_fd()).chain(life.threads.iter().map(AsFd::as_fd))
        })
    }

    /// A thread has ended and the process has not: the others are watched.
    pub(super) fn watch_again(&mut self) {
        if let Some(life) = &mut self.life {
            life.threads = threads(life.pid);
        }
    }
}

impl Life {
    fn find(pidfile: &Path) -> Option<Self> {
        let pid = read_pid(pidfile).ok()?;
        let process = PidFd::open(pid, None).ok()?;
        // A pidfile may be older than the process that now has its ID. Checked after the descriptor was made: from then on
        // the ID cannot pass to another process.
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let sound = name.trim() == PROGRAM && stat(pid)? != Stat::Ending;
        sound.then(|| Self { pid, process, threads: threads(pid) })
    }
}

/// The threads beside the first, where the kernel can report their end.
fn threads(pid: u32) -> Vec<PidFd> {
    const WATCHED: usize = 4;
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter(|thread| *thread != pid)
        .filter_map(|thread| PidFd::of_thread(thread).ok())
        .take(WATCHED)
        .collect()
}

fn stat(pid: u32) -> Option<Stat> {
    host::process::Stat::read(pid).map(|stat| condition(&stat))
}

fn condition(stat: &host::process::Stat) -> Stat {
    match stat.state {
        _ if stat.is_exiting() => Stat::Ending,
        'T' => Stat::Stopped,
        // Traced ("t") counts as alive: a debugger may let it run between its stops, and probes show whether
        // it forwards.
        _ => Stat::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_stat_is_parsed() {
        let line = |state: &str, flags: u32| {
            format!(
                "4242 (ovs-vswitchd) x) {state} 1 4242 4242 0 -1 {flags} 3521 0 0 0 12 8 0 0 10 -10 9 0 5000"
            )
        };
        let read_stat = |line: &str| host::process::Stat::parse(line).map(|stat| condition(&stat));
        assert_eq!(read_stat(&line("S", 0x0040_0100)), Some(Stat::Alive));
        assert_eq!(read_stat(&line("T", 0x0040_0100)), Some(Stat::Stopped));
        assert_eq!(read_stat(&line("t", 0x0040_0100)), Some(Stat::Alive));
        assert_eq!(read_stat(&line("Z", 0x0040_0100)), Some(Stat::Ending));
        assert_eq!(read_stat(&line("R", 0x0040_0104)), Some(Stat::Ending));
        assert_eq!(read_stat("nonsense"), None);
        assert_eq!(stat(std::process::id()), Some(Stat::Alive));
    }

    #[test]
    fn without_a_pidfile_the_carrier_decides() {
        let mut switch = Vswitchd::of(Path::new("/nowhere/ovs-vswitchd.pid"));
        assert_eq!(switch.observe(Some(true)), SwitchProcess::Running);
        assert_eq!(switch.observe(Some(false)), SwitchProcess::Gone);
        assert_eq!(switch.observe(Some(true)), SwitchProcess::Running);
        switch.ended = true;
        switch.lost_carrier = false;
        assert_eq!(
            switch.observe(Some(true)),
            SwitchProcess::Gone,
            "it is dying: its tap has not lost its carrier yet"
        );
        assert_eq!(switch.observe(Some(false)), SwitchProcess::Gone);
        assert_eq!(switch.observe(Some(true)), SwitchProcess::Running, "another one");
    }

    #[test]
    fn a_process_of_another_name_is_not_vswitchd() {
        let dir = tempfile::tempdir().unwrap();
        let pidfile = dir.path().join("ovs-vswitchd.pid");
        std::fs::write(&pidfile, format!("{}\n", std::process::id())).unwrap();
        let mut switch = Vswitchd::of(&pidfile);
        assert_eq!(switch.observe(Some(false)), SwitchProcess::Gone);
        assert_eq!(switch.pid(), None);
    }
}
