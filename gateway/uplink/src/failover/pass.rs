//! One pass: what is remembered and what is observed become what is remembered then and what to do. Pure.

use host::ingress_filter::Accepting;

use super::action::{Action, Probes, RestoreCause};
use super::bridge_watch::BridgeWatch;
use super::observation::{AddressLocation, Observation};
use super::reattach_detection::ReattachState;
use super::schedule::Schedule;
use super::state_machine::StateMachine;

/// What is remembered from one pass to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    pub(super) machine: StateMachine,
    pub(super) schedule: Schedule,
    pub(super) reattach: ReattachState,
    pub(super) bridge: BridgeWatch,
}

/// What follows from an observation. The actions are in the order in which to take them: a switchover comes before the
/// probes, and makes them needless.
#[must_use]
pub(super) fn pass(memory: &Memory, seen: &Observation) -> (Memory, Vec<Action>) {
    let mut next = memory.clone();
    let mut actions = Vec::new();
    let (bridge, is_lost) = next.bridge.next(seen);
    next.bridge = bridge;
    if is_lost {
        actions.push(Action::RestoreAddresses(RestoreCause::BridgeGone));
    }
    if seen.devices.both().is_some() {
        actions.extend(filter_correction(seen).map(Action::SetIngressFilter));
        if seen.devices.is_location_fresh && next.schedule.take_sysctls(seen.now) {
            actions.push(Action::WriteSysctls);
        }
        let (reattach, more) = next.reattach.next(seen);
        next.reattach = reattach;
        actions.extend(more);
    } else if seen.devices.enabled {
        next.reattach.forget();
    }
    let (machine, switchover) = next.machine.next(seen);
    next.machine = machine;
    actions.extend(switchover.map(Action::SwitchOver));
    let probes = next.machine.probes_due(seen);
    if probes != Probes::default() {
        actions.push(Action::Probe(probes));
    }
    (next, actions)
}

