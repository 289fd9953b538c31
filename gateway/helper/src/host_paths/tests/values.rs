//! The pure half: no kernel.

use std::collections::BTreeMap;
use std::sync::Arc;

use demux::policy::{ServiceKey, Transport};
use host::ports::PortSpan;
use host::rtnl::Device;
use host::rtnl::route::{OUR_PROTOCOL, Route};
use host::sysctl::{PortSettings, Replaced};
use proptest::prelude::*;

use super::world::{cluster, direct, inputs, node, range};
use crate::host_paths::conflicts::{PortRangeConflict, conflicts};
use crate::host_paths::plan::{
    HostPlan, HostSnapshot, NftChange, RouteChange, SysctlChange, TableSnapshot, diff,
};
use crate::host_paths::rules::{Features, alternate_range};
use crate::host_paths::state::desired;
use crate::host_paths::{HostInputs, HostNode, PodsPorts};
use services::{NodePort, Reach, ServiceHostRows, Translation};

const SOCKET: Features = Features { socket: true };

fn settings(reserved: &str, ours: &str, local: (u16, u16), replaced: Option<(&str, &str)>) -> PortSettings {
    PortSettings {
        reserved: reserved.parse().unwrap(),
        reserved_by_us: ours.parse().unwrap(),
        local: PortSpan::new(local.0, local.1).unwrap(),
        local_replaced: replaced
            .map(|(before, ours)| Replaced { before: before.to_owned(), ours: ours.to_owned() }),
    }
}

fn observed(ports: PortSettings, routes: Vec<Route>) -> HostSnapshot {
    let device = |index, name: &str| Device { index, name: name.to_owned() };
    let devices = vec![device(1, "lo"), device(7, "k8s-node")];
    HostSnapshot { devices, routes, table: TableSnapshot::default(), ports, arp_announce: None }
}

fn plan_of(node: HostNode, observed: &HostSnapshot) -> HostPlan {
    diff(&desired(&HostInputs { node, services: BTreeMap::new() }, SOCKET), observed)
}

fn untouched() -> PortSettings {
    settings("", "", (32768, 60999), None)
}

fn route(to: &str, via: &str, source: Option<&str>, protocol: u8) -> Route {
    let source = source.map(|ip| ip.parse().unwrap());
    Route::unicast(to.parse().unwrap(), 7, Some(via.parse().unwrap()), source, protocol)
}

