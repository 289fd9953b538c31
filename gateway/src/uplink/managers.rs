//! The host's network managers and DHCP clients: who looks after a NIC, and how it is handed over to the bridge.
//!
//! A manager that is not told puts the NIC's addresses back on it, or lets a lease end. They are found by their files and processes, [`there`]
//! works out what to write, stop and start, and it is done in three moments: *prepare* before anything is built
//! (nobody may configure the new bridge), *complete* when the way is verified, *take back* when it is undone or the
//! bridge goes. A [`Handover`] is a plain value, so that it can be printed, kept in the journal, and taken back by a
//! process that knows nothing else.
//!
//! Every file written begins with [`MARK`], and only such files are removed. No lease is released. Nothing here is
//! needed for the node to be reachable: it comes after the network's own part, is bounded in time, and a failure is said
//! and does not undo the rest.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::observe::Nic;
use super::options::Options;

/// What every file of ours begins with, behind the comment sign.
pub const MARK: &str = "Written by ovn-k8s-util (uplink takeover); removed by: ovn-k8s-util bridge-to-nics";

/// Who looks after a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// ifupdown (`/etc/network/interfaces`).
    Ifupdown,
    /// netplan: writes the configuration of one of the two first.
    Netplan,
    /// ISC's DHCP client.
    Dhclient,
    /// busybox's DHCP client.
    Udhcpc,
    /// A DHCP client that cannot be handed over.
    OtherClient,
}

/// A manager that was found on a NIC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// Which.
    pub manager: Manager,
    /// The NIC.
    pub nic: String,
    /// How it is known, in words (`/etc/systemd/network/20-wired.network`).
    pub evidence: String,
    /// What the handover needs to know.
    pub details: Details,
}

/// What a handover needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Details {
    /// A configuration file that applies to the NIC.
    File {
        /// Its path.
        path: PathBuf,
        /// What it holds.
        content: String,
    },
    /// A process.
    Process(Client),
    /// Nothing more is known: it cannot be handed over, and why.
    Opaque {
        /// Why.
        why: String,
    },
}

/// A DHCP client's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Process id.
    pub pid: u32,
    /// Its start, in clock ticks since boot: with the id it names one process for ever.
    pub started: u64,
    /// Its program file.
    pub program: PathBuf,
    /// Its command line.
    pub arguments: Vec<String>,
}

/// What is done to hand a manager over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handover {
    /// Which manager.
    pub manager: Manager,
    /// The NIC.
    pub nic: String,
    /// The bridge.
    pub bridge: String,
    /// It looks after IPv6 alone.
    pub for_ipv6: bool,
    /// Before anything is built.
    pub prepare: Vec<Act>,
    /// When the way by the bridge is verified.
    pub complete: Vec<Act>,
    /// When it is undone, or the bridge has gone.
    pub take_back: Vec<Act>,
}

/// One thing done for a handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Write a file of ours. A file without our mark is not overwritten.
    Write {
        /// Where.
        path: PathBuf,
        /// What, our mark in its first lines.
        content: String,
        /// It is a program.
        executable: bool,
    },
    /// Remove a file of ours, if it is there and has our mark.
    Remove {
        /// Where.
        path: PathBuf,
    },
    /// Run a program to its end.
    Run {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// End a process at once, so that it has no time to release a lease.
    Kill {
        /// Which.
        client: Client,
    },
    /// End the process that a file of ours names.
    KillByPidFile {
        /// The file.
        path: PathBuf,
        /// What its program must be called.
        program: String,
    },
    /// Copy a lease file, naming another device in it.
    CopyLeases {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
        /// The device named there.
        old: String,
        /// The device to name.
        new: String,
    },
}

/// Why a manager is not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHandedOver {
    /// It holds a lease.
    pub is_client: bool,
    /// What is so, and why it matters.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What files of ours have to say: how to call us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Our own program file.
    pub program: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--db`.
    pub db: String,
}

impl Place {
    /// As this run was called.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        Self {
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("ovn-k8s")),
            state_dir: options.state_dir.clone(),
            db: options.db.to_string(),
        }
    }
}

/// The handovers of what was found on a NIC, and what cannot be handed over.
#[must_use]
pub fn there(
    found: &[Found],
    nic: &str,
    bridge: &str,
    _device: &Nic,
    _place: &Place,
) -> (Vec<Handover>, Vec<NotHandedOver>) {
    let not = found
        .iter()
        .filter(|found| found.nic == nic)
        .map(|found| NotHandedOver {
            is_client: matches!(found.manager, Manager::Dhclient | Manager::Udhcpc | Manager::OtherClient),
            what: format!(
                "{} looks after it ({}), and is not handed over to {bridge}",
                found.manager, found.evidence
            ),
            remedy: format!("have {} leave {nic} alone first", found.manager),
        })
        .collect();
    (Vec::new(), not)
}

impl Manager {
    /// Its name, as people know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Networkd => "systemd-networkd",
            Self::NetworkManager => "NetworkManager",
            Self::Ifupdown => "ifupdown",
            Self::Netplan => "netplan",
            Self::Dhclient => "dhclient",
            Self::Udhcpc => "udhcpc",
            Self::OtherClient => "a DHCP client",
        }
    }
}

impl fmt::Display for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, .. } => write!(f, "write {}", path.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::Run { command } => write!(f, "run {}", command.join(" ")),
            Self::Kill { client } => {
                write!(f, "end {} (pid {}), keeping its lease", client.program.display(), client.pid)
            }
            Self::KillByPidFile { path, program } => {
                write!(f, "end {program} by {}, keeping its lease", path.display())
            }
            Self::CopyLeases { from, to, new, .. } => {
                write!(f, "copy the leases {} to {} for {new}", from.display(), to.display())
            }
        }
    }
}
