//! What the flags and the settings file say, as the rest of the crate needs it. It does not change while the process
//! runs; what the databases add to it is in [`crate::facts::Facts`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use demux::policy::PortRange;
use ipnet::IpNet;
use ovs::ovsdb::{Remote, TlsFiles};
use ovs::paths::Paths;

/// All settings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The bridge that holds the NIC.
    pub(crate) bridge: String,
    /// The NIC.
    pub(crate) interface: String,
    /// The node's name, if given.
    pub(crate) node_name: Option<String>,
    /// What decides whose a frame is.
    pub(crate) policy: PolicySettings,
    /// Where facts come from.
    pub(crate) connections: Connections,
    /// Where sockets and pidfiles are.
    pub(crate) paths: Paths,
    /// Folder for state that outlives the process.
    pub(crate) state_dir: PathBuf,
    /// Where metrics are served, if anywhere.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Where `healthCheckNodePort`s are served, if not on all addresses.
    pub(crate) health_check_address: Option<IpAddr>,
    /// Remove the flows of an older helper.
    pub(crate) adopt: bool,
    /// Keep `flow-restore-wait` armed on the kernel datapath.
    pub(crate) restore_wait: bool,
    /// Move management to the NIC while the bridge of the userspace datapath carries nothing.
    pub(crate) failover: bool,
}

/// What decides whose a frame is.
#[derive(Clone, Debug)]
pub(crate) struct PolicySettings {
    /// How replies to pods' connections are told from the host's.
    pub(crate) reply: ReplySetting,
    /// The source ports of OVN's SNAT, if given.
    pub(crate) snat_ports: Option<PortRange>,
    /// The service ranges; empty if not given.
    pub(crate) service_ranges: Vec<IpNet>,
    /// The join ranges; empty if not given.
    pub(crate) join_ranges: Vec<IpNet>,
    /// The range NodePorts are taken from.
    pub(crate) node_port_range: PortRange,
    /// The conntrack zone of the owner mark.
    pub(crate) zone: u16,
}

/// Where facts come from.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    /// The local database.
    pub(crate) local: Vec<Remote>,
    /// The northbound database; empty if not given.
    pub(crate) northbound: Vec<Remote>,
    /// Key and certificates for it.
    pub(crate) northbound_tls: TlsFiles,
    /// Kubernetes objects.
    pub(crate) objects: ObjectSettings,
}

/// Where Kubernetes objects come from. What is `None` here may stand in `external_ids` of the local database.
#[derive(Clone, Debug, Default)]
pub(crate) struct ObjectSettings {
    /// A folder of manifests in place of an API server.
    pub(crate) manifests: Option<PathBuf>,
    /// The API server, `HOST:PORT` or a URL.
    pub(crate) api_server: Option<String>,
    /// File with its CA certificate.
    pub(crate) ca_file: Option<PathBuf>,
    /// File with the bearer token.
    pub(crate) token_file: Option<PathBuf>,
    /// Send the token over plain http to any host.
    pub(crate) allow_insecure_token: bool,
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
