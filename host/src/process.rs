//! The processes there are (/proc, proc(5)).

use std::fs;
use std::path::Path;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// Number.
    pub pid: u32,
    /// Name (`/proc/PID/comm`, at most 15 bytes).
    pub name: String,
    /// What it was started as. Empty for the kernel's own, and for what has ended but was not waited for.
    pub cmdline: Vec<String>,
    /// Is it in the network namespace of the caller? `None` when /proc does not tell (gone meanwhile, no right to it).
    pub same_network: Option<bool>,
}

impl Process {
    /// The process of that number; `None` when there is none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let folder = format!("/proc/{pid}");
        let name = fs::read_to_string(format!("{folder}/comm")).ok()?.trim_end().to_owned();
        let cmdline = fs::read(format!("{folder}/cmdline")).unwrap_or_default();
        Some(Self { pid, name, cmdline: arguments(&cmdline), same_network: shares_network(&folder) })
    }

    /// The file name of the program it was started as (`/usr/sbin/dhclient` is `dhclient`), or else its name.
    #[must_use]
    pub fn program(&self) -> &str {
        let first = self.cmdline.first().map_or("", String::as_str);
        // Some write a title there (`sshd: root@pts/0`).
        let first = first.split([' ', ':']).next().unwrap_or_default();
        match Path::new(first).file_name().and_then(|name| name.to_str()) {
            Some(name) if !name.is_empty() => name,
            _ => &self.name,
        }
    }

    /// Is the argument among those it was started with?
    #[must_use]
    pub fn has_argument(&self, argument: &str) -> bool {
        self.cmdline.iter().skip(1).any(|given| given == argument)
    }
}

/// All processes that can be seen, by number.
#[must_use]
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<_> = pids.filter_map(Process::of).collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The processes of the caller's network namespace that are meant.
#[must_use]
pub fn find(meant: impl Fn(&Process) -> bool) -> Vec<Process> {
    let mut found = all();
    found.retain(|process| process.same_network == Some(true) && meant(process));
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
