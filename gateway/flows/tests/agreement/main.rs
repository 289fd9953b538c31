//! Classifier and bridge are of one mind: for policies and frames by chance, [`demux::decide`] and the rendered flows
//! on a real Open vSwitch give every frame the same verdict by the same rule.
//!
//! `AGREEMENT_SEED` repeats a run, `AGREEMENT_FRAMES` makes it longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper that fails here is a test that fails"
)]

mod bridge;
mod faults;
mod judge;

use std::collections::BTreeSet;
use std::sync::Arc;

use demux::decide::{DropReason, Ingress, Verdict, decide};
use demux::generate::{Case, Generator, reachable};
use demux::policy::{Policy, ServiceKey};
use demux::rule::RuleId;
use flows::{Rendering, SctpRule, rule_of};
use ipnet::IpNet;

use crate::bridge::Bridge;
use crate::faults::ShownBy;
use crate::judge::{Disagreement, Judge, Seen, frames};

/// Frames that are sent between two looks at the counters.
const BATCH: usize = 24;
/// Frames for each policy.
const PER_POLICY: usize = 300;
/// Policies whose tables are spoiled, and cases that may tell for each.
const POLICIES_FOR_FAULTS: usize = 12;
const CASES_FOR_FAULTS: usize = 500;
const POLICIES_FOR_TRACES: usize = 10;
const CASES_FOR_TRACES: usize = 200;

fn setting(name: &str, default: u64) -> u64 {
    let value = std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let value = value.unwrap_or(default);
    println!("{name}={value}");
    value
}

/// The next policy; every other one has services that claim the same ports.
fn next_policy(generator: &mut Generator, number: usize) -> Policy {
    let mut policy = generator.policy();
    if number % 2 == 1 {
        for (key, rules) in generator.policy().services() {
            policy.set_service(ServiceKey::new(format!("rival/{}", key.0)), Arc::clone(rules));
        }
    }
    policy
}

/// The next cases, and some that are made of them, for what the generator seldom makes.
fn next_cases(generator: &mut Generator, policy: &Policy, count: usize) -> Vec<Case> {
    let cases = generator.cases(policy, count);
    let variants = cases.iter().enumerate().filter_map(|(number, case)| variant(policy, case, number));
    let variants: Vec<_> = variants.collect();
    cases.into_iter().chain(variants).collect()
}

/// Another case made of one: tagged, from another side, just beside a port or a target, or to a cluster address.
fn variant(policy: &Policy, case: &Case, number: usize) -> Option<Case> {
    let mut made = Case { opening: Vec::new(), owner: None, ..case.clone() };
    let discovery = matches!(case.label, "arp" | "neighbours");
    let cluster = policy.split.service_ranges.iter().find_map(|range| match range {
        IpNet::V6(range) => Some(range.network().octets()),
        IpNet::V4(_) => None,
    });
    match number % 8 {
        0 | 1 if discovery || case.label == "fragment" => {
            for frame in std::iter::once(&mut made.bytes).chain(&mut made.pieces) {
                frame.splice(12..12, [0x81, 0, 0, 7]);
                // What a port of this bridge takes, tag and all.
                if frame.len() > 1518 {
                    return None;
                }
            }
        }
        2 if discovery => made.ingress = Ingress::Host,
        3 if discovery => made.ingress = Ingress::Overlay,
        4 if case.label == "neighbours" => drop(made.bytes.splice(38..54, cluster?)),
        number if number > 3 => {
            let ports = matches!(case.frame().ip(), Some(ip) if matches!(ip.protocol, 6 | 17));
            let last = match (case.label, case.bytes.get(12..15)?) {
                ("packet" | "tunnel", _) if !ports => return None,
                ("packet" | "tunnel", [0x08, 0x00, length]) => 14 + usize::from(length & 0x0f) * 4 + 3,
                ("packet" | "tunnel", [0x86, 0xdd, _]) => 54 + 3,
                ("neighbours", _) => 54 + 23,
                ("arp", _) => 14 + 27,
                _ => return None,
            };
            *made.bytes.get_mut(last)? ^= 1;
            let same_connection =
                made.frame().tuple().is_some_and(|tuple| case.frame().tuple() == Some(tuple));
            return (!same_connection && made.bytes != case.bytes).then_some(made);
        }
        _ => return None,
    }
    Some(made)
}

