//! What the split must do, independent of how: the one value that every renderer implements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::index::{Index, Slot};
use crate::mac::Mac;
pub use crate::transport::{Family, PortRange, Transport};

/// The policy of one shared uplink.
///
/// Services are set and removed one by one; an index beside them answers for one address and port in constant time.
#[derive(Clone, Default)]
pub struct Policy {
    /// What host and gateway router share, and how replies are told apart.
    pub split: Split,
    services: BTreeMap<ServiceKey, Arc<ServiceRules>>,
    index: Index,
}

/// Everything of a policy that is not a service: changes rarely, and then as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// The MAC that host and gateway router share.
    pub mac: Mac,
    /// Addresses that host and gateway router share (the gateway router's own on the external network).
    pub shared: BTreeSet<IpAddr>,
    /// Further addresses that the gateway router translates pods' connections to.
    #[serde(default)]
    pub snat: BTreeSet<IpAddr>,
    /// Ranges of service (cluster) addresses, which never leave by the uplink.
    #[serde(default)]
    pub service_ranges: BTreeSet<IpNet>,
    /// UDP destination ports of the node's own tunnels: management, never tracked.
    #[serde(default)]
    pub tunnels: BTreeSet<u16>,
    /// How a reply to a pod's own connection is recognised.
    #[serde(default)]
    pub reply: ReplyRule,
    /// The bridge has ports besides uplink, overlay and the host's: their frames are judged like the wire's, and
    /// what has no owner here is switched (`Verdict::Switch`).
    #[serde(default)]
    pub other_ports: bool,
}

/// How a reply to a pod's own connection is told from a reply to the host's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ReplyRule {
    /// By a connection table with a mark for the owner.
    #[default]
    Tracked,
    /// By the destination port alone (TCP and UDP); ICMP echo replies go to both.
    Partitioned {
        /// The source ports OVN's SNAT keeps to.
        ports: PortRange,
        /// Old entries of the connection table are still asked (the rule was `Tracked` a short while ago).
        #[serde(default)]
        drain: bool,
    },
}

/// An opaque, stable name of a service (`namespace/name` where Kubernetes names it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceKey(pub Arc<str>);

/// The ports of one service, sorted, one for each (address, protocol, port): [`ServiceRules::new`] sees to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceRules {
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// One (address, protocol, port) and who gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
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

/// A service port and the service it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'policy> {
    /// The service.
    pub service: &'policy ServiceKey,
    /// Its port.
    pub port: &'policy ServicePort,
}

impl Policy {
    /// A policy without services.
    pub fn new(split: Split) -> Self {
        Policy { split, ..Policy::default() }
    }

    /// Sets the ports of a service, and gives back those it had.
    pub fn set_service(&mut self, key: ServiceKey, rules: Arc<ServiceRules>) -> Option<Arc<ServiceRules>> {
        let before = self.remove_service(&key);
        self.index.add(&key, &rules);
        self.services.insert(key, rules);
        before
    }

    /// Takes a service away, and gives back the ports it had.
    pub fn remove_service(&mut self, key: &ServiceKey) -> Option<Arc<ServiceRules>> {
        let rules = self.services.remove(key)?;
        self.index.remove(key, &rules);
        Some(rules)
    }

    /// The ports of one service.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<ServiceRules>> {
        self.services.get(key)
    }

    /// Every service, by key.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&ServiceKey, &Arc<ServiceRules>)> {
        self.services.iter()
    }

    /// Who holds an address, protocol and port. Where several services claim it, the first key has it.
    pub fn claim(&self, address: ServiceAddress, protocol: Transport, port: u16) -> Option<Claim<'_>> {
        self.index.claim(Slot { address, protocol, port })
    }

    /// Whether OVN serves a port on this external address, so that ICMP errors to it are of interest to both owners.
    pub fn serves_external(&self, address: IpAddr) -> bool {
        self.index.serves_external(address)
    }
}

/// Equal when split and services are: the index follows from them.
impl PartialEq for Policy {
    fn eq(&self, other: &Self) -> bool {
        self.split == other.split && self.services == other.services
    }
}

impl Eq for Policy {}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy").field("split", &self.split).field("services", &self.services).finish()
    }
}

impl Split {
    /// Whether the connection table is asked for whole packets (and the host marks its connections in it).
    pub fn tracks(&self) -> bool {
        match self.reply {
            ReplyRule::Tracked => true,
            ReplyRule::Partitioned { drain, .. } => drain,
        }
    }

    /// The partition's port range, under the partitioned rule.
    pub fn partition(&self) -> Option<PortRange> {
        match self.reply {
            ReplyRule::Tracked => None,
            ReplyRule::Partitioned { ports, .. } => Some(ports),
        }
    }
}

impl ServiceRules {
    /// Sorts the ports and keeps the first of those that claim the same (address, protocol, port).
    pub fn new(mut ports: Vec<ServicePort>) -> Self {
        ports.sort();
        ports.dedup_by_key(|port| port.slot());
        ServiceRules { ports }
    }
}

impl ServicePort {
    /// The address, protocol and port it claims.
    pub(crate) fn slot(&self) -> Slot {
        Slot { address: self.address, protocol: self.protocol, port: self.port }
    }

    /// Whether it serves a source address.
    pub fn serves(&self, source: IpAddr) -> bool {
        self.sources.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(&source)))
    }
}

impl ServiceAddress {
    /// The family of the addresses it stands for.
    pub fn family(self) -> Family {
        match self {
            ServiceAddress::Node(family) => family,
            ServiceAddress::External(address) => Family::of(address),
        }
    }
}

impl ServiceKey {
    /// A key from its text.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        ServiceKey(text.into())
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceAddress::Node(family) => write!(f, "node/{family}"),
            ServiceAddress::External(address) => address.fmt(f),
        }
    }
}

impl fmt::Display for ServiceOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ServiceOwner::NorthSouth => "north-south",
            ServiceOwner::Management => "management",
            ServiceOwner::Drop => "drop",
        })
    }
}

impl fmt::Display for ReplyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyRule::Tracked => f.pad("tracked"),
            ReplyRule::Partitioned { ports, drain: false } => write!(f, "partitioned({ports})"),
            ReplyRule::Partitioned { ports, drain: true } => write!(f, "partitioned({ports}, draining)"),
        }
    }
}

#[cfg(test)]
mod tests;
