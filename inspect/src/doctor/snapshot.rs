//! The node as it was observed: every value that the checks judge by.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use helper::status::Status;
use host::ingress_filter::{FilterState, ListedFilter};
use host::interface_sysctls::Settings;
use ovs::openflow::Dumped;
use uplink::observe::Observed;
use uplink::options::Options;

/// Everything that the checks judge by.
#[derive(Clone, Debug, Default)]
pub(super) struct NodeSnapshot {
    /// Devices, switch, firewall, network managers, as the takeover's plan observes them.
    pub observed: Observed,
    /// The switch's two daemons.
    pub daemons: DaemonsSnapshot,
    /// The uplinks to check.
    pub uplinks: Vec<UplinkSnapshot>,
    /// The flows of their bridges, by bridge; an error when they cannot be read.
    pub flows: BTreeMap<String, Result<FlowTableSnapshot, String>>,
    /// The takeover's journal.
    pub journal: JournalSnapshot,
    /// What takeovers left on the node.
    pub leftovers: LeftoversSnapshot,
    /// The helper; `None` when it does not run.
    pub helper: Option<HelperSnapshot>,
    /// OVN on this node.
    pub ovn: OvnSnapshot,
    /// Signs of kube-proxy, one sentence each.
    pub kube_proxy: Vec<String>,
    /// Options of the takeover whose refusals are predicted; `None` for no prediction.
    pub takeover_options: Option<Options>,
    /// The doctor does not run as root.
    pub unprivileged: bool,
}

/// The daemons of the switch, as processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DaemonsSnapshot {
    /// Process id of an ovsdb-server that is stopped (SIGSTOP).
    pub stopped_database: Option<u32>,
    /// ovs-vswitchd; `None` when no pidfile names a running one.
    pub vswitchd: Option<DaemonSnapshot>,
}

/// A running daemon, and whether it answers its control socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DaemonSnapshot {
    pub pid: u32,
    /// Stopped by a signal or a debugger.
    pub stopped: bool,
    /// Its answer to one command, or why there is none.
    pub answer: Result<String, String>,
}

/// A NIC and its bridge.
#[derive(Clone, Debug, Default)]
pub(super) struct UplinkSnapshot {
    pub nic: String,
    pub bridge: String,
    /// The switch has the bridge with the NIC, or a takeover record names them.
    pub taken_over: bool,
    /// The NIC's interface index at the takeover, when that was in this boot.
    pub index_at_takeover: Option<u32>,
    /// At the takeover the NIC had a default route of this family that no router announced, and no third device has one
    /// now.
    pub had_default_v4: bool,
    pub had_default_v6: bool,
    /// The ingress filter; `None` when there is none of ours.
    pub ingress_filter: Option<FilterState>,
    /// The bridge's own sysctls.
    pub sysctls: Settings,
    /// `net.ipv4.conf.all.rp_filter`.
    pub rp_filter_all: Option<String>,
}

/// The takeover's journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum JournalSnapshot {
    /// None, or closed.
    #[default]
    Closed,
    /// A run is in progress, or died.
    Open {
        /// A process holds the journal's lock.
        locked: bool,
        /// It is a `bridge-to-nics`.
        detaching: bool,
    },
    /// Undone on the host; the bridge's rows are still in the switch's database.
    DatabasePending,
    /// It cannot be read.
    Unreadable(String),
}

/// What takeovers left on this node, whether or not their bridge still exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftoversSnapshot {
    /// Bridges that have a takeover record.
    pub recorded_bridges: BTreeSet<String>,
    /// Takeover records that cannot be read, each with the reason.
    pub unreadable_records: Vec<String>,
    /// All ingress filters.
    pub ingress_filters: Vec<ListedFilter>,
    /// Files of ours that configure network managers.
    pub files: Vec<HandoverFile>,
}

/// A file of ours that configures a network manager.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HandoverFile {
    pub path: PathBuf,
    /// The device that it is for, as the file's name spells it.
    pub device: String,
    /// It makes a manager ignore the device.
    pub unmanages: bool,
}

/// A bridge's flows and ports, as its OpenFlow socket lists them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct FlowTableSnapshot {
    pub flows: Vec<Dumped>,
    /// Names by port number.
    pub ports: BTreeMap<u32, String>,
}

/// The running helper.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HelperSnapshot {
    /// Its status, or why it does not answer.
    pub status: Result<Box<Status>, String>,
    /// The flows it wants, as `ovs-ofctl` writes them; `None` when it did not list them.
    pub flows: Option<BTreeSet<String>>,
    /// Number of flows that it put right while they were read.
    pub repaired_during_check: u64,
}

/// OVN on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OvnSnapshot {
    /// ovn-controller; `None` when it does not run.
    pub controller: Option<DaemonSnapshot>,
    /// Its name is set on its command line or in a file, not in `external_ids:system-id`.
    pub name_overridden: bool,
    /// The southbound database, when it is configured.
    pub southbound: Option<DatabaseSnapshot>,
    /// The northbound database that a helper started now would use.
    pub northbound: Option<DatabaseSnapshot>,
    /// Number of flows of br-int.
    pub integration_flows: Option<usize>,
    /// Addresses of this node, on any device; empty when they cannot be read.
    pub addresses: BTreeSet<IpAddr>,
}

/// A database of OVN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DatabaseSnapshot {
    /// Its address.
    pub origin: String,
    /// The setting that names it.
    pub configured_by: &'static str,
    /// Whether one of its servers answers; `None` when none was asked (TLS).
    pub answer: Option<Result<(), String>>,
}

impl UplinkSnapshot {
    /// NIC and bridge, as the report's list of uplinks has them.
    pub(super) fn title(&self) -> String {
        if self.taken_over {
            format!("{} on {}", self.nic, self.bridge)
        } else {
            format!("{} (not taken over)", self.nic)
        }
    }
}

impl NodeSnapshot {
    /// The helper's status, when it answers.
    pub(super) fn status(&self) -> Option<&Status> {
        self.helper.as_ref().and_then(|helper| helper.status.as_deref().ok())
    }

    /// The uplinks that are taken over.
    pub(super) fn taken_over(&self) -> impl Iterator<Item = &UplinkSnapshot> {
        self.uplinks.iter().filter(|uplink| uplink.taken_over)
    }

    /// An ovs-vswitchd that runs and does not answer. Without root, only a stopped one is known.
    pub(super) fn unresponsive_vswitchd(&self) -> Option<&DaemonSnapshot> {
        let silent =
            |daemon: &&DaemonSnapshot| daemon.stopped || (daemon.answer.is_err() && !self.unprivileged);
        self.daemons.vswitchd.as_ref().filter(silent)
    }

    /// A patch port leads from one of the uplinks to OVN, so pods use it.
    pub(super) fn carries_pods(&self) -> bool {
        let mut bridges = self.taken_over().filter_map(|uplink| self.observed.switch.bridge(&uplink.bridge));
        bridges.any(|bridge| bridge.ports.iter().any(|port| port.kind == "patch"))
    }
}

/// A setting of OVN in the switch's `external_ids`: the one of this chassis takes precedence over the general one. An empty
/// value counts as unset.
pub(super) fn ovn_setting<'a>(ids: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let own = ids.get("system-id").and_then(|chassis| ids.get(&format!("{name}-{chassis}")));
    own.or_else(|| ids.get(name)).map(String::as_str).filter(|value| !value.trim().is_empty())
}
