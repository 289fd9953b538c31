//! The helper's status: one value, printed as a table or as JSON. Field names are part of the product.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use uplink::failover::FailoverStatus;

/// The helper's state at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// The bridge and its ports.
    pub bridge: BridgeStatus,
    /// Where the node's own addresses are.
    #[serde(default)]
    pub management: FailoverStatus,
    /// Whether everything is in force: uplink present, sources read once, flows and host paths as desired.
    pub ready: bool,
    /// Why it is not ready, and what else a person should know; each a sentence.
    pub problems: Vec<String>,
    /// What is unknown and left out, each with the setting that gives it.
    pub unknown: Vec<String>,
    /// Who owns which frames.
    pub owners: OwnersStatus,
    /// Where the facts come from.
    pub sources: Vec<SourceStatus>,
    /// The flows.
    pub flows: FlowsStatus,
    /// Routes, nft table and sysctls.
    pub host: HostStatus,
    /// Services.
    pub services: ServicesStatus,
}

/// The bridge and its ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct BridgeStatus {
    pub name: String,
    pub datapath: String,
    pub mac: String,
    pub uplink: String,
    pub uplink_ofport: Option<u32>,
    pub overlay: String,
    pub overlay_ofport: Option<u32>,
    pub other_ports: Vec<String>,
    pub conntrack_zone: u16,
    pub conntrack_entries: Option<u64>,
    pub conntrack_limit: Option<u64>,
}

/// Who owns which frames.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct OwnersStatus {
    pub node: String,
    pub gateway_router: String,
    pub shared: Vec<String>,
    pub snat: Vec<String>,
    pub service_ranges: Vec<String>,
    pub join_ranges: Vec<String>,
    pub reply_rule: String,
    /// Sockets of the host that keep the partitioned rule from coming into force.
    pub waiting_for: Vec<String>,
}

/// A source of facts and the state of its connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct SourceStatus {
    pub name: String,
    pub origin: String,
    pub connected: bool,
    pub synced: bool,
    pub error: Option<String>,
}

/// The flows of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct FlowsStatus {
    pub connected: bool,
    pub wanted: usize,
    pub installed: usize,
    pub changes: u64,
    pub drift_repaired: u64,
    pub switch_restarts: u64,
    pub foreign: usize,
    pub conflicts: Vec<String>,
    pub rules: Vec<RuleStatus>,
}

/// One rule's share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct RuleStatus {
    pub rule: String,
    pub flows: usize,
    pub packets: u64,
    pub bytes: u64,
}

/// Routes, nft table and sysctls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct HostStatus {
    pub in_force: bool,
    pub changes: u64,
    pub error: Option<String>,
}

/// Services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub struct ServicesStatus {
    pub known: usize,
    pub ports: usize,
    pub from_cache: bool,
    pub refused: Vec<String>,
    pub health_checks: Vec<u16>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.ready { "ready" } else { "NOT READY" };
        writeln!(f, "ovn-k8s-gateway-helper {} (pid {}): {state}", self.version, self.pid)?;
        let bridge = &self.bridge;
        let mut rows = Rows::default();
        rows.row(
            "bridge",
            format!("{} ({}, {})", bridge.name, or_unknown(&bridge.datapath), or_unknown(&bridge.mac)),
        );
        rows.row("uplink", port(&bridge.uplink, bridge.uplink_ofport));
        rows.row("overlay", port(&bridge.overlay, bridge.overlay_ofport));
        if bridge.datapath.starts_with("userspace") {
            rows.row("management", self.management.to_string());
        }
        rows.list("other ports", &bridge.other_ports);
        rows.row("conntrack", conntrack(bridge));
        let owners = &self.owners;
        rows.row("node", or_unknown(&owners.node).to_owned());
        rows.row("gateway router", or_unknown(&owners.gateway_router).to_owned());
        rows.list("shared", &owners.shared);
        rows.list("SNAT", &owners.snat);
        rows.list("service ranges", &owners.service_ranges);
        rows.list("join ranges", &owners.join_ranges);
        rows.row("reply rule", owners.reply_rule.clone());
        rows.list("waiting for", &owners.waiting_for);
        for source in &self.sources {
            let state = match (source.connected, source.synced) {
                (true, true) => "connected".to_owned(),
                (true, false) => "connected, not synced yet".to_owned(),
                (false, true) => "away, last state kept".to_owned(),
                (false, false) => "away, never seen".to_owned(),
            };
            let error = source.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            rows.row(&source.name, format!("{} ({state}){error}", source.origin));
        }
        let flows = &self.flows;
        rows.row(
            "flows",
            format!(
                "{} of {} installed, {} changes, {} drifted and repaired, {} foreign, {} switch restarts",
                flows.installed,
                flows.wanted,
                flows.changes,
                flows.drift_repaired,
                flows.foreign,
                flows.switch_restarts
            ),
        );
        let in_force = if self.host.in_force { "in force" } else { "not in force" };
        let error = self.host.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
        rows.row("host paths", format!("{in_force}, {} changes{error}", self.host.changes));
        let services = &self.services;
        let cached = if services.from_cache { ", from the state folder" } else { "" };
        rows.row("services", format!("{} known, {} ports{cached}", services.known, services.ports));
        f.write_str(&rows.text)?;
        rule_table(f, &flows.rules)?;
        section(f, "Problems", &self.problems)?;
        section(f, "Unknown", &self.unknown)?;
        section(f, "Refused", &services.refused)?;
        section(f, "Conflicts", &flows.conflicts)
    }
}

#[derive(Default)]
struct Rows {
    text: String,
}

impl Rows {
    fn row(&mut self, name: &str, value: String) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "  {name:<16}{value}");
    }

    fn list(&mut self, name: &str, values: &[String]) {
        if !values.is_empty() {
            self.row(name, values.join(", "));
        }
    }
}

fn or_unknown(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn port(name: &str, ofport: Option<u32>) -> String {
    match ofport {
        Some(number) => format!("{name} (ofport {number})"),
        None => format!("{} (no ofport)", or_unknown(name)),
    }
}

fn conntrack(bridge: &BridgeStatus) -> String {
    let entries = bridge.conntrack_entries.map_or("unknown".to_owned(), |entries| entries.to_string());
    match bridge.conntrack_limit {
        Some(limit) => format!("zone {}: {entries} entries of {limit}", bridge.conntrack_zone),
        None => format!("zone {}: {entries} entries", bridge.conntrack_zone),
    }
}

fn rule_table(f: &mut fmt::Formatter<'_>, rules: &[RuleStatus]) -> fmt::Result {
    if rules.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n  {:<28}{:>8}{:>14}{:>18}", "RULE", "FLOWS", "PACKETS", "BYTES")?;
    for rule in rules {
        writeln!(f, "  {:<28}{:>8}{:>14}{:>18}", rule.rule, rule.flows, rule.packets, rule.bytes)?;
    }
    Ok(())
}

fn section(f: &mut fmt::Formatter<'_>, title: &str, lines: &[String]) -> fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{title}")?;
    lines.iter().try_for_each(|line| writeln!(f, "  - {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_what_is_missing_and_the_json_comes_back_equal() {
        let status = Status {
            bridge: BridgeStatus { name: "breth0".into(), uplink: "eth0".into(), ..BridgeStatus::default() },
            problems: vec!["the uplink eth0 is not a port of breth0".into()],
            ..Status::default()
        };
        let text = status.to_string();
        assert!(text.contains("NOT READY") && text.contains("eth0 (no ofport)"), "{text}");
        assert!(text.contains("  - the uplink eth0 is not a port of breth0"), "{text}");
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }
}
