//! A service as the policy knows it: its ports, where each is reached, and the owner that gets it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::transport::{Family, Transport};

/// An opaque, stable name of a service (`namespace/name` where Kubernetes names it).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceKey(pub Arc<str>);

/// The ports of one service, sorted, one for each (address, protocol, port), as [`ServiceRules::new`] makes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ServiceRules {
    /// The ports.
    pub ports: Vec<ServicePort>,
}

/// One (address, protocol, port) and the owner that gets it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServicePort {
    /// Where it is reached.
    pub address: ServiceAddress,
    /// Transport protocol.
    pub protocol: Transport,
    /// Transport port, never 0.
    pub port: u16,
    /// The owner that gets it.
    pub owner: ServiceOwner,
    /// The sources it serves: `None` every source, else these ranges only (others are dropped).
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

/// The owner that gets the frames of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceOwner {
    /// OVN's load balancers.
    NorthSouth,
    /// The host, which translates them itself (policy `Local`, host-network endpoints only).
    Management,
    /// Neither: policy `Local` and no usable endpoint here. A host process on that port must not answer.
    Drop,
}

/// What one service port claims. One service holds it; of several that claim it, the one with the first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) address: ServiceAddress,
    pub(crate) protocol: Transport,
    pub(crate) port: u16,
}

/// A service port and the service that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'policy> {
    /// The service.
    pub service: &'policy ServiceKey,
    /// Its port.
    pub port: &'policy ServicePort,
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
