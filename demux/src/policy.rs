//! What the split must do, independent of how: the one value that every renderer implements.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::index::Index;
use crate::mac::Mac;
use crate::service::Slot;
pub use crate::service::{Claim, ServiceAddress, ServiceKey, ServiceOwner, ServicePort, ServiceRules};
pub use crate::transport::{Family, PortRange, Transport};

/// The policy of one shared uplink.
///
/// Services are set and removed one by one; an index beside them finds the service of an address and port in constant
/// time.
#[derive(Clone, Default)]
pub struct Policy {
    /// What host and gateway router share, and how replies are recognised.
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
    /// The bridge has ports besides uplink, overlay and the host's: their frames are classified like the wire's, and
    /// what has no owner here is switched (`Verdict::Switch`).
    #[serde(default)]
    pub other_ports: bool,
}

/// How a reply to a pod's own connection is distinguished from a reply to the host's.
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
        /// Old entries of the connection table still count (the rule was `Tracked` a short while ago).
        #[serde(default)]
        drain: bool,
    },
}

impl Policy {
    /// A policy without services.
    pub fn new(split: Split) -> Self {
        Policy { split, ..Policy::default() }
    }

    /// Sets the ports of a service. Returns those it had.
    pub fn set_service(&mut self, key: ServiceKey, rules: Arc<ServiceRules>) -> Option<Arc<ServiceRules>> {
        let before = self.remove_service(&key);
        self.index.add(&key, &rules);
        self.services.insert(key, rules);
        before
    }

    /// Removes a service. Returns the ports it had.
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

    /// The service that holds an address, protocol and port. Of several that claim it, the first key holds it.
    pub fn claim(&self, address: ServiceAddress, protocol: Transport, port: u16) -> Option<Claim<'_>> {
        self.index.claim(Slot { address, protocol, port })
    }

    /// Whether OVN serves a port on this external address, so that ICMP errors to it may concern either owner.
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
    /// Whether whole packets are looked up in the connection table (and the host marks its connections in it).
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
