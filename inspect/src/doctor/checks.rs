//! The checks: what each part of the node should look like, as pure functions of what was seen.

use super::Finding;
use super::snapshot::Seen;

mod flows;
mod helper;
mod leftovers;
mod ovn;
mod switch;
mod takeover;
mod uplink;

pub(super) use flows::agree;
pub(super) use ovn::setting as ovn_setting;

/// All of them.
pub(super) fn all(seen: &Seen) -> Vec<Finding> {
    let mut findings = Vec::new();
    if seen.unprivileged {
        findings.push(Finding::warning(
            "not-root",
            "ovn-k8s doctor",
            "does not run as root",
            "sockets of the switch and the helper, the firewall and other processes cannot be looked at: what is wrong there is not said",
            "run it as root",
        ));
    }
    findings.extend(switch::check(seen));
    findings.extend(takeover::journal(&seen.journal));
    findings.extend(leftovers::check(seen));
    for uplink in &seen.uplinks {
        if uplink.taken {
            findings.extend(uplink::check(seen, uplink));
            findings.extend(flows::check(seen, uplink));
        } else {
            findings.extend(takeover::prediction(seen, uplink));
        }
    }
    findings.extend(helper::check(seen));
    findings.extend(helper::others(seen));
    findings.extend(ovn::check(seen));
    let unknown = seen.observed.unknown.iter();
    findings.extend(unknown.map(|what| {
        Finding::note("not-known", "this node", what.clone(), "it was not looked at", "look yourself")
    }));
    findings
}
