//! What the thread reports: log lines, and the status.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Worker;
use crate::failover::action::Reason;
use crate::failover::observation::{AddressLocation, Observation};
use crate::failover::state_machine::FailoverState;

impl Worker {
    /// A change of state that is worth a line.
    pub(super) fn log_transition(&self, before: FailoverState, seen: &Observation) {
        use FailoverState::{Idle, OnBridge, OnNic, Proving};
        let (bridge, nic) = (&self.config.bridge, &self.config.nic);
        match (before, self.memory.machine.state) {
            (Idle | OnBridge, OnNic { why: Reason::Found, .. }) => {
                tracing::info!("management was found on the NIC {nic}");
            }
            (OnNic { .. }, Proving { .. }) => tracing::debug!("replies come through {bridge}"),
            (Proving { .. }, OnNic { .. }) => tracing::debug!("no replies come through {bridge} any more"),
            (Idle, OnBridge) if seen.may_leave => {
                tracing::info!("management is on {bridge}; failover to {nic} is active");
            }
            (Idle, OnBridge) => tracing::info!("management is on {bridge}; failover is off (--no-failover)"),
            _ => {}
        }
    }

    /// Management went to the NIC at `moved`: counted and logged, unless it was there already.
    pub(super) fn note_failover(
        &mut self,
        why: Reason,
        before: AddressLocation,
        seen: &Observation,
        moved: Duration,
    ) {
        let (bridge, nic) = (&self.config.bridge, &self.config.nic);
        if before == AddressLocation::Nic || self.memory.machine.is_on_nic() {
            if before == AddressLocation::Both {
                tracing::info!("what was added on {bridge} is on {nic}, too");
            }
            return;
        }
        let silent_since = seen.bridge.silent_since().filter(|_| why == Reason::Silent);
        let trouble = silent_since.or(self.memory.schedule.ending_since()).unwrap_or(seen.now);
        let gap = milliseconds(moved.saturating_sub(trouble));
        *self.status.failovers.entry(why).or_default() += 1;
        self.status.last_gap_ms = Some(gap);
        tracing::warn!(
            "management is on the NIC {nic} now: {why} ({gap:.1} ms after the first sign of it); pods' traffic waits for \
             {bridge}"
        );
    }

    /// Management went to the bridge.
    pub(super) fn log_return(&self, before: AddressLocation, took: Duration) {
        let (bridge, nic) = (&self.config.bridge, &self.config.nic);
        if before == AddressLocation::Both {
            tracing::warn!(
                "addresses or routes on {nic} beside those on {bridge}: moved to {bridge}; is a network manager still in \
                 charge of {nic}?"
            );
        } else {
            tracing::info!("management is back on {bridge} ({:.1} ms)", milliseconds(took));
        }
    }

    /// A reattachment has ended.
    pub(super) fn log_attempt(&self, is_attached: bool) {
        let (bridge, nic) = (&self.config.bridge, &self.config.nic);
        if is_attached {
            tracing::warn!("{nic} was recreated (was its driver loaded again?): attached to {bridge} again");
        } else {
            tracing::warn!(
                "{nic} was recreated, and ovs-vswitchd does not receive from it; its port is not ours to attach: \
                 `ovs-vsctl del-port {bridge} {nic}`, then `ovs-vsctl add-port {bridge} {nic}`"
            );
        }
    }

    /// The status after a pass.
    pub(super) fn update_status(&mut self, seen: &Observation) {
        self.status.active = seen.active;
        let names = (self.config.bridge.as_str(), self.config.nic.as_str());
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.status.update(self.memory.machine.state, names, seen.now, epoch);
        self.status.next_hops = self.observer.probes.iter().map(|probe| probe.target.to_string()).collect();
    }

    /// Reports the status where it changed.
    pub(super) fn publish(&self) {
        if self.shared.publish(&self.status) {
            (self.on_change)(&self.status);
        }
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
