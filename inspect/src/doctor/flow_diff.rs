//! The flows that the helper wants against those that the bridge has. Pure.

use std::collections::BTreeSet;

use flows::cookie;
use helper::status::Status;

use super::snapshot::{FlowTableSnapshot, HelperSnapshot};

/// How many flows of each kind are kept as text.
const SHOWN: usize = 2;

/// Flows that are wanted and missing, and flows with our cookie that are not wanted. A changed flow is one of each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct FlowDiff {
    pub missing: usize,
    pub surplus: usize,
    pub some_missing: Vec<String>,
    pub some_surplus: Vec<String>,
}

impl FlowDiff {
    /// Compares the flows that the helper wants with the bridge's; learned flows do not count.
    pub(super) fn of(wanted: &BTreeSet<String>, table: &FlowTableSnapshot) -> Self {
        let own = table.flows.iter().filter(|flow| cookie::ours().own(flow.cookie));
        let installed: BTreeSet<String> = own.map(ToString::to_string).collect();
        let missing: Vec<&String> = wanted.difference(&installed).collect();
        let surplus: Vec<&String> = installed.difference(wanted).collect();
        let some = |all: &[&String]| all.iter().take(SHOWN).map(|text| (*text).clone()).collect();
        Self {
            some_missing: some(&missing),
            some_surplus: some(&surplus),
            missing: missing.len(),
            surplus: surplus.len(),
        }
    }
}

/// Whether the bridge has what the helper wants. Also true while there is nothing to compare: the helper does not list
/// its flows, or does not know its sources yet.
pub(super) fn converged(helper: &HelperSnapshot, table: &FlowTableSnapshot) -> bool {
    helper.status.as_ref().is_ok_and(|status| !is_final(status))
        || helper.flows.as_ref().is_none_or(|wanted| FlowDiff::of(wanted, table) == FlowDiff::default())
}

/// The helper is connected and knows all its sources, so it writes what it wants.
pub(super) fn is_final(status: &Status) -> bool {
    status.flows.connected && status.flows.wanted > 0 && status.sources.iter().all(|source| source.synced)
}
