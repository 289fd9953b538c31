//! What an API server would refuse. A folder of manifests has no API server in front of it, so the rules that keep
//! nonsense out of the data path are applied here (k8s.io/kubernetes, pkg/apis/core/validation; the API conventions
//! for names). Checks of one object only: what two objects claim is compared where both are known.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::object::{EndpointSlice, ObjectKey, Service, ServiceType};

/// Endpoints in one slice, as the API server allows.
const MAX_ENDPOINTS: usize = 1000;
/// Ports of one object.
const MAX_PORTS: usize = 100;

/// Check a Service. The error names the field.
pub(crate) fn service(service: &Service) -> Result<(), String> {
    name(&service.key, 63)?;
    if service.kind == ServiceType::ExternalName {
        return Ok(());
    }
    if service.ports.is_empty() && !service.headless {
        return Err("spec.ports: there is none".into());
    }
    if service.ports.len() > MAX_PORTS {
        return Err(format!("spec.ports: more than {MAX_PORTS}"));
    }
    if service.headless && service.kind != ServiceType::ClusterIp {
        return Err("spec.clusterIP: None does not go with NodePort or LoadBalancer".into());
    }
    let (mut names, mut ports, mut node_ports) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (at, port) in service.ports.iter().enumerate() {
        if port.name.is_empty() && service.ports.len() > 1 {
            return Err(format!("spec.ports[{at}].name: with more than one port each needs a name"));
        }
        if !names.insert(&port.name) {
            return Err(format!("spec.ports[{at}].name: \"{}\" is there twice", port.name));
        }
        if !ports.insert((port.protocol, port.port)) {
            return Err(format!("spec.ports[{at}].port: {} {} is there twice", port.protocol, port.port));
        }
        let Some(node_port) = port.node_port else { continue };
        if service.kind == ServiceType::ClusterIp {
            return Err(format!("spec.ports[{at}].nodePort: a Service of type ClusterIP has none"));
        }
        if !node_ports.insert((port.protocol, node_port)) {
            return Err(format!("spec.ports[{at}].nodePort: {} {node_port} is there twice", port.protocol));
        }
    }
    if let [first, second, ..] = *service.cluster_ips
        && (service.cluster_ips.len() > 2 || first.is_ipv4() == second.is_ipv4())
    {
        return Err("spec.clusterIPs: at most one of each family".into());
    }
    for ip in &service.cluster_ips {
        routable("spec.clusterIPs", *ip)?;
    }
    for ip in &service.external_ips {
        routable("spec.externalIPs", *ip)?;
    }
    for ingress in &service.ingress {
        routable("status.loadBalancer.ingress", ingress.ip)?;
    }
    Ok(())
}

/// Check a slice. The error names the field.
pub(crate) fn slice(slice: &EndpointSlice) -> Result<(), String> {
    name(&slice.key, 253)?;
    if slice.endpoints.len() > MAX_ENDPOINTS {
        return Err(format!("endpoints: more than {MAX_ENDPOINTS}"));
    }
    if slice.ports.len() > MAX_PORTS {
        return Err(format!("ports: more than {MAX_PORTS}"));
    }
    let mut names = BTreeSet::new();
    for (at, port) in slice.ports.iter().enumerate() {
        if !names.insert(&port.name) {
            return Err(format!("ports[{at}].name: \"{}\" is there twice", port.name));
        }
    }
    for endpoint in &slice.endpoints {
        routable("endpoints[].addresses", endpoint.address)?;
    }
    Ok(())
}

/// Names go into the databases and the logs of others, and are compared as text.
fn name(key: &ObjectKey, longest: usize) -> Result<(), String> {
    // The colon is that of slices made from Endpoints.
    let fits = |text: &str, more: &[u8]| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte);
        !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
    };
    if !fits(&key.namespace, b"-") || key.namespace.len() > 63 {
        return Err(format!("metadata.namespace: {:?} is no name (a-z, 0-9 and -)", key.namespace));
    }
    let more: &[u8] = if longest > 63 { b"-.:" } else { b"-" };
    if !fits(&key.name, more) || key.name.len() > longest {
        return Err(format!("metadata.name: {:?} is no name (a-z, 0-9 and -, at most {longest})", key.name));
    }
    Ok(())
}

/// An address that a packet can be sent to over a network: an address of this machine or link would let a manifest
/// take the node's own traffic.
fn routable(field: &str, ip: IpAddr) -> Result<(), String> {
    let what = match ip {
        _ if ip.is_unspecified() => "unspecified",
        _ if ip.is_loopback() => "a loopback address",
        _ if ip.is_multicast() => "a multicast address",
        IpAddr::V4(v4) if v4.is_link_local() => "a link-local address",
        IpAddr::V4(v4) if v4.is_broadcast() => "the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "a link-local address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "an IPv4 address written as IPv6",
        _ => return Ok(()),
    };
    Err(format!("{field}: {ip} is {what}"))
}
