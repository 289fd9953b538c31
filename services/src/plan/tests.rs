use std::num::NonZeroU16;

use kubernetes::ObjectKey;
use kubernetes::object::{EndpointPort, Families, Ingress, ServiceType, TargetPort};

use super::*;

pub(crate) fn node() -> NodeView {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    NodeView {
        name: Some("node1".into()),
        addresses: [ip("172.18.0.11"), ip("fd00::11"), ip("10.244.1.2")].into(),
        shared: [ip("172.18.0.11"), ip("fd00::11")].into(),
        reaches: ["192.0.2.50:6443".parse().unwrap()].into(),
    }
}

pub(crate) fn number(port: u16) -> NonZeroU16 {
    NonZeroU16::new(port).unwrap()
}

pub(crate) fn service(name: &str, node_port: u16) -> Service {
    Service {
        key: ObjectKey::new("default", name),
        created: Some(100),
        kind: ServiceType::NodePort,
        headless: false,
        families: Families { v4: true, v6: false },
        cluster_ips: ["10.96.0.10".parse().unwrap()].into(),
        external_ips: [].into(),
        ingress: [].into(),
        ports: [object::ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: number(80),
            node_port: NonZeroU16::new(node_port),
            target_port: TargetPort::Number(number(8080)),
        }]
        .into(),
        external_traffic_policy: TrafficPolicy::Cluster,
        internal_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        source_ranges: None,
        publish_not_ready: false,
        other_proxy: false,
    }
}

fn endpoint(ip: &str, node: &str, ready: bool) -> Endpoint {
    Endpoint {
        address: ip.parse().unwrap(),
        ready,
        serving: ready,
        terminating: false,
        node: Some(node.into()),
    }
}

fn slice(endpoints: Vec<Endpoint>) -> Arc<EndpointSlice> {
    Arc::new(EndpointSlice {
        key: ObjectKey::new("default", "web-1"),
        service: Some(ObjectKey::new("default", "web")),
        address_type: AddressType::Ipv4,
        endpoints: endpoints.into(),
        ports: [EndpointPort { name: "".into(), protocol: Protocol::Tcp, port: Some(number(8080)) }].into(),
    })
}

fn only(plan: &ServicePlan) -> &ServicePort {
    assert_eq!(plan.ports.len(), 1, "{plan:?}");
    &plan.ports[0]
}

#[test]
fn policy_cluster_goes_to_ovn_with_and_without_endpoints() {
    let plan = plan(&service("web", 30080), &[], &node());
    let port = only(&plan);
    assert_eq!((port.address, port.port), (ServiceAddress::Node(Family::V4), 30080));
    assert_eq!(port.owner, ServiceOwner::NorthSouth);
    assert_eq!(
        plan.host.own,
        [Translation {
            reach: Reach::Node,
            protocol: Transport::Tcp,
            port: 30080,
            target: "10.96.0.10:80".parse().unwrap()
        }]
    );
}

#[test]
fn policy_local_follows_the_usable_endpoints_of_this_node() {
    let mut service = service("web", 30080);
    service.external_traffic_policy = TrafficPolicy::Local;
    let owner = |endpoints| only(&plan(&service, &[slice(endpoints)], &node())).owner;
    assert_eq!(owner(vec![]), ServiceOwner::Drop);
    assert_eq!(owner(vec![endpoint("10.244.2.5", "node2", true)]), ServiceOwner::Drop);
    assert_eq!(owner(vec![endpoint("10.244.1.5", "node1", true)]), ServiceOwner::NorthSouth);
    assert_eq!(owner(vec![endpoint("10.244.1.5", "node1", false)]), ServiceOwner::Drop);
    assert_eq!(owner(vec![endpoint("172.18.0.11", "node1", true)]), ServiceOwner::Management);
    let terminating = Endpoint { serving: true, terminating: true, ..endpoint("10.244.1.5", "node1", false) };
    assert_eq!(owner(vec![terminating]), ServiceOwner::NorthSouth);
}

#[test]
fn a_host_endpoint_of_policy_local_is_translated_by_the_host() {
    let mut service = service("web", 30080);
    service.external_traffic_policy = TrafficPolicy::Local;
    let plan = plan(&service, &[slice(vec![endpoint("172.18.0.11", "node1", true)])], &node());
    assert_eq!(plan.host.direct.len(), 1);
    assert_eq!(plan.host.direct[0].target, "172.18.0.11:8080".parse().unwrap());
    assert!(plan.host.node_ports.is_empty(), "the host answers there");
    assert_eq!(plan.host.endpoints[0].target, "172.18.0.11:8080".parse().unwrap());
}

