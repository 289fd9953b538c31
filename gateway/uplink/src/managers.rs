//! The host's network managers and DHCP clients: which of them configure a NIC, and how they are handed over to the bridge.
//!
//! Without a handover a manager puts the addresses back on the NIC, or lets a lease expire. `detect` finds managers by
//! their files and processes, `handovers` computes what to write, stop and start, and a `HandoverExecutor` executes it
//! in three phases: *prepare* before the bridge is made (no manager may configure it), *complete* when the switchover is
//! verified, *take back* on undo or when the bridge is removed. A [`Handover`] is a plain value: it is printed, kept in
//! the journal, and taken back by a process that has nothing but the journal.
//!
//! Files that configure a manager are below /run: after a reboot the addresses are on the NIC, whether the switch starts
//! or not, and the takeover is repeated from there. Every file written begins with [`MARK`], and only such files are
//! removed. No lease is released. The node is reachable without any of this: it comes after the network's own part, has a
//! timeout, and a failure is reported and undoes nothing else.

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

pub(crate) use apply::{HandoverExecutor, from_journal};
pub(crate) use find::detect;

/// What every file that a takeover writes begins with, after the comment sign.
pub const MARK: &str = "Written by ovn-k8s-util (uplink takeover); removed by: ovn-k8s-util bridge-to-nics";

/// A program that configures a NIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// ifupdown (`/etc/network/interfaces`).
    Ifupdown,
    /// netplan: writes the configuration of systemd-networkd or NetworkManager.
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
    /// The file or process that shows it (`/etc/systemd/network/20-wired.network`).
    pub evidence: String,
    /// What the handover depends on.
    pub details: Details,
}

/// What a handover depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Details {
    /// A configuration that applies to the NIC.
    Configuration {
        /// What it holds.
        content: String,
        /// The client identifier of its DHCP client, in hexadecimal, where that is known.
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
    /// Its start, in clock ticks since boot: with the process id it is unique.
    pub started: u64,
    /// Its program file.
    pub program: PathBuf,
    /// Its command line.
    pub arguments: Vec<String>,
    /// What restarts it when it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor: Option<Supervisor>,
}

/// What restarts a DHCP client when it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervisor {
    /// Name, with unit or process id.
    #[serde(rename = "who")]
    pub name: String,
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
    /// It configures IPv6 only.
    pub for_ipv6: bool,
    /// Before the bridge is made.
    pub prepare: Vec<Act>,
    /// When the switchover is verified.
    pub complete: Vec<Act>,
    /// On undo, or when the bridge is removed; also after a part of the others.
    pub take_back: Vec<Act>,
}

/// One action of a handover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// Write a file. An existing file without [`MARK`] is not overwritten.
    Write {
        /// Where.
        path: PathBuf,
        /// Content, with [`MARK`] in its first two lines.
        content: String,
        /// It gets mode 0755.
        executable: bool,
    },
    /// Remove a file, if it exists and has [`MARK`].
    Remove {
        /// Where.
        path: PathBuf,
    },
    /// Have a manager read its files again, if an action before this changed one.
    Reload {
        /// Program and arguments.
        command: Vec<String>,
    },
    /// Give an address an unlimited lifetime in the kernel: from here on the DHCP client removes it when the lease ends.
    Keep {
        /// The address with its prefix.
        address: IpNet,
        /// The device.
        device: String,
    },
    /// Have the kernel accept router advertisements on a device, also while it forwards.
    #[serde(rename = "hear-routers")]
    AcceptRouterAdvertisements {
        /// The device.
        device: String,
    },
    /// Kill a process (SIGKILL), so that it releases no lease.
    Kill {
        /// Which.
        client: Client,
    },
    /// Kill the process of a pidfile, if it runs this program.
    KillByPidFile {
        /// The file.
        path: PathBuf,
        /// The program's name.
        program: String,
    },
    /// Copy a lease file and replace the device in it.
    CopyLeases {
        /// From.
        from: PathBuf,
        /// To.
        to: PathBuf,
        /// The device in the original.
        old: String,
        /// The device in the copy.
        new: String,
    },
    /// Start a client, which daemonizes.
    Start {
        /// Program and arguments.
        command: Vec<String>,
        /// Only if this process has ended.
        unless: Option<Client>,
    },
    /// Run a program; it is idempotent.
    Run {
        /// Program and arguments.
        command: Vec<String>,
    },
}

/// Why a manager is not handed over, or why the handover does not last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotHandedOver {
    /// The refusal's name.
    pub name: &'static str,
    /// The problem, and why it matters.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

/// How hooks and scripts call this program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Invocation {
    /// This program's file.
    pub program: PathBuf,
    /// `--state-dir`.
    pub state_dir: PathBuf,
    /// `--db`.
    pub db: String,
}

impl Invocation {
    /// With the options of this run.
    #[must_use]
    pub(crate) fn of(options: &Options) -> Self {
        Self {
            program: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("ovn-k8s")),
            state_dir: options.state_dir.clone(),
            db: options.db.to_string(),
        }
    }
}

