//! The helper, by its own status, and kube-proxy, which serves the same ports.

use crate::doctor::finding::Finding;
use crate::doctor::snapshot::{HelperSnapshot, NodeSnapshot};
use helper::PROGRAM;
use helper::status::Status;
use uplink::failover::ManagementLocation;

/// All findings about the helper.
pub(super) fn check(node: &NodeSnapshot) -> Vec<Finding> {
    let Some(HelperSnapshot { status, .. }) = &node.helper else { return vec![not_running(node)] };
    match status {
        Ok(status) => reported(status, matches!(node.flows.get(&status.bridge.name), Some(Ok(_)))),
        // Only root may ask it.
        Err(_) if node.unprivileged => Vec::new(),
        Err(why) => vec![Finding::warning(
            "helper-silent",
            PROGRAM,
            format!("runs and does not answer: {why}"),
            "it may hang: changes of Services have no effect then, and management does not leave a dead switch",
            "`systemctl restart ovn-k8s-gateway-helper` (flows stay meanwhile); its log says why",
        )],
    }
}

fn not_running(node: &NodeSnapshot) -> Finding {
    let what = "does not run";
    let start = "`systemctl start ovn-k8s-gateway-helper`; its log says why it ended";
    if node.carries_pods() {
        let why = "changes of Services have no effect, changed flows are not repaired, and management does not move to the NIC when the switch dies";
        Finding::error("helper-away", PROGRAM, what, why, start)
    } else if node.taken_over().next().is_some() {
        let why = "management does not move to the NIC when the switch dies";
        Finding::warning("helper-away", PROGRAM, what, why, start)
    } else {
        Finding::note(
            "helper-away",
            PROGRAM,
            what,
            "no NIC is taken over, so it has nothing to do yet",
            "nothing to do",
        )
    }
}

/// Findings from its status. `flows_known`: the flows were read from the bridge, so that its own count does not matter.
fn reported(status: &Status, flows_known: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let bridge = status.bridge.name.as_str();
    if status.management.location == ManagementLocation::Nic {
        let why = status.management.reason.map(|reason| format!(" ({reason:?})")).unwrap_or_default();
        findings.push(Finding::warning(
            "failed-over",
            bridge,
            format!("management is on the NIC{why}"),
            "the switch does not forward: pods have no outside connection meanwhile",
            "`systemctl status openvswitch-switch`; management returns by itself when a next hop answers through the bridge",
        ));
    }
    if !status.flows.connected {
        findings.push(Finding::error(
            "flows",
            bridge,
            "the helper has no OpenFlow connection to it",
            "changes of Services have no effect",
            "`ovs-vsctl show` lists the bridge if it exists; `systemctl status openvswitch-switch`",
        ));
    } else if !flows_known && status.flows.installed < status.flows.wanted {
        findings.push(Finding::warning(
            "flows",
            bridge,
            format!("has {} of {} flows", status.flows.installed, status.flows.wanted),
            "part of the traffic matches the bridge's own NORMAL flow, and goes to the host",
            "run doctor again; `ovn-k8s status` says what the helper waits for",
        ));
    }
    for conflict in &status.flows.conflicts {
        let remedy = format!("remove that flow (`ovs-ofctl dump-flows {bridge}` lists it)");
        findings.push(Finding::warning(
            "flows",
            bridge,
            conflict.clone(),
            "a flow of another program has the match and priority of the helper's",
            remedy,
        ));
    }
    for source in status.sources.iter().filter(|source| !source.connected || source.error.is_some()) {
        let error = source.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        findings.push(Finding::warning(
            "source",
            &source.name,
            format!("{} does not answer{error}", source.origin),
            "the last known state stays; changes have no effect",
            "check that it runs and is reachable from this node",
        ));
    }
    if let Some(error) = &status.host.error {
        let why =
            "routes, nft table or sysctls are not applied: paths between host, pods and Services are broken";
        findings.push(Finding::error(
            "host-paths",
            PROGRAM,
            error.clone(),
            why,
            "follow the message; `ovn-k8s status` shows whether it is fixed",
        ));
    }
    if !status.ready {
        let problems = if status.problems.is_empty() {
            "no reason given".to_owned()
        } else {
            status.problems.join("; ")
        };
        findings.push(Finding::warning(
            "helper",
            PROGRAM,
            format!("is not ready: {problems}"),
            "part of what it wants is not applied",
            "`ovn-k8s status` lists what is missing",
        ));
    }
    if findings.is_empty() {
        let what = format!("is ready; {} flows on {bridge}", status.flows.installed);
        findings.push(Finding::ok("helper", PROGRAM, what));
    }
    findings
}

/// Signs of kube-proxy.
pub(super) fn kube_proxy(node: &NodeSnapshot) -> Vec<Finding> {
    let gateway = node.helper.is_some() || node.taken_over().next().is_some();
    node.kube_proxy
        .iter()
        .map(|sign| {
            let why = "two programs serve one NodePort: requests and answers take different paths, or the host resets the connections";
            let remedy = "stop it, then `kube-proxy --cleanup`: the gateway serves NodePorts";
            if gateway {
                Finding::warning("node-ports", "NodePorts", sign.clone(), why, remedy)
            } else {
                Finding::note("node-ports", "NodePorts", sign.clone(), "it conflicts with a gateway on this node", remedy)
            }
        })
        .collect()
}
