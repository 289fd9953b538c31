//! Numbers for Prometheus. Names are part of the product: they do not change.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use super::status::Status;
use uplink::failover::{At, Management};

/// One label: which rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Rule {
    rule: String,
}

/// One label: which source of facts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Source {
    source: String,
}

/// One label: why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Why {
    reason: String,
}

/// The helper's numbers.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    ready: Gauge,
    flows_wanted: Gauge,
    flows_installed: Gauge,
    flows_foreign: Gauge,
    conntrack_entries: Gauge,
    conntrack_limit: Gauge,
    services: Gauge,
    services_refused: Gauge,
    source_connected: Family<Source, Gauge>,
    rule_flows: Family<Rule, Gauge>,
    rule_packets: Family<Rule, Gauge<u64, AtomicU64>>,
    rule_bytes: Family<Rule, Gauge<u64, AtomicU64>>,
    failovers: Family<Why, Counter>,
    management_on_nic: Gauge,
    failover_gap: Gauge<f64, AtomicU64>,
    /// Flow changes that the switch has confirmed.
    pub(crate) flow_changes: Counter,
    /// Flows that somebody else changed or removed and that were put back.
    pub(crate) drift_repaired: Counter,
    /// How often the switch's connection was lost and made again.
    pub(crate) switch_restarts: Counter,
    /// Changes of routes, nft rows and sysctls.
    pub(crate) host_changes: Counter,
    /// From a change of the world to the switch's confirmation.
    pub(crate) programming: Histogram,
}

impl Metrics {
    /// All numbers at zero.
    pub(crate) fn new() -> Self {
        let programming = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("ovn_k8s_gateway_helper")),
            ready: Gauge::default(),
            flows_wanted: Gauge::default(),
            flows_installed: Gauge::default(),
            flows_foreign: Gauge::default(),
            conntrack_entries: Gauge::default(),
            conntrack_limit: Gauge::default(),
            services: Gauge::default(),
            services_refused: Gauge::default(),
            source_connected: Family::default(),
            rule_flows: Family::default(),
            rule_packets: Family::default(),
            rule_bytes: Family::default(),
            failovers: Family::default(),
            management_on_nic: Gauge::default(),
            failover_gap: Gauge::default(),
            flow_changes: Counter::default(),
            drift_repaired: Counter::default(),
            switch_restarts: Counter::default(),
            host_changes: Counter::default(),
            programming,
        };
        metrics.register();
        metrics
    }

    /// Takes over the numbers of a status.
    pub(crate) fn record(&self, status: &Status) {
        self.ready.set(i64::from(status.ready));
        self.flows_wanted.set(count(status.flows.wanted));
        self.flows_installed.set(count(status.flows.installed));
        self.flows_foreign.set(count(status.flows.foreign));
        self.conntrack_entries.set(status.bridge.conntrack_entries.map_or(-1, count_u64));
        self.conntrack_limit.set(status.bridge.conntrack_limit.map_or(-1, count_u64));
        self.services.set(count(status.services.known));
        self.services_refused.set(count(status.services.refused.len()));
        for source in &status.sources {
            let label = Source { source: source.name.clone() };
            self.source_connected.get_or_create(&label).set(i64::from(source.connected));
        }
        for rule in &status.flows.rules {
            let label = Rule { rule: rule.rule.clone() };
            self.rule_flows.get_or_create(&label).set(count(rule.flows));
            self.rule_packets.get_or_create(&label).set(rule.packets);
            self.rule_bytes.get_or_create(&label).set(rule.bytes);
        }
    }

    /// Takes over where management is. Called by the failover itself: a helper that stands still still says it.
    pub(crate) fn keep(&self, management: &Management) {
        self.management_on_nic.set(i64::from(management.kept && management.at == At::Nic));
        self.failover_gap.set(management.last_gap_ms.unwrap_or_default() / 1000.0);
        for (reason, count) in &management.failovers {
            let counter = self.failovers.get_or_create(&Why { reason: reason.name().to_owned() });
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Notes how long a change took from its cause to the switch's confirmation.
    pub(crate) fn programmed(&self, changes: usize, took: Duration) {
        self.flow_changes.inc_by(changes as u64);
        self.programming.observe(took.as_secs_f64());
    }

    /// The text that Prometheus reads (OpenMetrics).
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    fn register(&self) {
        let mut registry = self.registry.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        registry.register("ready", "1 when everything wanted is in force", self.ready.clone());
        registry.register("flows_wanted", "Flows that the policy asks for", self.flows_wanted.clone());
        registry.register("flows_installed", "Flows of ours on the bridge", self.flows_installed.clone());
        registry.register("flows_foreign", "Flows of others on the bridge", self.flows_foreign.clone());
        registry.register(
            "conntrack_entries",
            "Connections in the owner zone, -1 if unknown",
            self.conntrack_entries.clone(),
        );
        registry.register(
            "conntrack_limit",
            "Connections that can be tracked, -1 if unknown",
            self.conntrack_limit.clone(),
        );
        registry.register("services", "Services known", self.services.clone());
        registry.register("services_refused", "Service ports refused", self.services_refused.clone());
        registry.register("source_connected", "1 while a source answers", self.source_connected.clone());
        registry.register("rule_flows", "Flows by rule", self.rule_flows.clone());
        registry.register("rule_packets", "Packets of the flows of a rule", self.rule_packets.clone());
        registry.register("rule_bytes", "Bytes of the flows of a rule", self.rule_bytes.clone());
        registry.register("flow_changes", "Flow changes confirmed by the switch", self.flow_changes.clone());
        registry.register(
            "drift_repaired",
            "Flows put back after others changed them",
            self.drift_repaired.clone(),
        );
        registry.register(
            "failovers",
            "How often management went to the NIC because the bridge carried nothing",
            self.failovers.clone(),
        );
        registry.register(
            "management_on_nic",
            "1 while the node's addresses are on the NIC instead of the bridge",
            self.management_on_nic.clone(),
        );
        registry.register_with_unit(
            "failover_last_gap",
            "The last failover: from the first sign of trouble until management was on the NIC",
            Unit::Seconds,
            self.failover_gap.clone(),
        );
        registry.register(
            "switch_restarts",
            "Connections to the switch made again",
            self.switch_restarts.clone(),
        );
        registry.register("host_changes", "Changes of routes, nft rows, sysctls", self.host_changes.clone());
        registry.register_with_unit(
            "programming_duration",
            "From a change of the world to the switch's confirmation",
            Unit::Seconds,
            self.programming.clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn count_u64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{FlowsStatus, RuleStatus};

    #[test]
    fn the_text_holds_counters_and_what_a_status_says() {
        let metrics = Metrics::new();
        metrics.programmed(3, Duration::from_millis(2));
        let rules = vec![RuleStatus { rule: "node-port".into(), flows: 2, packets: 5, bytes: 300 }];
        metrics.record(&Status {
            ready: true,
            flows: FlowsStatus { wanted: 7, rules, ..FlowsStatus::default() },
            ..Status::default()
        });
        let text = metrics.text();
        for line in [
            "ovn_k8s_gateway_helper_ready 1",
            "ovn_k8s_gateway_helper_flows_wanted 7",
            "ovn_k8s_gateway_helper_flow_changes_total 3",
            r#"ovn_k8s_gateway_helper_rule_packets{rule="node-port"} 5"#,
            "ovn_k8s_gateway_helper_programming_duration_seconds_count 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }
}
