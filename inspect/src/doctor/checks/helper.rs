//! The helper, by what it says of itself, and others who serve the same ports.

use super::super::snapshot::{HelperSeen, Seen};
use super::Finding;
use helper::PROGRAM;
use helper::status::Status;
use uplink::failover::At;

/// The helper.
pub(super) fn check(seen: &Seen) -> Vec<Finding> {
    let Some(HelperSeen { status, .. }) = &seen.helper else { return vec![away(seen)] };
    match status {
        Ok(status) => says(status, matches!(seen.flows.get(&status.bridge.name), Some(Ok(_)))),
        // It may not be asked.
        Err(_) if seen.unprivileged => Vec::new(),
        Err(why) => vec![Finding::warning(
            "helper-silent",
            PROGRAM,
            format!("runs and does not answer: {why}"),
            "it may be stuck: Services are not followed then, and management does not leave a dead switch",
            "see its log; restart it (the bridge's flows stay meanwhile)",
        )],
    }
}

fn away(seen: &Seen) -> Finding {
    let what = "does not run";
    let start = "start it (`systemctl start ovn-k8s-gateway-helper`), or see its log for why it ended";
    if seen.carries_pods() {
        let why = "a gateway router shares the uplink, and nobody follows Services, keeps the flows, or takes management to the NIC when the switch dies";
        Finding::error("helper-away", PROGRAM, what, why, start)
    } else if seen.taken().next().is_some() {
        let why = "nobody takes management to the NIC when the switch dies";
        Finding::warning("helper-away", PROGRAM, what, why, start)
    } else {
        Finding::note(
            "helper-away",
            PROGRAM,
            what,
            "nothing was taken over, so it has nothing to do yet",
            "nothing to do",
        )
    }
}

/// `looked`: the flows were seen, so that they need not be believed.
fn says(status: &Status, looked: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bridge = status.bridge.name.as_str();
    if status.management.at == At::Nic {
        let why = status.management.reason.map(|reason| format!(" ({reason:?})")).unwrap_or_default();
        findings.push(Finding::warning(
            "failed-over",
            bridge,
            format!("management is on the NIC{why}"),
            "the switch does not carry: the pods have no outside while this lasts",
            "see to ovs-vswitchd; management goes back by itself when the way through the bridge is proved",
        ));
    }
    if !status.flows.connected {
        findings.push(Finding::error(
            "flows",
            bridge,
            "the helper has no connection to the bridge's flows",
            "changes of Services do not get there",
            "see to ovs-vswitchd, and whether the bridge is there",
        ));
    } else if !looked && status.flows.installed < status.flows.wanted {
        findings.push(Finding::warning(
            "flows",
            bridge,
            format!("{} of {} flows are in force", status.flows.installed, status.flows.wanted),
            "part of the traffic goes by the bridge's own NORMAL flow, to the host",
            "look again; `ovn-k8s status` says what it waits for",
        ));
    }
    for conflict in &status.flows.conflicts {
        let remedy = "remove the other's flow (`ovs-ofctl dump-flows`)";
        findings.push(Finding::warning(
            "flows",
            bridge,
            conflict.clone(),
            "another's flow stands before ours",
            remedy,
        ));
    }
    for source in status.sources.iter().filter(|source| !source.connected || source.error.is_some()) {
        let error = source.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        findings.push(Finding::warning(
            "source",
            &source.name,
            format!("{} does not answer{error}", source.origin),
            "what is in force stays; changes are not seen",
            "see whether it runs and can be reached from here",
        ));
    }
    if let Some(error) = &status.host.error {
        let why = "the host's part (routes, nft, sysctls) is not in force: paths between host, pods and Services are broken";
        findings.push(Finding::error("host-paths", PROGRAM, error.clone(), why, "do what the message says"));
    }
    if !status.ready {
        let problems = if status.problems.is_empty() {
            "it does not say why".to_owned()
        } else {
            status.problems.join("; ")
        };
        findings.push(Finding::warning(
            "helper",
            PROGRAM,
            format!("is not ready: {problems}"),
            "not everything is in force",
            "`ovn-k8s status`",
        ));
    }
    if findings.is_empty() {
        let what = format!("is ready; {} flows in force on {bridge}", status.flows.installed);
        findings.push(Finding::ok("helper", PROGRAM, what));
    }
    findings
}

/// Others who serve NodePorts.
pub(super) fn others(seen: &Seen) -> Vec<Finding> {
    let gateway = seen.helper.is_some() || seen.taken().next().is_some();
    seen.others
        .iter()
        .map(|other| {
            let why = "two owners of one NodePort: connections to it reach pods by one way and answers leave by the other, or the host resets them";
            let remedy = "stop it and remove its rules (`kube-proxy --cleanup`), the gateway serves NodePorts";
            if gateway {
                Finding::warning("node-ports", "NodePorts", other.clone(), why, remedy)
            } else {
                Finding::note("node-ports", "NodePorts", other.clone(), "it goes together with no gateway of ours on this node", remedy)
            }
        })
        .collect()
}
