//! All services as this gateway sees them, kept up to date one service at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use demux::policy::{Family, ServiceAddress, ServiceKey, ServicePort, ServiceRules};
use kubernetes::ServiceView;
use kubernetes::object::ObjectKey;

use super::claims::{Claims, Place, Rank};
use super::plan::{HealthCheck, NodeView, ServicePlan, plan};
use crate::host_rows::{Reach, ServiceHostRows, Translation};

/// What every service asked for and what it got.
#[derive(Debug, Default)]
pub struct Catalogue {
    node: NodeView,
    services: BTreeMap<ServiceKey, Entry>,
    claims: Claims,
}

#[derive(Debug)]
struct Entry {
    rank: Rank,
    plan: ServicePlan,
}

/// What one service got: the policy's part and the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The policy's part.
    pub rules: ServiceRules,
    /// The host's part.
    pub host: ServiceHostRows,
}

impl Catalogue {
    /// An empty catalogue for a node.
    pub fn new(node: NodeView) -> Self {
        Self { node, ..Self::default() }
    }

    /// The node the services are planned for.
    pub fn node(&self) -> &NodeView {
        &self.node
    }

    /// Takes in a service as it is now (`None`: it is gone). Returns the services whose grants may have changed,
    /// this one included.
    pub fn update(&mut self, key: &ObjectKey, view: Option<&ServiceView>) -> BTreeSet<ServiceKey> {
        let service = service_key(key);
        let old = self.services.remove(&service);
        let new = view.map(|view| Entry {
            rank: Rank { created: view.service.created.unwrap_or(i64::MAX), service: service.clone() },
            plan: plan(&view.service, &view.slices, &self.node),
        });
        let unchanged = match (&old, &new) {
            (Some(old), Some(new)) => old.rank == new.rank && old.plan == new.plan,
            (None, None) => true,
            _ => false,
        };
        let mut affected = BTreeSet::new();
        if !unchanged {
            let old_places = old.as_ref().map(|entry| (&entry.rank, self.places(&entry.plan)));
            let new_places = new.as_ref().map(|entry| (&entry.rank, self.places(&entry.plan)));
            affected = self.claims.replace(
                old_places.as_ref().map(|(rank, places)| (*rank, places)),
                new_places.as_ref().map(|(rank, places)| (*rank, places)),
            );
            affected.insert(service.clone());
        }
        if let Some(entry) = new {
            self.services.insert(service, entry);
        }
        affected
    }

    /// What a service got.
    pub fn granted(&self, key: &ServiceKey) -> Granted {
        let Some(entry) = self.services.get(key) else { return Granted::default() };
        let has = |port: &ServicePort| self.claims.holder(&self.place(port)) == Some(key);
        let mut ports: Vec<_> = entry.plan.ports.iter().filter(|port| has(port)).cloned().collect();
        // One of these is kept for every service.
        ports.shrink_to_fit();
        let mut host = entry.plan.host.clone();
        let holds = |row: &Translation| {
            let family = if row.target.is_ipv4() { Family::V4 } else { Family::V6 };
            let address = match row.reach {
                Reach::Node => ServiceAddress::Node(family),
                Reach::Address(ip) => ServiceAddress::External(ip),
            };
            self.claims.holder(&self.canonical((address, row.protocol, row.port))) == Some(key)
        };
        host.own.retain(|row| holds(row));
        host.direct.retain(|row| holds(row));
        host.node_ports.retain(|row| {
            ports.iter().any(|port| {
                matches!(port.address, ServiceAddress::Node(_))
                    && (port.protocol, port.port) == (row.protocol, row.port)
            })
        });
        Granted { rules: ServiceRules { ports }, host }
    }

    /// Every service that is known.
    pub fn keys(&self) -> impl Iterator<Item = &ServiceKey> {
        self.services.keys()
    }

    /// How many services are known.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether no service is known.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What was refused, by service: what the plan refused and what another service has already.
    pub fn refused(&self) -> Vec<(ServiceKey, String)> {
        let mut found = Vec::new();
        for (key, entry) in &self.services {
            found.extend(entry.plan.refused.iter().map(|reason| (key.clone(), reason.clone())));
            // This is asked for with every status, and hardly ever is there anything to say.
            let ports = if self.claims.are_contested() { entry.plan.ports.as_slice() } else { &[] };
            for port in ports {
                let place = self.place(port);
                if let Some(holder) = self.claims.holder(&place).filter(|holder| *holder != key) {
                    let reason = format!(
                        "{} {} port {} is refused: it belongs to the older service {holder}",
                        port.address, port.protocol, port.port
                    );
                    found.push((key.clone(), reason));
                }
            }
        }
        found
    }

    /// Every `healthCheckNodePort` to serve. Of two services with one port the senior is served.
    pub fn health_checks(&self) -> BTreeMap<u16, (ServiceKey, HealthCheck)> {
        let mut checks: BTreeMap<u16, (&Rank, HealthCheck)> = BTreeMap::new();
        for entry in self.services.values() {
            if let Some(check) = entry.plan.health {
                let slot = checks.entry(check.port).or_insert((&entry.rank, check));
                if entry.rank < *slot.0 {
                    *slot = (&entry.rank, check);
                }
            }
        }
        checks.into_iter().map(|(port, (rank, check))| (port, (rank.service.clone(), check))).collect()
    }

    fn places(&self, plan: &ServicePlan) -> BTreeSet<Place> {
        plan.ports.iter().map(|port| self.place(port)).collect()
    }

    fn place(&self, port: &ServicePort) -> Place {
        self.canonical((port.address, port.protocol, port.port))
    }

    /// An external address that is the node's own meets the NodePorts there, so both are one place.
    fn canonical(&self, (address, protocol, port): Place) -> Place {
        let address = match address {
            ServiceAddress::External(ip) if self.node.shared.contains(&ip) => {
                ServiceAddress::Node(if ip.is_ipv4() { Family::V4 } else { Family::V6 })
            }
            other => other,
        };
        (address, protocol, port)
    }
}

/// The policy's name of a Kubernetes object.
pub fn service_key(key: &ObjectKey) -> ServiceKey {
    ServiceKey(Arc::from(format!("{}/{}", key.namespace, key.name)))
}

#[cfg(test)]
mod tests;
