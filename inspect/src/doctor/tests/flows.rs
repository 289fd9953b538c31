//! Flows of a bridge, healthy and not.

use std::time::Duration;

use ovs::openflow::Dumped;
use ovs::openflow::flow::{Action, Field, Flow, Match, OfPort};

use super::*;
use ::flows::cookie;

const OURS: u64 = cookie::MARK | 1;

fn flow(priority: u16, matches: Match, port: OfPort, cookie: u64) -> Dumped {
    let flow = Flow::new(0, priority, matches, cookie, vec![Action::Output(port)]);
    Dumped { flow: Ok(flow), cookie, packets: 3, bytes: 300, duration: Duration::from_secs(1) }
}

fn normal() -> Dumped {
    flow(0, Match::any(), OfPort::NORMAL, 0)
}

fn from(port: u32) -> Match {
    Match::any().with(Field::InPort, port)
}

fn table(flows: Vec<Dumped>) -> FlowTableSnapshot {
    let ports = [(1, "eth0"), (2, "k8s-patch"), (OfPort::LOCAL.0, "breth0")];
    FlowTableSnapshot { flows, ports: ports.map(|(number, name)| (number, name.to_owned())).into() }
}

pub(super) fn learning_switch() -> FlowTableSnapshot {
    table(vec![normal()])
}

/// The helper's flows on a node with pods.
fn ours() -> Vec<Dumped> {
    vec![
        normal(),
        flow(700, from(OfPort::LOCAL.0), OfPort(1), OURS),
        flow(700, from(2), OfPort(1), OURS),
        flow(500, from(1).with(Field::EthType, 0x0800_u16), OfPort(2), OURS),
        flow(1, Match::any(), OfPort::LOCAL, OURS),
    ]
}

/// A node with pods and these flows on its bridge.
fn pods(flows: Vec<Dumped>) -> NodeSnapshot {
    with(|node| {
        let patch =
            Port { name: "k8s-patch".into(), kind: "patch".into(), ofport: Some(2), ..Port::default() };
        node.observed.switch.bridges[0].ports.push(patch);
        node.flows.insert("breth0".into(), Ok(table(flows)));
        let helper = node.helper.as_mut().unwrap();
        let wanted = ours().into_iter().filter(|flow| flow.cookie == OURS).map(|flow| flow.to_string());
        helper.flows = Some(wanted.collect());
        let status = helper.status.as_mut().unwrap();
        status.bridge.name = "breth0".into();
        (status.flows.wanted, status.flows.installed) = (4, 4);
    })
}

fn plus(more: Dumped) -> Vec<Dumped> {
    ours().into_iter().chain([more]).collect()
}

#[test]
fn what_the_helper_wants() {
    let report = report(&pods(ours()));
    assert_eq!(report.worst, Severity::Ok, "{report}");
    let found = report.findings.iter().find(|finding| finding.name == "flows").unwrap();
    assert!(found.what.contains("the 4 flows that the helper wants"), "{found:?}");
}

#[test]
fn none_at_all() {
    let empty = with(|node| drop(node.flows.insert("breth0".into(), Ok(table(vec![])))));
    assert!(finds(&empty, "flows-none", Severity::Error).remedy.contains("ovs-ofctl add-flow breth0"));
    let mut secure = empty;
    secure.observed.switch.bridges[0].fail_mode = "secure".into();
    assert!(finds(&secure, "flows-none", Severity::Error).what.contains("secure"));
}

#[test]
fn only_the_bridges_own() {
    let mut node = pods(vec![normal()]);
    finds(&node, "flows-only-normal", Severity::Error);
    node.helper = None;
    finds(&node, "flows-only-normal", Severity::Error);
}

#[test]
fn missing_changed_and_surplus_flows() {
    let mut fewer = ours();
    fewer.remove(2);
    let found = finds(&pods(fewer.clone()), "flows-missing", Severity::Error);
    assert!(found.what.starts_with("1 of the 4") && found.what.contains("in_port=2"), "{found:?}");
    let mut changed = ours();
    changed[1] = flow(700, from(OfPort::LOCAL.0), OfPort(2), OURS);
    finds(&pods(changed), "flows-missing", Severity::Error);
    let more = plus(flow(600, from(2).with(Field::EthType, 0x86dd_u16), OfPort(1), OURS));
    finds(&pods(more), "flows-surplus", Severity::Warning);
    // A helper that does not know its sources yet writes nothing.
    let mut unsure = pods(fewer);
    if let Some(HelperSnapshot { status: Ok(status), .. }) = &mut unsure.helper {
        status.sources = vec![SourceStatus { connected: true, synced: false, ..SourceStatus::default() }];
    }
    assert_eq!(report(&unsure).worst, Severity::Ok);
    let mut fought = pods(ours());
    fought.helper.as_mut().unwrap().repaired_during_check = 3;
    finds(&fought, "flows-fought", Severity::Warning);
}

