use std::collections::BTreeSet;
use std::sync::Arc;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::connections::Table;
use crate::generate::Generator;
use crate::mac::Mac;
use crate::policy::{PortRange, ReplyRule, ServicePort, ServiceRules};

const SHARED_MAC: Mac = Mac([0x0a, 0x58, 0xc0, 0, 2, 1]);
const ROUTER: Mac = Mac([0x0a, 0, 0, 0, 0, 0xfe]);
const NODE: &str = "192.0.2.1";
const SNAT: &str = "192.0.2.100";
const VIRTUAL: &str = "192.0.2.200";
const EXTERNAL: &str = "203.0.113.5";
const CLIENT: &str = "198.51.100.7";

fn policy(reply: ReplyRule) -> Policy {
    let mut policy = Policy::new(Split {
        mac: SHARED_MAC,
        shared: [NODE, "2001:db8::1"].iter().map(|text| text.parse().unwrap()).collect(),
        snat: [SNAT.parse().unwrap()].into(),
        service_ranges: ["10.96.0.0/16".parse().unwrap()].into(),
        tunnels: [6081].into(),
        reply,
        other_ports: false,
    });
    let node = ServiceAddress::Node(Family::V4);
    let external = ServiceAddress::External(EXTERNAL.parse().unwrap());
    let near = Some(["198.51.100.0/24".parse().unwrap()].into());
    let far = Some(["10.0.0.0/8".parse().unwrap()].into());
    let services = [
        ("web", node, 30080, ServiceOwner::NorthSouth, None),
        ("web-external", external, 80, ServiceOwner::NorthSouth, None),
        ("near", node, 30081, ServiceOwner::NorthSouth, near.clone()),
        ("far", node, 30082, ServiceOwner::NorthSouth, far),
        ("nobody", node, 30083, ServiceOwner::NorthSouth, Some(BTreeSet::new())),
        ("host", node, 30084, ServiceOwner::Management, None),
        ("host-near", node, 30085, ServiceOwner::Management, near),
        ("empty", node, 30086, ServiceOwner::Drop, None),
    ];
    for (name, address, port, owner, sources) in services {
        let port = ServicePort { address, protocol: Transport::Tcp, port, owner, sources };
        policy.set_service(ServiceKey::new(name), Arc::new(ServiceRules::new(vec![port])));
    }
    policy
}

fn partitioned(drain: bool) -> ReplyRule {
    ReplyRule::Partitioned { ports: PortRange::new(40000, 59999).unwrap(), drain }
}

/// A TCP frame to the shared MAC, or from it.
fn tcp(source: (&str, u16), destination: (&str, u16)) -> Frame {
    let from_node = [NODE, EXTERNAL, SNAT].contains(&source.0);
    let (from, to) = if from_node { (SHARED_MAC, ROUTER) } else { (ROUTER, SHARED_MAC) };
    let octets = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4(octets(source.0), octets(destination.0), 64);
    let mut bytes = Vec::new();
    builder.tcp(source.1, destination.1, 1, 1024).syn().write(&mut bytes, &[]).unwrap();
    Frame::parse(&bytes)
}

fn inbound(policy: &Policy, destination: (&str, u16), owner: Option<Owner>) -> (Verdict, RuleId) {
    let decision = decide(policy, Ingress::Uplink, &tcp((CLIENT, 5000), destination), owner);
    (decision.verdict, decision.rule)
}

#[test]
fn services_come_before_the_reply_rule() {
    let policy = policy(ReplyRule::Tracked);
    let cases = [
        ((NODE, 30080), Verdict::NorthSouth, RuleId::NodePort),
        ((EXTERNAL, 80), Verdict::NorthSouth, RuleId::External),
        ((NODE, 30081), Verdict::NorthSouth, RuleId::NodePortSource),
        ((NODE, 30082), Verdict::Drop(DropReason::SourceDenied), RuleId::NodePortSourceDenied),
        ((NODE, 30083), Verdict::Drop(DropReason::SourceDenied), RuleId::NodePortSourceDenied),
        ((NODE, 30084), Verdict::Management, RuleId::NodePortHost),
        ((NODE, 30085), Verdict::Management, RuleId::NodePortHostSource),
        ((NODE, 30086), Verdict::Drop(DropReason::NoEndpoint), RuleId::NodePortNoEndpoint),
    ];
    for (destination, verdict, rule) in cases {
        for owner in [None, Some(Owner::Pods), Some(Owner::Host)] {
            assert_eq!(inbound(&policy, destination, owner), (verdict, rule), "{destination:?}");
        }
    }
    let frame = tcp((CLIENT, 5000), (NODE, 30080));
    assert_eq!(decide(&policy, Ingress::Uplink, &frame, None).service, Some(&ServiceKey::new("web")));
}

