//! `flow-restore-wait` on the kernel datapath: a vswitchd that starts with this key in the database leaves the
//! kernel's flows alone until the key goes, so that its restart loses nothing. Pure.
//!
//! The key stands armed while all is well. After a restart it is taken away when our flows and those of the
//! integration bridge are back, or when time is up: a forgotten key means that no new flow is ever handled. Then it
//! is armed again. On the userspace datapath it does not help and is left alone.

use std::time::Duration;

/// The key in `other_config` of the table `Open_vSwitch` (ovs-vswitchd.conf.db(5)).
pub const KEY: &str = "flow-restore-wait";
/// However little has come back by then, vswitchd goes to work.
const AT_MOST: Duration = Duration::from_secs(15);
/// How long the integration bridge's number of flows must stand still: ovn-controller writes them in one go.
const SETTLED: Duration = Duration::from_millis(800);
/// vswitchd looks at the key only until it is first gone: arm it again when that has surely happened.
const ARM_AFTER: Duration = Duration::from_secs(3);

/// Where the restart of vswitchd stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// vswitchd is at work; `since` when.
    Working {
        /// How long.
        since: Duration,
    },
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
pub struct Seen {
    /// Now.
    pub now: Duration,
    /// The bridge runs on the kernel datapath.
    pub kernel: bool,
    /// The key is set.
    pub armed: bool,
    /// Our flows are all in.
    pub ours_in: bool,
    /// How many flows the integration bridge has, if it answers.
    pub integration: Option<u32>,
}

/// What to do with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Leave,
    /// Set it.
    Arm,
    /// Remove it: vswitchd goes to work.
    Release,
}

impl Phase {
    /// The phase after a new connection to vswitchd.
    pub fn connected(now: Duration, armed: bool) -> Self {
        if armed { Phase::Waiting { since: now, integration: None } } else { Phase::Working { since: now } }
    }

    /// The next phase and what to do.
    pub fn next(self, seen: Seen) -> (Self, Order) {
        if !seen.kernel {
            return (Phase::Working { since: seen.now }, Order::Leave);
        }
        match self {
            Phase::Working { since } => {
                let due = seen.ours_in && !seen.armed && seen.now.saturating_sub(since) >= ARM_AFTER;
                (self, if due { Order::Arm } else { Order::Leave })
            }
            Phase::Waiting { .. } if !seen.armed => (Phase::Working { since: seen.now }, Order::Leave),
            Phase::Waiting { since, integration } => {
                let integration = match (integration, seen.integration) {
                    (Some((before, at)), Some(now)) if before == now => Some((before, at)),
                    (_, Some(now)) => Some((now, seen.now)),
                    (before, None) => before,
                };
                let settled = integration
                    .is_some_and(|(flows, at)| flows > 1 && seen.now.saturating_sub(at) >= SETTLED);
                let time_is_up = seen.now.saturating_sub(since) >= AT_MOST;
                if (seen.ours_in && settled) || time_is_up {
                    return (Phase::Working { since: seen.now }, Order::Release);
                }
                (Phase::Waiting { since, integration }, Order::Leave)
            }
        }
    }

    /// Whether a next step is due soon, so that time has to be watched closely.
    pub fn is_waiting(self) -> bool {
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
        Seen { now: ms(now), kernel: true, armed, ours_in, integration }
    }

    #[test]
    fn a_working_switch_is_armed_once_our_flows_are_in() {
        let phase = Phase::connected(ms(0), false);
        assert_eq!(phase.next(seen(5000, false, false, None)).1, Order::Leave);
        assert_eq!(phase.next(seen(1000, false, true, None)).1, Order::Leave);
        assert_eq!(phase.next(seen(5000, false, true, None)).1, Order::Arm);
        assert_eq!(phase.next(seen(5000, true, true, None)).1, Order::Leave);
    }

    #[test]
    fn a_restarted_switch_is_released_when_both_bridges_have_their_flows() {
        let mut phase = Phase::connected(ms(0), true);
        for (now, ours, integration, expected) in [
            (100, false, Some(1), Order::Leave),
            (200, true, Some(1), Order::Leave),
            (2000, true, Some(1), Order::Leave),
            (2100, true, Some(900), Order::Leave),
            (2500, true, Some(931), Order::Leave),
            (2900, true, Some(931), Order::Leave),
            (3400, true, Some(931), Order::Release),
        ] {
            let (next, order) = phase.next(seen(now, true, ours, integration));
            assert_eq!(order, expected, "at {now} ms");
            phase = next;
        }
        assert_eq!(phase.next(seen(3500, false, true, Some(931))).1, Order::Leave);
        assert_eq!(phase.next(seen(6500, false, true, Some(931))).1, Order::Arm);
    }

    #[test]
    fn time_runs_out_and_the_userspace_datapath_is_left_alone() {
        let phase = Phase::connected(ms(0), true);
        assert_eq!(phase.next(seen(15_000, true, false, None)).1, Order::Release);
        let userspace = Seen { kernel: false, ..seen(5000, false, true, None) };
        assert_eq!(phase.next(userspace).1, Order::Leave);
    }
}