#[test]
fn classifier_and_bridge_agree() {
    let seed = setting("AGREEMENT_SEED", 1);
    let at_least = setting("AGREEMENT_FRAMES", 12_000) as usize;
    let mut generator = Generator::new(seed);
    let mut bridge = Bridge::start();
    let mut seen = Seen::default();
    let mut number = 0;
    while seen.frames < at_least {
        let policy = next_policy(&mut generator, number);
        let sctp = if number % 4 == 3 { SctpRule::Tracked } else { SctpRule::Learned };
        let rendering = Rendering::new(policy.clone(), bridge::datapath(sctp));
        bridge.install(rendering.flows(), policy.split.mac);
        let until = seen.frames + PER_POLICY;
        while seen.frames < until {
            let batch = next_cases(&mut generator, &policy, BATCH);
            let quick = false;
            let mut judge = Judge { bridge: &mut bridge, policy: &policy, sctp, seen: &mut seen, quick };
            if let Err(disagreement) = judge.batch(&batch.iter().collect::<Vec<_>>()) {
                let trace = trace(&mut bridge, &disagreement);
                panic!("policy {number} of seed {seed}, {sctp:?}:\n{disagreement}\n{trace}\n{policy:#?}");
            }
        }
        number += 1;
    }
    println!("{} frames, {number} policies, rules: {:?}", seen.frames, seen.rules);
    let missed: Vec<RuleId> = reachable().filter(|rule| !seen.rules.contains_key(rule)).collect();
    assert!(missed.is_empty(), "no frame met {missed:?}");
    let drops = DropReason::ALL.map(Verdict::Drop);
    let verdicts =
        [Verdict::Management, Verdict::NorthSouth, Verdict::Both, Verdict::Uplink, Verdict::Switch];
    for verdict in verdicts.into_iter().chain(drops) {
        assert!(seen.verdicts.contains(&verdict), "no frame met {verdict}");
    }
}

/// A comparison that finds nothing may be blind: each wrong table has to be found out.
#[test]
fn planted_faults_are_found() {
    let mut generator = Generator::new(setting("AGREEMENT_SEED", 1));
    let mut bridge = Bridge::start();
    let (mut found, mut missed) = (BTreeSet::new(), BTreeSet::new());
    for number in 0..POLICIES_FOR_FAULTS {
        let policy = next_policy(&mut generator, number);
        let sctp = if number % 4 == 3 { SctpRule::Tracked } else { SctpRule::Learned };
        let rendering = Rendering::new(policy.clone(), bridge::datapath(sctp));
        let cases = next_cases(&mut generator, &policy, CASES_FOR_FAULTS);
        let mut seen = Seen::default();
        let mut judge = Judge { bridge: &mut bridge, policy: &policy, sctp, seen: &mut seen, quick: true };
        for fault in faults::faults(rendering.flows()) {
            if found.contains(&fault.name) {
                continue;
            }
            let shows = |case: &&Case| match &fault.shown_by {
                ShownBy::Rows(rows) => judge.meets(case, fault.rule, rows),
                ShownBy::Answers => !case.opening.is_empty() && judge.meets(case, fault.rule, &[]),
                ShownBy::All => judge.meets(case, fault.rule, &[]),
            };
            let (telling, others): (Vec<_>, Vec<_>) = cases.iter().partition(shows);
            let others = if matches!(fault.shown_by, ShownBy::All) { others } else { Vec::new() };
            if telling.is_empty() {
                continue;
            }
            judge.bridge.install(&fault.flows, policy.split.mac);
            let mut batches = telling.chunks(BATCH).chain(others.chunks(BATCH));
            if batches.any(|batch| judge.batch(batch).is_err()) {
                missed.remove(&fault.name);
                found.insert(fault.name);
            } else {
                missed.insert(fault.name);
            }
        }
    }
    println!("{} faults found", found.len());
    assert!(missed.is_empty(), "{} faults not found: {missed:#?}", missed.len());
    assert!(found.len() > 200, "only {} faults were planted", found.len());
}

/// `ofproto/trace` is what people ask, and `ovn-k8s explain --live`: it has to name the same rule.
#[test]
fn trace_names_the_same_rule() {
    let mut generator = Generator::new(setting("AGREEMENT_SEED", 1));
    let mut bridge = Bridge::start();
    let mut compared = 0;
    for number in 0..POLICIES_FOR_TRACES {
        let policy = next_policy(&mut generator, number);
        let rendering = Rendering::new(policy.clone(), bridge::datapath(SctpRule::Learned));
        bridge.install(rendering.flows(), policy.split.mac);
        for case in generator.cases(&policy, CASES_FOR_TRACES) {
            // A trace knows no mark, and what bytes that are traced learn cannot be taken back.
            let decision = decide(&policy, case.ingress, &case.frame(), None);
            if decision.rule == RuleId::OverlaySctp {
                continue;
            }
            let text = bridge.trace(case.ingress, &case.bytes);
            let rule = last_cookie(&text).and_then(rule_of);
            assert_eq!(rule, Some(decision.rule), "{case:?}:\n{text}");
            compared += 1;
        }
    }
    println!("{compared} traces");
}

/// The cookie of the last row that a trace names.
fn last_cookie(text: &str) -> Option<u64> {
    let (_, last) = text.rsplit_once("cookie 0x")?;
    let end = last.find(|character: char| !character.is_ascii_hexdigit()).unwrap_or(last.len());
    u64::from_str_radix(&last[..end], 16).ok()
}

/// What the bridge's tables say of the frames of a disagreement.
fn trace(bridge: &mut Bridge, disagreement: &Disagreement) -> String {
    let Some(case) = &disagreement.case else { return String::new() };
    frames(case).map(|frame| bridge.trace(case.ingress, frame)).collect::<Vec<_>>().join("\n")
}
