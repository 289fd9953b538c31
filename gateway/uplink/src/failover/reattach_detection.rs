//! When a recreated NIC is attached to the switch again: the decision, a pure function of what was observed. The steps are
//! [`crate::reattach`].

use std::time::Duration;

use host::link_stats::LinkStats;

use super::action::{Action, RestoreCause};
use super::observation::{AddressLocation, Observation, SwitchProcess};

/// Reception is checked this often without a reason.
const EVERY: Duration = Duration::from_secs(2);
/// For so long the switch must not have received from the NIC: one that starts opens one port after the other, and one of
/// a later version may find out by itself.
const GRACE: Duration = Duration::from_millis(200);
/// Between two attempts, at first and at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MOST: Duration = Duration::from_secs(60);
/// The kernel may give a new NIC a link-local address some time after it came up.
const TIDY: Duration = Duration::from_secs(2);
/// Between two attempts to give a new NIC the addresses of the one before.
const RESTORE: Duration = Duration::from_secs(10);

/// What is known of the NIC's attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ReattachState {
    /// The NIC that the switch receives from, or that is not ours to attach.
    settled: Option<u32>,
    /// When that was checked.
    checked: Option<Duration>,
    /// Since when the switch does not receive from the NIC.
    lost_since: Option<Duration>,
    /// When the next attempt may be made, and how long to wait after that.
    retry_at: Duration,
    pause: Duration,
    /// When what the new NIC got from the kernel moves to the bridge.
    tidy_at: Option<Duration>,
    /// When a new NIC may get the addresses of the one before: the kernel may have refused them.
    restore_at: Duration,
}

/// What has to be read for a decision: both take their time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inquiry {
    /// The record of the takeover.
    pub(super) record: bool,
    /// Whether the switch receives from the NIC.
    pub(super) reception: bool,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// The NIC is attached.
    Attached,
    /// Its port is not ours to attach.
    NotOurs,
    /// It failed.
    Failed,
}

impl ReattachState {
    /// One of the devices is gone.
    pub(super) fn forget(&mut self) {
        (self.settled, self.lost_since, self.restore_at) = (None, None, Duration::ZERO);
    }

    /// What has to be read of these devices.
    pub(super) fn inquiry(
        &self,
        now: Duration,
        bridge: LinkStats,
        nic: LinkStats,
        process: SwitchProcess,
    ) -> Inquiry {
        let is_settled = self.settled == Some(nic.index);
        let is_recent = self.checked.is_some_and(|checked| now.saturating_sub(checked) < EVERY);
        // A dead switch opens what there is when it starts.
        let runs = process == SwitchProcess::Running && bridge.carrier;
        Inquiry { record: !is_settled, reception: runs && !(is_settled && is_recent) }
    }

    /// An attempt has ended.
    pub(super) fn note_attempt(&mut self, now: Duration, nic: u32, attempt: Attempt) {
        let pause = self.pause.max(PAUSE);
        self.retry_at = now + pause;
        self.pause = (pause * 2).min(PAUSE_MOST);
        match attempt {
            Attempt::Attached => self.tidy_at = Some(now + TIDY),
            Attempt::NotOurs => (self.settled, self.lost_since) = (Some(nic), None),
            Attempt::Failed => {}
        }
    }

    /// The new NIC got the addresses of the one before, as far as the kernel took them.
    pub(super) fn note_restored(&mut self, now: Duration) {
        self.restore_at = now + RESTORE;
    }