#[test]
fn learned_flows_are_ignored() {
    let learned = flow(100, from(1), OfPort(2), cookie::learned());
    assert_eq!(report(&pods(plus(learned))).worst, Severity::Ok);
}

#[test]
fn flows_of_others_first() {
    let theirs = |priority, matches| pods(plus(flow(priority, matches, OfPort::LOCAL, 0xbad)));
    let all = finds(&theirs(2000, Match::any()), "flows-shadowed", Severity::Error);
    assert!(all.remedy.contains("cookie=0xbad/-1") && all.what.contains("(3 packets)"), "{all:?}");
    finds(&theirs(2000, from(1)), "flows-shadowed", Severity::Error);
    let arp = from(1).with(Field::EthType, 0x0806_u16);
    finds(&theirs(600, arp.clone()), "flows-shadowed", Severity::Warning);
    // Above the catch-all only: such frames match it first.
    finds(&theirs(2, arp), "flows-shadowed", Severity::Warning);
    assert_eq!(report(&theirs(0, Match::any().with(Field::EthType, 0x9999_u16))).worst, Severity::Ok);
    let elsewhere = Flow::new(77, 9, Match::any(), 0xbad, vec![]);
    let elsewhere =
        Dumped { flow: Ok(elsewhere), cookie: 0xbad, packets: 0, bytes: 0, duration: Duration::ZERO };
    assert_eq!(report(&pods(plus(elsewhere))).worst, Severity::Ok, "a table that the helper does not use");
}

/// Tens of thousands of flows on either side, none of which overlap.
#[test]
fn more_than_can_be_compared() {
    let many = |from_port: u32, priority: u16, cookie: u64| {
        (0..10_000_u16).map(move |port| {
            let matches = from(from_port).with(Field::EthType, 0x0800_u16).with(Field::UdpDst, port);
            flow(priority, matches, OfPort(2), cookie)
        })
    };
    let mut node = pods(many(1, 7, OURS).chain(many(2, 9, 0xbad)).chain([normal()]).collect());
    node.helper.as_mut().unwrap().flows = None;
    finds(&node, "flows-unknown", Severity::Note);
}

#[test]
fn ports_that_do_not_exist() {
    let mut moved = pods(ours());
    if let Some(Ok(table)) = moved.flows.get_mut("breth0") {
        table.ports.remove(&1);
        table.ports.insert(9, "eth0".into());
    }
    assert!(finds(&moved, "flows-stale-port", Severity::Error).what.ends_with("do not exist: 1"));
    let theirs = Match::any().with(Field::EthType, 0x0806_u16).with(Field::InPort, 44_u32);
    let foreign = pods(plus(flow(0, theirs, OfPort(1), 0xbad)));
    finds(&foreign, "flows-stale-port", Severity::Note);
}

#[test]
fn the_bridges_own_flow_is_missing() {
    let mut flows = ours();
    flows.remove(0);
    finds(&pods(flows), "flows-no-normal", Severity::Note);
}

#[test]
fn flows_of_an_older_helper() {
    let old = Match::any().with(Field::InPort, 1_u32).with(Field::EthType, 0x0800_u16);
    let old = old.with(Field::IpProto, 6_u8).with(Field::TcpDst, 30_080_u16);
    finds(&pods(plus(flow(100, old, OfPort(2), 0))), "flows-older", Severity::Warning);
}

#[test]
fn flows_that_cannot_be_read() {
    let late = with(|node| drop(node.flows.insert("breth0".into(), Err("no answer in 2 s".into()))));
    finds(&late, "flows-unknown", Severity::Warning);
    let mut dead = late;
    dead.observed.switch.vswitchd = Some(false);
    assert!(report(&dead).findings.iter().all(|finding| finding.name != "flows-unknown"));
}
