use demux::mac::Mac;
use ovs::openflow::flow::OfPort;

use super::*;
use crate::flags::HelperArgs;
use crate::northbound::GatewayRouter;

const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn settings() -> Settings {
    HelperArgs::for_tests("--service-cluster-ip-range=10.96.0.0/16")
}

fn range(text: &str) -> PortRange {
    text.parse().unwrap()
}

fn router(ports: Option<&str>) -> GatewayRouter {
    GatewayRouter {
        name: "GR_node1".into(),
        node: Some("node1".into()),
        mac: MAC,
        addresses: ["172.18.0.11".parse().unwrap()].into(),
        snat: ["172.18.0.11".parse().unwrap(), "192.0.2.9".parse().unwrap()].into(),
        ports: ports.map(range),
        join: ["100.64.1.0/24".parse().unwrap()].into(),
    }
}

fn facts(router: Option<GatewayRouter>) -> Facts {
    Facts {
        bridge: BridgeView {
            name: "breth0".into(),
            present: true,
            userspace: true,
            mac: Some(MAC),
            uplink: Some(OfPort(1)),
            uplink_listed: true,
            overlay: Some(OfPort(2)),
            patch: PatchState::Whole,
            integration: true,
            ..BridgeView::default()
        },
        router,
        addresses: vec![
            ("breth0".into(), "172.18.0.11/24".parse().unwrap()),
            ("breth0".into(), "fe80::1/64".parse().unwrap()),
            ("k8s-node1".into(), "10.244.1.2/24".parse().unwrap()),
        ],
        ..Facts::default()
    }
}

#[test]
fn everything_known_leaves_no_note() {
    let desired = desired(&facts(Some(router(None))), &settings());
    assert_eq!((desired.problems, desired.unknown), (vec![], vec![]));
    assert_eq!(desired.split.shared, ["172.18.0.11".parse().unwrap()].into());
    assert_eq!(desired.split.snat, ["192.0.2.9".parse().unwrap()].into());
    assert_eq!(desired.split.reply, ReplyRule::Tracked);
    assert_eq!(desired.node_name.as_deref(), Some("node1"));
    let management = desired.host.management.unwrap();
    assert_eq!((management.device.as_str(), management.paths.len()), ("k8s-node1", 1));
    assert_eq!(management.paths[0].gateway, "10.244.1.1".parse::<IpAddr>().unwrap());
}

#[test]
fn auto_follows_the_range_of_the_nat_rows_and_waits_for_sockets() {
    let mut facts = facts(Some(router(Some("40000-59999"))));
    let partitioned = ReplyRule::Partitioned { ports: range("40000-59999"), drain: false };
    assert_eq!(desired(&facts, &settings()).split.reply, partitioned);
    facts.sockets_in_range = vec!["tcp 172.18.0.11:40001 of ovn-controller".into()];
    let waiting = desired(&facts, &settings());
    assert_eq!(waiting.split.reply, ReplyRule::Tracked);
    assert_eq!(waiting.waiting_for.len(), 1);
    assert_eq!(waiting.host.pods, PodsPorts::Range(range("40000-59999")), "the host keeps out at once");
    facts.last = Some(Split { reply: partitioned, ..Split::default() });
    assert_eq!(desired(&facts, &settings()).split.reply, partitioned, "a rule in force stays in force");
}

#[test]
fn the_last_range_is_kept_while_the_database_is_away() {
    let mut facts = facts(None);
    let reply = ReplyRule::Partitioned { ports: range("40000-59999"), drain: false };
    let shared = ["172.18.0.11".parse().unwrap()].into();
    facts.last = Some(Split { reply, shared, ..Split::default() });
    let desired = desired(&facts, &settings());
    assert_eq!(desired.split.reply, reply);
    assert!(
        desired.unknown.iter().any(|note| note.contains("last known addresses")),
        "{:?}",
        desired.unknown
    );
}

