//! `flow-restore-wait` on the kernel datapath: a vswitchd that starts with this key in the database leaves the
//! kernel's flows alone until the key goes, so that its restart loses nothing. Pure.
//!
//! The key is set (armed) in normal operation. After a restart it is removed when our flows and those of the
//! integration bridge are back, or after a limit of time: a key that stays means that no new flow is ever handled. Then
//! it is set again. On the userspace datapath it does not help and is left as it is.
//!
//! Nothing tells whether vswitchd waits. A key that is set when the helper connects may be one that vswitchd waits on
//! (after a power failure, for example), so it is removed once in any case.

use std::time::Duration;

use ovs::ovsdb::{Datum, Operation};

use super::bridge::BridgeView;

/// The key in `other_config` of the table `Open_vSwitch` (ovs-vswitchd.conf.db(5)).
pub const KEY: &str = "flow-restore-wait";
/// The limit while the integration bridge gets no flows: ovn-controller does not run.
const WITHOUT_OVN: Duration = Duration::from_secs(15);
/// The limit in any case: kernel flows carry no ARP probes, and neighbour entries that are not confirmed fail after about
/// a minute.
const LONGEST: Duration = Duration::from_secs(30);
/// How long the integration bridge's number of flows must not change when it is about what it was before.
const STABLE: Duration = Duration::from_millis(800);
/// The same when it is not, or when it is unknown what it was.
const STABLE_UNKNOWN: Duration = Duration::from_secs(3);

/// The mark in `external_ids` beside a key that a helper set.
pub const MARK: &str = "ovn-k8s-restore-wait";

/// Whether the key is set.
pub(crate) fn is_armed(bridge: &BridgeView) -> bool {
    bridge.other_config.get(KEY).map(String::as_str) == Some("true")
}

/// Whether a helper set the key, so that this one may remove it.
pub(crate) fn is_ours(bridge: &BridgeView) -> bool {
    is_armed(bridge) && bridge.external_ids.contains_key(MARK)
}

/// The operations that set the key, or remove it, with its mark.
pub(crate) fn operations(arm: bool) -> Vec<Operation> {
    let row = Operation::mutate("Open_vSwitch");
    let change = if arm {
        row.put_key("other_config", KEY, "true").put_key("external_ids", MARK, "true")
    } else {
        row.take("other_config", Datum::set([KEY])).take("external_ids", Datum::set([MARK]))
    };
    vec![change, Operation::mutate("Open_vSwitch").add("next_cfg", 1)]
}

/// The phase of a restart of vswitchd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// vswitchd forwards.
    Working,
    /// vswitchd was started and waits for flows.
    Waiting {
        /// Since when.
        since: Duration,
        /// Flows of the integration bridge, and since when their number is this one.
        integration: Option<(u32, Duration)>,
    },
}

/// What decides about the key. Times are those of one monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RestartState {
    /// Now.
    pub(crate) now: Duration,
    /// The bridge runs on the kernel datapath.
    pub(crate) kernel: bool,
    /// The key is set.
    pub(crate) armed: bool,
    /// vswitchd has carried out all that the database says: it reads the key only until the key is first gone, and only
    /// then may it be set for the next restart.
    pub(crate) carried_out: bool,
    /// All our flows are installed.
    pub(crate) ours_in: bool,
    /// How many flows the integration bridge has, if it answers.
    pub(crate) integration: Option<u32>,
    /// How many it had in normal operation.
    pub(crate) integration_before: Option<u32>,
}

/// What to do with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyAction {
    /// Nothing.
    Leave,
    /// Set it.
    Arm,
    /// Remove it: vswitchd starts to forward.
    Release,
}

impl Phase {
    /// The phase after a new connection to vswitchd.
    pub(crate) fn connected(now: Duration, armed: bool) -> Self {
        if armed { Phase::Waiting { since: now, integration: None } } else { Phase::Working }
    }

