//! All services as this gateway sees them, kept up to date one service at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use demux::policy::{Family, ServiceAddress, ServiceKey, ServicePort, ServiceRules};
use kubernetes::ServiceView;
use kubernetes::object::ObjectKey;

use crate::claims::{Claims, Precedence, ServiceEndpointKey};
use crate::host_rows::{Reach, ServiceHostRows, Translation};
use crate::plan::{HealthCheck, NodeView, ServicePlan, plan};

/// What every service claims and what it is granted.
#[derive(Debug, Default)]
pub struct Catalogue {
    node: NodeView,
    services: BTreeMap<ServiceKey, Entry>,
    claims: Claims<ServiceEndpointKey>,
    health_ports: Claims<u16>,
    /// The services whose plan refuses something.
    refusing: BTreeSet<ServiceKey>,
}

/// What one service is granted. One that is granted nothing equals the default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The policy's part; `None` where it has no port.
    pub rules: Option<Arc<ServiceRules>>,
    /// The host's part; `None` where it has no row.
    pub host: Option<Arc<ServiceHostRows>>,
}

/// The checks to serve, by `healthCheckNodePort`.
pub type HealthChecks = BTreeMap<u16, (ServiceKey, HealthCheck)>;

/// What updates changed. Empty where they changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The services whose grant changed, with their grant now.
    pub granted: BTreeMap<ServiceKey, Granted>,
    /// The `healthCheckNodePort`s whose check changed, with their check now (`None`: nothing serves the port).
    pub health_checks: BTreeMap<u16, Option<(ServiceKey, HealthCheck)>>,
}

/// A service's plan as it is kept: grants share the allocations.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    precedence: Precedence,
    plan: Granted,
    health: Option<HealthCheck>,
    refused: Box<[String]>,
}

impl Catalogue {
    /// An empty catalogue for a node.
    pub fn new(node: NodeView) -> Self {
        Self { node, ..Self::default() }
    }

