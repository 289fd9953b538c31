//! Services as the tests say them, and as Kubernetes objects.

use std::net::IpAddr;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::address::{self, Dual, Family};

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// Lower case, as OVN, OVS and nft write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// A Service with its endpoints: one value from which manifests, API objects and OVN rows are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// The name; the namespace is `default`.
    pub name: String,
    /// The cluster addresses.
    pub cluster_ip: Dual,
    /// The ports.
    pub ports: Vec<PortSpec>,
    /// The endpoints.
    pub endpoints: Vec<EndpointSpec>,
    /// `externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses in `status.loadBalancer.ingress`; any makes the Service one of type LoadBalancer.
    pub load_balancer: Vec<IpAddr>,
    /// `externalTrafficPolicy: Local`.
    pub local: bool,
    /// `loadBalancerSourceRanges`.
    pub source_ranges: Vec<String>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port at cluster, external and load-balancer addresses.
    pub port: u16,
    /// The port at every node's address.
    pub node_port: u16,
    /// The port at the endpoints.
    pub target_port: u16,
}

/// An endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// The number of the node it is on.
    pub node: usize,
    /// Its addresses: a pod's own, or the node's for a pod in the host's network.
    pub address: Dual,
    /// Whether it is ready.
    pub ready: bool,
}

impl EndpointSpec {
    /// Pod `number` of node `node`.
    pub fn pod(node: usize, number: u8) -> Self {
        Self { node, address: address::subnet(node, number + 2), ready: true }
    }

    /// A pod in the network of node `node`'s host.
    pub fn host(node: usize) -> Self {
        Self { node, address: address::node(node), ready: true }
    }

    /// Whether it is in the host's network.
    pub fn is_host(&self) -> bool {
        self.address == address::node(self.node)
    }

    /// Where OVN reaches it: a host-network endpoint by its node's management address (row N1 of the flow table).
    pub fn overlay_address(&self) -> Dual {
        if self.is_host() { address::management(self.node) } else { self.address }
    }
}

impl ServiceSpec {
    /// A Service with cluster address `number`, TCP and UDP at port 80, the same node port for both, and the target
    /// port `target_port`.
    pub fn new(
        name: &str,
        number: u16,
        node_port: u16,
        target_port: u16,
        endpoints: Vec<EndpointSpec>,
    ) -> Self {
        let ports = Protocol::ALL.map(|protocol| PortSpec { protocol, port: 80, node_port, target_port });
        Self {
            name: name.to_owned(),
            cluster_ip: address::cluster_ip(number),
            ports: ports.into(),
            endpoints,
            external_ips: Vec::new(),
            load_balancer: Vec::new(),
            local: false,
            source_ranges: Vec::new(),
        }
    }

    /// The same with `externalTrafficPolicy: Local`.
    pub fn policy_local(mut self) -> Self {
        self.local = true;
        self
    }

    /// The same with `externalIPs`.
    pub fn external(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.external_ips.extend(addresses);
        self
    }

    /// The same as a LoadBalancer with these addresses.
    pub fn balanced(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.load_balancer.extend(addresses);
        self
    }

    /// The same with `loadBalancerSourceRanges`.
    pub fn only_from<S: Into<String>>(mut self, ranges: impl IntoIterator<Item = S>) -> Self {
        self.source_ranges.extend(ranges.into_iter().map(Into::into));
        self
    }

    /// External and load-balancer addresses.
    pub fn outside_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.external_ips.iter().chain(&self.load_balancer).copied()
    }

    /// The ready endpoints.
    pub fn usable(&self) -> impl Iterator<Item = &EndpointSpec> {
        self.endpoints.iter().filter(|endpoint| endpoint.ready)
    }

    /// The Kubernetes objects: the Service and an EndpointSlice for each family.
    pub fn objects(&self) -> Vec<Value> {
        let mut objects = vec![self.service()];
        objects.extend(Family::ALL.map(|family| self.slice(family)));
        objects
    }

    /// The objects as one YAML file.
    pub fn manifest(&self) -> Result<String> {
        let documents: Result<Vec<String>> = self
            .objects()
            .iter()
            .map(|object| {
                serde_saphyr::to_string(object).with_context(|| format!("writing {} as YAML", self.name))
            })
            .collect();
        Ok(documents?.join("---\n"))
    }

    fn service(&self) -> Value {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                json!({
                    "name": port_name(port),
                    "protocol": port.protocol.name().to_uppercase(),
                    "port": port.port,
                    "targetPort": port.target_port,
                    "nodePort": port.node_port,
                })
            })
            .collect();
        let mut spec = json!({
            "type": if self.load_balancer.is_empty() { "NodePort" } else { "LoadBalancer" },
            "clusterIP": self.cluster_ip.v4,
            "clusterIPs": [self.cluster_ip.v4.to_string(), self.cluster_ip.v6.to_string()],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack",
            "externalTrafficPolicy": if self.local { "Local" } else { "Cluster" },
            "ports": ports,
        });
        if let Some(spec) = spec.as_object_mut() {
            if !self.external_ips.is_empty() {
                spec.insert("externalIPs".to_owned(), json!(self.external_ips));
            }
            if !self.source_ranges.is_empty() {
                spec.insert("loadBalancerSourceRanges".to_owned(), json!(self.source_ranges));
            }
        }
        let ingress: Vec<Value> =
            self.load_balancer.iter().map(|address| json!({"ip": address, "ipMode": "VIP"})).collect();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": "default"},
            "spec": spec,
            "status": {"loadBalancer": if ingress.is_empty() { json!({}) } else { json!({"ingress": ingress}) }},
        })
    }

    fn slice(&self, family: Family) -> Value {
        let endpoints: Vec<Value> = self
            .endpoints
            .iter()
            .map(|endpoint| {
                json!({
                    "addresses": [endpoint.address.of(family)],
                    "nodeName": format!("node{}", endpoint.node),
                    "conditions": {"ready": endpoint.ready, "serving": endpoint.ready, "terminating": false},
                })
            })
            .collect();
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| {
                json!({
                    "name": port_name(port),
                    "protocol": port.protocol.name().to_uppercase(),
                    "port": port.target_port,
                })
            })
            .collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{}", self.name, family.to_string().to_lowercase()),
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": self.name},
            },
            "addressType": family.to_string(),
            "endpoints": endpoints,
            "ports": ports,
        })
    }
}

fn port_name(port: &PortSpec) -> String {
    format!("{}-{}", port.protocol.name(), port.port)
}
