//! The helper's state as a [`Status`].

use std::fmt::Display;

use ovs::openflow::flow::Flow;

use super::daemon::Helper;
use super::status::{
    BridgeStatus, FlowsStatus, HostStatus, OwnersStatus, ServicesStatus, SourceStatus, Status,
};
use flows::Rendering;
use uplink::failover::At;

/// The state at this moment.
pub(crate) fn status(helper: &Helper) -> Status {
    let host = helper.parts.host.state();
    let flows = flows(helper);
    let services = services(helper);
    let mut problems = problems(helper);
    problems.extend(host.error.iter().map(|error| format!("host paths: {error}")));
    let ready = problems.is_empty()
        && helper.switch.converged()
        && helper.facts.bridge.uplink.is_some()
        && helper.facts.bridge.overlay.is_some()
        && helper.parts.source.synced()
        && host.in_force;
    problems.extend(advice(helper));
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        ready,
        bridge: bridge(helper),
        management: helper.parts.failover.management(),
        problems,
        unknown: helper.wanted.as_ref().map(|wanted| wanted.unknown.clone()).unwrap_or_default(),
        owners: owners(helper),
        sources: sources(helper),
        flows,
        host: HostStatus { in_force: host.in_force, changes: host.changes, error: host.error.clone() },
        services,
    }
}

/// The flows wanted, one a line, as ovs-ofctl reads them.
pub(crate) fn flow_text(rendering: &Rendering) -> String {
    let mut lines: Vec<String> = rendering
        .flows()
        .iter()
        .map(|(key, value)| Flow { key: key.clone(), value: value.clone() }.to_string())
        .collect();
    lines.sort();
    lines.push(String::new());
    lines.join("\n")
}

fn bridge(helper: &Helper) -> BridgeStatus {
    let (view, settings) = (&helper.facts.bridge, &helper.parts.settings);
    let known = helper.conntrack_known.then_some(helper.conntrack);
    BridgeStatus {
        name: settings.bridge.clone(),
        datapath: match (view.present, view.userspace) {
            (false, _) => String::new(),
            (true, true) => "userspace datapath".to_owned(),
            (true, false) => "kernel datapath".to_owned(),
        },
        mac: view.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        uplink: settings.interface.clone(),
        uplink_ofport: view.uplink.map(|port| port.0),
        overlay: super::bridge::patch_names(&settings.bridge).0,
        overlay_ofport: view.overlay.map(|port| port.0),
        other_ports: view.other_ports.clone(),
        conntrack_zone: settings.zone,
        conntrack_entries: known.map(|conntrack| conntrack.entries),
        conntrack_limit: known.and_then(|conntrack| conntrack.limit()),
    }
}

fn owners(helper: &Helper) -> OwnersStatus {
    let router = helper.facts.router.as_ref();
    let mut owners = OwnersStatus {
        gateway_router: router.map(|router| router.name.clone()).unwrap_or_default(),
        ..OwnersStatus::default()
    };
    if let Some(wanted) = &helper.wanted {
        owners.node = wanted.node_name.clone().unwrap_or_default();
        owners.shared = texts(&wanted.split.shared);
        owners.snat = texts(&wanted.split.snat);
        owners.service_ranges = texts(&wanted.split.service_ranges);
        owners.join_ranges = texts(&wanted.host.join_ranges);
        owners.reply_rule = wanted.split.reply.to_string();
        owners.waiting_for = wanted.waiting_for.clone();
    }
    owners
}

fn sources(helper: &Helper) -> Vec<SourceStatus> {
    let mut sources = Vec::new();
    let mut database = |name: &str, followed: &super::database::FollowedDatabase| {
        let error = followed.error();
        sources.push(SourceStatus {
            name: name.to_owned(),
            origin: followed.origin.clone(),
            connected: error.is_none(),
            synced: followed.known(),
            error,
        });
    };
    database("local database", &helper.parts.local);
    if let Some((_, followed)) = &helper.northbound {
        database("northbound", followed);
    }
    let health = helper.parts.source.health();
    sources.push(SourceStatus {
        name: "kubernetes".to_owned(),
        origin: health.origin.clone(),
        connected: health.connected,
        synced: helper.parts.source.synced(),
        error: health.last_error.clone(),
    });
    sources
}

