//! The checks: what each part of the node should look like, as pure functions of what was seen.

use super::{Finding, Seen};

mod helper;
mod switch;
mod takeover;
mod uplink;

/// All of them.
pub(super) fn all(seen: &Seen) -> Vec<Finding> {
    let mut findings = switch::check(seen);
    findings.extend(takeover::journal(&seen.journal));
    for uplink in &seen.uplinks {
        if uplink.taken {
            findings.extend(uplink::check(seen, uplink));
        } else {
            findings.extend(takeover::prediction(seen, uplink));
        }
    }
    findings.extend(helper::check(seen));
    findings.extend(helper::others(seen));
    let unknown = seen.observed.unknown.iter();
    findings.extend(unknown.map(|what| {
        Finding::note("not-known", "this node", what.clone(), "it was not looked at", "look yourself")
    }));
    findings
}
