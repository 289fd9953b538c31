//! What one Service means to this gateway: a pure function of the Service, its slices and the node.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use demux::policy::{Family, ServiceAddress, ServiceOwner, ServicePort, Transport};
use ipnet::IpNet;
use kubernetes::object::{
    self, AddressType, Endpoint, EndpointSlice, IpMode, Protocol, Service, TrafficPolicy,
};

use crate::host_rows::{HostEndpoint, NodePort, Reach, ServiceHostRows, Translation};

/// Ports of a node's own addresses that no Service may take: losing one cuts the node off from its operators, its
/// API server or its peers (SSH, BGP, etcd, API server, kubelet, OVN's databases).
pub const PROTECTED: [u16; 8] = [22, 179, 2379, 2380, 6443, 6641, 6642, 10250];

/// This node, as far as planning depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeView {
    /// The node's name in Kubernetes, if known. Without it no endpoint counts as local.
    pub name: Option<Arc<str>>,
    /// Every address of the node's own stack: an endpoint that has one of them is a host-network one.
    pub addresses: BTreeSet<IpAddr>,
    /// Those that it shares with the gateway router.
    pub shared: BTreeSet<IpAddr>,
    /// Servers that the node itself uses: frames that are translated for a Service would not reach them.
    pub reaches: BTreeSet<SocketAddr>,
}

impl NodeView {
    fn has(&self, ip: IpAddr) -> bool {
        self.addresses.contains(&ip) || self.shared.contains(&ip)
    }
}

/// What one service claims, before it is known what it is granted (see [`crate::claims`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePlan {
    /// Every port it claims, sorted, without duplicates.
    pub ports: Vec<ServicePort>,
    /// The host's part.
    pub host: ServiceHostRows,
    /// `healthCheckNodePort` and how many usable endpoints are on this node.
    pub health: Option<HealthCheck>,
    /// What was refused, each a sentence with its reason.
    pub refused: Vec<String>,
}

/// The answer to a load balancer on `healthCheckNodePort`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The port to answer on.
    pub port: u16,
    /// Usable endpoints on this node.
    pub local_endpoints: usize,
}

/// Plans one service.
pub fn plan(service: &Service, slices: &[Arc<EndpointSlice>], node: &NodeView) -> ServicePlan {
    let mut plan = ServicePlan::default();
    if !service.is_balanced() {
        return plan;
    }
    let local = service.external_traffic_policy == TrafficPolicy::Local;
    let sources = ranges(service);
    for port in &service.ports {
        for (address, restricted) in addresses(service, port, node, &mut plan.refused) {
            let family = address.family();
            let here = local_endpoints(service, slices, port, family, node);
            let owner = if local { here.owner(node) } else { ServiceOwner::NorthSouth };
            let number = match address {
                ServiceAddress::Node(_) => port.node_port.map_or(0, u16::from),
                ServiceAddress::External(_) => port.port.get(),
            };
            let sources = if restricted { sources.clone() } else { None };
            let protocol = transport(port.protocol);
            plan.ports.push(ServicePort { address, protocol, port: number, owner, sources });
            host_rows(&mut plan.host, service, port, address, owner, &here, node);
        }
    }
    host_endpoints(&mut plan.host, slices, node);
    tidy(&mut plan);
    let health = service.health_check_node_port.filter(|_| local);
    if let Some(port) = health.filter(|port| PROTECTED.contains(&port.get())) {
        // When that daemon restarts, its port would be taken.
        plan.refused.push(format!(
            "healthCheckNodePort {port} is refused: it is the node's own management port; choose one of the NodePort range"
        ));
    } else if let Some(port) = health {
        let families = [Family::V4, Family::V6];
        let usable: BTreeSet<IpAddr> = families
            .iter()
            .flat_map(|family| service.ports.iter().map(move |port| (port, *family)))
            .flat_map(|(port, family)| local_endpoints(service, slices, port, family, node).ready_addresses())
            .collect();
        plan.health = Some(HealthCheck { port: port.get(), local_endpoints: usable.len() });
    }
    plan
}

/// The transport protocol of a Service's port.
pub fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

/// The addresses a port is reached at, and whether source ranges apply there. `loadBalancerSourceRanges` restrict
/// what comes by the load balancer: its addresses, and the NodePorts that it forwards to.
fn addresses(
    service: &Service,
    port: &object::ServicePort,
    node: &NodeView,
    refused: &mut Vec<String>,
) -> Vec<(ServiceAddress, bool)> {
    let mut found = Vec::new();
    if let Some(taken) = port.node_port.filter(|number| PROTECTED.contains(&number.get())) {
        refused.push(format!(
            "NodePort {taken} is refused: it is the node's own management port; choose one of the NodePort range"
        ));
    } else if port.node_port.is_some() {
        for (family, has) in [(Family::V4, service.families.v4), (Family::V6, service.families.v6)] {
            if has {
                found.push((ServiceAddress::Node(family), true));
            }
        }
    }
    let external = service.external_ips.iter().map(|ip| (*ip, "external", false));
    let balanced = service.ingress.iter().filter(|ingress| ingress.mode == IpMode::Vip);
    for (ip, kind, restricted) in external.chain(balanced.map(|ingress| (ingress.ip, "load-balancer", true)))
    {
        if !usable_address(ip) {
            refused.push(format!("{kind} address {ip} is refused: a gateway cannot serve it"));
        } else if node.has(ip) && PROTECTED.contains(&port.port.get()) {
            refused.push(format!(
                "{kind} address {ip} port {} is refused: it is the node's own management port; use another port \
                 or an address that is not a node's",
                port.port
            ));
        } else if node.reaches.contains(&SocketAddr::new(ip, port.port.get())) {
            refused.push(format!(
                "{kind} address {ip} port {} is refused: the node reaches its API server or OVN's databases there",
                port.port
            ));
        } else {
            found.push((ServiceAddress::External(ip), restricted));
        }
    }
    found
}

