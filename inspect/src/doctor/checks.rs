//! The checks: pure functions of the snapshot, one file for each part of the node.

use super::finding::Finding;
use super::snapshot::NodeSnapshot;

mod flows;
mod helper;
mod leftovers;
mod ovn;
mod switch;
mod takeover;
mod uplink;

/// All findings.
pub(super) fn all(node: &NodeSnapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if node.unprivileged {
        findings.push(Finding::warning(
            "not-root",
            "ovn-k8s doctor",
            "does not run as root",
            "it cannot read the sockets of switch and helper, the firewall, or other users' processes: problems there are not reported",
            "`sudo ovn-k8s doctor`",
        ));
    }
    findings.extend(switch::check(node));
    findings.extend(takeover::journal(&node.journal));
    findings.extend(leftovers::check(node));
    for uplink in &node.uplinks {
        if uplink.taken_over {
            findings.extend(uplink::check(node, uplink));
            findings.extend(flows::check(node, uplink));
        } else {
            findings.extend(takeover::prediction(node, uplink));
        }
    }
    findings.extend(helper::check(node));
    findings.extend(helper::kube_proxy(node));
    findings.extend(ovn::check(node));
    let unknown = node.observed.unknown.iter();
    findings.extend(unknown.map(|what| {
        Finding::note(
            "not-known",
            "this node",
            what.clone(),
            "it could not be read, so problems there are not reported",
            "run it again as root; if it stays, check this part by hand",
        )
    }));
    findings
}