    /// Takes in a service as it is now (`None`: it is gone). The cost is that of the services whose grants change.
    pub fn update(&mut self, key: &ObjectKey, view: Option<&ServiceView>) -> Changes {
        let service = service_key(key);
        let new = view.map(|view| Entry::new(service.clone(), view, &self.node));
        if self.services.get(&service) == new.as_ref() {
            return Changes::default();
        }
        let granted = self.granted(&service);
        let health_ports: BTreeSet<_> = [self.services.get(&service), new.as_ref()]
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.health?.port))
            .collect();
        let checks: Vec<_> = health_ports.into_iter().map(|port| (port, self.health_check(port))).collect();

        let old = self.services.remove(&service);
        let released = old.as_ref().map(|entry| (&entry.precedence, self.keys_of(entry)));
        let claimed = new.as_ref().map(|entry| (&entry.precedence, self.keys_of(entry)));
        let moved = self.claims.replace(released, claimed);
        let released = old.as_ref().map(|entry| (&entry.precedence, entry.health_port()));
        let claimed = new.as_ref().map(|entry| (&entry.precedence, entry.health_port()));
        self.health_ports.replace(released, claimed);
        self.refusing.remove(&service);
        if let Some(entry) = new {
            if !entry.refused.is_empty() {
                self.refusing.insert(service.clone());
            }
            self.services.insert(service.clone(), entry);
        }

        let mut changes = Changes::default();
        for (key, before) in moved {
            let after = self.claims.holder(key).cloned();
            for other in before.into_iter().chain(after).filter(|other| *other != service) {
                changes.granted.entry(other).or_insert_with_key(|other| self.granted(other));
            }
        }
        let after = self.granted(&service);
        if after != granted {
            changes.granted.insert(service, after);
        }
        for (port, before) in checks {
            let after = self.health_check(port);
            if after != before {
                changes.health_checks.insert(port, after);
            }
        }
        changes
    }

    /// What a service is granted.
    pub fn granted(&self, key: &ServiceKey) -> Granted {
        self.services.get(key).map(|entry| self.grant(key, entry)).unwrap_or_default()
    }

    /// What every service is granted that is granted anything.
    pub fn grants(&self) -> impl Iterator<Item = (&ServiceKey, Granted)> {
        let grants = self.services.iter().map(|(key, entry)| (key, self.grant(key, entry)));
        grants.filter(|(_, granted)| *granted != Granted::default())
    }

    /// Every check to serve. Of several services with one `healthCheckNodePort` the first by precedence is served.
    pub fn health_checks(&self) -> HealthChecks {
        self.health_ports.keys().filter_map(|port| Some((port, self.health_check(port)?))).collect()
    }

    /// How many services are known.
    pub fn len(&self) -> usize {
        self.services.len()
    }

    /// Whether no service is known.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// What was refused, by service: what the plan refused and what another service has already. The cost is that of
    /// the services to which something is refused.
    pub fn refused(&self) -> Vec<(ServiceKey, String)> {
        let services: BTreeSet<_> = self.refusing.iter().chain(self.claims.losers()).collect();
        let mut refused = Vec::new();
        for (key, entry) in services.into_iter().filter_map(|key| self.services.get_key_value(key)) {
            refused.extend(entry.refused.iter().map(|reason| (key.clone(), reason.clone())));
            for port in entry.ports() {
                if let Some(holder) = self.holder(port).filter(|holder| *holder != key) {
                    let reason = format!(
                        "{} {} port {} is refused: it belongs to the older service {holder}",
                        port.address, port.protocol, port.port
                    );
                    refused.push((key.clone(), reason));
                }
            }
        }
        refused
    }

    fn grant(&self, key: &ServiceKey, entry: &Entry) -> Granted {
        let has = |port: &ServicePort| self.holder(port) == Some(key);
        if entry.ports().iter().all(has) {
            return entry.plan.clone();
        }
        let mut ports: Vec<_> = entry.ports().iter().filter(|port| has(port)).cloned().collect();
        // One of these is kept for every service.
        ports.shrink_to_fit();
        let mut host = entry.plan.host.as_deref().cloned().unwrap_or_default();
        let holds = |row: &Translation| {
            let address = match row.reach {
                Reach::Node => ServiceAddress::Node(Family::of(row.target.ip())),
                Reach::Address(ip) => ServiceAddress::External(ip),
            };
            self.claims.holder(self.canonical((address, row.protocol, row.port))) == Some(key)
        };
        host.own.retain(|row| holds(row));
        host.direct.retain(|row| holds(row));
        host.node_ports.retain(|row| {
            ports.iter().any(|port| {
                matches!(port.address, ServiceAddress::Node(_))
                    && (port.protocol, port.port) == (row.protocol, row.port)
            })
        });
        Granted::new(ports, host)
    }

    fn health_check(&self, port: u16) -> Option<(ServiceKey, HealthCheck)> {
        let holder = self.health_ports.holder(port)?;
        Some((holder.clone(), self.services.get(holder)?.health?))
    }

    fn keys_of(&self, entry: &Entry) -> BTreeSet<ServiceEndpointKey> {
        entry.ports().iter().map(|port| self.endpoint_key(port)).collect()
    }

    fn holder(&self, port: &ServicePort) -> Option<&ServiceKey> {
        self.claims.holder(self.endpoint_key(port))
    }

    fn endpoint_key(&self, port: &ServicePort) -> ServiceEndpointKey {
        self.canonical((port.address, port.protocol, port.port))
    }

    /// An external address that is the node's own meets the NodePorts there, so both are one key.
    fn canonical(&self, (address, protocol, port): ServiceEndpointKey) -> ServiceEndpointKey {
        let address = match address {
            ServiceAddress::External(ip) if self.node.shared.contains(&ip) => {
                ServiceAddress::Node(Family::of(ip))
            }
            other => other,
        };
        (address, protocol, port)
    }
}

impl Granted {
    fn new(ports: Vec<ServicePort>, host: ServiceHostRows) -> Self {
        Self {
            rules: (!ports.is_empty()).then(|| Arc::new(ServiceRules { ports })),
            host: (host != ServiceHostRows::default()).then(|| Arc::new(host)),
        }
    }
}

impl Changes {
    /// Adds the changes of a later update.
    pub fn extend(&mut self, later: Changes) {
        self.granted.extend(later.granted);
        self.health_checks.extend(later.health_checks);
    }
}

impl Entry {
    fn new(service: ServiceKey, view: &ServiceView, node: &NodeView) -> Self {
        let ServicePlan { ports, host, health, refused } = plan(&view.service, &view.slices, node);
        Self {
            precedence: Precedence { created: view.service.created.unwrap_or(i64::MAX), service },
            plan: Granted::new(ports, host),
            health,
            refused: refused.into(),
        }
    }

    fn ports(&self) -> &[ServicePort] {
        self.plan.rules.as_ref().map_or(&[], |rules| &rules.ports)
    }

    fn health_port(&self) -> BTreeSet<u16> {
        self.health.iter().map(|check| check.port).collect()
    }
}

/// The policy's name of a Kubernetes object.
pub fn service_key(key: &ObjectKey) -> ServiceKey {
    ServiceKey(Arc::from(format!("{}/{}", key.namespace, key.name)))
}

#[cfg(test)]
mod tests;