/// Whether frames to an address can be a service's at all.
fn usable_address(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.is_link_local());
    let local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || broadcast || local)
}

fn is_of(ip: IpAddr, family: Family) -> bool {
    ip.is_ipv4() == (family == Family::V4)
}

fn ranges(service: &Service) -> Option<BTreeSet<IpNet>> {
    service.source_ranges.as_ref().map(|ranges| ranges.iter().copied().collect())
}

/// Usable endpoints of one port and family on this node.
struct LocalEndpoints {
    targets: Vec<(IpAddr, Option<u16>)>,
    ready: bool,
}

impl LocalEndpoints {
    /// Pods here: OVN. Only host-network endpoints here: the host itself. No endpoint here: neither.
    fn owner(&self, node: &NodeView) -> ServiceOwner {
        if self.targets.is_empty() {
            ServiceOwner::Drop
        } else if self.targets.iter().all(|(ip, _)| node.addresses.contains(ip)) {
            ServiceOwner::Management
        } else {
            ServiceOwner::NorthSouth
        }
    }

    /// A load balancer learns of ready endpoints only, so that it leaves a node when the last one terminates.
    fn ready_addresses(&self) -> Vec<IpAddr> {
        if self.ready { self.targets.iter().map(|(ip, _)| *ip).collect() } else { Vec::new() }
    }
}

/// Ready endpoints on this node; where none is ready, those that still serve while they terminate (KEP-1669).
fn local_endpoints(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    port: &object::ServicePort,
    family: Family,
    node: &NodeView,
) -> LocalEndpoints {
    let (mut ready, mut last_resort) = (Vec::new(), Vec::new());
    for slice in slices.iter().filter(|slice| is_family(slice, family)) {
        let Some(target) =
            slice.ports.iter().find(|target| target.name == port.name && target.protocol == port.protocol)
        else {
            continue;
        };
        let number = target.port.map(u16::from);
        for endpoint in slice.endpoints.iter().filter(|endpoint| is_here(endpoint, node)) {
            if endpoint.is_ready(service) {
                ready.push((endpoint.address, number));
            } else if endpoint.is_last_resort() {
                last_resort.push((endpoint.address, number));
            }
        }
    }
    if ready.is_empty() {
        LocalEndpoints { targets: last_resort, ready: false }
    } else {
        LocalEndpoints { targets: ready, ready: true }
    }
}

fn is_family(slice: &EndpointSlice, family: Family) -> bool {
    matches!((slice.address_type, family), (AddressType::Ipv4, Family::V4) | (AddressType::Ipv6, Family::V6))
}

fn is_here(endpoint: &Endpoint, node: &NodeView) -> bool {
    endpoint.node.is_some() && endpoint.node == node.name
}

fn host_rows(
    rows: &mut ServiceHostRows,
    service: &Service,
    port: &object::ServicePort,
    address: ServiceAddress,
    owner: ServiceOwner,
    here: &LocalEndpoints,
    node: &NodeView,
) {
    let protocol = transport(port.protocol);
    let family = address.family();
    let (reach, number) = match address {
        ServiceAddress::Node(_) => (Reach::Node, port.node_port.map_or(0, u16::from)),
        ServiceAddress::External(ip) => (Reach::Address(ip), port.port.get()),
    };
    if let Some(cluster) = service.cluster_ips.iter().find(|ip| is_of(**ip, family)) {
        let target = SocketAddr::new(*cluster, port.port.get());
        rows.own.push(Translation { reach, protocol, port: number, target });
    }
    if owner == ServiceOwner::Management {
        let target = here.targets.iter().find(|(ip, port)| node.addresses.contains(ip) && port.is_some());
        if let Some((ip, Some(target))) = target {
            rows.direct.push(Translation {
                reach,
                protocol,
                port: number,
                target: SocketAddr::new(*ip, *target),
            });
        }
    } else if reach == Reach::Node {
        rows.node_ports.push(NodePort { protocol, port: number });
    }
}

/// Ports on which this node's own stack serves a Service, whatever the Service's type: what OVN sends for them
/// arrives at the management address.
fn host_endpoints(rows: &mut ServiceHostRows, slices: &[Arc<EndpointSlice>], node: &NodeView) {
    for slice in slices {
        for endpoint in slice.endpoints.iter().filter(|endpoint| node.addresses.contains(&endpoint.address)) {
            for target in &slice.ports {
                if let Some(port) = target.port {
                    let target_address = SocketAddr::new(endpoint.address, port.get());
                    let protocol = transport(target.protocol);
                    rows.endpoints.push(HostEndpoint { protocol, target: target_address });
                }
            }
        }
    }
}

fn tidy(plan: &mut ServicePlan) {
    plan.ports.sort();
    plan.ports.dedup_by(|a, b| (a.address, a.protocol, a.port) == (b.address, b.protocol, b.port));
    plan.ports.shrink_to_fit();
    sort_dedup(&mut plan.host.own);
    sort_dedup(&mut plan.host.direct);
    sort_dedup(&mut plan.host.endpoints);
    sort_dedup(&mut plan.host.node_ports);
    sort_dedup(&mut plan.refused);
}

fn sort_dedup<T: Ord>(list: &mut Vec<T>) {
    list.sort();
    list.dedup();
    // Kept for every service of the cluster.
    list.shrink_to_fit();
}

#[cfg(test)]
pub(crate) mod tests;
