use kubernetes::object::TrafficPolicy;
use proptest::prelude::*;

use super::*;
use crate::plan::tests::{node, number, service};

fn view(service: kubernetes::Service) -> ServiceView {
    ServiceView { service: Arc::new(service), slices: Vec::new() }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn ports(catalogue: &Catalogue, name: &str) -> usize {
    catalogue.granted(&service_key(&key(name))).rules.map_or(0, |rules| rules.ports.len())
}

#[test]
fn the_older_of_two_services_gets_the_port_and_the_younger_is_refused_it() {
    let mut catalogue = Catalogue::new(node());
    let mut young = service("a-young", 30080);
    young.created = Some(200);
    catalogue.update(&key("a-young"), Some(&view(young)));
    assert_eq!(ports(&catalogue, "a-young"), 1);
    let changes = catalogue.update(&key("z-old"), Some(&view(service("z-old", 30080))));
    assert_eq!(changes.granted.len(), 2, "both change");
    assert_eq!((ports(&catalogue, "a-young"), ports(&catalogue, "z-old")), (0, 1));
    assert_eq!(catalogue.granted(&service_key(&key("a-young"))).host, None);
    let refused = catalogue.refused();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("default/z-old"), "{refused:?}");
    catalogue.update(&key("z-old"), None);
    assert_eq!(ports(&catalogue, "a-young"), 1);
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
fn an_unchanged_service_changes_no_grant() {
    let mut catalogue = Catalogue::new(node());
    let web = view(service("web", 30080));
    assert_eq!(catalogue.update(&key("web"), Some(&web)).granted.len(), 1);
    assert_eq!(catalogue.update(&key("web"), Some(&web)), Changes::default());
    assert_eq!(catalogue.update(&key("other"), None), Changes::default());
}

/// Services of every kind that compete for three NodePorts, two health check ports and the node's own address.
fn any_service() -> impl Strategy<Value = kubernetes::Service> {
    let node_port = prop::sample::select(vec![0, 22, 30080, 30081, 30082]);
    let health_port = prop::sample::select(vec![None, Some(22), Some(32000), Some(32001)]);
    let address = prop::sample::select(vec![None, Some("172.18.0.11"), Some("192.0.2.8"), Some("127.0.0.1")]);
    (node_port, health_port, address, prop::option::of(0..3i64)).prop_map(
        |(node_port, health, address, created)| {
            let mut service = service("any", node_port);
            service.created = created;
            service.health_check_node_port = health.map(number);
            service.external_traffic_policy =
                if health.is_some() { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
            service.external_ips = address.iter().map(|ip| ip.parse().unwrap()).collect();
            service.ports[0].port = number(30080);
            service
        },
    )
}

proptest! {
    #[test]
    fn updates_one_by_one_equal_a_catalogue_built_from_scratch(
        updates in prop::collection::vec((0..5usize, prop::option::of(any_service())), 1..40)
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let mut views = BTreeMap::new();
        let (mut catalogue, mut sum) = (Catalogue::new(node()), Changes::default());
        for (which, service) in updates {
            match service {
                Some(service) => drop(views.insert(names[which], view(service))),
                None => drop(views.remove(names[which])),
            }
            sum.extend(catalogue.update(&key(names[which]), views.get(names[which])));

            let mut scratch = Catalogue::new(node());
            for (name, view) in &views {
                scratch.update(&key(name), Some(view));
            }
            let granted = |catalogue: &Catalogue| -> BTreeMap<_, _> {
                catalogue.grants().map(|(key, granted)| (key.clone(), granted)).collect()
            };
            prop_assert_eq!(granted(&catalogue), granted(&scratch));
            prop_assert_eq!(catalogue.health_checks(), scratch.health_checks());
            prop_assert_eq!(catalogue.refused(), scratch.refused());
            prop_assert_eq!(catalogue.len(), scratch.len());
            sum.granted.retain(|_, granted| *granted != Granted::default());
            prop_assert_eq!(&sum.granted, &granted(&scratch));
            sum.health_checks.retain(|_, check| check.is_some());
            let checks: HealthChecks = sum.health_checks.iter().filter_map(|(port, check)| Some((*port, check.clone()?))).collect();
            prop_assert_eq!(checks, scratch.health_checks());
        }
    }
}
