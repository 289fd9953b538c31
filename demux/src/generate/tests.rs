use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::decide::{DropReason, Verdict};

#[test]
fn the_same_seed_gives_the_same_cases() {
    let sequence = || {
        let mut generator = Generator::new(7);
        let policy = generator.policy();
        let cases = generator.cases(&policy, 50);
        (policy, cases)
    };
    assert_eq!(sequence(), sequence());
}

#[test]
fn every_rule_and_every_verdict_is_met() {
    let mut generator = Generator::new(1);
    let (mut rules, mut verdicts) = (BTreeMap::new(), BTreeSet::new());
    for _ in 0..50 {
        let policy = generator.policy();
        for case in generator.cases(&policy, 200) {
            let decision = case.decide(&policy);
            assert!(!decision.rule.is_step(), "{case:?} ended in the step {}", decision.rule);
            *rules.entry(decision.rule).or_insert(0) += 1;
            verdicts.insert(decision.verdict);
        }
    }
    let missed = reachable().filter(|rule| !rules.contains_key(rule)).collect::<Vec<_>>();
    assert_eq!(missed, [], "met: {rules:?}");
    assert!(rules.keys().all(|rule| reachable().any(|known| known == *rule)));
    assert_eq!(verdicts.len(), 5 + DropReason::ALL.len(), "{verdicts:?}");
    assert!(verdicts.contains(&Verdict::Switch));
}
