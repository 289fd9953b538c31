//! What the node's kernel should hold, as a value that follows single Services.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use demux::policy::{PortRange, ServiceKey, Transport};
use host::ports::{PortSet, PortSpan};
use ipnet::IpNet;

use super::inputs::{HostInputs, HostNode, PodsPorts};
use super::rules::{Features, NftRule, rules};
use super::table::{ElementChange, ElementData, ElementKey, Elements, SetName};
use services::{Reach, ServiceHostRows, Translation};

/// A route that should exist; the device by name, because its index changes when it is created again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DesiredRoute {
    /// Where to.
    pub(crate) destination: IpNet,
    /// The management port's device.
    pub(crate) device: String,
    /// The node subnet's router.
    pub(crate) via: IpAddr,
    /// The management port's address.
    pub(crate) source: IpAddr,
}

/// What the node's kernel should hold, as a value. Services can be followed one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DesiredHost {
    node: HostNode,
    services: BTreeMap<ServiceKey, Arc<ServiceHostRows>>,
    /// The NodePorts in use outside of the NodePort range.
    outside: BTreeSet<(u16, Transport)>,
    /// Routes over the management port.
    pub(crate) routes: BTreeSet<DesiredRoute>,
    /// The nft table's rules.
    pub(crate) rules: Vec<NftRule>,
    /// The nft table's elements.
    pub(crate) elements: Elements,
    /// What is left out, and why.
    pub(crate) left_out: Vec<String>,
}

/// What `arp_announce` of the management port's device must be. A host that answers a pod from its physical address
/// would otherwise send ARP requests for the overlay's router with that address, and OVN's router does not answer a
/// sender outside of its subnet: replies are lost while the router has no neighbour entry.
pub(crate) const ARP_ANNOUNCE: &str = "2";

impl DesiredHost {
    /// The device whose ARP requests must carry an address of its own subnet: the management port's.
    #[must_use]
    pub(crate) fn announcing(&self) -> Option<&str> {
        self.node.management.as_ref().map(|port| port.device.as_str())
    }
}

/// What the node's kernel should hold for these inputs: a pure function.
#[must_use]
pub(crate) fn desired(inputs: &HostInputs, features: Features) -> DesiredHost {
    let node = inputs.node.clone();
    let (rules, mut left_out) = rules(&node, features);
    let routes = routes(&node, &mut left_out);
    let mut elements = Elements::default();
    for rows in inputs.services.values() {
        for_each_element(&node, rows, |key, data| elements.add(key, data));
    }
    let range = node.node_port_range;
    let node_ports = elements.of(SetName::NodePorts).map(|(key, _)| (key.port, key.protocol));
    let outside = node_ports.filter(|(port, _)| !range.contains(*port)).collect();
    DesiredHost { node, services: inputs.services.clone(), outside, routes, rules, elements, left_out }
}

impl DesiredHost {
    /// The node part of the inputs.
    #[must_use]
    pub(crate) fn node(&self) -> &HostNode {
        &self.node
    }

    /// One Service came, changed or went (`None`). The changes of elements that this means.
    pub(crate) fn set_service(
        &mut self,
        key: &ServiceKey,
        rows: Option<Arc<ServiceHostRows>>,
    ) -> Vec<ElementChange> {
        let before = match &rows {
            Some(rows) => self.services.insert(key.clone(), Arc::clone(rows)),
            None => self.services.remove(key),
        };
        let mut touched: BTreeMap<ElementKey, Option<ElementData>> = BTreeMap::new();
        let Self { node, elements, .. } = self;
        if let Some(before) = before {
            for_each_element(node, &before, |key, data| {
                touched.entry(key).or_insert_with(|| elements.get(&key));
                elements.remove(key, data);
            });
        }
        if let Some(rows) = rows {
            for_each_element(node, &rows, |key, data| {
                touched.entry(key).or_insert_with(|| elements.get(&key));
                elements.add(key, data);
            });
        }
        let change = |(key, before)| ElementChange { key, before, after: elements.get(&key) };
        let changes: Vec<_> =
            touched.into_iter().map(change).filter(|change| change.before != change.after).collect();
        let range = self.node.node_port_range;
        for ElementChange { key, after, .. } in &changes {
            if key.set != SetName::NodePorts || range.contains(key.port) {
                continue;
            }
            match after {
                Some(_) => self.outside.insert((key.port, key.protocol)),
                None => self.outside.remove(&(key.port, key.protocol)),
            };
        }
        changes
    }

