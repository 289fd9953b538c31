//! Metrics for Prometheus. Names, labels and help texts are part of the product: they do not change.
//!
//! To add one: a field here with its line in [`Metrics::new`], and what sets it, in [`Metrics::record`] or where the
//! event happens.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry, Unit};
use uplink::failover::{FailoverStatus, ManagementLocation};

use crate::status::{BridgeStatus, FlowsStatus, RuleStatus, ServicesStatus, SourceStatus, Status};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabel {
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SourceLabel {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

/// All metrics of the helper.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Mutex<Registry>,
    ready: Gauge,
    flows: FlowGauges,
    services: ServiceGauges,
    conntrack: ConntrackGauges,
    source_connected: Family<SourceLabel, Gauge>,
    management: ManagementMetrics,
    /// Flow changes that the switch has confirmed.
    pub(crate) flow_changes: Counter,
    /// Flows that another program changed or removed and that were restored.
    pub(crate) drift_repaired: Counter,
    /// How often the connection to the switch was lost.
    pub(crate) switch_restarts: Counter,
    /// Changes of routes, nft elements and sysctls.
    pub(crate) host_changes: Counter,
    /// From a change of a source to the switch's confirmation.
    pub(crate) programming: Histogram,
}

#[derive(Debug)]
struct FlowGauges {
    desired: Gauge,
    installed: Gauge,
    foreign: Gauge,
    by_rule: Family<RuleLabel, Gauge>,
    packets: Family<RuleLabel, Gauge<u64, AtomicU64>>,
    bytes: Family<RuleLabel, Gauge<u64, AtomicU64>>,
}

#[derive(Debug)]
struct ServiceGauges {
    known: Gauge,
    refused: Gauge,
}

#[derive(Debug)]
struct ConntrackGauges {
    entries: Gauge,
    limit: Gauge,
}

#[derive(Debug)]
struct ManagementMetrics {
    failovers: Family<ReasonLabel, Counter>,
    on_nic: Gauge,
    last_gap: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// All at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ovn_k8s_gateway_helper");
        let all = &mut registry;
        let programming = Histogram::new(exponential_buckets(0.000_25, 2.0, 16));
        Self {
            ready: add(all, "ready", "1 when everything wanted is in force"),
            flows: FlowGauges {
                desired: add(all, "flows_wanted", "Flows that the policy asks for"),
                installed: add(all, "flows_installed", "Flows of ours on the bridge"),
                foreign: add(all, "flows_foreign", "Flows of others on the bridge"),
                by_rule: add(all, "rule_flows", "Flows by rule"),
                packets: add(all, "rule_packets", "Packets of the flows of a rule"),
                bytes: add(all, "rule_bytes", "Bytes of the flows of a rule"),
            },
            conntrack: ConntrackGauges {
                entries: add(all, "conntrack_entries", "Connections in the owner zone, -1 if unknown"),
                limit: add(all, "conntrack_limit", "Connections that can be tracked, -1 if unknown"),
            },
            services: ServiceGauges {
                known: add(all, "services", "Services known"),
                refused: add(all, "services_refused", "Service ports refused"),
            },
            source_connected: add(all, "source_connected", "1 while a source answers"),
            flow_changes: add(all, "flow_changes", "Flow changes confirmed by the switch"),
            drift_repaired: add(all, "drift_repaired", "Flows put back after others changed them"),
            management: ManagementMetrics {
                failovers: add(
                    all,
                    "failovers",
                    "How often management went to the NIC because the bridge carried nothing",
                ),
                on_nic: add(
                    all,
                    "management_on_nic",
                    "1 while the node's addresses are on the NIC instead of the bridge",
                ),
                last_gap: add_seconds(
                    all,
                    "failover_last_gap",
                    "The last failover: from the first sign of trouble until management was on the NIC",
                    Gauge::default(),
                ),
            },
            switch_restarts: add(all, "switch_restarts", "Connections to the switch made again"),
            host_changes: add(all, "host_changes", "Changes of routes, nft rows, sysctls"),
            programming: add_seconds(
                all,
                "programming_duration",
                "From a change of the world to the switch's confirmation",
                programming,
            ),
            registry: Mutex::new(registry),
        }
    }

    /// Takes over the numbers of a status.
    pub(crate) fn record(&self, status: &Status) {
        self.ready.set(i64::from(status.ready));
        self.flows.record(&status.flows);
        self.services.record(&status.services);
        self.conntrack.record(&status.bridge);
        for SourceStatus { name, connected, .. } in &status.sources {
            let label = SourceLabel { source: name.clone() };
            self.source_connected.get_or_create(&label).set(i64::from(*connected));
        }
    }

    /// Takes over where management is. The failover's own thread calls it, also while the daemon waits for a switch that
    /// is hung.
    pub(crate) fn record_management(&self, management: &FailoverStatus) {
        let on_nic = management.active && management.location == ManagementLocation::Nic;
        self.management.on_nic.set(i64::from(on_nic));
        self.management.last_gap.set(management.last_gap_ms.unwrap_or_default() / 1000.0);
        for (reason, count) in &management.failovers {
            let label = ReasonLabel { reason: reason.name().to_owned() };
            let counter = self.management.failovers.get_or_create(&label);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    }

    /// Records changes that the switch has confirmed, and how long they took from their cause.
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
}

impl FlowGauges {
    fn record(&self, flows: &FlowsStatus) {
        self.desired.set(count(flows.wanted));
        self.installed.set(count(flows.installed));
        self.foreign.set(count(flows.foreign));
        for RuleStatus { rule, flows, packets, bytes } in &flows.rules {
            let label = RuleLabel { rule: rule.clone() };
            self.by_rule.get_or_create(&label).set(count(*flows));
            self.packets.get_or_create(&label).set(*packets);
            self.bytes.get_or_create(&label).set(*bytes);
        }
    }
}

impl ServiceGauges {
    fn record(&self, services: &ServicesStatus) {
        self.known.set(count(services.known));
        self.refused.set(count(services.refused.len()));
    }
}

impl ConntrackGauges {
    fn record(&self, bridge: &BridgeStatus) {
        self.entries.set(bridge.conntrack_entries.map_or(-1, count));
        self.limit.set(bridge.conntrack_limit.map_or(-1, count));
    }
}

fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    let metric = M::default();
    registry.register(name, help, metric.clone());
    metric
}

fn add_seconds<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
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
