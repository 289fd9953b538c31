//! The table as a whole: what holds for every policy.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use demux::generate::Generator;
use demux::policy::{
    Family, Policy, PortRange, ReplyRule, ServiceAddress, ServiceKey, ServiceOwner, ServicePort,
    ServiceRules, Split, Transport,
};
use ovs::openflow::FlowMod;
use ovs::openflow::flow::{Action, Field, Flow, FlowKey, FlowValue, Match, OfPort};
use proptest::prelude::*;

use super::*;

const UPLINK: OfPort = OfPort(1);
const OVERLAY: OfPort = OfPort(2);

fn whole(sctp: SctpRule) -> FlowContext {
    FlowContext { uplink: Some(UPLINK), overlay: Some(OVERLAY), zone: DEFAULT_ZONE, sctp }
}

/// A policy by chance, with services that claim the same ports under different names.
fn crowded(generator: &mut Generator) -> Policy {
    let mut policy = generator.policy();
    for (key, rules) in generator.policy().services() {
        policy.set_service(ServiceKey::new(format!("a-rival/{}", key.0)), Arc::clone(rules));
    }
    policy
}

fn applied(mut flows: HashMap<FlowKey, FlowValue>, mods: &[FlowMod]) -> HashMap<FlowKey, FlowValue> {
    for change in mods {
        match change {
            FlowMod::Add(flow) => drop(flows.insert(flow.key.clone(), flow.value.clone())),
            FlowMod::Delete { key, cookies } => {
                let gone = flows.remove(key).expect("only what is there is deleted");
                assert!(cookies.contain(gone.cookie));
            }
            other => panic!("{other:?} is no change of a rendering"),
        }
    }
    flows
}

/// Whether some frame can match both.
fn overlap(one: &Match, other: &Match) -> bool {
    one.iter().all(|(field, a)| other.get(field).is_none_or(|b| (a.value ^ b.value) & a.mask & b.mask == 0))
}

