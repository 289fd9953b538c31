//! When what is due: times of the last observations, and how long to wait for the next pass. Pure.

use std::time::Duration;

use super::state_machine::{FailoverState, TICK};

/// Between two passes while management is on the bridge.
const ON_BRIDGE: Duration = Duration::from_millis(50);
/// While it is on the NIC, at first and later.
const ON_NIC: Duration = Duration::from_millis(20);
const LONG_ON_NIC: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(30);
/// While the path through the bridge is proven again.
const PROVING: Duration = Duration::from_millis(10);
/// While the failover is inactive, with a bridge and without one.
const IDLE: Duration = Duration::from_millis(500);
const NO_BRIDGE: Duration = Duration::from_secs(5);
/// A pass that comes this late proves nothing about replies that are missing.
const LATE: Duration = Duration::from_millis(150);
/// Addresses and ingress filter are read this often without an event.
const LOCATION: Duration = Duration::from_secs(1);
/// With events of the kernel, no more often than this.
const EVENTS: Duration = Duration::from_millis(20);
/// Next hops are read this often: it takes a dump of all routes.
const NEXT_HOPS: Duration = Duration::from_secs(10);
/// The bridge's sysctls are written this often.
const SYSCTLS: Duration = Duration::from_secs(60);
/// Passes after the end of a thread of vswitchd in which the end of the process shows.
const ENDING_PASSES: u8 = 20;

/// When things were last done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Schedule {
    pass: Option<Duration>,
    location: Option<Duration>,
    next_hops: Option<Duration>,
    sysctls: Option<Duration>,
    /// The kernel has events that no observation followed.
    has_events: bool,
    ending: Option<Ending>,
}

/// A thread of vswitchd has ended: the process may be ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    since: Duration,
    passes: u8,
}

impl Schedule {
    /// A pass begins. Whether it is so late that missing replies prove nothing.
    pub(super) fn begin_pass(&mut self, now: Duration) -> bool {
        let last = self.pass.replace(now);
        last.is_some_and(|last| now.saturating_sub(last) > LATE)
    }

    /// Whether addresses and ingress filter are to be read.
    pub(super) fn is_location_due(&self, now: Duration) -> bool {
        is_due(self.location, now, LOCATION) || (self.has_events && is_due(self.location, now, EVENTS))
    }

    /// They are read.
    pub(super) fn note_location(&mut self, now: Duration) {
        (self.location, self.has_events) = (Some(now), false);
    }

    /// They are read in the next pass: another device is there.
    pub(super) fn expire_location(&mut self) {
        self.location = None;
    }

    /// They are read in the next pass, which comes soon: something was changed.
    pub(super) fn observe_soon(&mut self) {
        (self.location, self.has_events) = (None, true);
    }

    /// The kernel reported a change.
    pub(super) fn note_event(&mut self) {
        self.has_events = true;
    }

    /// Whether an event is not followed by an observation yet: no further one matters.
    pub(super) fn has_events(&self) -> bool {
        self.has_events
    }

    /// Whether the next hops are to be read.
    pub(super) fn are_next_hops_due(&self, now: Duration) -> bool {
        is_due(self.next_hops, now, NEXT_HOPS)
    }

    /// They are read.
    pub(super) fn note_next_hops(&mut self, now: Duration) {
        self.next_hops = Some(now);
    }

    /// Whether the bridge's sysctls are to be written; if so, they count as written.
    pub(super) fn take_sysctls(&mut self, now: Duration) -> bool {
        let due = is_due(self.sysctls, now, SYSCTLS);
        if due {
            self.sysctls = Some(now);
        }
        due
    }

    /// A thread of vswitchd ended.
    pub(super) fn note_thread_end(&mut self, now: Duration) {
        self.ending = Some(Ending { since: now, passes: ENDING_PASSES });
    }

    /// Whether vswitchd may be ending: its descriptors stay readable and are not waited for.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Since when vswitchd may be ending.
    pub(super) fn ending_since(&self) -> Option<Duration> {
        self.ending.map(|ending| ending.since)
    }

    /// A wait is over. Whether it was the last one in which vswitchd could be ending: its other threads are to be watched.
    pub(super) fn count_ending(&mut self) -> bool {
        let Some(ending) = &mut self.ending else { return false };
        ending.passes -= 1;
        let is_over = ending.passes == 0;
        if is_over {
            self.ending = None;
        }
        is_over
    }

