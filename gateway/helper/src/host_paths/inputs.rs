//! What the host's part of the paths is computed from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use demux::policy::{PortRange, ServiceKey};
use ipnet::IpNet;
use services::ServiceHostRows;

/// Everything that decides what the node's own kernel must hold, in one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostInputs {
    /// The node and its devices.
    pub(crate) node: HostNode,
    /// Host rows by the service they belong to. A service without rows may be left out.
    pub(crate) services: BTreeMap<ServiceKey, Arc<ServiceHostRows>>,
}

/// Everything of the inputs that is not a service: changes rarely, and then as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostNode {
    /// The bridge's own device (`breth0`), which holds the shared addresses.
    pub(crate) bridge: String,
    /// The uplink's device (`eth0`), when known: it is guarded as the bridge is, since management moves to it when
    /// vswitchd is dead.
    pub(crate) uplink: Option<String>,
    /// Addresses that host and gateway router share.
    pub(crate) shared: BTreeSet<IpAddr>,
    /// The management port: the way from the host into the overlay. Without it its rows are left out.
    pub(crate) management: Option<ManagementPort>,
    /// Ranges of service (cluster) addresses.
    pub(crate) service_ranges: BTreeSet<IpNet>,
    /// The networks that join gateway routers and cluster router.
    pub(crate) join_ranges: BTreeSet<IpNet>,
    /// How pods' replies are known, as far as the host must keep away from them.
    pub(crate) pods: PodsPorts,
    /// The range the cluster takes NodePorts from (30000-32767 unless the API server is configured otherwise). The host
    /// is kept out of it as a whole, so that a Service change does not touch a sysctl.
    pub(crate) node_port_range: PortRange,
}

/// The management port of this node and what lies behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ManagementPort {
    /// Device name, `k8s-` and the first eleven characters of the node's name.
    pub(crate) device: String,
    /// Own address and the router's address on that network, one per family at most.
    pub(crate) paths: Vec<ManagementPath>,
}

/// One family of the management port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ManagementPath {
    /// The management port's own address.
    pub(crate) address: IpAddr,
    /// The node subnet's router, same family.
    pub(crate) gateway: IpAddr,
}

/// Which ports of the shared addresses OVN's SNAT uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum PodsPorts {
    /// No range of its own: any port can be a pod's (the tracked rule).
    #[default]
    Any,
    /// OVN's SNAT keeps to this range, and the host is kept out of it (tracked with a range, or partitioned).
    Range(PortRange),
}
