//! When management leaves the bridge and when it returns: a pure function of the state and an observation.
//!
//! ```text
//!               ended, stopped, or silent while probes over the NIC get replies
//!   OnBridge ------------------------------------------------------> OnNic
//!      ^                                                               |  vswitchd runs, and replies come
//!      |   replies in a row, flows installed (or waited for),          v
//!      '-- and steady for longer, the more often it changed ------- Proving
//! ```
//!
//! Where management is, the kernel says, never an earlier decision: a switchover that failed is asked for again, and one
//! that another process made is taken over into the state.

use std::time::Duration;

use super::action::{Probes, Reason, Switchover};
use super::observation::{AddressLocation, Observation, SwitchProcess};
use super::path_health::PathHealth;

/// Pause between two passes while vswitchd may be ending: the shortest of all.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// A switchover that did not happen is asked for again after this.
const RETRY: Duration = Duration::from_millis(250);
/// How long flows are waited for once the path is proven: the rest of the helper may hang.
const FLOWS: Duration = Duration::from_secs(3);
/// Without a next hop to probe, vswitchd must have run for this long.
const UNPROVEN: Duration = Duration::from_secs(1);
/// With addresses on both devices and nothing proven, management goes to the NIC after this.
const BOTH: Duration = Duration::from_secs(1);
/// Failovers are remembered for this long.
const MEMORY: Duration = Duration::from_secs(600);
/// So many failovers within the memory cost nothing; each further one doubles the time that the bridge must be steady.
const FREE: usize = 2;
/// The first such time, and the longest.
const STEADY: Duration = Duration::from_millis(500);
const STEADY_MOST: Duration = Duration::from_secs(60);

/// Where management is, and what happens there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailoverState {
    /// The failover is inactive.
    #[default]
    Idle,
    /// Management is on the bridge.
    OnBridge,
    /// Management is on the NIC, and the bridge carries nothing.
    OnNic {
        /// Since when.
        since: Duration,
        /// Why.
        why: Reason,
    },
    /// Management is on the NIC, and replies come through the bridge again.
    Proving {
        /// Since when management is on the NIC.
        left: Duration,
        /// Why.
        why: Reason,
        /// Since when replies come without a gap.
        since: Duration,
    },
}

/// How often the paths are probed; `None`: not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ProbeIntervals {
    bridge: Option<Duration>,
    nic: Option<Duration>,
}

/// The state, with what is remembered from one pass to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMachine {
    /// Where management is.
    pub state: FailoverState,
    /// When management left the bridge, the latest last.
    departures: Vec<Duration>,
    /// The last switchover that was asked for, and when.
    requested: Option<(Switchover, Duration)>,
    /// Since when addresses are on both devices.
    both_since: Option<Duration>,
}

impl StateMachine {
    /// One observation: the state after it, and the switchover to make.
    #[must_use]
    pub fn next(&self, seen: &Observation) -> (StateMachine, Option<Switchover>) {
        let mut next = self.clone();
        next.departures.retain(|at| seen.now.saturating_sub(*at) < MEMORY);
        if !seen.active {
            next.state = FailoverState::Idle;
            (next.requested, next.both_since) = (None, None);
            return (next, None);
        }
        let is_on_both = seen.location == AddressLocation::Both;
        next.both_since = is_on_both.then(|| self.both_since.unwrap_or(seen.now));
        let switchover = match seen.location {
            AddressLocation::Nowhere => None,
            AddressLocation::Bridge => next.on_bridge(seen),
            AddressLocation::Nic => next.on_nic(seen),
            AddressLocation::Both => next.on_both(seen),
        };
        match switchover {
            Some(switchover) => next.request(switchover, seen.now),
            None => (next, None),
        }
    }

    /// What was proven was another bridge than the present one.
    pub fn prove_again(&mut self) {
        if let FailoverState::Proving { left, why, .. } = self.state {
            self.state = FailoverState::OnNic { since: left, why };
        }
    }

    /// No switchover waits for its outcome.
    pub fn is_settled(&self) -> bool {
        self.requested.is_none()
    }

    /// Management is on the NIC already: what goes there now was added on the bridge meanwhile.
    pub fn is_on_nic(&self) -> bool {
        matches!(self.state, FailoverState::OnNic { .. } | FailoverState::Proving { .. })
    }

    /// The probes that are due.
    pub fn probes_due(&self, seen: &Observation) -> Probes {
        let intervals = self.probe_intervals(seen);
        let is_due = |path: &PathHealth, interval: Option<Duration>| {
            interval
                .is_some_and(|interval| path.since_probe(seen.now).is_none_or(|ago| ago + TICK >= interval))
        };
        Probes { bridge: is_due(&seen.bridge, intervals.bridge), nic: is_due(&seen.nic, intervals.nic) }
    }

