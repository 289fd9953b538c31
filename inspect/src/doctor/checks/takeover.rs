//! The takeover: one that did not finish, and a prediction for a NIC that was not taken over.

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{JournalSnapshot, NodeSnapshot, UplinkSnapshot};
use uplink::plan;

/// The journal.
pub(super) fn journal(journal: &JournalSnapshot) -> Option<Finding> {
    const ABOUT: &str = "the takeover's journal";
    const RECOVER: &str = "`ovn-k8s-util recover`";
    match journal {
        JournalSnapshot::Closed => None,
        JournalSnapshot::Open { locked: true, detaching } => Some(Finding::note(
            "journal-open",
            ABOUT,
            format!("{} is running", command(*detaching)),
            "the other findings describe a state that changes",
            "run doctor again when it has ended",
        )),
        JournalSnapshot::Open { locked: false, detaching } => Some(Finding::error(
            "journal-open",
            ABOUT,
            format!("{} did not finish, and its process is gone", command(*detaching)),
            "addresses and routes may be on either device, and the ingress filter may drop the wrong frames",
            RECOVER,
        )),
        JournalSnapshot::DatabasePending => Some(Finding::warning(
            "journal-pending",
            ABOUT,
            "the takeover was undone, but the bridge is still in the switch's database",
            "the bridge comes up again with the switch, and receives the NIC's frames a second time",
            RECOVER,
        )),
        JournalSnapshot::Unreadable(why) => Some(Finding::error(
            "journal-broken",
            ABOUT,
            why.clone(),
            "a takeover that did not finish cannot be undone from it",
            RECOVER,
        )),
    }
}

fn command(detaching: bool) -> &'static str {
    if detaching { "a bridge-to-nics" } else { "a nics-to-bridge" }
}

/// What `nics-to-bridge` would refuse or warn about.
pub(super) fn prediction(node: &NodeSnapshot, uplink: &UplinkSnapshot) -> Vec<Finding> {
    let Some(options) = &node.takeover_options else { return Vec::new() };
    let nic = &uplink.nic;
    let predicted = plan::attach(&node.observed, std::slice::from_ref(nic), options);
    let mut findings = Vec::new();
    // These two have findings of their own.
    let elsewhere = |name: &str| ["not-known", "switch-away"].contains(&name);
    for refusal in predicted.refusals.iter().filter(|refusal| !elsewhere(refusal.name)) {
        let why = if refusal.forceable {
            "nics-to-bridge would refuse this without --force"
        } else {
            "nics-to-bridge would refuse this"
        };
        findings.push(Finding::warning(refusal.name, &refusal.about, &refusal.what, why, &refusal.remedy));
    }
    for notice in predicted.warnings.iter().filter(|notice| !elsewhere(notice.name)) {
        let why = "nics-to-bridge would warn about this and continue";
        findings.push(Finding::note(notice.name, &notice.about, &notice.what, why, &notice.remedy));
    }
    if findings.is_empty() && node.observed.switch.answers {
        let what = format!(
            "nics-to-bridge would refuse nothing ({} steps; `ovn-k8s-util nics-to-bridge --dry-run {nic}` lists them)",
            predicted.lines().len()
        );
        findings.push(Finding::ok("takeover", nic, what));
    }
    findings
}
