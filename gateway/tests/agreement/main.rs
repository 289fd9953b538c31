//! Classifier and bridge are of one mind: for policies and frames by chance, [`demux::decide`] and the rendered flows
//! on a real Open vSwitch give every frame the same verdict by the same rule.
//!
//! `AGREEMENT_SEED` repeats a run, `AGREEMENT_FRAMES` makes it longer.

mod bridge;
mod judge;

use std::sync::Arc;

use demux::decide::{DropReason, Verdict};
use demux::generate::{Generator, reachable};
use demux::policy::{Policy, ServiceKey};
use demux::rule::RuleId;
use gateway::flows::{Rendering, SctpRule};

use crate::bridge::Bridge;
use crate::judge::{Disagreement, Judge, Seen, frames};

/// Frames that are sent between two looks at the counters.
const BATCH: usize = 24;
/// Frames for each policy.
const PER_POLICY: usize = 300;

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
            let batch = generator.cases(&policy, BATCH);
            let mut judge = Judge { bridge: &mut bridge, policy: &policy, sctp, seen: &mut seen };
            if let Err(disagreement) = judge.batch(&batch) {
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

/// What the bridge's tables say of the frames of a disagreement.
fn trace(bridge: &mut Bridge, disagreement: &Disagreement) -> String {
    let Some(case) = &disagreement.case else { return String::new() };
    frames(case).map(|frame| bridge.trace(case.ingress, "", frame)).collect::<Vec<_>>().join("\n")
}
