//! The host's network managers and DHCP clients: who looks after a NIC, and how it is handed over to the bridge.
//!
//! A manager that is not told puts the NIC's addresses back on it, or lets a lease end. [`detect`] finds them by files and
//! processes, [`handovers`] works out what to write, stop and start, and a [`HandoverExecutor`] does it in three moments: *prepare*
//! before anything is built (nobody may configure the new bridge), *complete* when the way is verified, *take back* when
//! it is undone or the bridge goes. A [`Handover`] is a plain value, so that it can be printed, kept in the journal, and taken back by a
//! process that knows nothing else.
//!
//! Files that configure a manager are below /run: a node that starts anew finds its addresses on the NIC, whether the
//! switch comes up or not, and the takeover is done again from there. Every file written begins with [`MARK`], and only
//! such files are removed. No lease is released. Nothing here is
//! needed for the node to be reachable: it comes after the network's own part, is bounded in time, and a failure is said
//! and does not undo the rest.

use std::fmt;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::options::Options;

mod apply;
mod dhclient;
mod find;
mod ifupdown;
mod network_manager;
mod networkd;
mod supervisor;
mod udhcpc;

pub use apply::{HandoverExecutor, from_journal};
pub use find::detect;

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
pub struct DetectedManager {
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
    /// A configuration that applies to the NIC.
    Configuration {
        /// What it holds.
        content: String,
        /// The identifier its DHCP client goes by, in hexadecimal, where that is known.
        client_id: Option<String>,
    },
    /// A process.
    Process(Client),
    /// It cannot be handed over.
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
    /// Who starts it again when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<Supervisor>,
}

