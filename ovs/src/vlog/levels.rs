//! Levels, destinations, and the table that says which module logs what where.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};

use super::Module;

/// Severity, with vlog's names. The order is that of severity: what is at or above a table's entry is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// As an event: never. As an entry of the table: log nothing.
    Off,
    /// The program cannot go on.
    Emer,
    /// Something failed.
    Err,
    /// Something is wrong, and the program copes.
    Warn,
    /// What an operator wants to read.
    Info,
    /// What a developer wants to read.
    Dbg,
}

impl Level {
    /// All of them, as OVS orders them.
    pub const ALL: [Level; 6] = [Level::Off, Level::Emer, Level::Err, Level::Warn, Level::Info, Level::Dbg];

    /// The name in a log line and in `vlog/list`.
    pub fn name(self) -> &'static str {
        match self {
            Level::Off => "OFF",
            Level::Emer => "EMER",
            Level::Err => "ERR",
            Level::Warn => "WARN",
            Level::Info => "INFO",
            Level::Dbg => "DBG",
        }
    }

    /// The level of a word of a spec, in any case.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(word))
    }

    /// Severity of RFC 5424, table 2, with the mapping of OVS (`lib/vlog.c`).
    pub(super) fn severity(self) -> u8 {
        match self {
            Level::Off | Level::Emer => 1,
            Level::Err => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Dbg => 7,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a line goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// Standard error.
    Console,
    /// The datagram socket /dev/log.
    Syslog,
    /// The file of `--log-file`.
    File,
}

impl Destination {
    /// All of them, in the order of `vlog/list`.
    pub const ALL: [Destination; 3] = [Destination::Console, Destination::Syslog, Destination::File];

    /// The word in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Destination::Console => "console",
            Destination::Syslog => "syslog",
            Destination::File => "file",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|destination| destination.name().eq_ignore_ascii_case(word))
    }
}

/// A level per destination, in the order of [`Destination::ALL`].
pub(super) type PerDestination = [Level; 3];

/// Modules of this crate.
const OWN: [Module; 7] = [
    Module { target: "ovs::daemon", name: "daemon" },
    Module { target: "ovs::pidfile", name: "daemon" },
    Module { target: "ovs::ovsdb", name: "ovsdb" },
    Module { target: "ovs::openflow", name: "openflow" },
    Module { target: "ovs::unixctl", name: "unixctl" },
    Module { target: "repeat", name: "repeat" },
    Module { target: "ovs::vlog", name: "vlog" },
];

/// Crates from elsewhere that log. Others become known with their first event.
const FOREIGN: [&str; 6] = ["kube", "hyper", "rustls", "tokio", "tower", "netlink"];

/// The table: which module logs what where.
#[derive(Debug)]
pub(super) struct Levels {
    targets: Vec<Module>,
    table: RwLock<Table>,
}

#[derive(Debug)]
struct Table {
    /// For modules that become known later.
    rest: PerDestination,
    modules: BTreeMap<String, PerDestination>,
}

impl Levels {
    /// A table at `info` everywhere. `modules` come before those of this crate.
    pub(super) fn new(modules: &[Module]) -> Self {
        let targets: Vec<Module> = modules.iter().chain(&OWN).copied().collect();
        let names = targets.iter().map(|module| module.name).chain(FOREIGN);
        let rest = [Level::Info; 3];
        let modules = names.map(|name| (name.to_owned(), rest)).collect();
        Self { targets, table: RwLock::new(Table { rest, modules }) }
    }

    /// The module an event's target belongs to: the longest prefix that was named; else, of a crate that is
    /// not ours, the crate's name up to the first underscore (`kube_client` is `kube`).
    pub(super) fn module<'a>(&self, target: &'a str) -> &'a str {
        let named = self
            .targets
            .iter()
            .filter(|module| {
                target
                    .strip_prefix(module.target)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            })
            .max_by_key(|module| module.target.len());
        if let Some(module) = named {
            return module.name;
        }
        let crate_name = target.split("::").next().unwrap_or(target);
        match crate_name.split_once('_') {
            Some((family, _)) if FOREIGN.contains(&family) => family,
            _ => crate_name,
        }
    }

    /// Whether a word of a spec is a module.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.table.read().unwrap_or_else(PoisonError::into_inner).modules.contains_key(name)
    }

    /// Notes a module that has just shown up.
    pub(super) fn meet(&self, name: &str) {
        if self.knows(name) {
            return;
        }
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let rest = table.rest;
        table.modules.entry(name.to_owned()).or_insert(rest);
    }

    /// Sets one module or all, at one destination or all.
    pub(super) fn set(&self, module: Option<&str>, destination: Option<Destination>, level: Level) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let change = |levels: &mut PerDestination| {
            for (at, slot) in Destination::ALL.into_iter().zip(levels) {
                if destination.is_none_or(|wanted| wanted == at) {
                    *slot = level;
                }
            }
        };
        match module {
            Some(name) => {
                let rest = table.rest;
                change(table.modules.entry(name.to_owned()).or_insert(rest));
            }
            None => {
                change(&mut table.rest);
                table.modules.values_mut().for_each(change);
            }
        }
    }

    /// The levels of one module.
    pub(super) fn of(&self, module: &str) -> PerDestination {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.modules.get(module).copied().unwrap_or(table.rest)
    }

    /// The most talkative entry of the whole table.
    pub(super) fn most(&self) -> Level {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let all = table.modules.values().chain([&table.rest]).flatten().copied();
        all.max().unwrap_or(Level::Off)
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "                 console    syslog    file")?;
        writeln!(f, "                 -------    ------    ------")?;
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        for (name, [console, syslog, file]) in &table.modules {
            writeln!(f, "{name:<16}  {console:>4}       {syslog:>4}       {file:>4}")?;
        }
        Ok(())
    }
}