#[test]
fn a_node_port_matches_on_shared_addresses_only() {
    let policy = policy(ReplyRule::Tracked);
    assert_eq!(inbound(&policy, (SNAT, 30080), None), (Verdict::Management, RuleId::OwnerUnknown));
    assert_eq!(inbound(&policy, (VIRTUAL, 30080), None), (Verdict::Management, RuleId::OtherAddress));
    assert_eq!(inbound(&policy, (EXTERNAL, 30080), None), (Verdict::Management, RuleId::OtherAddress));
    // Nor does an external address's port match on the node's own.
    assert_eq!(inbound(&policy, (NODE, 80), None), (Verdict::Management, RuleId::OwnerUnknown));
}

#[test]
fn the_tracked_rule_goes_by_owner() {
    let policy = policy(ReplyRule::Tracked);
    for address in [NODE, SNAT] {
        let to = (address, 45000);
        assert_eq!(inbound(&policy, to, Some(Owner::Pods)), (Verdict::NorthSouth, RuleId::OwnerPods));
        assert_eq!(inbound(&policy, to, Some(Owner::Host)), (Verdict::Management, RuleId::OwnerHost));
        assert_eq!(inbound(&policy, to, None), (Verdict::Management, RuleId::OwnerUnknown));
    }
    // An address of the host's alone is never a pods' reply.
    let other = inbound(&policy, (VIRTUAL, 45000), Some(Owner::Pods));
    assert_eq!(other, (Verdict::Management, RuleId::OtherAddress));
}

#[test]
fn the_partitioned_rule_goes_by_port() {
    let settled = policy(partitioned(false));
    for (port, expected) in [
        (39999, (Verdict::Management, RuleId::OutsidePartition)),
        (40000, (Verdict::NorthSouth, RuleId::Partition)),
        (59999, (Verdict::NorthSouth, RuleId::Partition)),
        (60000, (Verdict::Management, RuleId::OutsidePartition)),
    ] {
        assert_eq!(inbound(&settled, (NODE, port), Some(Owner::Pods)), expected);
    }
    let draining = policy(partitioned(true));
    assert_eq!(inbound(&draining, (NODE, 50000), None), (Verdict::NorthSouth, RuleId::Partition));
    assert_eq!(inbound(&draining, (NODE, 3000), Some(Owner::Pods)), (Verdict::NorthSouth, RuleId::OwnerPods));
    assert_eq!(inbound(&draining, (NODE, 3000), None), (Verdict::Management, RuleId::OwnerUnknown));
}

#[test]
fn answers_of_services_leave_untracked() {
    let policy = policy(ReplyRule::Tracked);
    let rule = |source, ingress| decide(&policy, ingress, &tcp(source, (CLIENT, 5000)), None).rule;
    assert_eq!(rule((NODE, 30080), Ingress::Overlay), RuleId::NodePortAnswer);
    assert_eq!(rule((EXTERNAL, 80), Ingress::Overlay), RuleId::ExternalAnswer);
    assert_eq!(rule((NODE, 45000), Ingress::Overlay), RuleId::OverlayTracked);
    assert_eq!(rule((NODE, 30084), Ingress::Overlay), RuleId::OverlayTracked);
    assert_eq!(rule((NODE, 45000), Ingress::Host), RuleId::HostSyn);
    let leak = decide(&policy, Ingress::Overlay, &tcp((NODE, 45000), ("10.96.0.1", 443)), None);
    assert_eq!(leak.verdict, Verdict::Drop(DropReason::ServiceRange));
}

#[test]
fn a_pods_connection_finds_its_way_back() {
    for (reply, out, back) in [
        (ReplyRule::Tracked, RuleId::OverlayTracked, RuleId::OwnerPods),
        (partitioned(false), RuleId::OverlayUntracked, RuleId::Partition),
        (partitioned(true), RuleId::OverlayTracked, RuleId::Partition),
    ] {
        let (policy, mut table) = (policy(reply), Table::default());
        let mut rule = |ingress, frame: Frame| table.classify(&policy, ingress, &frame).rule;
        assert_eq!(rule(Ingress::Overlay, tcp((NODE, 45000), (CLIENT, 443))), out);
        assert_eq!(rule(Ingress::Uplink, tcp((CLIENT, 443), (NODE, 45000))), back);
    }
}

