//! When what is due. A value: it never reads a clock, each method gets the time.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;

/// How often the number of flows is checked, and every source is read again.
pub(crate) const TICK: Duration = Duration::from_secs(5);
/// How often all flows are compared one by one.
const FULL_COMPARISON: Duration = Duration::from_secs(120);
/// How old the counters by rule may become that a scrape of the metrics reads.
const COUNTERS: Duration = Duration::from_secs(30);
/// How often the conntrack zone is counted: a dump of it may be long.
const CONNTRACK: Duration = Duration::from_secs(30);
/// From a foreign change of flows to the comparison: they come in bursts.
const DRIFT: Duration = Duration::from_millis(200);
/// From a change of Services to the new status.
const PUBLISH: Duration = Duration::from_millis(100);
/// From a changed policy to its file in the state folder, which is written at most so often.
const CACHE: Duration = Duration::from_secs(5);

/// What the loop has to do at its next wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A pass over everything.
    Pass,
    /// A comparison of all flows.
    Comparison,
    /// A new status.
    Publish,
    /// The policy's file in the state folder.
    Cache,
}

/// The times of everything that waits. `None`: not due at all.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    started: Instant,
    pass: Option<Instant>,
    backoff: Backoff,
    comparison: Option<Instant>,
    publish: Option<Instant>,
    cache: Option<Instant>,
    last_comparison: Instant,
    last_counters: Instant,
    last_conntrack: Option<Instant>,
    /// The host's part differs from the one that was handed over last.
    pub(crate) host_due: bool,
}

