//! What the helper was told, after flags, file and database have been weighed against each other.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use demux::policy::PortRange;
use ipnet::IpNet;

/// Everything that was told and does not change while the process lives.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The bridge that holds the NIC.
    pub bridge: String,
    /// The NIC.
    pub interface: String,
    /// How pods' replies are told apart.
    pub reply: ReplySetting,
    /// The source ports of OVN's SNAT, if told.
    pub snat_ports: Option<PortRange>,
    /// The node's name, if told.
    pub node_name: Option<String>,
    /// The service ranges, if told.
    pub service_ranges: Vec<IpNet>,
    /// The join ranges, if told.
    pub join_ranges: Vec<IpNet>,
    /// The range NodePorts are taken from.
    pub node_port_range: PortRange,
    /// The conntrack zone of the owner mark.
    pub zone: u16,
    /// Folder of what outlives the process.
    pub state_dir: PathBuf,
    /// Take an older helper's flows away.
    pub adopt: bool,
    /// Where metrics are served, if anywhere.
    pub metrics_address: Option<SocketAddr>,
    /// Where `healthCheckNodePort`s are served, if not on all addresses.
    pub health_check_address: Option<IpAddr>,
    /// A folder of manifests in place of an API server.
    pub manifests: Option<PathBuf>,
    /// Keep `flow-restore-wait` armed on the kernel datapath.
    pub restore_wait: bool,
    /// Turn management to the NIC while the bridge of the userspace datapath carries nothing.
    pub failover: bool,
}

/// `--reply-rule`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplySetting {
    /// Partitioned where the gateway router's NAT rows have a port range, tracked otherwise.
    #[default]
    Auto,
    /// By a connection table.
    Tracked,
    /// By the destination port.
    Partitioned,
}
