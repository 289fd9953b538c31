//! The objects on the wire: JSON or YAML of the API, read straight into what is kept.
//!
//! Only the fields that are used are named here, so the rest (managed fields above all) is skipped by the parser and
//! never allocated. Every field is optional, since the API writes `null` for an empty list; what is required is
//! checked when the value becomes an object. Numbers are read wide and checked here, so that the refusal of a wrong
//! one has its name and its value.

mod raw;

use std::collections::HashSet;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use raw::{
    Labels, Meta, RawCidr, RawEndpointPort, RawEndpoints, RawIngress, RawNode, RawService, RawServicePort,
    RawSlice, RawTargetPort,
};

use super::kind::Kind;
use super::store::Object;
use crate::object::{
    AddressType, Endpoint, EndpointPort, EndpointSlice, Families, Ingress, IpMode, Node, ObjectKey, Protocol,
    Service, ServicePort, ServiceType, TargetPort, TrafficPolicy,
};

/// Reads one object of a kind. The error names the field.
pub(super) fn read<'de, D>(kind: Kind, json: D, names: &mut Names) -> Result<Object, String>
where
    D: Deserializer<'de>,
{
    fn parse<'de, T: Deserialize<'de>, D: Deserializer<'de>>(json: D) -> Result<T, String> {
        T::deserialize(json).map_err(|error| error.to_string())
    }
    match kind {
        Kind::Service => parse::<RawService, D>(json)?.object(names),
        Kind::Slice => parse::<RawSlice, D>(json)?.object(names),
        Kind::ServiceCidr => parse::<RawCidr, D>(json)?.object(names),
        Kind::Node => parse::<RawNode, D>(json)?.object(names),
    }
}

/// Name and version of an object, even when the rest of it cannot be read.
pub(super) struct Head {
    pub key: ObjectKey,
    pub version: String,
}

/// The head of an object of any kind.
pub(super) fn head(json: &RawValue, names: &mut Names) -> Option<Head> {
    #[derive(Deserialize)]
    struct Headed {
        metadata: RawHead,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct RawHead {
        namespace: Option<String>,
        name: Option<String>,
        resource_version: Option<String>,
    }
    let metadata = serde_json::from_str::<Headed>(json.get()).ok()?.metadata;
    let namespace = names.get(metadata.namespace.as_deref().unwrap_or_default());
    let key = ObjectKey { namespace, name: metadata.name.unwrap_or_default().into() };
    Some(Head { key, version: metadata.resource_version.unwrap_or_default() })
}

/// A plain `Endpoints` object, as the slices it stands for: one for each subset and family.
pub(super) fn read_endpoints<'de, D>(json: D, names: &mut Names) -> Result<Vec<Object>, String>
where
    D: Deserializer<'de>,
{
    RawEndpoints::deserialize(json).map_err(|error| error.to_string())?.objects(names)
}

/// Texts that recur (namespaces, nodes, names of ports), each kept once.
#[derive(Debug, Default)]
pub(super) struct Names {
    known: HashSet<Arc<str>>,
    /// At this many, those that are no longer in use are dropped.
    tidy_at: usize,
}

impl Names {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.tidy_at {
            self.known.retain(|name| Arc::strong_count(name) > 1);
            self.tidy_at = (self.known.len() * 2).max(64);
        }
        let new: Arc<str> = text.into();
        self.known.insert(new.clone());
        new
    }
}

impl Meta {
    fn key(&self, names: &mut Names) -> Result<ObjectKey, String> {
        let name = self.name.as_deref().filter(|name| !name.is_empty()).ok_or("metadata.name is missing")?;
        Ok(ObjectKey {
            namespace: names.get(self.namespace.as_deref().unwrap_or_default()),
            name: name.into(),
        })
    }

    fn labels(&self) -> &Labels {
        const NONE: &Labels = &Labels { service: None, proxy: None };
        self.labels.as_ref().unwrap_or(NONE)
    }
}

