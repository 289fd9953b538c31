//! The takeover: one that did not come to its end, and one that has not begun.

use super::super::snapshot::{JournalSeen, Seen, UplinkSeen};
use super::Finding;
use uplink::plan;

/// The journal.
pub(super) fn journal(journal: &JournalSeen) -> Option<Finding> {
    const ABOUT: &str = "the takeover's journal";
    const RECOVER: &str = "`ovn-k8s-util recover`";
    match journal {
        JournalSeen::Closed => None,
        JournalSeen::Open { busy: true, back } => Some(Finding::note(
            "journal-open",
            ABOUT,
            if *back { "a way back is under way" } else { "a takeover is under way" },
            "what is seen now changes",
            "wait",
        )),
        JournalSeen::Open { busy: false, back } => Some(Finding::error(
            "journal-open",
            ABOUT,
            if *back {
                "a way back (bridge-to-nics) did not come to its end, and nobody is at work"
            } else {
                "a takeover did not come to its end, and nobody is at work"
            },
            "addresses and routes may be on either device, the guard may stand the wrong way",
            RECOVER,
        )),
        JournalSeen::Pending => Some(Finding::warning(
            "journal-pending",
            ABOUT,
            "the network was put back, but the bridge is still in the switch's database",
            "it comes up again with the switch, and hears what the NIC hears",
            RECOVER,
        )),
        JournalSeen::Broken(why) => Some(Finding::error(
            "journal-broken",
            ABOUT,
            why.clone(),
            "what a takeover left cannot be put back from it",
            RECOVER,
        )),
    }
}

/// What `nics-to-bridge` would refuse or warn about.
pub(super) fn prediction(seen: &Seen, uplink: &UplinkSeen) -> Vec<Finding> {
    let Some(options) = &seen.options else { return Vec::new() };
    let nic = &uplink.nic;
    let predicted = plan::attach(&seen.observed, std::slice::from_ref(nic), options);
    let mut findings = Vec::new();
    // What is not known of the node, and whether the switch is there, is said by itself.
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
        let why = "nics-to-bridge would say so and go on";
        findings.push(Finding::note(notice.name, &notice.about, &notice.what, why, &notice.remedy));
    }
    if findings.is_empty() && seen.observed.switch.answers {
        let what = format!(
            "nics-to-bridge has nothing against it ({} steps; --dry-run shows them)",
            predicted.steps.len()
        );
        findings.push(Finding::ok("takeover", nic, what));
    }
    findings
}