    /// The next phase and what to do.
    pub(crate) fn next(self, state: RestartState) -> (Self, KeyAction) {
        if !state.kernel {
            return (Phase::Working, KeyAction::Leave);
        }
        match self {
            Phase::Working if state.ours_in && !state.armed && state.carried_out => (self, KeyAction::Arm),
            Phase::Working => (self, KeyAction::Leave),
            Phase::Waiting { .. } if !state.armed => (Phase::Working, KeyAction::Leave),
            Phase::Waiting { since, integration } => {
                let integration = match (integration, state.integration) {
                    (Some((before, at)), Some(now)) if before == now => Some((before, at)),
                    (_, Some(now)) => Some((now, state.now)),
                    (before, None) => before,
                };
                let stable = |(flows, at): (u32, Duration)| {
                    let all = state.integration_before.is_some_and(|before| flows >= before - before / 10);
                    let long_enough = if all { STABLE } else { STABLE_UNKNOWN };
                    flows > 1 && state.now.saturating_sub(at) >= long_enough
                };
                let waited = state.now.saturating_sub(since);
                let limit =
                    if integration.is_some_and(|(flows, _)| flows > 1) { LONGEST } else { WITHOUT_OVN };
                if (state.ours_in && integration.is_some_and(stable)) || waited >= limit {
                    return (Phase::Working, KeyAction::Release);
                }
                (Phase::Waiting { since, integration }, KeyAction::Leave)
            }
        }
    }

    /// Whether the next step is due soon.
    pub(crate) fn is_waiting(self) -> bool {
        matches!(self, Phase::Waiting { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn state(now: u64, armed: bool, ours_in: bool, integration: Option<u32>) -> RestartState {
        let integration_before = Some(950);
        RestartState {
            now: ms(now),
            kernel: true,
            armed,
            carried_out: true,
            ours_in,
            integration,
            integration_before,
        }
    }

    /// Runs through (time, our flows are in, flows of the integration bridge), armed throughout, up to the release.
    fn released_at(steps: &[(u64, bool, u32)]) -> Option<u64> {
        let mut phase = Phase::connected(ms(0), true);
        for &(now, ours, integration) in steps {
            let (next, action) = phase.next(state(now, true, ours, Some(integration)));
            if action == KeyAction::Release {
                return Some(now);
            }
            phase = next;
        }
        None
    }

    #[test]
    fn a_working_switch_is_armed_once_our_flows_are_in_and_the_last_change_is_seen() {
        let phase = Phase::connected(ms(0), false);
        assert_eq!(phase.next(state(1000, false, false, None)).1, KeyAction::Leave);
        let behind = RestartState { carried_out: false, ..state(1000, false, true, None) };
        assert_eq!(phase.next(behind).1, KeyAction::Leave);
        assert_eq!(phase.next(state(1000, false, true, None)).1, KeyAction::Arm);
        assert_eq!(phase.next(state(1000, true, true, None)).1, KeyAction::Leave);
    }

    #[test]
    fn a_restarted_switch_is_released_when_both_bridges_have_their_flows() {
        let steps = [
            (100, false, 1),
            (200, true, 1),
            (2000, true, 1),
            (2100, true, 900),
            (2500, true, 931),
            (2900, true, 931),
            (3400, true, 931),
        ];
        assert_eq!(released_at(&steps), Some(3400));
        let (phase, action) = Phase::Working.next(state(3500, false, true, Some(931)));
        assert_eq!((phase, action), (Phase::Working, KeyAction::Arm));
    }

    #[test]
    fn fewer_flows_than_before_must_be_stable_for_longer() {
        assert_eq!(released_at(&[(100, true, 300), (1500, true, 300), (3100, true, 300)]), Some(3100));
    }

    #[test]
    fn time_runs_out() {
        assert_eq!(released_at(&[(100, true, 0), (14_900, true, 0), (15_100, true, 0)]), Some(15_100));
        let growing: Vec<(u64, bool, u32)> =
            (1..).zip(10..).map(|(n, flows)| (n * 500, true, flows)).take(70).collect();
        assert_eq!(released_at(&growing), Some(30_000));
        assert_eq!(
            released_at(&[(500, false, 931), (29_000, false, 931), (30_500, false, 931)]),
            Some(30_500)
        );
    }

    #[test]
    fn the_userspace_datapath_is_left_alone() {
        let userspace = RestartState { kernel: false, ..state(5000, false, true, None) };
        assert_eq!(Phase::connected(ms(0), true).next(userspace), (Phase::Working, KeyAction::Leave));
    }
}