    /// One observation of both devices: the state after it, and what to do.
    #[must_use]
    pub(super) fn next(mut self, seen: &Observation) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        let Some((bridge, nic)) = seen.devices.both() else { return (self, actions) };
        if seen.devices.reattaching {
            return (self, actions);
        }
        let now = seen.now;
        if self.tidy_at.is_some_and(|at| now >= at) && seen.location == AddressLocation::Bridge {
            self.tidy_at = None;
            actions.push(Action::TidyNic);
        }
        let has_one_mac = bridge.mac == nic.mac;
        if has_one_mac && bridge.up {
            actions.extend(self.set_up(seen, nic));
        }
        let runs = seen.process == SwitchProcess::Running && bridge.carrier;
        if !runs || !seen.devices.is_switch_known {
            self.lost_since = None;
            return (self, actions);
        }
        if !seen.devices.is_reception_checked {
            return (self, actions);
        }
        self.checked = Some(now);
        if seen.devices.received == Some(false) && has_one_mac {
            let lost_since = *self.lost_since.get_or_insert(now);
            if now.saturating_sub(lost_since) >= GRACE && now >= self.retry_at {
                actions.push(Action::Reattach);
            }
        } else {
            // What cannot be known is taken to be well, and is not recorded.
            actions.extend(self.note_received(seen, nic.index));
        }
        (self, actions)
    }

    /// Another device than the one that was taken over: it is set up as that one was (the same one was set down by the
    /// operator), and gets the addresses of that one, where management was on it and went with it.
    fn set_up(&self, seen: &Observation, nic: LinkStats) -> Vec<Action> {
        let is_recreated = |record: u32| record != nic.index && self.settled != Some(nic.index);
        let record = seen.devices.record.filter(|record| record.of_this_boot && is_recreated(record.index));
        let Some(record) = record else { return Vec::new() };
        let is_bare = seen.location == AddressLocation::Nowhere && record.has_address;
        let mut actions = Vec::new();
        if !nic.up {
            actions.push(Action::RaiseNic);
        }
        if is_bare && seen.now >= self.restore_at {
            actions.push(Action::RestoreAddresses(RestoreCause::NicRecreated));
        }
        actions
    }

    /// The switch receives from the NIC, or has another one.
    fn note_received(&mut self, seen: &Observation, nic: u32) -> Option<Action> {
        self.lost_since = None;
        // Without addresses it may still get those of the one before.
        let may_get_addresses = seen.location == AddressLocation::Nowhere
            && seen.devices.record.is_some_and(|record| record.has_address);
        if self.settled == Some(nic) || may_get_addresses {
            return None;
        }
        self.settled = Some(nic);
        self.pause = PAUSE;
        let record = seen.devices.record.filter(|record| record.of_this_boot && record.index != nic);
        (seen.devices.received == Some(true) && record.is_some()).then_some(Action::RecordNic(nic))
    }
}

#[cfg(test)]
mod tests {
    use host::Mac;

    use super::*;
    use crate::failover::observation::{DeviceObservation, RecordedNic};
    use crate::failover::path_health::PathHealth;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn link(index: u32) -> LinkStats {
        LinkStats { index, mac: MAC, up: true, carrier: true, ..LinkStats::default() }
    }

    /// A NIC of index 4 that was taken over as number 3; the switch does not receive from it.
    fn recreated(now: Duration) -> Observation {
        let record = RecordedNic { index: 3, has_address: true, of_this_boot: true };
        Observation {
            now,
            process: SwitchProcess::Running,
            location: AddressLocation::Bridge,
            bridge: PathHealth::default(),
            nic: PathHealth::default(),
            nic_up: true,
            can_probe: true,
            has_traffic: false,
            flows_installed: true,
            active: true,
            may_leave: true,
            devices: DeviceObservation {
                enabled: true,
                is_switch_known: true,
                bridge: Some(link(9)),
                nic: Some(link(4)),
                record: Some(record),
                received: Some(false),
                is_reception_checked: true,
                ..DeviceObservation::default()
            },
        }
    }

    fn with(seen: Observation, change: impl Fn(&mut DeviceObservation)) -> Observation {
        let mut devices = seen.devices;
        change(&mut devices);
        Observation { devices, ..seen }
    }

