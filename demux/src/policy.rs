//! What the split must do, independent of how: the one value that every renderer implements.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::mac::Mac;

/// The policy of one shared uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What host and gateway router share, and how replies are told apart.
    pub split: Split,
    /// Service ports by the service they belong to.
    pub services: BTreeMap<ServiceKey, Arc<ServiceRules>>,
}

/// Everything of a policy that is not a service: changes rarely, and then as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// The MAC that host and gateway router share.
    pub mac: Mac,
    /// Addresses that host and gateway router share (the gateway router's own on the external network).
    pub shared: BTreeSet<IpAddr>,
    /// Further addresses that the gateway router translates pods' connections to.
    pub snat: BTreeSet<IpAddr>,
    /// Ranges of service (cluster) addresses, which never leave by the uplink.
    pub service_ranges: BTreeSet<IpNet>,
    /// UDP destination ports of the node's own tunnels: management, never tracked.
    pub tunnels: BTreeSet<u16>,
    /// How a reply to a pod's own connection is recognised.
    pub reply: ReplyRule,
    /// The bridge has ports besides uplink, overlay and the host's: their frames are judged like the wire's, and
    /// what has no owner here is switched (`Verdict::Switch`).
    pub other_ports: bool,
}

/// How a reply to a pod's own connection is told from a reply to the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyRule {
    /// By a connection table with a mark for the owner.
    #[default]
    Tracked,
    /// By the destination port alone (TCP and UDP); ICMP echo replies go to both.
    Partitioned {
        /// The source ports OVN's SNAT keeps to.
        ports: PortRange,
        /// Old entries of the connection table are still asked (the rule was `Tracked` a short while ago).
        drain: bool,
    },
}

/// An inclusive range of transport ports, low to high.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    low: u16,
    high: u16,
}

/// An opaque, stable name of a service (`namespace/name` where Kubernetes names it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey(pub Arc<str>);

/// The ports of one service. Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRules {
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// One (address, protocol, port) and who gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    /// Where it is reached.
    pub address: ServiceAddress,
    /// Transport protocol.
    pub protocol: Transport,
    /// Transport port, never 0.
    pub port: u16,
    /// Who gets it.
    pub owner: ServiceOwner,
    /// Whom it serves: `None` everybody, else these ranges only (others are dropped). An empty set serves nobody.
    pub sources: Option<BTreeSet<IpNet>>,
}

/// Where a service port is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceAddress {
    /// A NodePort: every shared address of this family.
    Node(Family),
    /// One external or load-balancer address.
    External(IpAddr),
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Family {
    V4,
    V6,
}

/// Transport protocols that services have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Transport {
    Tcp,
    Udp,
    Sctp,
}

/// Who gets the frames of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceOwner {
    /// OVN's load balancers.
    NorthSouth,
    /// The host, which translates them itself (policy `Local`, host-network endpoints only).
    Management,
    /// Nobody: policy `Local` and no usable endpoint here. A host process on that port must not answer.
    Drop,
}