#[test]
fn a_load_balancer_that_changes_the_destination_itself_gets_no_row() {
    let mut service = service("web", 0);
    service.kind = ServiceType::LoadBalancer;
    let ingress = |mode| Ingress { ip: "192.0.2.7".parse().unwrap(), mode };
    service.ingress = [ingress(IpMode::Proxy)].into();
    assert!(plan(&service, &[], &node()).ports.is_empty());
    service.ingress = [ingress(IpMode::Vip)].into();
    assert_eq!(
        only(&plan(&service, &[], &node())).address,
        ServiceAddress::External("192.0.2.7".parse().unwrap())
    );
}

#[test]
fn source_ranges_hold_at_the_load_balancers_address_and_the_node_port_but_not_at_external_addresses() {
    let mut service = service("web", 30080);
    service.kind = ServiceType::LoadBalancer;
    service.ingress = [Ingress { ip: "192.0.2.7".parse().unwrap(), mode: IpMode::Vip }].into();
    service.external_ips = ["192.0.2.8".parse().unwrap()].into();
    service.source_ranges = Some(["203.0.113.0/24".parse().unwrap()].into());
    let plan = plan(&service, &[], &node());
    let restricted: Vec<_> =
        plan.ports.iter().filter(|port| port.sources.is_some()).map(|port| port.address).collect();
    assert_eq!(
        restricted,
        [ServiceAddress::Node(Family::V4), ServiceAddress::External("192.0.2.7".parse().unwrap())]
    );
    assert_eq!(plan.ports.len(), 3);
}

#[test]
fn a_service_cannot_take_the_nodes_own_management_port() {
    let mut service = service("web", 0);
    service.external_ips = ["172.18.0.11".parse().unwrap(), "127.0.0.1".parse().unwrap()].into();
    let refused = |service: &Service| plan(service, &[], &node());
    assert_eq!(refused(&service).refused.len(), 1, "the loopback address");
    assert_eq!(refused(&service).ports.len(), 1, "port 80 of the node's address is free to take");
    let mut ports = service.ports.to_vec();
    ports[0].port = number(22);
    service.ports = ports.into();
    assert_eq!(refused(&service).refused.len(), 2);
    assert!(refused(&service).ports.is_empty());
}

#[test]
fn health_checks_count_ready_endpoints_of_this_node_once() {
    let mut service = service("web", 30080);
    service.external_traffic_policy = TrafficPolicy::Local;
    service.health_check_node_port = Some(number(32000));
    let here = vec![endpoint("10.244.1.5", "node1", true), endpoint("10.244.2.5", "node2", true)];
    let health = |endpoints| plan(&service, &[slice(endpoints)], &node()).health;
    assert_eq!(health(here), Some(HealthCheck { port: 32000, local_endpoints: 1 }));
    assert_eq!(health(vec![]), Some(HealthCheck { port: 32000, local_endpoints: 0 }));
}

#[test]
fn headless_and_foreign_services_are_left_alone() {
    let mut headless = service("web", 30080);
    headless.headless = true;
    assert_eq!(plan(&headless, &[], &node()), ServicePlan::default());
    let mut foreign = service("web", 30080);
    foreign.other_proxy = true;
    assert_eq!(plan(&foreign, &[], &node()), ServicePlan::default());
}

#[test]
fn no_kind_of_claim_takes_a_management_port_of_the_node() {
    for port in PROTECTED {
        let mut by_node_port = service("web", port);
        by_node_port.external_traffic_policy = TrafficPolicy::Local;
        by_node_port.health_check_node_port = Some(number(port));
        let found = plan(&by_node_port, &[], &node());
        assert_eq!((found.ports.len(), found.health, found.refused.len()), (0, None, 2), "{found:?}");
        assert_eq!(found.host, ServiceHostRows::default());
        let mut by_address = service("web", 0);
        by_address.external_ips = ["172.18.0.11".parse().unwrap()].into();
        by_address.ports[0].port = number(port);
        // The host's devices could not be listed.
        let blind = NodeView { addresses: BTreeSet::new(), ..node() };
        assert_eq!(plan(&by_address, &[], &blind).ports, []);
    }
}

#[test]
fn a_service_cannot_take_the_api_server_from_the_node() {
    let mut service = service("web", 0);
    service.external_ips = ["192.0.2.50".parse().unwrap()].into();
    assert_eq!(plan(&service, &[], &node()).ports.len(), 1, "another port of that address");
    let mut ports = service.ports.to_vec();
    ports[0].port = number(6443);
    service.ports = ports.into();
    let plan = plan(&service, &[], &node());
    assert!(plan.ports.is_empty() && plan.refused[0].contains("API server"), "{plan:?}");
}
