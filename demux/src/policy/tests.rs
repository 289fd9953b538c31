use super::*;
use crate::delta::Delta;
use crate::generate::Generator;
use proptest::prelude::*;

fn node_port(port: u16, owner: ServiceOwner) -> ServicePort {
    let address = ServiceAddress::Node(Family::V4);
    ServicePort { address, protocol: Transport::Tcp, port, owner, sources: None }
}

fn rules(ports: &[ServicePort]) -> Arc<ServiceRules> {
    Arc::new(ServiceRules::new(ports.to_vec()))
}

fn holder(policy: &Policy, port: u16) -> Option<&str> {
    policy.claim(ServiceAddress::Node(Family::V4), Transport::Tcp, port).map(|claim| &*claim.service.0)
}

#[test]
fn a_contested_port_is_the_first_keys_whatever_the_order() {
    let port = rules(&[node_port(30080, ServiceOwner::NorthSouth)]);
    let keys = ["a", "b", "c"].map(ServiceKey::new);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
        let mut policy = Policy::default();
        for key in order {
            policy.set_service(keys[key].clone(), Arc::clone(&port));
        }
        for (leaves, next) in [(0, Some("b")), (1, Some("c")), (2, None)] {
            assert_eq!(holder(&policy, 30080), Some(&*keys[leaves].0));
            assert_eq!(policy.remove_service(&keys[leaves]), Some(Arc::clone(&port)));
            assert_eq!(holder(&policy, 30080), next);
        }
    }
}

#[test]
fn a_port_that_moves_is_found_where_it_went() {
    let mut policy = Policy::default();
    let key = ServiceKey::new("a");
    policy.set_service(key.clone(), rules(&[node_port(30080, ServiceOwner::NorthSouth)]));
    let before = policy.set_service(key, rules(&[node_port(30081, ServiceOwner::Drop)]));
    assert_eq!(before.unwrap().ports[0].port, 30080);
    assert_eq!((holder(&policy, 30080), holder(&policy, 30081)), (None, Some("a")));
}

#[test]
fn one_service_claims_a_port_once() {
    let twice = [node_port(30080, ServiceOwner::Drop), node_port(30080, ServiceOwner::NorthSouth)];
    assert_eq!(ServiceRules::new(twice.to_vec()).ports.len(), 1);
    // Also where the list was not made by `new`.
    let mut policy = Policy::default();
    policy.set_service(ServiceKey::new("a"), Arc::new(ServiceRules { ports: twice.to_vec() }));
    assert_eq!(holder(&policy, 30080), Some("a"));
    policy.remove_service(&ServiceKey::new("a"));
    assert_eq!(holder(&policy, 30080), None);
}

#[test]
fn an_external_address_is_served_as_long_as_ovn_has_a_port_on_it() {
    let address = "203.0.113.5".parse().unwrap();
    let port =
        |port, owner| ServicePort { address: ServiceAddress::External(address), ..node_port(port, owner) };
    let mut policy = Policy::default();
    policy.set_service(ServiceKey::new("host"), rules(&[port(80, ServiceOwner::Management)]));
    assert!(!policy.serves_external(address));
    policy.set_service(ServiceKey::new("pods"), rules(&[port(81, ServiceOwner::NorthSouth)]));
    assert!(policy.serves_external(address));
    policy.remove_service(&ServiceKey::new("pods"));
    assert!(!policy.serves_external(address));
    assert!(policy.claim(ServiceAddress::External(address), Transport::Tcp, 80).is_some());
}

/// Every claim, looked up one by one.
fn claims(policy: &Policy, all: &[&Policy]) -> Vec<Option<(ServiceKey, ServicePort)>> {
    let ports = all.iter().flat_map(|policy| policy.services()).flat_map(|(_, rules)| &rules.ports);
    ports
        .map(|port| {
            let claim = policy.claim(port.address, port.protocol, port.port);
            claim.map(|claim| (claim.service.clone(), claim.port.clone()))
        })
        .collect()
}

proptest! {
    #[test]
    fn deltas_applied_one_by_one_equal_the_whole(seed: u64, shuffle: u64) {
        let mut generator = Generator::new(seed);
        let (old, new) = (generator.policy(), generator.policy());
        let delta = Policy::diff(&old, &new);
        let mut steps = delta.clone().steps().collect::<Vec<_>>();
        steps.sort_by_cached_key(|step| {
            let name = step.services.keys().next().map_or(0, |key| key.0.len() as u64 + u64::from(key.0.as_bytes()[key.0.len() - 1]));
            name.wrapping_mul(shuffle | 1)
        });
        let mut stepped = old.clone();
        for step in steps {
            stepped.apply(step);
        }
        let mut whole = old.clone();
        whole.apply(delta);
        for applied in [&stepped, &whole] {
            prop_assert_eq!(applied, &new);
            prop_assert_eq!(claims(applied, &[&old, &new]), claims(&new, &[&old, &new]));
        }
        prop_assert!(Policy::diff(&whole, &new).is_empty());
        prop_assert_eq!(Policy::diff(&new, &new.clone()), Delta::default());
    }

    /// Services that claim each other's ports, set and removed in any order.
    #[test]
    fn the_index_follows_from_the_services(
        changes in prop::collection::vec((0_u8..5, prop::collection::vec((0_u16..6, 0_u8..3), 0..4)), 0..40),
    ) {
        let mut policy = Policy::default();
        for (key, ports) in changes {
            let key = ServiceKey::new(format!("service-{key}"));
            let port = |(port, kind): &(u16, u8)| ServicePort {
                address: match kind {
                    0 => ServiceAddress::Node(Family::V4),
                    1 => ServiceAddress::Node(Family::V6),
                    _ => ServiceAddress::External(IpAddr::from([203, 0, 113, 5])),
                },
                ..node_port(30000 + port, if *port < 3 { ServiceOwner::NorthSouth } else { ServiceOwner::Drop })
            };
            if ports.is_empty() {
                policy.remove_service(&key);
            } else {
                policy.set_service(key, rules(&ports.iter().map(port).collect::<Vec<_>>()));
            }
            let mut rebuilt = Policy::default();
            for (key, rules) in policy.services() {
                rebuilt.set_service(key.clone(), Arc::clone(rules));
            }
            prop_assert_eq!(claims(&policy, &[&policy]), claims(&rebuilt, &[&policy]));
            let external = IpAddr::from([203, 0, 113, 5]);
            prop_assert_eq!(policy.serves_external(external), rebuilt.serves_external(external));
        }
    }
}
