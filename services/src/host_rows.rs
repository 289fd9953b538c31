//! What a service needs of the node's own kernel, as plain values. The helper applies them.

use std::net::{IpAddr, SocketAddr};

use demux::policy::Transport;

/// What one service needs of the host's kernel. Addresses of NodePorts are not repeated here: a [`Reach::Node`] row
/// stands for every shared address of the target's family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceHostRows {
    /// The node's own accesses to its NodePorts, external and load-balancer addresses: translated on the way out
    /// to the cluster address (any port of a service that has a cluster address of that family).
    pub own: Vec<Translation>,
    /// Ports of policy `Local` that only host-network endpoints of this node serve: the frame comes to the host,
    /// which translates it to the endpoint. The target's address is the node's address the endpoint listens on.
    pub direct: Vec<Translation>,
    /// Ports on which host-network endpoints of this node listen, by family of the endpoint's address. What comes
    /// for them by the management address is taken to the node's address (servers that listen there only).
    pub endpoints: Vec<HostEndpoint>,
    /// NodePorts in use by this service that the host does not serve (`ServiceOwner::NorthSouth` and `Drop`): a
    /// host process that holds such a port by chance must not answer, and no RST leaves for them.
    pub node_ports: Vec<NodePort>,
}

/// (where, protocol, port) is taken to `target`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translation {
    /// Where it is reached.
    pub reach: Reach,
    /// Transport protocol.
    pub protocol: Transport,
    /// Transport port, never 0.
    pub port: u16,
    /// Where it is taken to; its family is the family of the row.
    pub target: SocketAddr,
}

/// Where a translated port is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Every shared address of the target's family.
    Node,
    /// One external or load-balancer address of the target's family.
    Address(IpAddr),
}

/// A port of a host-network endpoint on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostEndpoint {
    /// Transport protocol.
    pub protocol: Transport,
    /// The endpoint's address (a node's address) and target port.
    pub target: SocketAddr,
}

/// A NodePort in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct NodePort {
    pub protocol: Transport,
    pub port: u16,
}
