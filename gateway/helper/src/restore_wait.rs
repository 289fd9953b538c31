//! `flow-restore-wait` on the kernel datapath: a vswitchd that starts with this key in the database leaves the
//! kernel's flows alone until the key goes, so that its restart loses nothing. Pure.
//!
//! The key stands armed while all is well. After a restart it is taken away when our flows and those of the
//! integration bridge are back, or when time is up: a forgotten key means that no new flow is ever handled. Then it
//! is armed again. On the userspace datapath it does not help and is left alone.
//!
//! Whether vswitchd waits cannot be asked. A key that stands in the database when we connect may be one that it waits
//! on (after a power failure, say), so it is taken away once even if it harmed nothing.

use std::time::Duration;

use ovs::ovsdb::{Datum, Operation};

use super::bridge::BridgeView;

/// The key in `other_config` of the table `Open_vSwitch` (ovs-vswitchd.conf.db(5)).
pub const KEY: &str = "flow-restore-wait";
/// vswitchd goes to work after so long when the integration bridge has got no flows: ovn-controller is not coming.
const ALONE: Duration = Duration::from_secs(15);
/// However little has come back by then, vswitchd goes to work: kernel flows carry no ARP probes, and neighbours that
/// nobody asks for fail after about a minute.
const AT_MOST: Duration = Duration::from_secs(30);
/// How long the integration bridge's number of flows must stand still when it is about what it was before.
const SETTLED: Duration = Duration::from_millis(800);
/// The same when it is not, or nobody knows what it was.
const SETTLED_ANEW: Duration = Duration::from_secs(3);

/// The mark in `external_ids` beside a key that a helper set.
pub const MARK: &str = "ovn-k8s-restore-wait";

/// Whether the key is set.
pub(crate) fn is_armed(bridge: &BridgeView) -> bool {
    bridge.other_config.get(KEY).map(String::as_str) == Some("true")
}

/// Whether it was a helper that set the key, so that it may be taken away when nobody waits on it.
pub(crate) fn is_ours(bridge: &BridgeView) -> bool {
    is_armed(bridge) && bridge.external_ids.contains_key(MARK)
}

/// The operations that set the key, or take it away, with its mark.
pub(crate) fn operations(arm: bool) -> Vec<Operation> {
    let row = Operation::mutate("Open_vSwitch");
    let change = if arm {
        row.put_key("other_config", KEY, "true").put_key("external_ids", MARK, "true")
    } else {
        row.take("other_config", Datum::set([KEY])).take("external_ids", Datum::set([MARK]))
    };
    vec![change, Operation::mutate("Open_vSwitch").add("next_cfg", 1)]
}

/// Where the restart of vswitchd stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// vswitchd is at work.
    Working,
    /// vswitchd was started and waits for flows.
    Waiting {
        /// When it was seen.
        since: Duration,
        /// Flows of the integration bridge, and since when they are so many.
        integration: Option<(u32, Duration)>,
    },
}

/// What is seen. Times are those of one monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    /// Now.
    pub(crate) now: Duration,
    /// The bridge runs on the kernel datapath.
    pub(crate) kernel: bool,
    /// The key is set.
    pub(crate) armed: bool,
    /// vswitchd has carried out all that the database says: it looks at the key only until it is first gone, and may
    /// only then be armed for the next time.
    pub(crate) carried_out: bool,
    /// Our flows are all in.
    pub(crate) ours_in: bool,
    /// How many flows the integration bridge has, if it answers.
    pub(crate) integration: Option<u32>,
    /// How many it had when vswitchd was last seen at work.
    pub(crate) integration_before: Option<u32>,
}

/// What to do with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing.
    Leave,
    /// Set it.
    Arm,
    /// Remove it: vswitchd goes to work.
    Release,
}

impl Phase {
    /// The phase after a new connection to vswitchd.
    pub(crate) fn connected(now: Duration, armed: bool) -> Self {
        if armed { Phase::Waiting { since: now, integration: None } } else { Phase::Working }
    }

    /// The next phase and what to do.
    pub(crate) fn next(self, seen: Seen) -> (Self, Order) {
        if !seen.kernel {
            return (Phase::Working, Order::Leave);
        }
        match self {
            Phase::Working if seen.ours_in && !seen.armed && seen.carried_out => (self, Order::Arm),
            Phase::Working => (self, Order::Leave),
            Phase::Waiting { .. } if !seen.armed => (Phase::Working, Order::Leave),
            Phase::Waiting { since, integration } => {
                let integration = match (integration, seen.integration) {
                    (Some((before, at)), Some(now)) if before == now => Some((before, at)),
                    (_, Some(now)) => Some((now, seen.now)),
                    (before, None) => before,
                };
                let still = |(flows, at): (u32, Duration)| {
                    let all = seen.integration_before.is_some_and(|before| flows >= before - before / 10);
                    let long_enough = if all { SETTLED } else { SETTLED_ANEW };
                    flows > 1 && seen.now.saturating_sub(at) >= long_enough
                };
                let waited = seen.now.saturating_sub(since);
                let limit = if integration.is_some_and(|(flows, _)| flows > 1) { AT_MOST } else { ALONE };
                if (seen.ours_in && integration.is_some_and(still)) || waited >= limit {
                    return (Phase::Working, Order::Release);
                }
                (Phase::Waiting { since, integration }, Order::Leave)
            }
        }
    }

    /// Whether a next step is due soon, so that time has to be watched closely.
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

    fn seen(now: u64, armed: bool, ours_in: bool, integration: Option<u32>) -> Seen {
        let integration_before = Some(950);
        Seen {
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
            let (next, order) = phase.next(seen(now, true, ours, Some(integration)));
            if order == Order::Release {
                return Some(now);
            }
            phase = next;
        }
        None
    }

    #[test]
    fn a_working_switch_is_armed_once_our_flows_are_in_and_the_last_change_is_seen() {
        let phase = Phase::connected(ms(0), false);
        assert_eq!(phase.next(seen(1000, false, false, None)).1, Order::Leave);
        let behind = Seen { carried_out: false, ..seen(1000, false, true, None) };
        assert_eq!(phase.next(behind).1, Order::Leave);
        assert_eq!(phase.next(seen(1000, false, true, None)).1, Order::Arm);
        assert_eq!(phase.next(seen(1000, true, true, None)).1, Order::Leave);
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
        let (phase, order) = Phase::Working.next(seen(3500, false, true, Some(931)));
        assert_eq!((phase, order), (Phase::Working, Order::Arm));
    }

    #[test]
    fn fewer_flows_than_before_must_stand_still_for_longer() {
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
        let userspace = Seen { kernel: false, ..seen(5000, false, true, None) };
        assert_eq!(Phase::connected(ms(0), true).next(userspace), (Phase::Working, Order::Leave));
    }
}