/// What the ingress filter has to accept where it does not: a frame is received once, where management is.
fn filter_correction(seen: &Observation) -> Option<Accepting> {
    let wanted = match seen.location {
        AddressLocation::Bridge => Accepting::Bridge,
        AddressLocation::Nic if seen.devices.is_failover => Accepting::Nic,
        _ => return None,
    };
    (seen.devices.is_location_fresh && seen.devices.accepting != Some(wanted)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use host::link_stats::LinkStats;

    use super::*;
    use crate::failover::action::{Reason, Switchover};
    use crate::failover::observation::{DeviceObservation, RecordedNic, SwitchProcess};
    use crate::failover::path_health::PathHealth;
    use crate::failover::state_machine::FailoverState;

    fn link(index: u32) -> LinkStats {
        LinkStats { index, up: true, carrier: true, ..LinkStats::default() }
    }

    fn replied(now: Duration) -> PathHealth {
        let mut path = PathHealth::default();
        path.probe_sent(now);
        path.reply_received(now);
        path
    }

    /// Management is on the bridge, and all is well.
    fn healthy(now: Duration) -> Observation {
        Observation {
            now,
            process: SwitchProcess::Running,
            location: AddressLocation::Bridge,
            bridge: replied(now),
            nic: PathHealth::default(),
            nic_up: true,
            can_probe: true,
            has_traffic: false,
            flows_installed: true,
            active: true,
            may_leave: true,
            devices: DeviceObservation {
                enabled: true,
                bridge: Some(link(9)),
                nic: Some(link(3)),
                is_location_fresh: true,
                accepting: Some(Accepting::Bridge),
                is_failover: false,
                reattaching: false,
                is_switch_known: true,
                record: Some(RecordedNic { index: 3, has_address: true, of_this_boot: true }),
                received: Some(true),
                is_reception_checked: true,
            },
        }
    }

    fn with(seen: Observation, change: impl Fn(&mut DeviceObservation)) -> Observation {
        let mut devices = seen.devices;
        change(&mut devices);
        Observation { devices, ..seen }
    }

    /// After a first pass over a healthy uplink.
    fn settled() -> (Memory, Duration) {
        let now = Duration::from_secs(100);
        let (memory, actions) = pass(&Memory::default(), &healthy(now));
        assert_eq!(actions, [Action::WriteSysctls], "the first pass writes the sysctls, and nothing else");
        assert_eq!(memory.machine.state, FailoverState::OnBridge);
        (memory, now + Duration::from_millis(50))
    }

    #[test]
    fn the_action_follows_the_observation() {
        let (memory, now) = settled();
        let seen = healthy(now);
        let to_nic = |why| Action::SwitchOver(Switchover::ToNic(why));
        let filter = Action::SetIngressFilter;
        let gone = Observation { process: SwitchProcess::Gone, ..seen };
        let on_nic = Observation { location: AddressLocation::Nic, process: SwitchProcess::Gone, ..seen };
        let failed_over = with(on_nic, |devices| devices.is_failover = true);
        for (what, seen, wanted) in [
            ("all is well", seen, vec![]),
            ("vswitchd ended", gone, vec![to_nic(Reason::Ended)]),
            (
                "vswitchd was stopped",
                Observation { process: SwitchProcess::Stopped, ..seen },
                vec![to_nic(Reason::Stopped)],
            ),
            (
                "the port is gone",
                Observation { process: SwitchProcess::Detached, ..seen },
                vec![to_nic(Reason::Detached)],
            ),
            ("it may not leave", Observation { may_leave: false, ..gone }, vec![]),
            ("the NIC is down", Observation { nic_up: false, ..gone }, vec![]),
            (
                "the filter is not whole",
                with(seen, |devices| devices.accepting = None),
                vec![filter(Accepting::Bridge)],
            ),
            (
                "the filter accepts the NIC",
                with(seen, |devices| devices.accepting = Some(Accepting::Nic)),
                vec![filter(Accepting::Bridge)],
            ),
            (
                "the filter was not read",
                with(seen, |devices| (devices.accepting, devices.is_location_fresh) = (None, false)),
                vec![],
            ),
            ("the filter accepts the bridge after a failover", failed_over, vec![filter(Accepting::Nic)]),
            ("another's NIC", Observation { active: false, ..on_nic }, vec![]),
            (
                "addresses on both",
                Observation { location: AddressLocation::Both, ..seen },
                vec![Action::SwitchOver(Switchover::ToBridge)],
            ),
            (
                "a probe is due",
                Observation { bridge: PathHealth::default(), ..seen },
                vec![Action::Probe(Probes { bridge: true, nic: false })],
            ),
            (
                "the filter is wrong and vswitchd ended",
                with(gone, |devices| devices.accepting = None),
                vec![filter(Accepting::Bridge), to_nic(Reason::Ended)],
            ),
        ] {
            assert_eq!(pass(&memory, &seen).1, wanted, "{what}");
        }
    }

    #[test]
    fn the_nic_gets_the_addresses_of_a_deleted_bridge() {
        let (memory, now) = settled();
        let deleted = |now| {
            let seen = Observation { now, active: false, location: AddressLocation::Nowhere, ..healthy(now) };
            with(seen, |devices| (devices.bridge, devices.enabled) = (None, false))
        };
        let (memory, actions) = pass(&memory, &deleted(now));
        assert_eq!(actions, []);
        assert!(memory.bridge.is_lost());
        let (memory, actions) = pass(&memory, &deleted(now + Duration::from_millis(200)));
        assert_eq!(actions, [Action::RestoreAddresses(RestoreCause::BridgeGone)]);
        assert_eq!(memory.machine.state, FailoverState::Idle);
    }

    #[test]
    fn sysctls_are_written_once_a_minute() {
        let (memory, now) = settled();
        let writes = |memory: &Memory, now| pass(memory, &healthy(now)).1.contains(&Action::WriteSysctls);
        assert!(!writes(&memory, now + Duration::from_secs(50)));
        assert!(writes(&memory, now + Duration::from_secs(60)));
    }

    #[test]
    fn an_equal_observation_changes_nothing() {
        let (memory, now) = settled();
        let (once, _) = pass(&memory, &healthy(now));
        let (twice, actions) = pass(&once, &healthy(now));
        assert_eq!((once, actions), (twice, vec![]));
    }
}