impl RawService {
    fn object(self, names: &mut Names) -> Result<Object, String> {
        let key = self.metadata.key(names)?;
        let other_proxy = self.metadata.labels().proxy.is_some();
        let spec = self.spec.unwrap_or_default();
        let kind = service_type(spec.r#type.as_deref())?;
        let headless = spec.cluster_ip.as_deref() == Some("None");

        let cluster_ips = match spec.cluster_ips {
            Some(all) => all,
            None => spec.cluster_ip.into_iter().collect(),
        };
        let cluster_ips: Vec<String> =
            if headless || kind == ServiceType::ExternalName { Vec::new() } else { cluster_ips };
        let cluster_ips = addresses("spec.clusterIPs", cluster_ips.into_iter().filter(|ip| !ip.is_empty()))?;
        let families = families(spec.ip_families.as_deref(), &cluster_ips)?;

        let external_traffic_policy =
            policy("externalTrafficPolicy", spec.external_traffic_policy.as_deref())?;
        let internal_traffic_policy =
            policy("internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?;
        let is_local_balancer =
            kind == ServiceType::LoadBalancer && external_traffic_policy == TrafficPolicy::Local;
        let health_check_node_port = optional_port("spec.healthCheckNodePort", spec.health_check_node_port)?;

        let annotated = self.metadata.annotations.and_then(|annotations| annotations.source_ranges);
        let source_ranges = match spec.load_balancer_source_ranges {
            Some(ranges) if !ranges.is_empty() => ranges,
            _ => annotated.iter().flat_map(|text| text.split(',')).map(str::to_owned).collect(),
        };
        let source_ranges = if kind == ServiceType::LoadBalancer {
            networks(
                "spec.loadBalancerSourceRanges",
                source_ranges.iter().filter(|text| !text.trim().is_empty()),
            )?
        } else {
            Box::default()
        };

        let ingress = self.status.and_then(|status| status.load_balancer?.ingress).unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        Ok(Object::Service(Arc::new(Service {
            created: self.metadata.creation_timestamp.map(|time| time.0.as_second()),
            kind,
            headless,
            families,
            cluster_ips,
            external_ips: addresses("spec.externalIPs", spec.external_ips.unwrap_or_default())?,
            ingress: ingress.into_iter().enumerate().filter_map(ingress_address).collect::<Result<_, _>>()?,
            ports: ports
                .into_iter()
                .enumerate()
                .map(|port| service_port(port, names))
                .collect::<Result<_, _>>()?,
            external_traffic_policy,
            internal_traffic_policy,
            health_check_node_port: health_check_node_port.filter(|_| is_local_balancer),
            source_ranges: Some(source_ranges).filter(|ranges| !ranges.is_empty()),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
            other_proxy,
            key,
        })))
    }
}

impl RawSlice {
    fn object(self, names: &mut Names) -> Result<Object, String> {
        let key = self.metadata.key(names)?;
        let service = self.metadata.labels().service.as_deref().filter(|name| !name.is_empty());
        let service = service.map(|name| ObjectKey { namespace: key.namespace.clone(), name: name.into() });
        let address_type = match self.address_type.as_deref() {
            Some("IPv4") => AddressType::Ipv4,
            Some("IPv6") => AddressType::Ipv6,
            Some("FQDN") => AddressType::Fqdn,
            other => return Err(format!("addressType: {} is not IPv4, IPv6 or FQDN", shown(other))),
        };
        let mut endpoints = Vec::new();
        let given = if address_type == AddressType::Fqdn { None } else { self.endpoints };
        for (at, endpoint) in given.unwrap_or_default().into_iter().enumerate() {
            let Some(address) = endpoint.addresses.iter().flatten().next() else { continue };
            let address = ip(&format!("endpoints[{at}].addresses[0]"), address)?;
            if address.is_ipv4() != (address_type == AddressType::Ipv4) {
                return Err(format!(
                    "endpoints[{at}].addresses[0]: {address} is not of the slice's addressType"
                ));
            }
            let conditions = endpoint.conditions.unwrap_or_default();
            // An unknown condition is to be taken for ready (API reference, EndpointConditions).
            let ready = conditions.ready.unwrap_or(true);
            let node = endpoint.node_name.or_else(|| endpoint.topology?.node);
            endpoints.push(Endpoint {
                address,
                ready,
                serving: conditions.serving.unwrap_or(ready),
                terminating: conditions.terminating.unwrap_or(false),
                node: node.map(|node| names.get(&node)),
            });
        }
        let ports = endpoint_ports(self.ports, names)?;
        Ok(Object::Slice(Arc::new(EndpointSlice {
            key,
            service,
            address_type,
            endpoints: endpoints.into(),
            ports,
        })))
    }
}

impl RawCidr {
    fn object(self, names: &mut Names) -> Result<Object, String> {
        let cidrs = self.spec.and_then(|spec| spec.cidrs).unwrap_or_default();
        Ok(Object::Cidr(self.metadata.key(names)?, networks("spec.cidrs", cidrs.iter())?))
    }
}

impl RawNode {
    fn object(self, names: &mut Names) -> Result<Object, String> {
        let key = self.metadata.key(names)?;
        let addresses = self.status.and_then(|status| status.addresses).unwrap_or_default();
        let internal = addresses.iter().filter(|entry| entry.r#type.as_deref() == Some("InternalIP"));
        let internal_ips = internal.filter_map(|entry| entry.address.as_ref()?.parse().ok()).collect();
        Ok(Object::Node(key.clone(), Arc::new(Node { name: key.name, internal_ips })))
    }
}

impl RawEndpoints {
    fn objects(self, names: &mut Names) -> Result<Vec<Object>, String> {
        let service = self.metadata.key(names)?;
        let mut slices = Vec::new();
        for (at, subset) in self.subsets.unwrap_or_default().into_iter().enumerate() {
            let ports = endpoint_ports(subset.ports, names)?;
            let ready = subset.addresses.unwrap_or_default().into_iter().map(|address| (address, true));
            let not_ready =
                subset.not_ready_addresses.unwrap_or_default().into_iter().map(|address| (address, false));
            let (mut v4, mut v6) = (Vec::new(), Vec::new());
            for (address, ready) in ready.chain(not_ready) {
                let field = format!("subsets[{at}].addresses[].ip");
                let address_ip = ip(&field, address.ip.as_deref().unwrap_or_default())?;
                let node = address.node_name.map(|node| names.get(&node));
                let endpoint =
                    Endpoint { address: address_ip, ready, serving: ready, terminating: false, node };
                if address_ip.is_ipv4() { v4.push(endpoint) } else { v6.push(endpoint) }
            }
            for (address_type, family, endpoints) in [(AddressType::Ipv4, 4, v4), (AddressType::Ipv6, 6, v6)]
            {
                if endpoints.is_empty() {
                    continue;
                }
                // No slice can have this name by itself: a name holds no colon.
                let name = format!("{}:subset{at}:ipv{family}", service.name);
                slices.push(Object::Slice(Arc::new(EndpointSlice {
                    key: ObjectKey { namespace: service.namespace.clone(), name: name.into() },
                    service: Some(service.clone()),
                    address_type,
                    endpoints: endpoints.into(),
                    ports: ports.clone(),
                })));
            }
        }
        Ok(slices)
    }
}

fn service_port((at, port): (usize, RawServicePort), names: &mut Names) -> Result<ServicePort, String> {
    let field = |name: &str| format!("spec.ports[{at}].{name}");
    let number = port.port.ok_or_else(|| format!("{}: missing", field("port")))?;
    let number = checked_port(&field("port"), number)?;
    let target_port = match port.target_port {
        None | Some(RawTargetPort::Number(0)) => TargetPort::Number(number),
        Some(RawTargetPort::Number(target)) => {
            TargetPort::Number(checked_port(&field("targetPort"), target)?)
        }
        Some(RawTargetPort::Name(name)) if name.is_empty() => TargetPort::Number(number),
        Some(RawTargetPort::Name(name)) => TargetPort::Name(name.into()),
    };
    Ok(ServicePort {
        name: names.get(port.name.as_deref().unwrap_or_default()),
        protocol: protocol(&field("protocol"), port.protocol.as_deref())?,
        port: number,
        node_port: optional_port(&field("nodePort"), port.node_port)?,
        target_port,
    })
}

fn endpoint_ports(
    ports: Option<Vec<RawEndpointPort>>,
    names: &mut Names,
) -> Result<Box<[EndpointPort]>, String> {
    let ports = ports.unwrap_or_default().into_iter().enumerate();
    ports
        .map(|(at, port)| {
            Ok(EndpointPort {
                name: names.get(port.name.as_deref().unwrap_or_default()),
                protocol: protocol(&format!("ports[{at}].protocol"), port.protocol.as_deref())?,
                port: port.port.map(|port| checked_port(&format!("ports[{at}].port"), port)).transpose()?,
            })
        })
        .collect()
}

/// Without an address it is a host name, which is the DNS's concern.
fn ingress_address((at, ingress): (usize, RawIngress)) -> Option<Result<Ingress, String>> {
    let text = ingress.ip.filter(|text| !text.is_empty())?;
    let field = format!("status.loadBalancer.ingress[{at}]");
    let mode = match ingress.ip_mode.as_deref() {
        None | Some("VIP") => Ok(IpMode::Vip),
        Some("Proxy") => Ok(IpMode::Proxy),
        other => Err(format!("{field}.ipMode: {} is not VIP or Proxy", shown(other))),
    };
    Some(mode.and_then(|mode| Ok(Ingress { ip: ip(&format!("{field}.ip"), &text)?, mode })))
}

fn service_type(text: Option<&str>) -> Result<ServiceType, String> {
    match text {
        None | Some("" | "ClusterIP") => Ok(ServiceType::ClusterIp),
        Some("NodePort") => Ok(ServiceType::NodePort),
        Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
        Some("ExternalName") => Ok(ServiceType::ExternalName),
        other => Err(format!(
            "spec.type: {} is not ClusterIP, NodePort, LoadBalancer or ExternalName",
            shown(other)
        )),
    }
}

fn policy(field: &str, text: Option<&str>) -> Result<TrafficPolicy, String> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        other => Err(format!("spec.{field}: {} is not Cluster or Local", shown(other))),
    }
}

fn protocol(field: &str, text: Option<&str>) -> Result<Protocol, String> {
    match text {
        None | Some("" | "TCP") => Ok(Protocol::Tcp),
        Some("UDP") => Ok(Protocol::Udp),
        Some("SCTP") => Ok(Protocol::Sctp),
        other => Err(format!("{field}: {} is not TCP, UDP or SCTP", shown(other))),
    }
}

/// The families as written, or those of the addresses; with neither, both.
fn families(written: Option<&[String]>, cluster_ips: &[IpAddr]) -> Result<Families, String> {
    let mut families = Families { v4: false, v6: false };
    for family in written.unwrap_or_default() {
        match family.as_str() {
            "IPv4" => families.v4 = true,
            "IPv6" => families.v6 = true,
            other => return Err(format!("spec.ipFamilies: {} is not IPv4 or IPv6", shown(Some(other)))),
        }
    }
    if !families.v4 && !families.v6 {
        let any = !cluster_ips.is_empty();
        families.v4 = !any || cluster_ips.iter().any(IpAddr::is_ipv4);
        families.v6 = !any || cluster_ips.iter().any(IpAddr::is_ipv6);
    }
    Ok(families)
}

fn addresses(field: &str, texts: impl IntoIterator<Item = String>) -> Result<Box<[IpAddr]>, String> {
    texts.into_iter().map(|text| ip(field, &text)).collect()
}

fn ip(field: &str, text: &str) -> Result<IpAddr, String> {
    text.trim().parse().map_err(|_| format!("{field}: {} is no IP address", shown(Some(text))))
}

/// Networks with the bits behind the prefix cleared, so that equal ones compare equal.
fn networks<'a>(field: &str, texts: impl Iterator<Item = &'a String>) -> Result<Box<[IpNet]>, String> {
    texts
        .map(|text| {
            let net: Result<IpNet, _> = text.trim().parse();
            net.map(|net| net.trunc())
                .map_err(|_| format!("{field}: {} is no network in CIDR form", shown(Some(text))))
        })
        .collect()
}

/// Zero is how Go writes "none".
fn optional_port(field: &str, number: Option<i64>) -> Result<Option<NonZeroU16>, String> {
    number.filter(|number| *number != 0).map(|number| checked_port(field, number)).transpose()
}

fn checked_port(field: &str, number: i64) -> Result<NonZeroU16, String> {
    let port = u16::try_from(number).ok().and_then(NonZeroU16::new);
    port.ok_or_else(|| format!("{field}: {number} is no port from 1 to 65535"))
}

/// A text in quotes, cut when it is long: it goes into a log line.
fn shown(text: Option<&str>) -> String {
    match text {
        None => "a missing value".into(),
        Some(text) if text.chars().count() > 60 => {
            format!("{:?}...", text.chars().take(60).collect::<String>())
        }
        Some(text) => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