impl Schedule {
    /// Nothing is due yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            pass: None,
            backoff: Backoff::default(),
            comparison: None,
            publish: None,
            cache: None,
            last_comparison: now,
            last_counters: now,
            last_conntrack: None,
            host_due: false,
        }
    }

    /// How long the process runs.
    pub(crate) fn uptime(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// When the loop has to wake up by itself.
    pub(crate) fn next_wakeup(&self) -> Option<Instant> {
        self.times().into_iter().filter_map(|(_, at)| at).min()
    }

    /// What is due now, that with the earliest time first, so that nothing waits for ever. Doing it makes it not due any
    /// more.
    pub(crate) fn due(&self, now: Instant) -> Option<Due> {
        let times = self.times().into_iter().filter_map(|(due, at)| Some((due, at.filter(|at| *at <= now)?)));
        times.min_by_key(|(_, at)| *at).map(|(due, _)| due)
    }

    fn times(&self) -> [(Due, Option<Instant>); 4] {
        [
            (Due::Pass, self.backoff.due().into_iter().chain(self.pass).min()),
            (Due::Comparison, self.comparison),
            (Due::Publish, self.publish),
            (Due::Cache, self.cache),
        ]
    }

    /// A pass is needed within `pause`: an earlier one serves as well.
    pub(crate) fn pass_within(&mut self, now: Instant, pause: Duration) {
        let at = now + pause;
        self.pass = Some(self.pass.map_or(at, |before| before.min(at)));
    }

    /// A pass begins.
    pub(crate) fn pass_begun(&mut self, now: Instant) {
        self.pass = None;
        self.backoff.begun(now);
    }

    /// The flows could not be read or written.
    pub(crate) fn flows_failed(&mut self, now: Instant) {
        self.backoff.failed(now);
    }

    /// The flows are as desired.
    pub(crate) fn flows_recovered(&mut self) {
        self.backoff.recovered();
    }

    /// Flows were changed by another program.
    pub(crate) fn drift_seen(&mut self, now: Instant) {
        self.comparison.get_or_insert(now + DRIFT);
    }

    /// A comparison because of drift begins.
    pub(crate) fn comparison_begun(&mut self) {
        self.comparison = None;
    }

    /// All flows were compared.
    pub(crate) fn compared(&mut self, now: Instant) {
        self.last_comparison = now;
    }

    /// Whether all flows have to be compared though nothing changed.
    pub(crate) fn full_comparison_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last_comparison) >= FULL_COMPARISON
    }

    /// Whether the counters by rule are too old; if so, they count as read now.
    pub(crate) fn take_counters_due(&mut self, now: Instant) -> bool {
        let due = now.saturating_duration_since(self.last_counters) >= COUNTERS;
        if due {
            self.last_counters = now;
        }
        due
    }

    /// Whether the conntrack zone has to be counted; if so, it counts as counted now.
    pub(crate) fn take_conntrack_due(&mut self, now: Instant) -> bool {
        let due = self.last_conntrack.is_none_or(|at| now.saturating_duration_since(at) >= CONNTRACK);
        if due {
            self.last_conntrack = Some(now);
        }
        due
    }

    /// The conntrack zone is not counted before the whole interval has passed.
    pub(crate) fn postpone_conntrack(&mut self, now: Instant) {
        self.last_conntrack = Some(now);
    }

    /// Services changed: one status for a burst of changes.
    pub(crate) fn publish_soon(&mut self, now: Instant) {
        self.publish.get_or_insert(now + PUBLISH);
    }

    /// The status is published.
    pub(crate) fn published(&mut self) {
        self.publish = None;
    }

    /// The policy changed.
    pub(crate) fn cache_soon(&mut self, now: Instant) {
        self.cache.get_or_insert(now + CACHE);
    }

    /// Whether the policy changed since its file was written.
    pub(crate) fn cache_pending(&self) -> bool {
        self.cache.is_some()
    }

    /// The policy's file is being written.
    pub(crate) fn cache_written(&mut self) {
        self.cache = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn nothing_is_due_before_anything_happened() {
        let now = Instant::now();
        let schedule = Schedule::new(now);
        assert_eq!((schedule.next_wakeup(), schedule.due(now + ms(60_000))), (None, None));
    }

    #[test]
    fn each_cause_has_its_pause_and_the_first_one_counts() {
        let now = Instant::now();
        type Cause = fn(&mut Schedule, Instant);
        let causes: [(&str, Cause, Due, u64); 5] = [
            ("Services changed", Schedule::publish_soon, Due::Publish, 100),
            ("another program changed flows", Schedule::drift_seen, Due::Comparison, 200),
            ("the policy changed", Schedule::cache_soon, Due::Cache, 5_000),
            ("the flows failed", Schedule::flows_failed, Due::Pass, 200),
            ("devices changed", |schedule, now| schedule.pass_within(now, ms(50)), Due::Pass, 50),
        ];
        for (what, cause, due, pause) in causes {
            let mut schedule = Schedule::new(now);
            cause(&mut schedule, now);
            let at = now + ms(pause);
            assert_eq!(schedule.next_wakeup(), Some(at), "{what}");
            assert_eq!(schedule.due(at - ms(1)), None, "{what}");
            assert_eq!(schedule.due(at), Some(due), "{what}");
            if due != Due::Pass {
                cause(&mut schedule, now + ms(60));
                assert_eq!(schedule.next_wakeup(), Some(at), "{what}: a burst does not postpone it");
            }
        }
    }

    #[test]
    fn what_was_done_is_not_due_any_more() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.pass_within(now, ms(0));
        schedule.flows_failed(now);
        schedule.drift_seen(now);
        schedule.publish_soon(now);
        schedule.cache_soon(now);
        assert!(schedule.cache_pending());
        let late = now + ms(10_000);
        let mut order = Vec::new();
        while let Some(due) = schedule.due(late) {
            order.push(due);
            match due {
                Due::Pass => schedule.pass_begun(late),
                Due::Comparison => schedule.comparison_begun(),
                Due::Publish => schedule.published(),
                Due::Cache => schedule.cache_written(),
            }
        }
        assert_eq!(order, [Due::Pass, Due::Publish, Due::Comparison, Due::Cache]);
        assert_eq!((schedule.next_wakeup(), schedule.cache_pending()), (None, false));
    }

    #[test]
    fn passes_that_are_always_due_do_not_keep_the_rest_from_being_done() {
        let mut now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.publish_soon(now);
        schedule.pass_within(now, ms(50));
        let mut order = Vec::new();
        while order.last() != Some(&Due::Publish) && order.len() < 10 {
            now += ms(50);
            if let Some(due) = schedule.due(now) {
                order.push(due);
                schedule.pass_begun(now);
                schedule.pass_within(now, ms(50));
            }
        }
        assert_eq!(order, [Due::Pass, Due::Pass, Due::Publish]);
    }

    #[test]
    fn a_pass_that_is_due_earlier_serves_as_well() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        schedule.pass_within(now, ms(200));
        schedule.pass_within(now, ms(50));
        schedule.pass_within(now, ms(1_250));
        assert_eq!(schedule.next_wakeup(), Some(now + ms(50)));
        // A failed attempt is made again at its own time, whatever other passes come before.
        schedule.flows_failed(now);
        schedule.pass_begun(now + ms(50));
        assert_eq!(schedule.next_wakeup(), Some(now + ms(200)));
        schedule.flows_recovered();
        assert_eq!(schedule.next_wakeup(), None);
    }

    #[test]
    fn periodic_work_is_due_when_its_interval_has_passed() {
        let now = Instant::now();
        let mut schedule = Schedule::new(now);
        assert!(schedule.take_conntrack_due(now), "the zone was never counted");
        assert!(!schedule.take_conntrack_due(now + CONNTRACK - ms(1)));
        schedule.postpone_conntrack(now + ms(1_000));
        assert!(!schedule.take_conntrack_due(now + CONNTRACK));
        assert!(schedule.take_conntrack_due(now + CONNTRACK + ms(1_000)));
        assert!(!schedule.take_counters_due(now + COUNTERS - ms(1)));
        assert!(schedule.take_counters_due(now + COUNTERS));
        assert!(!schedule.take_counters_due(now + COUNTERS + ms(1)));
        assert!(!schedule.full_comparison_due(now + FULL_COMPARISON - ms(1)));
        assert!(schedule.full_comparison_due(now + FULL_COMPARISON));
        schedule.compared(now + FULL_COMPARISON);
        assert!(!schedule.full_comparison_due(now + FULL_COMPARISON + ms(1)));
        assert_eq!(schedule.uptime(now + ms(7)), ms(7));
    }
}
