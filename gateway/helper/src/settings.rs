//! What the helper was told, after flags, file and database have been weighed against each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use demux::policy::PortRange;
use ipnet::IpNet;

/// Everything that was told and does not change while the process lives.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The bridge that holds the NIC.
    pub(crate) bridge: String,
    /// The NIC.
    pub(crate) interface: String,
    /// How pods' replies are told apart.
    pub(crate) reply: ReplySetting,
    /// The source ports of OVN's SNAT, if told.
    pub(crate) snat_ports: Option<PortRange>,
    /// The node's name, if told.
    pub(crate) node_name: Option<String>,
    /// The service ranges, if told.
    pub(crate) service_ranges: Vec<IpNet>,
    /// The join ranges, if told.
    pub(crate) join_ranges: Vec<IpNet>,
    /// The range NodePorts are taken from.
    pub(crate) node_port_range: PortRange,
    /// The conntrack zone of the owner mark.
    pub(crate) zone: u16,
    /// Folder of what outlives the process.
    pub(crate) state_dir: PathBuf,
    /// Take an older helper's flows away.
    pub(crate) adopt: bool,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Where `healthCheckNodePort`s are served, if not on all addresses.
    pub(crate) health_check_address: Option<IpAddr>,
    /// A folder of manifests in place of an API server.
    pub(crate) manifests: Option<PathBuf>,
    /// Keep `flow-restore-wait` armed on the kernel datapath.
    pub(crate) restore_wait: bool,
    /// Turn management to the NIC while the bridge of the userspace datapath carries nothing.
    pub(crate) failover: bool,
}

/// `--reply-rule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReplySetting {
    /// Partitioned where the gateway router's NAT rows have a port range, tracked otherwise.
    #[default]
    Auto,
    /// By a connection table.
    Tracked,
    /// By the destination port.
    Partitioned,
}
