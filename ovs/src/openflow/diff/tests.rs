use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::openflow::Opaque;
use crate::openflow::flow::{Action, Field, Match, OfPort};

const MARK: u64 = 0x6f76_6e38_0000_0000;
const LEARNED: u64 = MARK | 0xfffe;

fn ours() -> Ours {
    Ours { cookies: Cookies { value: MARK, mask: 0xffff_ffff_0000_0000 }, learned: vec![LEARNED] }
}

fn flow(port: u8, cookie: u64, output: u8) -> Flow {
    let actions = vec![Action::Output(OfPort(output.into()))];
    Flow::new(0, 1, Match::any().with(Field::InPort, port), cookie, actions)
}

fn there(flow: Flow) -> Dumped {
    let cookie = flow.value.cookie;
    Dumped { flow: Ok(flow), cookie, packets: 3, bytes: 180, duration: Duration::from_secs(9) }
}

fn wanted(flows: &[Flow]) -> HashMap<FlowKey, FlowValue> {
    flows.iter().cloned().map(|flow| (flow.key, flow.value)).collect()
}

#[test]
fn what_is_right_stays_and_the_rest_is_mended() {
    let desired = wanted(&[flow(1, MARK | 1, 1), flow(2, MARK | 1, 2), flow(3, MARK | 1, 3)]);
    let installed = [
        there(flow(1, MARK | 1, 1)),
        there(flow(2, MARK | 9, 2)),
        there(flow(4, MARK | 1, 4)),
        there(flow(5, 0, 5)),
    ];
    let plan = diff(&desired, &installed, &ours());
    let deletion = FlowMod::Delete { key: flow(4, 0, 0).key, cookies: ours().cookies };
    let mods = vec![deletion, FlowMod::Add(flow(2, MARK | 1, 2)), FlowMod::Add(flow(3, MARK | 1, 3))];
    let expected = Plan { mods, missing: 1, differing: 1, surplus: 1, same: 1, ..Plan::default() };
    assert_eq!(plan, expected);
}

#[test]
fn a_foreign_flow_under_a_wanted_key_is_a_conflict_and_stays() {
    let desired = wanted(&[flow(1, MARK | 1, 1)]);
    let installed = [there(flow(1, 0x99, 7))];
    let plan = diff(&desired, &installed, &ours());
    assert_eq!(plan.mods, []);
    assert_eq!(plan.conflicts, [Conflict { key: flow(1, 0, 0).key, foreign: installed[0].clone() }]);
    assert!(!plan.is_empty());
    // A learned flow under a wanted key is as little ours to replace.
    assert_eq!(diff(&desired, &[there(flow(1, LEARNED, 7))], &ours()).conflicts.len(), 1);
}

#[test]
fn flows_without_words_are_replaced_deleted_counted_or_left_by_what_is_known_of_them() {
    let opaque = |cookie, key: Option<FlowKey>| Dumped {
        flow: Err(Opaque { table: 0, priority: 1, key, unknown: "action 11".to_owned() }),
        ..there(flow(1, cookie, 1))
    };
    let key = |port| Some(flow(port, 0, 0).key);
    let desired = wanted(&[flow(1, MARK | 1, 1)]);
    let installed =
        [opaque(MARK, key(1)), opaque(MARK, key(2)), opaque(MARK, None), opaque(0, key(3)), opaque(0, None)];
    let plan = diff(&desired, &installed, &ours());
    let deletion = FlowMod::Delete { key: flow(2, 0, 0).key, cookies: ours().cookies };
    assert_eq!(plan.mods, [deletion, FlowMod::Add(flow(1, MARK | 1, 1))]);
    assert_eq!((plan.unreadable, plan.conflicts.len()), (1, 0));
}

/// A switch as a map, for the property below.
fn apply(table: &mut HashMap<FlowKey, FlowValue>, mods: &[FlowMod]) {
    for change in mods {
        match change {
            FlowMod::Add(flow) => drop(table.insert(flow.key.clone(), flow.value.clone())),
            FlowMod::Delete { key, cookies } => {
                if table.get(key).is_some_and(|value| cookies.contain(value.cookie)) {
                    table.remove(key);
                }
            }
            other => panic!("{other} is not part of a plan"),
        }
    }
}

fn flows() -> impl Strategy<Value = HashMap<FlowKey, FlowValue>> {
    let cookie = prop_oneof![Just(MARK | 1), Just(MARK | 2), Just(LEARNED), Just(0)];
    let one = (0..12_u8, cookie, 0..3_u8).prop_map(|(port, cookie, output)| flow(port, cookie, output));
    proptest::collection::vec(one, 0..20).prop_map(|flows| wanted(&flows))
}

proptest! {
    #[test]
    fn a_plan_applied_leaves_what_is_wanted_and_all_that_is_not_ours(
        have in flows(),
        mut want in flows(),
    ) {
        want.values_mut().for_each(|value| value.cookie = MARK | value.cookie & 3);
        let dump = |table: &HashMap<FlowKey, FlowValue>| -> Vec<Dumped> {
            table.iter().map(|(key, value)| there(Flow { key: key.clone(), value: value.clone() })).collect()
        };
        let mut table = have.clone();
        let plan = diff(&want, &dump(&have), &ours());
        apply(&mut table, &plan.mods);
        for (key, value) in &have {
            if !ours().own(value.cookie) {
                prop_assert_eq!(table.get(key), Some(value));
            }
        }
        for (key, value) in &want {
            let foreign = have.get(key).filter(|value| !ours().own(value.cookie));
            prop_assert_eq!(table.get(key), Some(foreign.unwrap_or(value)));
        }
        let unasked = table.iter().filter(|(key, value)| ours().own(value.cookie) && !want.contains_key(key)).count();
        prop_assert_eq!(unasked, 0);
        prop_assert!(diff(&want, &dump(&table), &ours()).mods.is_empty());
    }
}
