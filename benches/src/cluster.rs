//! A cluster made up: Services by number, as policy rows and as Kubernetes objects.
//!
//! Of four Services one has a NodePort (both families), and three have an external address, the last of them one of
//! each family; forty Services share an address. That is three flows a Service, and as many NodePorts as the usual
//! range can hold among 10,000 Services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use demux::mac::Mac;
use demux::policy::{
    Family, Policy, ServiceAddress, ServiceKey, ServiceOwner, ServicePort, ServiceRules, Split, Transport,
};
use flows::{FlowContext, Rendering};
use ovs::openflow::flow::OfPort;
use serde_json::{Value, json};

/// The number of Services in most measurements.
pub const SERVICES: usize = 10_000;
/// The first NodePort.
pub const FIRST_NODE_PORT: u16 = 30_000;
/// NodePorts from here to 32767 are held by no made-up Service: measurements move Services to them.
pub const FIRST_SPARE_NODE_PORT: u16 = 32_600;
/// How many Services share an external address.
const SHARE: u16 = 40;

/// A Service with one TCP port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeUp {
    /// Its number.
    pub number: u16,
    /// Its NodePort, in both families.
    pub node_port: Option<u16>,
    /// Its external addresses.
    pub external: Vec<IpAddr>,
    /// Its port at the external addresses.
    pub port: u16,
}

impl MadeUp {
    /// The Service of a number.
    pub fn new(number: u16) -> Self {
        let quarter = number / 4;
        if number.is_multiple_of(4) {
            let node_port = Some(FIRST_NODE_PORT + quarter);
            return MadeUp { number, node_port, external: Vec::new(), port: 80 };
        }
        let place = quarter * 3 + number % 4 - 1;
        let address = 1 + place / SHARE;
        let v4 = IpAddr::V4(Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 51, 100, 0)) + u32::from(address)));
        let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x198, 0, 0, 0, 0, address));
        let external = if number % 4 == 3 { vec![v4, v6] } else { vec![v4] };
        MadeUp { number, node_port: None, external, port: 1000 + place % SHARE }
    }

    /// The same with its NodePort elsewhere.
    pub fn at_node_port(mut self, node_port: u16) -> Self {
        self.node_port = Some(node_port);
        self
    }

    /// Its name in the namespace `default`.
    pub fn name(&self) -> String {
        format!("service-{}", self.number)
    }

    /// Its key in a policy.
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(format!("default/{}", self.name()))
    }

    /// Its rows in a policy.
    pub fn rules(&self) -> Arc<ServiceRules> {
        let port = |address, port| ServicePort {
            address,
            protocol: Transport::Tcp,
            port,
            owner: ServiceOwner::NorthSouth,
            sources: None,
        };
        let families = [Family::V4, Family::V6];
        let on_node = self.node_port.into_iter();
        let on_node =
            on_node.flat_map(|number| families.map(|family| port(ServiceAddress::Node(family), number)));
        let external =
            self.external.iter().map(|address| port(ServiceAddress::External(*address), self.port));
        Arc::new(ServiceRules::new(on_node.chain(external).collect()))
    }

    /// The Kubernetes Service, without cluster addresses: an API server gives them.
    pub fn object(&self) -> Value {
        let mut port = json!({ "name": "main", "protocol": "TCP", "port": self.port, "targetPort": 8080 });
        let mut spec = json!({
            "type": if self.node_port.is_some() { "NodePort" } else { "ClusterIP" },
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
        });
        if let Some(number) = self.node_port {
            port["nodePort"] = json!(number);
        }
        if !self.external.is_empty() {
            spec["externalIPs"] = json!(self.external);
        }
        spec["ports"] = json!([port]);
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": self.name(), "namespace": "default", "labels": { "app": self.name() } },
            "spec": spec,
        })
    }

    /// The slice of its two endpoints in IPv4, as a controller writes it.
    pub fn slice(&self) -> Value {
        let [high, low] = self.number.to_be_bytes();
        let endpoint = |first: u8| {
            json!({
                "addresses": [Ipv4Addr::new(10, 244, first + high % 16, low.max(2))],
                "nodeName": format!("node{first}"),
                "conditions": { "ready": true, "serving": true, "terminating": false },
            })
        };
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-x7k2p", self.name()),
                "namespace": "default",
                "labels": { "kubernetes.io/service-name": self.name() },
            },
            "addressType": "IPv4",
            "endpoints": [endpoint(1), endpoint(2)],
            "ports": [{ "name": "main", "protocol": "TCP", "port": 8080 }],
        })
    }
}

/// The first so many Services.
pub fn services(count: usize) -> impl Iterator<Item = MadeUp> + Clone {
    (0..u16::MAX).take(count).map(MadeUp::new)
}

/// The split of a node with one address of each family.
pub fn split() -> Split {
    Split {
        mac: Mac([0x0a, 0x58, 0xac, 0, 1, 100]),
        shared: [
            IpAddr::V4(Ipv4Addr::new(172, 18, 0, 11)),
            IpAddr::V6(Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 0, 0x11)),
        ]
        .into(),
        tunnels: [6081].into(),
        service_ranges: ["10.96.0.0/16", "fd00:10:96::/112"]
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect(),
        ..Split::default()
    }
}

/// A policy with the first so many Services.
pub fn policy(count: usize) -> Policy {
    let mut policy = Policy::new(split());
    for service in services(count) {
        policy.set_service(service.key(), service.rules());
    }
    policy
}

/// A bridge with uplink and overlay.
pub fn datapath() -> FlowContext {
    FlowContext { uplink: Some(OfPort(1)), overlay: Some(OfPort(2)), ..FlowContext::empty() }
}

/// How many Services it takes to have so many flows.
pub fn services_for(flows: usize) -> usize {
    let mut rendering = Rendering::new(Policy::new(split()), datapath());
    let mut all = services(usize::from(u16::MAX));
    let mut count = 0;
    while rendering.flows().len() < flows
        && let Some(service) = all.next()
    {
        rendering.set_service(&service.key(), Some(service.rules()));
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_services_claim_the_same_port() {
        let ports: Vec<_> = services(SERVICES).flat_map(|service| service.rules().ports.clone()).collect();
        let slots: BTreeSet<_> = ports.iter().map(|port| (port.address, port.port)).collect();
        assert_eq!(slots.len(), ports.len());
        assert!(
            services(SERVICES)
                .filter_map(|service| service.node_port)
                .all(|port| port < FIRST_SPARE_NODE_PORT)
        );
    }

    #[test]
    fn ten_thousand_services_are_thirty_thousand_flows() {
        let count = Rendering::new(policy(SERVICES), datapath()).flows().len();
        assert!((30_000..33_000).contains(&count), "{count}");
        assert!(services_for(30_000) <= SERVICES);
        assert_eq!(services_for(0), 0);
    }
}