fn outputs(flow: &Flow) -> impl Iterator<Item = OfPort> + '_ {
    flow.value.actions.iter().filter_map(|action| match action {
        Action::Output(port) => Some(*port),
        _ => None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_lead_to_the_full_rendering(seed: u64) {
        let mut generator = Generator::new(seed);
        let (from, to) = (crowded(&mut generator), crowded(&mut generator));
        let mut rendering = Rendering::new(from.clone(), whole(SctpRule::Learned));
        let mut bridge = rendering.flows().clone();
        for step in Policy::diff(&from, &to).steps() {
            bridge = applied(bridge, &rendering.apply(step));
            let rendered = Rendering::new(rendering.policy().clone(), *rendering.context());
            prop_assert_eq!(rendering.flows(), rendered.flows());
            prop_assert_eq!(&bridge, rendering.flows());
        }
        prop_assert_eq!(rendering.policy(), &to);
    }

    #[test]
    fn no_frame_meets_two_rows_of_one_priority(seed: u64, kernel: bool) {
        let policy = crowded(&mut Generator::new(seed));
        let sctp = if kernel { SctpRule::Tracked } else { SctpRule::Learned };
        let mut shelves: BTreeMap<(u8, u16), Vec<Flow>> = BTreeMap::new();
        let rendering = Rendering::new(policy, whole(sctp));
        for (key, value) in rendering.flows() {
            let flow = Flow { key: key.clone(), value: value.clone() };
            shelves.entry((key.table, key.priority)).or_default().push(flow);
        }
        for shelf in shelves.values() {
            for (index, one) in shelf.iter().enumerate() {
                for other in &shelf[index + 1..] {
                    // Two ranges of one service may overlap, and say the same.
                    let same = one.value == other.value;
                    let clash = !same && overlap(&one.key.matches, &other.key.matches);
                    prop_assert!(!clash, "{} and {}", one, other);
                }
            }
        }
    }

    #[test]
    fn without_a_port_nothing_is_sent_to_it_or_read_from_it(seed: u64, uplink: bool, overlay: bool) {
        let policy = crowded(&mut Generator::new(seed));
        let datapath = FlowContext {
            uplink: uplink.then_some(UPLINK),
            overlay: overlay.then_some(OVERLAY),
            ..FlowContext::empty()
        };
        let mut allowed: HashSet<OfPort> = datapath.uplink.into_iter().chain(datapath.overlay).collect();
        allowed.insert(OfPort::LOCAL);
        if policy.split.other_ports {
            allowed.insert(OfPort::NORMAL);
        }
        for flow in render(&policy, &datapath) {
            let from = flow.key.matches.get(Field::InPort).map(|port| OfPort(port.value as u32));
            for port in outputs(&flow).chain(from) {
                prop_assert!(allowed.contains(&port), "{}", flow);
            }
        }
    }

    #[test]
    fn every_row_is_marked_and_stands_above_the_bridges_own(seed: u64) {
        let policy = crowded(&mut Generator::new(seed));
        for flow in render(&policy, &whole(SctpRule::Learned)) {
            prop_assert!(rule_of(flow.value.cookie).is_some(), "{}", flow);
            prop_assert!(flow.key.table != 0 || flow.key.priority > 0, "{}", flow);
            prop_assert_eq!((flow.value.idle_timeout, flow.value.hard_timeout), (0, 0));
        }
    }
}

fn node_port(family: Family, port: u16) -> ServicePort {
    let address = ServiceAddress::Node(family);
    ServicePort { address, protocol: Transport::Tcp, port, owner: ServiceOwner::NorthSouth, sources: None }
}

fn split() -> Split {
    Split {
        mac: "0a:00:00:00:00:01".parse().unwrap(),
        shared: ["172.18.0.11", "fd00:18::11"].map(|address| address.parse().unwrap()).into(),
        service_ranges: ["10.96.0.0/16", "fd00:96::/112"].map(|range| range.parse().unwrap()).into(),
        tunnels: [6081, 4789].into(),
        ..Split::default()
    }
}

#[test]
fn a_node_port_costs_two_flows_in_each_family() {
    let mut rendering = Rendering::new(Policy::new(split()), whole(SctpRule::Learned));
    let before = rendering.flows().len();
    for number in 0..2000 {
        let ports = Family::ALL.map(|family| node_port(family, 30000 + number)).to_vec();
        let key = ServiceKey::new(format!("default/s{number}"));
        let mods = rendering.set_service(&key, Some(Arc::new(ServiceRules::new(ports))));
        assert_eq!(mods.len(), 4);
    }
    assert_eq!(rendering.flows().len(), before + 8000);
    assert!(before < 110, "{before} flows for the split alone");
}

#[test]
fn what_stays_the_same_is_not_written_again() {
    let mut rendering = Rendering::new(Policy::new(split()), whole(SctpRule::Learned));
    let key = ServiceKey::new("default/web");
    let rules = |ports: &[u16]| {
        let ports = ports.iter().map(|port| node_port(Family::V4, *port)).collect();
        Some(Arc::new(ServiceRules::new(ports)))
    };
    assert_eq!(rendering.set_service(&key, rules(&[30000, 30001])).len(), 4);
    assert_eq!(rendering.set_service(&key, rules(&[30000, 30001])), []);
    let mods = rendering.set_service(&key, rules(&[30001, 30002]));
    assert!(matches!(mods[..2], [FlowMod::Delete { .. }, FlowMod::Delete { .. }]), "deletions first");
    assert_eq!(mods.len(), 4);
    assert_eq!(rendering.set_service(&key, None).len(), 4);
    assert_eq!(rendering.set_service(&key, None), []);
}

/// The whole table of one small node under a reply rule, for people to read: as `ovs-ofctl dump-flows` shows it, with
/// the rule's name for its cookie.
fn table_of_a_small_node(reply: ReplyRule) -> String {
    let mut policy = Policy::new(Split { reply, ..split() });
    let rules = ServiceRules::new(vec![node_port(Family::V4, 30080)]);
    policy.set_service(ServiceKey::new("default/web"), Arc::new(rules));
    let mut flows = render(&policy, &whole(SctpRule::Learned));
    flows.sort_by_key(|flow| (flow.key.table, std::cmp::Reverse(flow.key.priority), flow.key.clone()));
    let lines = flows.iter().map(|flow| {
        let rule = rule_of(flow.value.cookie).map_or("?", |rule| rule.name());
        format!("{rule:<26} {flow}\n").replace(&format!("cookie={:#x}, ", flow.value.cookie), "")
    });
    lines.collect()
}

#[test]
fn the_tables_read_as_documented() {
    let ports = PortRange::new(40000, 59999).unwrap();
    for (file, documented, reply) in [
        ("tracked", include_str!("tests/tracked.txt"), ReplyRule::Tracked),
        (
            "partitioned",
            include_str!("tests/partitioned.txt"),
            ReplyRule::Partitioned { ports, drain: false },
        ),
    ] {
        let table = table_of_a_small_node(reply);
        assert!(table == documented, "if the change is meant, src/flows/tests/{file}.txt is now:\n{table}");
    }
}