#[test]
fn conflicting_ranges_are_refused_with_a_remedy() {
    let given = |ports| {
        HelperArgs::for_tests(&format!("--service-cluster-ip-range=10.96.0.0/16 --snat-ports={ports}"))
    };
    for (router_has, given, expected) in [
        (Some("40000-59999"), given("20000-29999"), "make them equal"),
        (None, given("40000-59999"), "external_port_range=40000-59999"),
        (Some("32000-40000"), settings(), "choose another range"),
    ] {
        let desired = desired(&facts(Some(router(router_has))), &given);
        assert_eq!(desired.split.reply, ReplyRule::Tracked);
        assert!(desired.problems.iter().any(|problem| problem.contains(expected)), "{:?}", desired.problems);
    }
    let asked = HelperArgs::for_tests("--reply-rule=partitioned");
    let desired = desired(&facts(Some(router(None))), &asked);
    assert!(
        desired.problems.iter().any(|problem| problem.contains("--snat-ports")),
        "{:?}",
        desired.problems
    );
}

#[test]
fn without_a_router_the_bridges_own_addresses_are_shared() {
    let mut facts = facts(None);
    facts.router_missing = Some("external_ids:ovn-nb is not set".into());
    let desired = desired(&facts, &settings());
    assert_eq!(desired.split.shared, ["172.18.0.11".parse().unwrap()].into());
    let says = |text: &str| desired.unknown.iter().any(|note| note.contains(text));
    assert!(says("external_ids:ovn-nb is not set") && says("--node-name"), "{:?}", desired.unknown);
}

#[test]
fn what_is_missing_on_the_bridge_is_said_with_its_remedy() {
    let says = |change: &dyn Fn(&mut BridgeView), expected: &str| {
        let mut facts = facts(Some(router(None)));
        change(&mut facts.bridge);
        let problems = desired(&facts, &settings()).problems;
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{expected}: {problems:?}");
        assert!(problems.iter().all(|problem| !problem.contains('{')), "{problems:?}");
    };
    says(&|bridge| bridge.present = false, "put eth0 and its addresses on it");
    says(&|bridge| (bridge.uplink, bridge.uplink_listed) = (None, false), "add-port breth0 eth0");
    says(&|bridge| bridge.uplink = None, "does not work");
    says(&|bridge| bridge.patch = PatchState::NameInUse, "no patch port");
    says(&|bridge| bridge.patch = PatchState::Broken, "between breth0 and br-int is being created");
    says(&|bridge| bridge.mac = Some(Mac([2, 0, 0, 0, 0, 9])), "must be the same");
}

#[test]
fn the_kernel_datapath_tracks_sctp() {
    let mut facts = facts(Some(router(None)));
    assert_eq!(desired(&facts, &settings()).datapath.sctp, SctpRule::Learned);
    facts.bridge.userspace = false;
    assert_eq!(desired(&facts, &settings()).datapath.sctp, SctpRule::Tracked);
}

#[test]
fn an_absent_northbound_database_takes_nothing_from_the_host() {
    let mut facts = facts(None);
    facts.router_before = Some(router(Some("40000-59999")));
    let given = HelperArgs::for_tests("--reply-rule=tracked");
    let desired = desired(&facts, &given);
    assert_eq!(desired.node_name.as_deref(), Some("node1"));
    assert_eq!(desired.host.join_ranges, ["100.64.1.0/24".parse().unwrap()].into());
    assert_eq!(desired.host.pods, PodsPorts::Range(range("40000-59999")));
}

#[test]
fn a_range_that_would_take_the_nodes_own_way_is_refused() {
    for hostile in ["0.0.0.0/0", "0.0.0.0/1", "172.18.0.0/17", "172.18.0.11/32", "::/0"] {
        let hostile: IpNet = hostile.parse().unwrap();
        let mut facts = facts(Some(router(None)));
        facts.router.as_mut().unwrap().join.insert(hostile);
        facts.service_cidrs = vec![hostile];
        let given = HelperArgs::for_tests("");
        let desired = desired(&facts, &given);
        assert_eq!(desired.host.join_ranges, ["100.64.1.0/24".parse().unwrap()].into());
        assert_eq!((desired.split.service_ranges.len(), desired.host.service_ranges.len()), (0, 0));
        assert!(
            desired.problems.iter().any(|problem| problem.contains("is refused")),
            "{:?}",
            desired.problems
        );
    }
}

#[test]
fn devices_of_pods_do_not_change_how_services_are_planned() {
    let mut facts = facts(Some(router(None)));
    let before = desired(&facts, &settings()).node;
    facts.addresses.push(("veth1".into(), "fe80::42/64".parse().unwrap()));
    assert_eq!(desired(&facts, &settings()).node, before);
}
