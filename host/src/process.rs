//! Processes (/proc, proc(5)).

use std::fs;
use std::path::Path;

/// A process by its names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Name (`/proc/PID/comm`, at most 15 bytes).
    pub name: String,
    /// Command line. Empty for kernel threads and zombies.
    pub cmdline: Vec<String>,
    /// It is in the network namespace of the caller. `None` when /proc does not say (it has ended, or no permission).
    pub same_network: Option<bool>,
}

/// The state of a process (`/proc/PID/stat`, proc_pid_stat(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Process id.
    pub pid: u32,
    /// Name, at most 15 bytes.
    pub comm: String,
    /// One letter: `R` running, `S` and `D` sleeping, `T` stopped, `t` traced, `Z` zombie, `X` dead.
    pub state: char,
    /// Process id of the parent.
    pub parent: u32,
    /// `PF_*` of the kernel.
    pub flags: u64,
    /// When it started, in clock ticks since the boot. Process id and start time together are unique within a boot.
    pub start_time: u64,
}

/// `PF_EXITING` (include/linux/sched.h).
const PF_EXITING: u64 = 0x4;

impl Stat {
    /// Reads that of a process; `None` when there is no such process.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses the content of the file. The name may hold spaces and parentheses, so the last parenthesis counts.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.rsplit_once(')')?;
        let (pid, comm) = head.split_once('(')?;
        // Field 3 is the first one behind the name.
        let mut fields = rest.split_whitespace();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            comm: comm.to_owned(),
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            flags: fields.nth(4)?.parse().ok()?,
            start_time: fields.nth(12)?.parse().ok()?,
        })
    }

    /// It is a zombie or gone.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// It has ended, or its end has begun.
    #[must_use]
    pub fn is_exiting(&self) -> bool {
        self.has_ended() || self.flags & PF_EXITING != 0
    }
}

/// The [`Stat::start_time`] of a process.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    Stat::read(pid).map(|stat| stat.start_time)
}

impl Process {
    /// The process with that id; `None` when there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let name = fs::read_to_string(format!("{folder}/comm")).ok()?.trim_end().to_owned();
        let cmdline = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
        Some(Self { pid, name, cmdline: arguments(&cmdline), same_network: shares_network(&folder) })
    }

    /// The file name of the program on its command line (`/usr/sbin/dhclient` is `dhclient`), or else its name.
    #[must_use]
    pub fn program(&self) -> &str {
        let first = self.cmdline.first().map_or("", String::as_str);
        // Some programs put a title there (`sshd: root@pts/0`).
        let first = first.split([' ', ':']).next().unwrap_or_default();
        match Path::new(first).file_name().and_then(|name| name.to_str()) {
            Some(name) if !name.is_empty() => name,
            _ => &self.name,
        }
    }

    /// The argument is on its command line.
    #[must_use]
    pub fn has_argument(&self, argument: &str) -> bool {
        self.cmdline.iter().skip(1).any(|given| given == argument)
    }
}

/// All visible processes, by id.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = pids.filter_map(Process::of).collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The processes of the caller's network namespace that the closure accepts.
#[must_use]
pub fn find(accepts: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut found = all();
    found.retain(|process| process.same_network == Some(true) && accepts(process));
    found
}

fn arguments(cmdline: &[u8]) -> Vec<String> {
    let text = cmdline.strip_suffix(&[0]).unwrap_or(cmdline);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn shares_network(folder: &str) -> Option<bool> {
    let theirs = fs::read_link(format!("{folder}/ns/net")).ok()?;
    let ours = fs::read_link("/proc/thread-self/ns/net").ok()?;
    Some(theirs == ours)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    #[test]
    fn a_process_is_found_where_it_is() {
        let inside = Namespace::create().unwrap();
        let mut child = inside.run(|| Command::new("sleep").args(["600", "7"]).spawn().unwrap()).unwrap();
        let pid = child.id();
        let is_it = |process: &Process| process.pid == pid;
        let found = inside.run(|| find(is_it)).unwrap();
        assert_eq!(find(is_it), []);
        assert_eq!(all().iter().find(|process| is_it(process)).unwrap().same_network, Some(false));
        child.kill().unwrap();
        let zombie = Process::of(pid);
        child.wait().unwrap();
        assert!(zombie.is_some());
        assert_eq!(Process::of(pid), None);
        // Between fork and exec it is still the test.
        assert_eq!(found.len(), 1);
        if found[0].name == "sleep" {
            assert_eq!(found[0].program(), "sleep");
            assert!(found[0].has_argument("7") && !found[0].has_argument("sleep"));
        }
    }

    #[test]
    fn stat_is_parsed_behind_the_name() {
        let line = "4242 (a) (b c) S 650 4242 4242 0 -1 4194304 3521 0 0 0 12 8 0 0 10 -10 9 0 77001 1 2";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.pid, stat.comm.as_str(), stat.state), (4242, "a) (b c", 'S'));
        assert_eq!((stat.parent, stat.flags, stat.start_time), (650, 4_194_304, 77_001));
        assert!(!stat.is_exiting());
        let ended = Stat { state: 'Z', ..stat.clone() };
        assert!(ended.has_ended() && ended.is_exiting());
        let exiting = Stat { flags: stat.flags | 0x4, ..stat };
        assert!(!exiting.has_ended() && exiting.is_exiting());
        for broken in
            ["", "nonsense", "1 (a", "1 (a) S", "x (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20"]
        {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
        let own = Stat::read(std::process::id()).unwrap();
        assert_eq!(own.pid, std::process::id());
        assert!(!own.has_ended() && own.start_time > 0);
    }

    #[test]
    fn programs_are_named_by_what_they_were_started_as() {
        let process = |name: &str, cmdline: &[u8]| Process {
            pid: 1,
            name: name.into(),
            cmdline: arguments(cmdline),
            same_network: None,
        };
        assert_eq!(process("dhclient", b"/sbin/dhclient\0-v\0eth0\0").program(), "dhclient");
        assert_eq!(process("sshd", b"sshd: root@pts/0\0").program(), "sshd");
        assert_eq!(process("kthreadd", b"").program(), "kthreadd");
        assert_eq!(process("odd", b"/\0").program(), "odd");
        assert_eq!(process("x", b"a\0\0b").cmdline, ["a", "", "b"]);
    }
}
