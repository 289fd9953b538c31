//! From what is installed to what is wanted, in as few changes as possible.

use std::collections::{HashMap, HashSet};

use super::flow::{Flow, FlowKey, FlowValue};
use super::mods::{Cookies, FlowMod};
use super::wire::stats::Dumped;

/// Which flows are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The cookies that mark our flows.
    pub cookies: Cookies,
    /// Cookies among those that mark learned flows: never compared, never deleted.
    pub learned: Vec<u64>,
}

/// What has to change, and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, deletions first; in an order that is the same for the same flows.
    pub mods: Vec<FlowMod>,
    /// Wanted flows whose key is held by a flow that is not ours; they are left out of the changes.
    pub conflicts: Vec<Conflict>,
    /// Wanted flows that are not there.
    pub missing: usize,
    /// Flows that are there with another value than wanted.
    pub differing: usize,
    /// Flows of ours that are not wanted.
    pub surplus: usize,
    /// Flows that are as wanted.
    pub same: usize,
    /// Flows with our mark that this crate cannot express: another program's imitation, or a later version's.
    /// They cannot be named one by one; only [`FlowMod::DeleteAll`] reaches them.
    pub unreadable: usize,
}

/// A wanted flow that cannot be installed without overwriting a foreign one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key both want.
    pub key: FlowKey,
    /// The flow that is there.
    pub foreign: Dumped,
}

impl Ours {
    /// Whether a flow with this cookie is one that we install, compare and delete.
    pub fn own(&self, cookie: u64) -> bool {
        self.cookies.contain(cookie) && !self.learned.contains(&cookie)
    }
}

impl Plan {
    /// Whether everything is as wanted.
    pub fn is_empty(&self) -> bool {
        self.mods.is_empty() && self.conflicts.is_empty()
    }
}

/// Compares what is wanted with a dump of everything that is there.
///
/// A dump of our own cookies alone will do as well, but hides conflicts. Nothing of anyone else's is ever changed: a
/// foreign flow under a wanted key is reported and the wanted one left out, since adding it would replace the other.
pub fn diff(desired: &HashMap<FlowKey, FlowValue>, installed: &[Dumped], ours: &Ours) -> Plan {
    let mut plan = Plan::default();
    let mut deletions = Vec::new();
    let mut additions = Vec::new();
    // Wanted keys that need no addition: right already, replaced already, or in conflict. By their place in the map,
    // which is a number to hash where a key is a list.
    let mut settled: HashSet<*const FlowKey> = HashSet::with_capacity(desired.len());

    for dumped in installed {
        let wanted = dumped.key().and_then(|key| desired.get_key_value(key));
        match (ours.own(dumped.cookie), wanted) {
            (true, Some((key, value))) => {
                settled.insert(std::ptr::from_ref(key));
                if dumped.flow.as_ref().is_ok_and(|flow| flow.value == *value) {
                    plan.same += 1;
                } else {
                    plan.differing += 1;
                    additions.push(add(key, value));
                }
            }
            (true, None) => match dumped.key() {
                Some(key) => {
                    plan.surplus += 1;
                    deletions.push(FlowMod::Delete { key: key.clone(), cookies: ours.cookies });
                }
                None => plan.unreadable += 1,
            },
            (false, Some((key, _))) => {
                settled.insert(std::ptr::from_ref(key));
                plan.conflicts.push(Conflict { key: key.clone(), foreign: dumped.clone() });
            }
            (false, None) => {}
        }
    }
    plan.missing = desired.len() - settled.len();
    if plan.missing > 0 {
        let missing = desired.iter().filter(|(key, _)| !settled.contains(&std::ptr::from_ref(*key)));
        additions.extend(missing.map(|(key, value)| add(key, value)));
    }
    // A map has no order of its own; a plan is to be printed and compared.
    let by_key = |one: &FlowMod, other: &FlowMod| key_of(one).cmp(&key_of(other));
    deletions.sort_by(by_key);
    additions.sort_by(by_key);
    deletions.append(&mut additions);
    plan.mods = deletions;
    plan.conflicts.sort_by(|one, other| one.key.cmp(&other.key));
    plan
}

fn add(key: &FlowKey, value: &FlowValue) -> FlowMod {
    FlowMod::Add(Flow { key: key.clone(), value: value.clone() })
}

fn key_of(change: &FlowMod) -> Option<&FlowKey> {
    match change {
        FlowMod::Add(flow) | FlowMod::Modify(flow) => Some(&flow.key),
        FlowMod::Delete { key, .. } => Some(key),
        FlowMod::DeleteAll { .. } => None,
    }
}

#[cfg(test)]
mod tests;