    /// All Services as they are now; those whose rows are the same value cost a comparison of pointers.
    pub(crate) fn follow(
        &mut self,
        services: &BTreeMap<ServiceKey, Arc<ServiceHostRows>>,
    ) -> Vec<ElementChange> {
        let gone = self.services.keys().filter(|key| !services.contains_key(*key));
        let mut changed: Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)> =
            gone.map(|key| (key.clone(), None)).collect();
        for (key, rows) in services {
            let same = self.services.get(key).is_some_and(|known| Arc::ptr_eq(known, rows) || known == rows);
            if !same {
                changed.push((key.clone(), Some(Arc::clone(rows))));
            }
        }
        self.set_services(changed)
    }

    /// The Services with these keys as they are now; the others are what they were.
    pub(crate) fn follow_some(
        &mut self,
        services: &BTreeMap<ServiceKey, Arc<ServiceHostRows>>,
        keys: &BTreeSet<ServiceKey>,
    ) -> Vec<ElementChange> {
        self.set_services(keys.iter().map(|key| (key.clone(), services.get(key).cloned())).collect())
    }

    fn set_services(
        &mut self,
        services: Vec<(ServiceKey, Option<Arc<ServiceHostRows>>)>,
    ) -> Vec<ElementChange> {
        let mut first: BTreeMap<ElementKey, ElementChange> = BTreeMap::new();
        for (key, rows) in services {
            for change in self.set_service(&key, rows) {
                first.entry(change.key).or_insert(change).after = change.after;
            }
        }
        first.into_values().filter(|change| change.before != change.after).collect()
    }

    /// The ports that the host must not choose as source ports: the NodePort range, NodePorts outside of it, OVN's range.
    #[must_use]
    pub(crate) fn reserved_ports(&self) -> PortSet {
        let outside = self.outside.iter().filter_map(|(port, _)| PortSpan::new(*port, *port));
        let mut spans: Vec<PortSpan> = outside.collect();
        spans.extend(span(self.node.node_port_range));
        if let PodsPorts::Range(range) = self.node.pods {
            spans.extend(span(range));
        }
        PortSet::from_spans(spans)
    }

    /// NodePorts in use that are not the host's, by protocol.
    #[cfg(test)]
    pub(crate) fn node_ports(&self) -> impl Iterator<Item = (Transport, u16)> + '_ {
        self.elements.of(SetName::NodePorts).map(|(key, _)| (key.protocol, key.port))
    }
}

pub(crate) fn span(range: PortRange) -> Option<PortSpan> {
    PortSpan::new(range.low(), range.high())
}

fn routes(node: &HostNode, left_out: &mut Vec<String>) -> BTreeSet<DesiredRoute> {
    let mut routes = BTreeSet::new();
    for (what, ranges) in [("service range", &node.service_ranges), ("join network", &node.join_ranges)] {
        for &destination in ranges {
            let v4 = destination.addr().is_ipv4();
            let path = node.management.as_ref().and_then(|port| {
                Some((
                    port,
                    port.paths
                        .iter()
                        .find(|path| path.address.is_ipv4() == v4 && path.gateway.is_ipv4() == v4)?,
                ))
            });
            match path {
                Some((port, path)) => {
                    routes.insert(DesiredRoute {
                        destination: destination.trunc(),
                        device: port.device.clone(),
                        via: path.gateway,
                        source: path.address,
                    });
                }
                None => left_out.push(format!(
                    "the route to the {what} {destination}: the management port has no address of that family"
                )),
            }
        }
    }
    routes
}

/// Calls `each` for every element that a Service needs, the same ones in the same number each time.
fn for_each_element(node: &HostNode, rows: &ServiceHostRows, mut each: impl FnMut(ElementKey, ElementData)) {
    let of_family = |row: &Translation| match row.target {
        SocketAddr::V4(_) => (SetName::Svc4, SetName::Direct4),
        SocketAddr::V6(_) => (SetName::Svc6, SetName::Direct6),
    };
    for row in &rows.own {
        translated(node, row, |key, data| each(ElementKey { set: of_family(row).0, ..key }, data));
    }
    for row in &rows.direct {
        translated(node, row, |key, data| each(ElementKey { set: of_family(row).1, ..key }, data));
    }
    for endpoint in &rows.endpoints {
        let set = match endpoint.target {
            SocketAddr::V4(_) => SetName::Endpoints4,
            SocketAddr::V6(_) => SetName::Endpoints6,
        };
        let key =
            ElementKey { set, address: None, protocol: endpoint.protocol, port: endpoint.target.port() };
        each(key, ElementData::Address(endpoint.target.ip()));
    }
    for node_port in &rows.node_ports {
        let key = ElementKey {
            set: SetName::NodePorts,
            address: None,
            protocol: node_port.protocol,
            port: node_port.port,
        };
        each(key, ElementData::Member);
    }
}

fn translated(node: &HostNode, row: &Translation, mut each: impl FnMut(ElementKey, ElementData)) {
    let same_family = |address: &IpAddr| address.is_ipv4() == row.target.is_ipv4();
    let mut at = |address: IpAddr| {
        // The set is filled in by the caller.
        let key =
            ElementKey { set: SetName::Svc4, address: Some(address), protocol: row.protocol, port: row.port };
        each(key, ElementData::Socket(row.target));
    };
    match row.reach {
        Reach::Node => node.shared.iter().copied().filter(same_family).for_each(&mut at),
        Reach::Address(address) if same_family(&address) => at(address),
        Reach::Address(_) => {}
    }
}