#[test]
fn the_hosts_connection_finds_its_way_back() {
    let (policy, mut table) = (policy(ReplyRule::Tracked), Table::default());
    let (out, back) = (tcp((NODE, 33000), (CLIENT, 443)), tcp((CLIENT, 443), (NODE, 33000)));
    assert_eq!(table.classify(&policy, Ingress::Uplink, &back).rule, RuleId::OwnerUnknown);
    assert_eq!(table.classify(&policy, Ingress::Host, &out).rule, RuleId::HostSyn);
    assert_eq!(table.classify(&policy, Ingress::Uplink, &back).rule, RuleId::OwnerHost);
    // The last side that opens it owns it.
    assert_eq!(table.classify(&policy, Ingress::Overlay, &out).rule, RuleId::OverlayTracked);
    assert_eq!(table.classify(&policy, Ingress::Uplink, &back).rule, RuleId::OwnerPods);
}

#[test]
fn there_is_a_branch_for_every_owner_that_the_verdict_depends_on() {
    let policy = policy(ReplyRule::Tracked);
    let rules = |destination| {
        let branches = decide_branches(&policy, Ingress::Uplink, &tcp((CLIENT, 5000), destination));
        branches.into_iter().map(|branch| (branch.owner, branch.decision.rule)).collect::<Vec<_>>()
    };
    assert_eq!(rules((NODE, 30080)), [(None, RuleId::NodePort)]);
    let expected = [
        (Some(Owner::Pods), RuleId::OwnerPods),
        (Some(Owner::Host), RuleId::OwnerHost),
        (None, RuleId::OwnerUnknown),
    ];
    assert_eq!(rules((NODE, 45000)), expected);
}

#[test]
fn further_ports_are_switched_to_and_judged_like_the_wire() {
    let mut policy = policy(ReplyRule::Tracked);
    let frame = tcp((CLIENT, 5000), (NODE, 30080));
    let decided = |policy: &Policy, ingress| decide(policy, ingress, &frame, None).rule;
    assert_eq!(decided(&policy, Ingress::Other), RuleId::CatchAll);
    policy.split.other_ports = true;
    assert_eq!(decided(&policy, Ingress::Other), RuleId::NodePort);
    assert_eq!(decide(&policy, Ingress::Host, &frame, None).verdict, Verdict::Switch);
    let foreign = Frame { destination: ROUTER, ..frame };
    assert_eq!(decide(&policy, Ingress::Uplink, &foreign, None).rule, RuleId::SwitchRest);
}

/// What a person relies on whatever the policy: frames that name no owner stay with the host.
fn check_default(policy: &Policy, ingress: Ingress, frame: &Frame) {
    let decision = decide(policy, ingress, frame, None);
    assert!(!decision.rule.is_step());
    let to_pods = matches!(decision.verdict, Verdict::NorthSouth | Verdict::Both);
    let known = matches!(
        decision.rule,
        RuleId::NodePort
            | RuleId::NodePortSource
            | RuleId::External
            | RuleId::ExternalSource
            | RuleId::ExternalIcmpError
            | RuleId::IcmpError
            | RuleId::EchoReply
            | RuleId::Partition
            | RuleId::Arp
            | RuleId::Nd
    );
    assert_eq!(to_pods, known, "{}", decision.rule);
    if decision.depends_on_owner {
        assert_eq!(decision.verdict, Verdict::Management);
    } else {
        for owner in [Owner::Pods, Owner::Host] {
            assert_eq!(decide(policy, ingress, frame, Some(owner)), decision);
        }
    }
}

#[test]
fn unknown_frames_are_the_hosts() {
    let mut generator = Generator::new(11);
    for _ in 0..40 {
        let policy = generator.policy();
        for case in generator.cases(&policy, 100) {
            check_default(&policy, case.ingress, &case.frame());
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decided(seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let policy = Generator::new(seed).policy();
        for ingress in Ingress::ALL {
            check_default(&policy, ingress, &Frame::parse(&bytes));
            let ours = [&policy.split.mac.0[..], &ROUTER.0, &bytes].concat();
            check_default(&policy, ingress, &Frame::parse(&ours));
        }
    }
}
