//! What was seen: everything the checks go by, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use host::ingress_filter;
use host::interface_sysctls::Settings;
use ovs::openflow::Dumped;

use helper::status::Status;
use uplink::observe::Observed;
use uplink::options::Options;

/// Everything that the checks go by.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Devices, switch, firewall, managers.
    pub observed: Observed,
    /// The two daemons of the switch.
    pub daemons: DaemonsSeen,
    /// What is looked at.
    pub uplinks: Vec<UplinkSeen>,
    /// The flows of their bridges.
    pub flows: BTreeMap<String, Result<TableSeen, String>>,
    /// The takeover's journal.
    pub journal: JournalSeen,
    /// What takeovers left.
    pub left: LeftSeen,
    /// The helper; `None` when it does not run.
    pub helper: Option<HelperSeen>,
    /// OVN on this node.
    pub ovn: OvnSeen,
    /// Other programs that serve NodePorts, each with how it is known.
    pub others: Vec<String>,
    /// The options that a takeover would have, for what it would refuse.
    pub options: Option<Options>,
    /// The doctor does not run as root.
    pub unprivileged: bool,
}

/// The daemons of the switch, as processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DaemonsSeen {
    /// ovsdb-server, when it was stopped (SIGSTOP): its process id.
    pub stopped_database: Option<u32>,
    /// ovs-vswitchd; `None` when it is not known where it runs.
    pub vswitchd: Option<Answers>,
}

/// Whether a daemon answers its control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answers {
    pub pid: u32,
    /// Stopped by a signal or a debugger.
    pub stopped: bool,
    /// What it said, or why it says nothing.
    pub said: Result<String, String>,
}

/// A NIC and its bridge.
#[derive(Clone, Debug, Default)]
pub(super) struct UplinkSeen {
    pub nic: String,
    pub bridge: String,
    /// It is in use: the switch has the bridge with the NIC, or a takeover is on record.
    pub taken: bool,
    /// The NIC's number when it was taken over, if that was in this boot.
    pub index_then: Option<u32>,
    /// The NIC had a default route that nobody announced when it was taken over, of IPv4 and of IPv6; and no third device
    /// has one now.
    pub default_v4: bool,
    pub default_v6: bool,
    pub guard: Option<GuardSeen>,
    /// The bridge's own sysctls.
    pub sysctls: Settings,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<String>,
}

/// The guard table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GuardSeen {
    pub listening: Option<ingress_filter::Accepting>,
    pub whole: bool,
}

/// The takeover's journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum JournalSeen {
    /// None, or closed.
    #[default]
    Closed,
    /// A run is under way, or died.
    Open {
        /// Somebody is at work.
        busy: bool,
        /// It was on the way back.
        back: bool,
    },
    /// The bridge's rows are still in the database.
    Pending,
    /// It cannot be read.
    Broken(String),
}

/// What takeovers left on this node, whether or not their bridge is still there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftSeen {
    /// Bridges on record.
    pub on_record: BTreeSet<String>,
    /// Records that cannot be read, each with why.
    pub broken_records: Vec<String>,
    /// All guard tables.
    pub guards: Vec<ingress_filter::ListedFilter>,
    /// Files of ours that tell network managers something.
    pub files: Vec<FileSeen>,
}

/// A file of ours for a network manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSeen {
    pub path: PathBuf,
    /// The device that it is about, as the file's name has it.
    pub device: String,
    /// It has a manager leave the device alone.
    pub keeps_away: bool,
}

/// A bridge's flows and ports, as its own socket tells them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TableSeen {
    pub flows: Vec<Dumped>,
    /// Names by port number.
    pub ports: BTreeMap<u32, String>,
}

/// The running helper.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HelperSeen {
    /// What it says of itself, or why it says nothing.
    pub status: Result<Box<Status>, String>,
    /// The flows it wants, one a line; `None` when it did not say.
    pub flows: Option<BTreeSet<String>>,
    /// So many flows it had to put right while we looked.
    pub repaired_meanwhile: u64,
}

/// OVN on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OvnSeen {
    /// ovn-controller; `None` when it does not run.
    pub controller: Option<Answers>,
    /// It has its name from its command line or a file, and not from the switch's database.
    pub named_otherwise: bool,
    /// The southbound database, where it is known.
    pub southbound: Option<DatabaseSeen>,
    /// The northbound database, where the helper does not speak for it.
    pub northbound: Option<DatabaseSeen>,
    /// How many flows br-int has.
    pub integration_flows: Option<usize>,
    /// Addresses of this node, on any device; empty when they could not be read.
    pub addresses: BTreeSet<IpAddr>,
}

/// A database of OVN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseSeen {
    /// Where it is.
    pub origin: String,
    /// How that is known.
    pub told_by: &'static str,
    /// Whether one of its servers answers; `None` when it was not asked (TLS).
    pub answer: Option<Result<(), String>>,
}

impl UplinkSeen {
    pub(super) fn said(&self) -> String {
        if self.taken {
            format!("{} on {}", self.nic, self.bridge)
        } else {
            format!("{} (not taken over)", self.nic)
        }
    }
}

impl Seen {
    /// What the helper says of itself, when it does.
    pub(super) fn status(&self) -> Option<&Status> {
        self.helper.as_ref().and_then(|helper| helper.status.as_deref().ok())
    }

    /// The uplinks that are in use.
    pub(super) fn taken(&self) -> impl Iterator<Item = &UplinkSeen> {
        self.uplinks.iter().filter(|uplink| uplink.taken)
    }

    /// The switch's daemon is there and does not answer. Whoever may not ask cannot tell that.
    pub(super) fn silent_switch(&self) -> Option<&Answers> {
        let silent = |answers: &&Answers| answers.stopped || (answers.said.is_err() && !self.unprivileged);
        self.daemons.vswitchd.as_ref().filter(silent)
    }

    /// Pods are meant to go by one of the uplinks: a patch port leads from it to OVN.
    pub(super) fn carries_pods(&self) -> bool {
        let bridges = self.taken().filter_map(|uplink| self.observed.switch.bridge(&uplink.bridge));
        bridges.into_iter().any(|bridge| bridge.ports.iter().any(|port| port.kind == "patch"))
    }
}