    /// How long to wait for the next pass. `is_bridge_lost`: its device is gone, and addresses may have to be restored.
    pub(super) fn pause(
        &self,
        now: Duration,
        state: FailoverState,
        is_bridge_lost: bool,
        has_bridge: bool,
    ) -> Duration {
        let pause = match state {
            _ if self.is_ending() => TICK,
            _ if is_bridge_lost => ON_BRIDGE,
            FailoverState::Idle if has_bridge => IDLE,
            FailoverState::Idle => NO_BRIDGE,
            FailoverState::OnBridge => ON_BRIDGE,
            FailoverState::Proving { .. } => PROVING,
            FailoverState::OnNic { since, .. } if now.saturating_sub(since) < LONG => ON_NIC,
            FailoverState::OnNic { .. } => LONG_ON_NIC,
        };
        // Events that came right after an observation are followed by one soon.
        if self.has_events { pause.min(EVENTS) } else { pause }
    }
}

fn is_due(last: Option<Duration>, now: Duration, every: Duration) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= every)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failover::action::Reason;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn addresses_are_read_once_a_second_and_soon_after_an_event() {
        let mut schedule = Schedule::default();
        assert!(schedule.is_location_due(ms(0)), "never read before");
        schedule.note_location(ms(100));
        // Time of the check, an event came, due.
        for (at, event, due) in [
            (ms(110), false, false),
            (ms(1099), false, false),
            (ms(1100), false, true),
            (ms(119), true, false),
            (ms(120), true, true),
        ] {
            let mut schedule = schedule;
            if event {
                schedule.note_event();
            }
            assert_eq!(schedule.is_location_due(at), due, "{at:?}, event: {event}");
        }
        schedule.note_event();
        schedule.note_location(ms(130));
        assert!(!schedule.has_events() && !schedule.is_location_due(ms(200)), "the event is dealt with");
        schedule.observe_soon();
        assert!(schedule.is_location_due(ms(131)), "after a change of ours at once");
        schedule.note_location(ms(131));
        schedule.expire_location();
        assert!(schedule.is_location_due(ms(132)), "another device");
    }

    #[test]
    fn next_hops_and_sysctls_have_their_own_intervals() {
        let mut schedule = Schedule::default();
        assert!(schedule.are_next_hops_due(ms(5)) && schedule.take_sysctls(ms(5)));
        schedule.note_next_hops(ms(5));
        assert!(!schedule.are_next_hops_due(ms(10_004)) && schedule.are_next_hops_due(ms(10_005)));
        assert!(!schedule.take_sysctls(ms(60_004)) && schedule.take_sysctls(ms(60_005)));
        assert!(!schedule.take_sysctls(ms(60_006)), "it counts as written");
    }

    #[test]
    fn a_late_pass_is_recognised() {
        let mut schedule = Schedule::default();
        assert!(!schedule.begin_pass(ms(1000)), "the first one is not late");
        assert!(!schedule.begin_pass(ms(1150)));
        assert!(schedule.begin_pass(ms(1301)));
        assert!(!schedule.begin_pass(ms(1302)));
    }

    #[test]
    fn after_the_end_of_a_thread_passes_are_frequent_for_a_while() {
        let mut schedule = Schedule::default();
        assert!(!schedule.count_ending() && !schedule.is_ending());
        schedule.note_thread_end(ms(7));
        assert_eq!(schedule.ending_since(), Some(ms(7)));
        let over = (0..ENDING_PASSES).map(|_| schedule.count_ending()).collect::<Vec<_>>();
        assert_eq!(over.iter().filter(|over| **over).count(), 1);
        assert_eq!(over.last(), Some(&true));
        assert!(!schedule.is_ending());
    }

    #[test]
    fn the_pause_follows_the_state() {
        let (since, why) = (ms(1000), Reason::Ended);
        let on_nic = FailoverState::OnNic { since, why };
        let proving = FailoverState::Proving { left: since, why, since };
        let (quiet, mut event, mut ending) = (Schedule::default(), Schedule::default(), Schedule::default());
        event.note_event();
        ending.note_thread_end(ms(0));
        for (schedule, now, state, is_bridge_lost, has_bridge, pause) in [
            (quiet, ms(1000), FailoverState::Idle, false, true, IDLE),
            (quiet, ms(1000), FailoverState::Idle, false, false, NO_BRIDGE),
            (quiet, ms(1000), FailoverState::Idle, true, false, ON_BRIDGE),
            (quiet, ms(1000), FailoverState::OnBridge, false, true, ON_BRIDGE),
            (quiet, ms(30_999), on_nic, false, true, ON_NIC),
            (quiet, ms(31_000), on_nic, false, true, LONG_ON_NIC),
            (quiet, ms(99_000), proving, false, true, PROVING),
            (event, ms(31_000), on_nic, false, true, EVENTS),
            (event, ms(1000), FailoverState::Idle, false, false, EVENTS),
            (event, ms(99_000), proving, false, true, PROVING),
            (ending, ms(1000), FailoverState::OnBridge, false, true, TICK),
        ] {
            let found = schedule.pause(now, state, is_bridge_lost, has_bridge);
            assert_eq!(found, pause, "{state:?} at {now:?}, {schedule:?}");
        }
    }
}