#[test]
fn a_plan_reads_like_what_it_does() {
    let services = [("default/web", cluster(30080))];
    let wanted = desired(&inputs(PodsPorts::Range(range(40000, 59999)), &services), SOCKET);
    let text = diff(&wanted, &observed(untouched(), vec![])).to_string();
    for line in [
        "sysctl net/ipv4/ip_local_reserved_ports: \"\" -> \"30000-32767,40000-59999\"",
        "sysctl net/ipv4/ip_local_port_range: 32768-60999 -> 15000-65535",
        "nft make table inet ovn_k8s_gateway",
        "nft svc4 + tcp 192.0.2.10:30080 -> 10.96.0.7:80",
        "nft svc6 + tcp [2001:db8::10]:30080 -> [fd96::7]:80",
        "nft node_ports + udp 30080",
        "route add 10.96.0.0/16 via 10.128.0.1 dev 7 proto 158 src 10.128.0.2",
        "route add fd98::/64 via fd80::1 dev 7 proto 158 src fd80::2 metric 1024",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn the_host_keeps_enough_ports_and_gets_its_own_range_back() {
    let with = |low, high| node(PodsPorts::Range(range(low, high)));
    let changes = |node, ports| plan_of(node, &observed(ports, vec![])).sysctls;
    // 18,232 of the default range are left: no need.
    assert!(matches!(changes(with(50000, 59999), untouched())[..], [SysctlChange::Reserve { .. }]));
    let wide = settings(
        "30000-32767,40000-59999",
        "30000-32767,40000-59999",
        (15000, 65535),
        Some(("32768 60999", "15000 65535")),
    );
    assert_eq!(changes(with(40000, 59999), wide.clone()), []);
    let back = changes(node(PodsPorts::Any), wide);
    assert!(
        matches!(back[..], [SysctlChange::Reserve { .. }, SysctlChange::Restore { target, .. }] if target.low() == 32768),
        "{back:?}"
    );
    // Somebody else has set it since: it is theirs, whether it is enough or not.
    let theirs = settings("30000-32767", "30000-32767", (10000, 60999), Some(("32768 60999", "15000 65535")));
    assert_eq!(changes(node(PodsPorts::Any), theirs), []);
}

#[test]
fn node_ports_outside_of_the_range_are_reserved_one_by_one() {
    let services = [("default/a", cluster(30080)), ("default/b", cluster(8888))];
    let state = desired(&inputs(PodsPorts::Any, &services), SOCKET);
    assert_eq!(state.reserved_ports().to_string(), "8888,30000-32767");
    assert_eq!(state.node_ports().count(), 4);
}

#[test]
fn ranges_that_cannot_go_together_are_refused_with_a_remedy() {
    let services = [("default/odd", cluster(45000)), ("default/web", cluster(30080))];
    let found = |low, high| conflicts(&inputs(PodsPorts::Range(range(low, high)), &services));
    assert_eq!(found(50000, 59999), []);
    assert!(matches!(found(30000, 39999)[..], [PortRangeConflict::NodePortRange { .. }]));
    let taken = found(40000, 59999);
    assert_eq!(taken.len(), 2, "tcp and udp: {taken:?}");
    let said = taken[0].to_string();
    assert!(
        said.contains("NodePort 45000/tcp of service default/odd") && said.contains("--snat-ports"),
        "{said}"
    );
    assert!(matches!(
        found(1024, 65535)[..],
        [PortRangeConflict::NodePortRange { .. }, PortRangeConflict::TooFewLeft { left: 0, .. }, ..]
    ));
    assert_eq!(conflicts(&inputs(PodsPorts::Any, &services)), []);
}

#[test]
fn the_alternate_range_keeps_clear_of_both_others() {
    let with = |low, high| alternate_range(&node(PodsPorts::Range(range(low, high)))).unwrap();
    assert_eq!(with(40000, 59999), range(20000, 29999));
    assert_eq!(with(10000, 29999), range(50000, 59999));
}

#[test]
fn what_is_missing_is_left_out_and_named() {
    let mut bare = node(PodsPorts::Any);
    bare.management = None;
    bare.shared.clear();
    let state = desired(&HostInputs { node: bare, services: BTreeMap::new() }, SOCKET);
    assert!(state.routes.is_empty());
    let said = state.left_out.join("; ");
    for word in ["management port", "10.96.0.0/16", "100.64.0.0/16", "guard"] {
        assert!(said.contains(word), "{word} in {said}");
    }
    let mut odd = node(PodsPorts::Any);
    odd.bridge = "a\" accept #".to_owned();
    let (odd_rules, plain) =
        (desired(&HostInputs { node: odd, services: BTreeMap::new() }, SOCKET), "accept #");
    assert!(odd_rules.rules.iter().all(|rule| !rule.text.contains(plain)), "a name cannot become a rule");
}

#[test]
fn routes_of_others_are_respected() {
    let services = BTreeMap::new;
    let mut one = node(PodsPorts::Any);
    one.service_ranges.clear();
    one.join_ranges.retain(|net| net.addr().is_ipv4());
    let state = desired(&HostInputs { node: one, services: services() }, SOCKET);
    let changes = |routes| {
        let plan = diff(&state, &observed(untouched(), routes));
        (plan.routes, plan.notes)
    };
    let ours = route("100.64.0.0/16", "10.128.0.1", Some("10.128.0.2"), OUR_PROTOCOL);
    assert_eq!(changes(vec![]), (vec![RouteChange::Add(ours.clone())], vec![]));
    assert_eq!(changes(vec![ours.clone()]), (vec![], vec![]));
    // The same, made by an administrator or an init command, with or without a source.
    for source in [Some("10.128.0.2"), None] {
        assert_eq!(changes(vec![route("100.64.0.0/16", "10.128.0.1", source, 3)]), (vec![], vec![]));
    }
    let (none, notes) = changes(vec![route("100.64.0.0/16", "10.128.0.9", None, 3)]);
    assert!(
        none.is_empty() && notes[0].contains("via 10.128.0.9") && notes[0].contains("has the place of"),
        "{notes:?}"
    );
    // Ours of an earlier gateway goes first.
    let stale = route("100.64.0.0/16", "10.128.0.9", Some("10.128.0.2"), OUR_PROTOCOL);
    assert_eq!(changes(vec![stale.clone()]).0, [RouteChange::Remove(stale), RouteChange::Add(ours)]);
    // What has our number and is not wanted goes, what has another stays.
    let gone = route("10.99.0.0/16", "10.128.0.1", None, OUR_PROTOCOL);
    let foreign = route("10.98.0.0/16", "10.128.0.1", None, 3);
    assert!(changes(vec![gone.clone(), foreign]).0.contains(&RouteChange::Remove(gone)));
}

#[test]
fn without_a_device_the_route_waits() {
    let mut observed = observed(untouched(), vec![]);
    observed.devices = vec![];
    let plan = plan_of(node(PodsPorts::Any), &observed);
    assert!(plan.routes.is_empty());
    assert!(plan.notes.iter().any(|note| note.contains("there is no device k8s-node")), "{:?}", plan.notes);
}

#[test]
fn two_services_that_need_one_element_hold_it_together() {
    let both = inputs(PodsPorts::Any, &[("a/one", direct(30001, 8080)), ("a/two", direct(30002, 8080))]);
    let mut state = desired(&both, SOCKET);
    let gone = state.set_service(&ServiceKey::new("a/one"), None);
    assert!(gone.iter().all(|change| change.key.port == 30001), "{gone:?}");
    let gone = state.set_service(&ServiceKey::new("a/two"), None);
    assert!(gone.iter().any(|change| change.key.port == 8080 && change.after.is_none()), "{gone:?}");
    assert!(state.elements.iter().next().is_none());
}

#[test]
fn removals_come_before_additions_in_a_script() {
    let mut state = desired(&inputs(PodsPorts::Any, &[("a/one", cluster(30001))]), SOCKET);
    let mut moved = cluster(30001);
    moved.own.truncate(1);
    moved.own[0].target = "10.96.0.8:80".parse().unwrap();
    let changes = state.set_service(&ServiceKey::new("a/one"), Some(Arc::new(moved)));
    let script = NftChange::Elements(changes).script().unwrap();
    let expected = "delete element inet ovn_k8s_gateway svc4 { 192.0.2.10 . 6 . 30001 }\n\
                    add element inet ovn_k8s_gateway svc4 { 192.0.2.10 . 6 . 30001 : 10.96.0.8 . 80 }\n\
                    delete element inet ovn_k8s_gateway svc6 { 2001:db8::10 . 6 . 30001 }\n";
    assert_eq!(script, expected);
}

fn any_rows() -> impl Strategy<Value = ServiceHostRows> {
    let translation =
        (0..3_u8, 30000..30004_u16, 1..4_u8, any::<bool>()).prop_map(|(reach, port, target, v6)| {
            let target = if v6 { format!("[fd96::{target}]:80") } else { format!("10.96.0.{target}:80") };
            Translation {
                reach: match reach {
                    0 => Reach::Node,
                    1 => Reach::Address("203.0.113.9".parse().unwrap()),
                    _ => Reach::Address("2001:db8:9::9".parse().unwrap()),
                },
                protocol: Transport::Tcp,
                port,
                target: target.parse().unwrap(),
            }
        });
    let node_port = (30000..30004_u16).prop_map(|port| NodePort { protocol: Transport::Udp, port });
    (
        prop::collection::vec(translation.clone(), 0..4),
        prop::collection::vec(translation, 0..3),
        prop::collection::vec(node_port, 0..3),
    )
        .prop_map(|(own, direct, node_ports)| ServiceHostRows {
            own,
            direct,
            node_ports,
            ..Default::default()
        })
}

proptest! {
    /// Deltas applied one by one equal the state computed at once; and together they are the difference.
    #[test]
    fn following_services_equals_starting_from_them(
        steps in prop::collection::vec((0..4_u8, prop::option::of(any_rows())), 1..12)
    ) {
        let mut all = inputs(PodsPorts::Any, &[]);
        let mut state = desired(&all, SOCKET);
        let mut held: BTreeMap<_, _> = BTreeMap::new();
        for (service, rows) in steps {
            let key = ServiceKey::new(format!("a/{service}"));
            match rows {
                Some(rows) => { all.services.insert(key, Arc::new(rows)); }
                None => { all.services.remove(&key); }
            }
            for change in state.follow(&all.services) {
                prop_assert_eq!(held.get(&change.key).copied(), change.before);
                match change.after {
                    Some(data) => { held.insert(change.key, data); }
                    None => { held.remove(&change.key); }
                }
            }
            let fresh = desired(&all, SOCKET);
            prop_assert_eq!(&state, &fresh);
            prop_assert_eq!(&held, &fresh.elements.iter().collect::<BTreeMap<_, _>>());
        }
    }
}
