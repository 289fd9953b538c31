//! The daemon's state as a [`Status`]. It reads values and changes nothing.

use std::fmt::Display;

use flows::Rendering;
use ovs::openflow::flow::Flow;
use uplink::failover::{FailoverStatus, ManagementLocation};

use crate::bridge::patch_names;
use crate::desired::Desired;
use crate::facts::Facts;
use crate::flow_sync::FlowSync;
use crate::health::HealthServers;
use crate::host_task::HostStatus as HostTaskStatus;
use crate::metrics::Metrics;
use crate::pass::ServicesOrigin;
use crate::service_state::ServiceState;
use crate::settings::Settings;
use crate::sources::Sources;
use crate::status::{BridgeStatus, FlowsStatus, HostStatus, OwnersStatus, ServicesStatus, Status};
use crate::switch_upkeep::SwitchUpkeep;

/// Everything that a status is made from.
#[derive(Debug)]
pub(crate) struct State<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) sources: &'a Sources,
    pub(crate) facts: &'a Facts,
    pub(crate) desired: Option<&'a Desired>,
    pub(crate) services: &'a ServiceState,
    pub(crate) flows: &'a FlowSync,
    pub(crate) switch: &'a SwitchUpkeep,
    pub(crate) host: HostTaskStatus,
    pub(crate) health: &'a HealthServers,
    pub(crate) management: FailoverStatus,
    pub(crate) metrics: &'a Metrics,
}

/// The status at this moment.
pub(crate) fn status(state: &State<'_>) -> Status {
    let facts = state.facts;
    let mut problems = problems(state);
    let ready = problems.is_empty()
        && state.flows.converged()
        && facts.bridge.uplink.is_some()
        && facts.bridge.overlay.is_some()
        && state.sources.objects.synced()
        && state.host.in_force;
    problems.extend(advice(state));
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        ready,
        bridge: bridge(state),
        management: state.management.clone(),
        problems,
        unknown: state.desired.map(|desired| desired.unknown.clone()).unwrap_or_default(),
        owners: owners(facts, state.desired),
        sources: state.sources.status(),
        flows: flows(state.flows, state.metrics),
        host: HostStatus {
            in_force: state.host.in_force,
            changes: state.host.changes,
            error: state.host.error.clone(),
        },
        services: services(state),
    }
}

/// The desired flows, one a line, as ovs-ofctl reads them.
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

fn bridge(state: &State<'_>) -> BridgeStatus {
    let (view, settings) = (&state.facts.bridge, state.settings);
    let conntrack = state.switch.conntrack();
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
        overlay: patch_names(&settings.bridge).0,
        overlay_ofport: view.overlay.map(|port| port.0),
        other_ports: view.other_ports.clone(),
        conntrack_zone: settings.policy.zone,
        conntrack_entries: conntrack.map(|conntrack| conntrack.entries),
        conntrack_limit: conntrack.and_then(|conntrack| conntrack.limit()),
    }
}

fn owners(facts: &Facts, desired: Option<&Desired>) -> OwnersStatus {
    let gateway_router = facts.router.as_ref().map(|router| router.name.clone()).unwrap_or_default();
    let Some(desired) = desired else { return OwnersStatus { gateway_router, ..OwnersStatus::default() } };
    OwnersStatus {
        node: desired.node_name.clone().unwrap_or_default(),
        gateway_router,
        shared: texts(&desired.split.shared),
        snat: texts(&desired.split.snat),
        service_ranges: texts(&desired.split.service_ranges),
        join_ranges: texts(&desired.host.join_ranges),
        reply_rule: desired.split.reply.to_string(),
        waiting_for: desired.waiting_for.clone(),
    }
}

fn flows(flows: &FlowSync, metrics: &Metrics) -> FlowsStatus {
    FlowsStatus {
        connected: flows.is_connected(),
        wanted: flows.desired_len(),
        installed: flows.installed(),
        changes: metrics.flow_changes.get(),
        drift_repaired: metrics.drift_repaired.get(),
        switch_restarts: metrics.switch_restarts.get(),
        foreign: flows.foreign().others + flows.foreign().older_helper.len(),
        conflicts: flows.conflicts().to_vec(),
        rules: flows.rules().to_vec(),
    }
}

fn services(state: &State<'_>) -> ServicesStatus {
    let problems = state.sources.objects.problems().into_iter().map(|problem| problem.to_string());
    let failures = state.health.failures().cloned();
    ServicesStatus {
        known: state.services.len(),
        ports: state.flows.service_ports(),
        from_cache: state.services.origin() == ServicesOrigin::Cache,
        refused: state.services.refused().into_iter().chain(problems).chain(failures).collect(),
        health_checks: state.health.ports().collect(),
    }
}

/// What keeps the helper from being ready.
fn problems(state: &State<'_>) -> Vec<String> {
    let mut problems = state.desired.map(|desired| desired.problems.clone()).unwrap_or_default();
    if !state.sources.objects.synced() {
        let health = state.sources.objects.health();
        let error = health.last_error.as_deref().unwrap_or("no answer yet");
        problems.push(format!("Services are not known yet ({}: {error})", health.origin));
    }
    problems.extend(state.flows.problem().map(|error| format!("flows: {error}")));
    problems.extend(state.flows.conflicts().iter().cloned());
    problems.extend(state.management.problem.iter().map(|problem| format!("management: {problem}")));
    problems.extend(state.host.error.iter().map(|error| format!("host paths: {error}")));
    problems
}

/// What a person should know though the helper is ready.
fn advice(state: &State<'_>) -> Vec<String> {
    let mut advice: Vec<String> = state.flows.foreign().explanation().into_iter().collect();
    let management = &state.management;
    if let (ManagementLocation::Nic, Some(reason)) = (management.location, management.reason) {
        advice.push(format!(
            "management is on the NIC {} ({reason}); it returns to {} when a next hop answers through the bridge",
            management.device, state.settings.bridge
        ));
    }
    if let Some(desired) = state.desired.filter(|desired| !desired.waiting_for.is_empty()) {
        advice.push(format!(
            "the partitioned rule waits until {} sockets of the host in the pods' port range are closed",
            desired.waiting_for.len()
        ));
    }
    advice.extend(state.switch.conntrack_advice(state.settings.policy.zone));
    advice
}

fn texts<T: Display>(values: impl IntoIterator<Item = T>) -> Vec<String> {
    values.into_iter().map(|value| value.to_string()).collect()
}