/// Addresses of a NIC that expire unless they are renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExpiringAddresses {
    /// IPv4.
    pub v4: Vec<IpNet>,
    /// IPv6, without those from router advertisements.
    pub v6: Vec<IpNet>,
    /// There is one of IPv6, those from router advertisements included.
    pub announced: bool,
}

/// The handovers of the managers that were detected on a NIC, and those that cannot be handed over.
#[must_use]
pub(crate) fn handovers(
    found: &[DetectedManager],
    nic: &str,
    bridge: &str,
    expiring: &ExpiringAddresses,
    invocation: &Invocation,
) -> (Vec<Handover>, Vec<NotHandedOver>) {
    let ExpiringAddresses { v4, v6, announced } = expiring.clone();
    let request = HandoverRequest { nic, bridge, leased: v4, leased6: v6, announced, invocation };
    let (mut handovers, mut not) = (Vec::new(), Vec::new());
    for found in found.iter().filter(|found| found.nic == nic) {
        match request.handover(found) {
            Ok(handover) => {
                not.extend(request.supervised(found));
                handovers.push(handover);
            }
            Err((why, remedy)) => {
                let is_client =
                    found.manager.is_client() || (why.contains("lease") && !request.leased.is_empty());
                not.push(NotHandedOver {
                    name: if is_client { "dhcp-not-handed-over" } else { "manager-not-handed-over" },
                    what: format!(
                        "{} ({}) configures it and cannot be handed over: {why}",
                        found.manager, found.evidence
                    ),
                    remedy,
                });
            }
        }
    }
    (handovers, not)
}

/// What a handover is computed from.
struct HandoverRequest<'a> {
    nic: &'a str,
    bridge: &'a str,
    /// IPv4 addresses with a lifetime.
    leased: Vec<IpNet>,
    /// IPv6 addresses with a lifetime, without those from router advertisements.
    leased6: Vec<IpNet>,
    /// There is an IPv6 address with a lifetime.
    announced: bool,
    invocation: &'a Invocation,
}

/// Why a handover is impossible, and what to do.
type Impossible = (String, String);

impl HandoverRequest<'_> {
    fn handover(&self, found: &DetectedManager) -> Result<Handover, Impossible> {
        match (&found.details, found.manager) {
            (Details::Opaque { why }, Manager::OtherClient) => {
                let all: Vec<_> = self.leased.iter().chain(&self.leased6).copied().collect();
                let remedy = self.make_static(&all);
                Err((why.clone(), format!("use dhclient or udhcpc for {}, or {remedy}", self.nic)))
            }
            (Details::Opaque { why }, manager) => Err((
                why.clone(),
                format!("make {manager} ignore {} first, without removing its addresses", self.nic),
            )),
            (Details::Configuration { content, client_id }, Manager::Networkd) => {
                Ok(networkd::handover(self, content, client_id.as_deref()))
            }
            (Details::Configuration { .. }, Manager::NetworkManager) => network_manager::handover(self),
            (Details::Configuration { .. }, Manager::Ifupdown) => Ok(ifupdown::handover(self)),
            (Details::Process(client), Manager::Dhclient) => dhclient::handover(self, client),
            (Details::Process(client), Manager::Udhcpc) => udhcpc::handover(self, client),
            // netplan only writes files for another manager, which is detected separately.
            _ => Ok(self.with(found.manager)),
        }
    }

    /// A client that is handed over, and that its supervisor starts again on the NIC.
    fn supervised(&self, found: &DetectedManager) -> Option<NotHandedOver> {
        let Details::Process(Client { supervisor: Some(supervisor), .. }) = &found.details else {
            return None;
        };
        Some(NotHandedOver {
            name: "dhcp-supervised",
            what: format!(
                "{} ({}) is restarted by {}: besides the client on {}, another would put the address back on {}",
                found.manager, found.evidence, supervisor.name, self.bridge, self.nic
            ),
            remedy: supervisor.remedy.clone(),
        })
    }

    /// How to make addresses of a DHCP client static without losing them.
    fn make_static(&self, addresses: &[IpNet]) -> String {
        let nic = self.nic;
        let mut text = String::from(
            "make its address static: in the node's configuration for the next boot, and now end the client with `kill -9` (so that it releases no lease)",
        );
        for address in addresses {
            text += &format!(
                " and `ip address change {address} dev {nic} valid_lft forever preferred_lft forever`"
            );
        }
        text
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

    /// A file in the state folder, which persists over a reboot.
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

    /// Its name.
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
                write!(f, "keep {address} on {device} until the client removes it")
            }
            Self::AcceptRouterAdvertisements { device } => {
                write!(f, "have the kernel accept router advertisements on {device}")
            }
            Self::Kill { client } => {
                write!(
                    f,
                    "kill {} (pid {}), without releasing its lease",
                    client.program.display(),
                    client.pid
                )
            }
            Self::KillByPidFile { path, program } => {
                write!(f, "kill {program} of {}, without releasing its lease", path.display())
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
