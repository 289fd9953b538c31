//! From what is installed to what is wanted, in as few changes as possible.

use std::collections::HashMap;

use super::flow::{FlowKey, FlowValue};
use super::mods::{Cookies, FlowMod};
use super::wire::stats::Dumped;

/// Which flows are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The cookies we mark our flows with.
    pub cookies: Cookies,
    /// Cookies among those that mark learned flows: never compared, never deleted.
    pub learned: Vec<u64>,
}

/// What has to change, and what is in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The changes, deletions first.
    pub mods: Vec<FlowMod>,
    /// Wanted flows whose key is held by a flow that is not ours; they are left out of the changes.
    pub conflicts: Vec<Conflict>,
    /// Wanted flows that are not there.
    pub missing: usize,
    /// Flows that are there with another value than wanted.
    pub differing: usize,
    /// Flows of ours that nobody wants.
    pub surplus: usize,
    /// Flows that are as wanted.
    pub same: usize,
}

/// A wanted flow that cannot be installed without overwriting someone else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key both want.
    pub key: FlowKey,
    /// The flow that is there.
    pub foreign: Dumped,
}

/// Compares. Pure.
pub fn diff(_desired: &HashMap<FlowKey, FlowValue>, _installed: &[Dumped], _ours: &Ours) -> Plan {
    Plan::default()
}