/// Who starts a DHCP client again when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// In words.
    pub who: String,
    /// What to do about it.
    pub remedy: String,
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
    /// When it is undone, or the bridge has gone. May be done after any part of the others.
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
    /// Have a manager read its files again, if one of ours has changed before this.
    Reload {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Let an address stay for ever as far as the kernel goes: from here on a DHCP client ends it.
    Keep {
        /// The address with its prefix.
        address: IpNet,
        /// The device.
        device: String,
    },
    /// Have the kernel go by routers' announcements on a device, forwarding or not.
    HearRouters {
        /// The device.
        device: String,
    },
    /// End a process at once, so that it has no time to release a lease.
    Kill {
        /// Which.
        client: Client,
    },
    /// The same with the process that a file names, when that is this program.
    KillByPidFile {
        /// The file.
        path: PathBuf,
        /// The program's name.
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
    /// Start a client, which goes into the background by itself.
    Start {
        /// Program and arguments.
        command: Vec<String>,
        /// Not when this one still lives.
        unless: Option<Client>,
    },
    /// Run a program that may be run again.
    Run {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// Why a manager is not handed over, or not for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotHandedOver {
    /// The refusal's name.
    pub name: &'static str,
    /// What is so, and why it matters.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// What files of ours have to say: how to call us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// Our own program file.
    pub program: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--db`.
    pub db: String,
}

impl Invocation {
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

/// Addresses of a NIC that expire unless they are renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpiringAddresses {
    /// IPv4.
    pub v4: Vec<IpNet>,
    /// IPv6, without those that routers announced.
    pub v6: Vec<IpNet>,
    /// There is one of IPv6, announced ones included.
    pub announced: bool,
}

/// The handovers of the managers that were detected on a NIC, and those that cannot be handed over.
#[must_use]
pub fn handovers(
    found: &[DetectedManager],
    nic: &str,
    bridge: &str,
    expiring: &ExpiringAddresses,
    invocation: &Invocation,
) -> (Vec<Handover>, Vec<NotHandedOver>) {
    let ExpiringAddresses { v4, v6, announced } = expiring.clone();
    let asked = Asked { nic, bridge, leased: v4, leased6: v6, announced, invocation };
    let (mut handovers, mut not) = (Vec::new(), Vec::new());
    for found in found.iter().filter(|found| found.nic == nic) {
        match asked.handover(found) {
            Ok(handover) => {
                not.extend(asked.supervised(found));
                handovers.push(handover);
            }
            Err((why, remedy)) => {
                let is_client =
                    found.manager.is_client() || (why.contains("lease") && !asked.leased.is_empty());
                not.push(NotHandedOver {
                    name: if is_client { "dhcp-not-handed-over" } else { "manager-not-handed-over" },
                    what: format!(
                        "{} ({}) looks after it and cannot be handed over: {why}",
                        found.manager, found.evidence
                    ),
                    remedy,
                });
            }
        }
    }
    (handovers, not)
}

/// What a handover is worked out from.
struct Asked<'a> {
    nic: &'a str,
    bridge: &'a str,
    /// IPv4 addresses that end by themselves.
    leased: Vec<IpNet>,
    /// The same of IPv6, without what routers announced.
    leased6: Vec<IpNet>,
    /// It has an IPv6 address that ends by itself.
    announced: bool,
    invocation: &'a Invocation,
}

/// Why not, and what to do.
type Not = (String, String);

impl Asked<'_> {
    fn handover(&self, found: &DetectedManager) -> Result<Handover, Not> {
        match (&found.details, found.manager) {
            (Details::Opaque { why }, Manager::OtherClient) => {
                let all: Vec<_> = self.leased.iter().chain(&self.leased6).copied().collect();
                let stay = self.stay(&all);
                Err((why.clone(), format!("have dhclient or udhcpc look after {}, or {stay}", self.nic)))
            }
            (Details::Opaque { why }, manager) => Err((
                why.clone(),
                format!("have {manager} leave {} alone first, its addresses in place", self.nic),
            )),
            (Details::Configuration { content, client_id }, Manager::Networkd) => {
                Ok(networkd::handover(self, content, client_id.as_deref()))
            }
            (Details::Configuration { .. }, Manager::NetworkManager) => network_manager::handover(self),
            (Details::Configuration { .. }, Manager::Ifupdown) => Ok(ifupdown::handover(self)),
            (Details::Process(client), Manager::Dhclient) => dhclient::handover(self, client),
            (Details::Process(client), Manager::Udhcpc) => udhcpc::handover(self, client),
            // netplan only writes files for another one, which is found by itself.
            _ => Ok(self.with(found.manager)),
        }
    }

    /// A client that is handed over, and comes to life again behind our back.
    fn supervised(&self, found: &DetectedManager) -> Option<NotHandedOver> {
        let Details::Process(Client { supervisor: Some(supervisor), .. }) = &found.details else {
            return None;
        };
        Some(NotHandedOver {
            name: "dhcp-supervised",
            what: format!(
                "{} ({}) is started again by {}: beside the one on {}, another would put the address back on {}",
                found.manager, found.evidence, supervisor.who, self.bridge, self.nic
            ),
            remedy: supervisor.remedy.clone(),
        })
    }

    /// How a person makes addresses static that a client holds, without losing them.
    fn stay(&self, addresses: &[IpNet]) -> String {
        let nic = self.nic;
        let mut said = String::from(
            "make its address static: in the node's configuration for the next boot, and for now end the client with `kill -9` (so that it releases nothing)",
        );
        for address in addresses {
            said += &format!(
                " and `ip address change {address} dev {nic} valid_lft forever preferred_lft forever`"
            );
        }
        said
    }

    /// A handover without anything to do.
    fn with(&self, manager: Manager) -> Handover {
        Handover {
            manager,
            nic: self.nic.to_owned(),
            bridge: self.bridge.to_owned(),
            for_ipv6: false,
            prepare: Vec::new(),
            complete: Vec::new(),
            take_back: Vec::new(),
        }
    }

    /// A file of ours that outlives a reboot.
    fn state_file(&self, name: &str) -> PathBuf {
        self.invocation.state_dir.join("uplink").join(name)
    }

    fn keep(&self, device: &str) -> Vec<Act> {
        let keep = |address: &IpNet| Act::Keep { address: *address, device: device.to_owned() };
        self.leased.iter().map(keep).collect()
    }
}

fn write(path: impl Into<PathBuf>, content: impl Into<String>) -> Act {
    Act::Write { path: path.into(), content: content.into(), executable: false }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

impl Manager {
    fn is_client(self) -> bool {
        matches!(self, Self::Dhclient | Self::Udhcpc | Self::OtherClient)
    }

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
            Self::Reload { command } => write!(f, "run {}", command.join(" ")),
            Self::Keep { address, device } => {
                write!(f, "let {address} stay on {device} until the client ends it")
            }
            Self::HearRouters { device } => write!(f, "have the kernel hear routers on {device}"),
            Self::Kill { client } => {
                write!(f, "end {} (pid {}), keeping its lease", client.program.display(), client.pid)
            }
            Self::KillByPidFile { path, program } => {
                write!(f, "end {program} by {}, keeping its lease", path.display())
            }
            Self::CopyLeases { from, to, new, .. } => {
                write!(f, "copy the leases {} to {} for {new}", from.display(), to.display())
            }
            Self::Start { command, .. } => write!(f, "start {}", command.join(" ")),
            Self::Run { command } => write!(f, "run {}", command.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests;
