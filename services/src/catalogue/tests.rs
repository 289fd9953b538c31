use super::super::plan::tests::{node, number, service};
use super::*;

fn view(service: kubernetes::Service) -> ServiceView {
    ServiceView { service: Arc::new(service), slices: Vec::new() }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn ports(catalogue: &Catalogue, name: &str) -> usize {
    catalogue.granted(&service_key(&key(name))).rules.ports.len()
}

#[test]
fn the_senior_of_two_services_has_the_port_and_the_junior_is_told_so() {
    let mut catalogue = Catalogue::new(node());
    let mut junior = service("a-junior", 30080);
    junior.created = Some(200);
    catalogue.update(&key("a-junior"), Some(&view(junior)));
    assert_eq!(ports(&catalogue, "a-junior"), 1);
    let affected = catalogue.update(&key("z-senior"), Some(&view(service("z-senior", 30080))));
    assert_eq!(affected.len(), 2, "both change");
    assert_eq!((ports(&catalogue, "a-junior"), ports(&catalogue, "z-senior")), (0, 1));
    assert!(catalogue.granted(&service_key(&key("a-junior"))).host.own.is_empty());
    let refused = catalogue.refused();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("default/z-senior"), "{refused:?}");
    catalogue.update(&key("z-senior"), None);
    assert_eq!(ports(&catalogue, "a-junior"), 1);
}

#[test]
fn an_external_address_that_is_the_nodes_own_meets_its_node_ports() {
    let mut catalogue = Catalogue::new(node());
    catalogue.update(&key("web"), Some(&view(service("web", 30080))));
    let mut grabber = service("grabber", 0);
    grabber.created = Some(300);
    grabber.external_ips = ["172.18.0.11".parse().unwrap()].into();
    let mut with_port = grabber.ports.to_vec();
    with_port[0].port = number(30080);
    grabber.ports = with_port.into();
    catalogue.update(&key("grabber"), Some(&view(grabber)));
    assert_eq!((ports(&catalogue, "web"), ports(&catalogue, "grabber")), (1, 0));
}

#[test]
fn an_unchanged_service_affects_nobody() {
    let mut catalogue = Catalogue::new(node());
    let web = view(service("web", 30080));
    assert_eq!(catalogue.update(&key("web"), Some(&web)).len(), 1);
    assert!(catalogue.update(&key("web"), Some(&web)).is_empty());
    assert!(catalogue.update(&key("other"), None).is_empty());
}