    #[test]
    fn the_reattach_follows_the_observation() {
        use Action::{RaiseNic, Reattach, RecordNic, RestoreAddresses};
        let now = ms(100_000);
        let seen = recreated(now);
        let restore = RestoreAddresses(RestoreCause::NicRecreated);
        let lost = ReattachState { lost_since: Some(now - GRACE), ..ReattachState::default() };
        let received = with(seen, |devices| devices.received = Some(true));
        let down = with(seen, |devices| devices.nic = Some(LinkStats { up: false, ..link(4) }));
        let nowhere = Observation { location: AddressLocation::Nowhere, ..seen };
        let other_mac = |devices: &mut DeviceObservation| {
            devices.nic = Some(LinkStats { mac: Mac([2; 6]), ..link(4) });
        };
        let same = |devices: &mut DeviceObservation| {
            devices.record = devices.record.map(|record| RecordedNic { index: 4, ..record });
        };
        let earlier_boot = |devices: &mut DeviceObservation| {
            devices.record = devices.record.map(|record| RecordedNic { of_this_boot: false, ..record });
        };
        for (what, state, seen, wanted) in [
            ("it may be opened soon", ReattachState::default(), seen, vec![]),
            ("it is not opened", lost, seen, vec![Reattach]),
            ("an attempt is running", lost, with(seen, |devices| devices.reattaching = true), vec![]),
            ("an attempt was made", ReattachState { retry_at: now + ms(1), ..lost }, seen, vec![]),
            ("the switch is dead", lost, Observation { process: SwitchProcess::Gone, ..seen }, vec![]),
            (
                "the tap is not held",
                lost,
                with(seen, |devices| devices.bridge = Some(LinkStats { carrier: false, ..link(9) })),
                vec![],
            ),
            (
                "the switch's process is unknown",
                lost,
                with(seen, |devices| devices.is_switch_known = false),
                vec![],
            ),
            ("it was not asked", lost, with(seen, |devices| devices.is_reception_checked = false), vec![]),
            ("another NIC is in the bridge", lost, with(seen, other_mac), vec![]),
            ("it is received", lost, received, vec![RecordNic(4)]),
            ("its index is recorded", lost, with(received, same), vec![]),
            ("the record is of an earlier boot", lost, with(received, earlier_boot), vec![]),
            ("it cannot be known", lost, with(seen, |devices| devices.received = None), vec![]),
            ("it is down", lost, down, vec![RaiseNic, Reattach]),
            ("the operator set the same one down", lost, with(down, same), vec![Reattach]),
            ("management went with it", lost, nowhere, vec![restore, Reattach]),
            (
                "it had no addresses",
                lost,
                with(nowhere, |devices| {
                    devices.record =
                        devices.record.map(|record| RecordedNic { has_address: false, ..record });
                }),
                vec![Reattach],
            ),
            (
                "it got them just now",
                ReattachState { restore_at: now + ms(1), ..lost },
                nowhere,
                vec![Reattach],
            ),
            ("nothing was taken over", lost, with(nowhere, |devices| devices.record = None), vec![Reattach]),
            ("the bridge is not watched", lost, with(seen, |devices| devices.enabled = false), vec![]),
        ] {
            assert_eq!(state.next(&seen).1, wanted, "{what}");
        }
    }

    #[test]
    fn attempts_have_growing_pauses() {
        let mut state = ReattachState::default();
        let (mut now, mut attempts) = (ms(1000), Vec::new());
        while now < ms(20_000) {
            let (next, actions) = state.next(&recreated(now));
            state = next;
            if actions.contains(&Action::Reattach) {
                attempts.push(now.as_millis());
                state.note_attempt(now, 4, Attempt::Failed);
            }
            now += ms(50);
        }
        assert_eq!(attempts, [1200, 2200, 4200, 8200, 16_200]);
        state.note_attempt(now, 4, Attempt::NotOurs);
        assert_eq!(state.settled, Some(4));
        let both = |now| state.inquiry(now, link(9), link(4), SwitchProcess::Running);
        assert_eq!(both(now), Inquiry { record: false, reception: false });
        assert_eq!(both(now + EVERY), Inquiry { record: false, reception: true });
        let another = state.inquiry(now, link(9), link(5), SwitchProcess::Running);
        assert_eq!(another, Inquiry { record: true, reception: true });
        let dead = state.inquiry(now, link(9), link(5), SwitchProcess::Gone);
        assert_eq!(dead, Inquiry { record: true, reception: false });
    }

    #[test]
    fn an_attached_nic_hands_its_addresses_to_the_bridge_once_management_is_there() {
        let mut state = ReattachState::default();
        state.note_attempt(ms(1000), 4, Attempt::Attached);
        let received = |now, location| {
            let seen = with(recreated(now), |devices| devices.received = Some(true));
            Observation { location, ..seen }
        };
        let (early, actions) = state.next(&received(ms(2999), AddressLocation::Bridge));
        assert!(!actions.contains(&Action::TidyNic));
        let (away, actions) = early.next(&received(ms(3000), AddressLocation::Nic));
        assert!(!actions.contains(&Action::TidyNic));
        let (tidied, actions) = away.next(&received(ms(3000), AddressLocation::Bridge));
        assert_eq!(actions, [Action::TidyNic]);
        assert_eq!(tidied.next(&received(ms(3001), AddressLocation::Bridge)).1, []);
    }

    #[test]
    fn a_nic_without_addresses_is_done_only_when_none_can_come() {
        let nowhere = Observation { location: AddressLocation::Nowhere, ..recreated(ms(1000)) };
        let received = with(nowhere, |devices| devices.received = Some(true));
        let (state, _) = ReattachState::default().next(&received);
        assert_eq!(state.settled, None, "it may still get those of the one before");
        let none = with(received, |devices| devices.record = None);
        let (state, _) = ReattachState::default().next(&none);
        assert_eq!(state.settled, Some(4));
        let mut state = state;
        state.forget();
        assert_eq!(state.settled, None);
    }
}