fn flows(helper: &Helper) -> FlowsStatus {
    let (switch, metrics) = (&helper.switch, &helper.parts.metrics);
    FlowsStatus {
        connected: switch.is_connected(),
        wanted: switch.rendering().map_or(0, |rendering| rendering.flows().len()),
        installed: switch.installed(),
        changes: metrics.flow_changes.get(),
        drift_repaired: metrics.drift_repaired.get(),
        switch_restarts: metrics.switch_restarts.get(),
        foreign: switch.foreign().others + switch.foreign().older_helper.len(),
        conflicts: switch.conflicts().to_vec(),
        rules: switch.rules().to_vec(),
    }
}

fn services(helper: &Helper) -> ServicesStatus {
    let policy = helper.switch.rendering().map(Rendering::policy);
    let refused = helper.catalogue.refused().into_iter().map(|(key, reason)| format!("{key}: {reason}"));
    let problems = helper.parts.source.problems().into_iter().map(|problem| problem.to_string());
    ServicesStatus {
        known: helper.catalogue.len(),
        ports: policy.map_or(0, |policy| policy.services().map(|(_, rules)| rules.ports.len()).sum()),
        from_cache: helper.from_cache,
        refused: refused.chain(problems).chain(helper.health.failures().cloned()).collect(),
        health_checks: helper.health.ports().collect(),
    }
}

/// What keeps the helper from being ready.
fn problems(helper: &Helper) -> Vec<String> {
    let mut problems = helper.wanted.as_ref().map(|wanted| wanted.problems.clone()).unwrap_or_default();
    if !helper.parts.source.synced() {
        let health = helper.parts.source.health();
        let error = health.last_error.as_deref().unwrap_or("no answer yet");
        problems.push(format!("Services are not known yet ({}: {error})", health.origin));
    }
    if let Some(error) = helper.last_error.as_ref().filter(|_| !helper.switch.converged()) {
        problems.push(format!("flows: {error}"));
    }
    problems.extend(helper.switch.conflicts().iter().cloned());
    let management = helper.parts.failover.management();
    problems.extend(management.problem.map(|problem| format!("management: {problem}")));
    problems
}

/// What a person should know though the helper does its work.
fn advice(helper: &Helper) -> Vec<String> {
    let mut advice: Vec<String> = helper.switch.foreign().explanation().into_iter().collect();
    let management = helper.parts.failover.management();
    if let (At::Nic, Some(reason)) = (management.at, management.reason) {
        advice.push(format!(
            "management is on the NIC {} ({reason}) and returns to {} by itself when the way through it is proved",
            management.device, helper.parts.settings.bridge
        ));
    }
    if let Some(wanted) = helper.wanted.as_ref().filter(|wanted| !wanted.waiting_for.is_empty()) {
        advice.push(format!(
            "the partitioned rule waits for {} sockets of the host in the pods' port range",
            wanted.waiting_for.len()
        ));
    }
    advice.extend(helper.conntrack.is_nearly_full().then(|| full_conntrack(helper)));
    advice
}

/// The conntrack table is nearly full, and what to do.
pub(crate) fn full_conntrack(helper: &Helper) -> String {
    let (conntrack, zone) = (&helper.conntrack, helper.parts.settings.zone);
    format!(
        "{} connections are tracked in zone {zone}, {} in all, and the table holds {}: beyond it new connections of \
         pods are lost; raise the limit (ovs-appctl dpctl/ct-set-maxconns, net.netfilter.nf_conntrack_max) or use the \
         partitioned rule",
        conntrack.entries,
        conntrack.total,
        conntrack.limit().unwrap_or_default()
    )
}

fn texts<T: Display>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}