    fn probe_intervals(&self, seen: &Observation) -> ProbeIntervals {
        const CLOSE: Duration = Duration::from_millis(50);
        const FAST: Duration = Duration::from_millis(20);
        // On a busy machine a reply takes its time: it is waited for before the next probe.
        const PATIENT: Duration = Duration::from_millis(150);
        const QUIET: Duration = Duration::from_secs(1);
        if !seen.can_probe || !seen.active || seen.process != SwitchProcess::Running {
            return ProbeIntervals::default();
        }
        let proving = if seen.bridge.is_waiting() { PATIENT } else { FAST };
        match self.state {
            FailoverState::Idle => ProbeIntervals::default(),
            FailoverState::OnBridge => {
                let is_suspect = seen.bridge.is_suspect(seen.now);
                let close = seen.has_traffic || seen.bridge.is_waiting();
                ProbeIntervals {
                    bridge: Some(if close { CLOSE } else { QUIET }),
                    nic: is_suspect.then_some(CLOSE),
                }
            }
            FailoverState::Proving { .. } => ProbeIntervals { bridge: Some(proving), nic: None },
            FailoverState::OnNic { since, .. } => {
                // A database that is gone for an hour is no reason for fifty probes a second all that time.
                let interval = match seen.now.saturating_sub(since).as_secs() {
                    _ if seen.bridge.is_replying() => proving,
                    0..5 => FAST,
                    5..60 => PATIENT,
                    _ => QUIET,
                };
                ProbeIntervals { bridge: Some(interval), nic: None }
            }
        }
    }

    /// How long replies must come without a gap before management returns.
    fn steady(&self) -> Duration {
        match self.departures.len().checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(further) => {
                (STEADY * 2_u32.saturating_pow(u32::try_from(further).unwrap_or(31).min(16))).min(STEADY_MOST)
            }
        }
    }

    fn on_bridge(&mut self, seen: &Observation) -> Option<Switchover> {
        self.state = FailoverState::OnBridge;
        match cause(seen) {
            Some(why) if may_leave(seen) => Some(Switchover::ToNic(why)),
            _ => {
                // What was asked for has happened, or is not wanted any more.
                self.requested = None;
                None
            }
        }
    }

    fn on_nic(&mut self, seen: &Observation) -> Option<Switchover> {
        let (left, why, since) = match self.state {
            FailoverState::OnNic { since, why } => (since, why, None),
            FailoverState::Proving { left, why, since } => (left, why, Some(since)),
            FailoverState::Idle | FailoverState::OnBridge => (seen.now, self.why_left(), None),
        };
        if matches!(self.requested, Some((Switchover::ToNic(_), _))) {
            self.requested = None;
        }
        if !begins_to_carry(seen) {
            self.state = FailoverState::OnNic { since: left, why };
            return None;
        }
        let since = since.unwrap_or(seen.now);
        self.state = FailoverState::Proving { left, why, since };
        let steady = seen.now.saturating_sub(since);
        let is_proven = if seen.can_probe { seen.bridge.is_proven(seen.now) } else { steady >= UNPROVEN };
        let has_flows = seen.flows_installed || steady >= FLOWS;
        (is_proven && has_flows && steady >= self.steady()).then_some(Switchover::ToBridge)
    }

    /// A switchover was interrupted, or an address was put back on the NIC: on to where frames are carried.
    fn on_both(&mut self, seen: &Observation) -> Option<Switchover> {
        let both_for = self.both_since.map_or(Duration::ZERO, |since| seen.now.saturating_sub(since));
        match (cause(seen), self.state) {
            (Some(why), _) if may_leave(seen) => Some(Switchover::ToNic(why)),
            (_, FailoverState::OnBridge) => Some(Switchover::ToBridge),
            _ if begins_to_carry(seen) && (!seen.can_probe || seen.bridge.is_proven(seen.now)) => {
                Some(Switchover::ToBridge)
            }
            (_, FailoverState::Idle) => {
                // The first observation: probed as when management is on the NIC.
                self.state = FailoverState::OnNic { since: seen.now, why: Reason::Found };
                None
            }
            _ if both_for >= BOTH && seen.nic_up => Some(Switchover::ToNic(self.why_left())),
            _ => None,
        }
    }

    fn why_left(&self) -> Reason {
        match (self.requested, self.state) {
            (_, FailoverState::OnNic { why, .. } | FailoverState::Proving { why, .. }) => why,
            (Some((Switchover::ToNic(why), _)), _) => why,
            _ => Reason::Found,
        }
    }

    /// A switchover is asked for once, and again when it did not happen.
    fn request(mut self, switchover: Switchover, now: Duration) -> (StateMachine, Option<Switchover>) {
        let is_repeated = self.requested.is_some_and(|(requested, at)| {
            std::mem::discriminant(&requested) == std::mem::discriminant(&switchover)
                && now.saturating_sub(at) < RETRY
        });
        if is_repeated {
            return (self, None);
        }
        let to_nic = |switchover| matches!(switchover, Switchover::ToNic(_));
        let is_first = !self.requested.is_some_and(|(requested, _)| to_nic(requested));
        if to_nic(switchover) && is_first && !self.is_on_nic() {
            self.departures.push(now);
        }
        self.requested = Some((switchover, now));
        (self, Some(switchover))
    }
}

/// What speaks against the bridge, if anything does.
fn cause(seen: &Observation) -> Option<Reason> {
    match seen.process {
        SwitchProcess::Gone => Some(Reason::Ended),
        SwitchProcess::Stopped => Some(Reason::Stopped),
        SwitchProcess::Detached => Some(Reason::Detached),
        // Without replies over the NIC either, the wire or the next hop is dead, and a switchover would mend nothing.
        SwitchProcess::Running => {
            let is_silent = seen.bridge.is_silent(seen.now) && seen.nic.is_fresh(seen.now);
            is_silent.then_some(Reason::Silent)
        }
    }
}

fn may_leave(seen: &Observation) -> bool {
    seen.may_leave && seen.nic_up
}

/// vswitchd runs, and replies come through the bridge.
fn begins_to_carry(seen: &Observation) -> bool {
    seen.process == SwitchProcess::Running && (!seen.can_probe || seen.bridge.is_replying())
}

#[cfg(test)]
mod tests;
