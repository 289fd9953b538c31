//! The shape of the API's JSON, as far as it is used.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meta {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub creation_timestamp: Option<Time>,
    pub labels: Option<Labels>,
    pub annotations: Option<Annotations>,
}

#[derive(Deserialize, Default)]
pub(super) struct Labels {
    #[serde(rename = "kubernetes.io/service-name")]
    pub service: Option<String>,
    #[serde(rename = "service.kubernetes.io/service-proxy-name")]
    pub proxy: Option<String>,
}

#[derive(Deserialize, Default)]
pub(super) struct Annotations {
    /// The predecessor of `spec.loadBalancerSourceRanges`, which kube-proxy still honours.
    #[serde(rename = "service.beta.kubernetes.io/load-balancer-source-ranges")]
    pub source_ranges: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawService {
    pub metadata: Meta,
    pub spec: Option<ServiceSpec>,
    pub status: Option<ServiceStatus>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceSpec {
    pub r#type: Option<String>,
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Option<Vec<String>>,
    pub ip_families: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    pub external_ips: Option<Vec<String>>,
    pub ports: Option<Vec<RawServicePort>>,
    pub external_traffic_policy: Option<String>,
    pub internal_traffic_policy: Option<String>,
    pub health_check_node_port: Option<i64>,
    pub load_balancer_source_ranges: Option<Vec<String>>,
    pub publish_not_ready_addresses: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawServicePort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
    pub node_port: Option<i64>,
    pub target_port: Option<RawTargetPort>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum RawTargetPort {
    Number(i64),
    Name(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceStatus {
    pub load_balancer: Option<LoadBalancerStatus>,
}

#[derive(Deserialize)]
pub(super) struct LoadBalancerStatus {
    pub ingress: Option<Vec<RawIngress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawIngress {
    pub ip: Option<String>,
    pub ip_mode: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawSlice {
    pub metadata: Meta,
    pub address_type: Option<String>,
    pub endpoints: Option<Vec<RawEndpoint>>,
    pub ports: Option<Vec<RawEndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RawEndpoint {
    pub addresses: Option<Vec<String>>,
    pub conditions: Option<Conditions>,
    pub node_name: Option<String>,
    /// Where `discovery.k8s.io/v1beta1` has the node.
    pub topology: Option<Topology>,
}

#[derive(Deserialize, Default)]
pub(super) struct Conditions {
    pub ready: Option<bool>,
    pub serving: Option<bool>,
    pub terminating: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct Topology {
    #[serde(rename = "kubernetes.io/hostname")]
    pub node: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawEndpointPort {
    pub name: Option<String>,
    pub protocol: Option<String>,
    pub port: Option<i64>,
}

#[derive(Deserialize)]
pub(super) struct RawCidr {
    pub metadata: Meta,
    pub spec: Option<CidrSpec>,
}

#[derive(Deserialize)]
pub(super) struct CidrSpec {
    pub cidrs: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct RawNode {
    pub metadata: Meta,
    pub status: Option<NodeStatus>,
}

#[derive(Deserialize)]
pub(super) struct NodeStatus {
    pub addresses: Option<Vec<NodeAddress>>,
}

#[derive(Deserialize)]
pub(super) struct NodeAddress {
    pub r#type: Option<String>,
    pub address: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct RawEndpoints {
    pub metadata: Meta,
    pub subsets: Option<Vec<Subset>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Subset {
    pub addresses: Option<Vec<SubsetAddress>>,
    pub not_ready_addresses: Option<Vec<SubsetAddress>>,
    pub ports: Option<Vec<RawEndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SubsetAddress {
    pub ip: Option<String>,
    pub node_name: Option<String>,
}
