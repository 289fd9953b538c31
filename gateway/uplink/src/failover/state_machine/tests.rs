//! A small world around the pure core: vswitchd that runs and dies, a wire that may be cut, switchovers that may fail.

use proptest::prelude::*;

use super::*;
use crate::failover::observation::DeviceObservation;

const STEP: Duration = Duration::from_millis(10);

/// What really is the case; the state machine learns it by probes and counters alone.
#[derive(Clone, Copy, Debug)]
struct Truth {
    process: SwitchProcess,
    /// vswitchd forwards.
    forwards: bool,
    /// The next hop replies.
    hop: bool,
    flows_installed: bool,
    /// Switchovers fail.
    refused: bool,
}

const WELL: Truth = Truth {
    process: SwitchProcess::Running,
    forwards: true,
    hop: true,
    flows_installed: true,
    refused: false,
};

struct World {
    now: Duration,
    truth: Truth,
    location: AddressLocation,
    machine: StateMachine,
    bridge: PathHealth,
    nic: PathHealth,
    can_probe: bool,
    nic_up: bool,
    may_leave: bool,
    /// When, which switchover, and what was the case.
    switchovers: Vec<(Duration, Switchover, Truth)>,
}

impl World {
    fn new() -> Self {
        World {
            now: Duration::from_secs(100),
            truth: WELL,
            location: AddressLocation::Bridge,
            machine: StateMachine::default(),
            bridge: PathHealth::default(),
            nic: PathHealth::default(),
            can_probe: true,
            nic_up: true,
            may_leave: true,
            switchovers: Vec::new(),
        }
    }

    fn observation(&self) -> Observation {
        Observation {
            now: self.now,
            process: self.truth.process,
            location: self.location,
            bridge: self.bridge,
            nic: self.nic,
            nic_up: self.nic_up,
            can_probe: self.can_probe,
            flows_installed: self.truth.flows_installed,
            has_traffic: false,
            active: true,
            may_leave: self.may_leave,
            devices: DeviceObservation::default(),
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.truth.process != SwitchProcess::Running {
            self.bridge.reset();
        }
        let due = self.machine.probes_due(&self.observation());
        let through = self.truth.process == SwitchProcess::Running && self.truth.forwards && self.truth.hop;
        if due.bridge {
            self.bridge.probe_sent(self.now);
            if through {
                self.bridge.reply_received(self.now);
            }
        }
        if due.nic {
            self.nic.probe_sent(self.now);
            if self.truth.hop {
                self.nic.reply_received(self.now);
            }
        }
        let (machine, switchover) = self.machine.next(&self.observation());
        self.machine = machine;
        let Some(switchover) = switchover else { return };
        self.switchovers.push((self.now, switchover, self.truth));
        if !self.truth.refused {
            let to_bridge = switchover == Switchover::ToBridge;
            self.location = if to_bridge { AddressLocation::Bridge } else { AddressLocation::Nic };
        }
    }

    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
        self
    }

    fn with(&mut self, truth: Truth) -> &mut Self {
        self.truth = truth;
        self
    }
}

fn ms(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn management_leaves_a_dead_switch_at_once_and_returns_when_it_forwards() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, ..WELL }).run(STEP);
    assert_eq!(world.location, AddressLocation::Nic, "one observation is enough");
    world.run(ms(500));
    assert!(matches!(world.machine.state, FailoverState::OnNic { why: Reason::Ended, .. }));
    // It runs but does not forward yet.
    world.with(Truth { forwards: false, flows_installed: false, ..WELL }).run(ms(100));
    assert_eq!(world.location, AddressLocation::Nic);
    world.with(Truth { flows_installed: false, ..WELL }).run(ms(300));
    assert!(matches!(world.machine.state, FailoverState::Proving { .. }), "flows are waited for");
    world.with(WELL).run(ms(50));
    assert_eq!(world.location, AddressLocation::Bridge);
    assert_eq!(world.switchovers.len(), 2);
}

#[test]
fn waiting_for_flows_has_a_timeout() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, ..WELL }).run(STEP);
    world.with(Truth { flows_installed: false, ..WELL }).run(FLOWS + ms(200));
    assert_eq!(world.location, AddressLocation::Bridge);
}

#[test]
fn management_leaves_a_switch_that_forwards_nothing() {
    let mut world = World::new();
    world.run(ms(2000)).with(Truth { forwards: false, ..WELL });
    // The last idle probe may have been just before.
    world.run(ms(1400));
    assert_eq!(world.location, AddressLocation::Nic);
    assert!(
        matches!(world.machine.state, FailoverState::OnNic { why: Reason::Silent, .. }),
        "{:?}",
        world.machine
    );
    world.run(ms(60_000)).with(WELL).run(ms(1500));
    assert_eq!(world.location, AddressLocation::Bridge);
}

#[test]
fn management_stays_when_probes_over_the_nic_get_no_reply() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { hop: false, ..WELL }).run(ms(60_000));
    assert!(world.switchovers.is_empty(), "{:?}", world.switchovers);
}

#[test]
fn management_does_not_move_to_a_nic_that_is_down() {
    let mut world = World { nic_up: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, ..WELL }).run(ms(5000));
    assert!(world.switchovers.is_empty(), "{:?}", world.switchovers);
    world.nic_up = true;
    world.run(STEP);
    assert_eq!(world.location, AddressLocation::Nic);
}

#[test]
fn without_a_next_hop_management_leaves_a_stopped_switch_only() {
    let mut world = World { can_probe: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: SwitchProcess::Stopped, ..WELL }).run(STEP);
    assert_eq!(world.location, AddressLocation::Nic);
    world.with(WELL).run(UNPROVEN + ms(50));
    assert_eq!(world.location, AddressLocation::Bridge);
    // Silence cannot be noticed.
    world.with(Truth { forwards: false, ..WELL }).run(ms(5000));
    assert_eq!(world.switchovers.len(), 2);
}

#[test]
fn another_bridge_is_proven_again() {
    let mut world = World { can_probe: false, location: AddressLocation::Nic, ..World::new() };
    world.run(UNPROVEN - ms(50));
    world.machine.prove_again();
    world.run(UNPROVEN - ms(50));
    assert_eq!(world.location, AddressLocation::Nic);
    world.run(ms(100));
    assert_eq!(world.location, AddressLocation::Bridge);
}

#[test]
fn each_further_failover_lengthens_the_time_that_the_bridge_must_be_steady() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.run(ms(300)).with(Truth { process: SwitchProcess::Gone, ..WELL }).run(ms(100));
        world.with(WELL);
        let back = world.now;
        while world.location != AddressLocation::Bridge && world.now < back + ms(100_000) {
            world.step();
        }
        waits.push(world.now - back);
    }
    assert!(waits.iter().take(2).all(|wait| *wait < ms(200)), "{waits:?}");
    assert!(waits.is_sorted() && waits[7] >= ms(8000), "{waits:?}");
    world
        .run(MEMORY)
        .with(Truth { process: SwitchProcess::Gone, ..WELL })
        .run(ms(100))
        .with(WELL)
        .run(ms(200));
    assert_eq!(world.location, AddressLocation::Bridge, "old failovers are forgotten");
}

#[test]
fn a_restarted_helper_takes_the_state_from_the_kernel() {
    // A predecessor left it on the NIC.
    let mut world = World { location: AddressLocation::Nic, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.location, AddressLocation::Bridge);
    // A predecessor was killed during a switchover.
    let mut world = World { location: AddressLocation::Both, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.location, AddressLocation::Bridge);
    let mut world = World { location: AddressLocation::Both, ..World::new() };
    world.with(Truth { process: SwitchProcess::Gone, ..WELL }).run(STEP);
    assert_eq!(world.location, AddressLocation::Nic);
    let mut world = World { location: AddressLocation::Both, ..World::new() };
    world.with(Truth { forwards: false, ..WELL }).run(BOTH + ms(100));
    assert_eq!(world.location, AddressLocation::Nic);
    // A switch that was dead before.
    let mut world = World::new();
    world.with(Truth { process: SwitchProcess::Gone, ..WELL }).run(STEP);
    assert_eq!(world.location, AddressLocation::Nic);
}

#[test]
fn an_address_put_back_on_the_nic_moves_to_the_bridge() {
    let mut world = World::new();
    world.run(ms(500));
    world.location = AddressLocation::Both;
    world.run(STEP);
    assert_eq!(world.location, AddressLocation::Bridge);
}

#[test]
fn a_switchover_that_fails_is_retried_with_pauses() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, refused: true, ..WELL }).run(ms(1000));
    assert!((3..=5).contains(&world.switchovers.len()), "{}", world.switchovers.len());
    world.with(Truth { process: SwitchProcess::Gone, ..WELL }).run(RETRY + STEP);
    assert_eq!(world.location, AddressLocation::Nic);
}

#[test]
fn without_failover_management_stays_but_still_returns() {
    let mut world = World { may_leave: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, ..WELL }).run(ms(5000));
    assert!(world.switchovers.is_empty());
    let mut world = World { may_leave: false, location: AddressLocation::Nic, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.location, AddressLocation::Bridge);
}

#[test]
fn an_inactive_failover_does_nothing() {
    let mut world = World::new();
    world.truth.process = SwitchProcess::Gone;
    let (machine, switchover) = world.machine.next(&Observation { active: false, ..world.observation() });
    assert_eq!((machine.state, switchover), (FailoverState::Idle, None));
    world.location = AddressLocation::Nowhere;
    assert_eq!(world.machine.next(&world.observation()).1, None);
}

fn truths() -> impl Strategy<Value = (Truth, u64)> {
    let process = prop_oneof![
        4 => Just(SwitchProcess::Running),
        2 => Just(SwitchProcess::Gone),
        1 => Just(SwitchProcess::Stopped),
        1 => Just(SwitchProcess::Detached)
    ];
    let truth = (process, any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), prop::bool::weighted(0.1));
    (truth, 1u64..3000).prop_map(|((process, forwards, hop, flows_installed, refused), time)| {
        (Truth { process, forwards, hop, flows_installed, refused }, time)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_switchover_has_a_cause_and_management_ends_on_a_working_path(
        phases in prop::collection::vec(truths(), 1..12),
        start in prop_oneof![Just(AddressLocation::Bridge), Just(AddressLocation::Nic), Just(AddressLocation::Both)],
    ) {
        let mut world = World { location: start, ..World::new() };
        for (truth, time) in phases {
            world.with(truth).run(ms(time));
        }
        for (at, switchover, truth) in &world.switchovers {
            let early = *at <= Duration::from_secs(100) + BOTH + ms(20);
            match switchover {
                Switchover::ToNic(Reason::Ended) => prop_assert_eq!(truth.process, SwitchProcess::Gone),
                Switchover::ToNic(Reason::Stopped) => prop_assert_eq!(truth.process, SwitchProcess::Stopped),
                Switchover::ToNic(Reason::Detached) => prop_assert_eq!(truth.process, SwitchProcess::Detached),
                // Silence and replies may be a moment old when the truth has just changed; never without vswitchd.
                Switchover::ToNic(Reason::Silent) => prop_assert_eq!(truth.process, SwitchProcess::Running),
                Switchover::ToNic(Reason::Found) => prop_assert!(start != AddressLocation::Bridge),
                Switchover::ToBridge => prop_assert!(truth.process == SwitchProcess::Running || early),
            }
        }
        // However it went: a dead switch leaves management on the NIC, a healthy one gets it back.
        world.with(Truth { process: SwitchProcess::Gone, ..WELL }).run(RETRY + STEP);
        prop_assert_eq!(world.location, AddressLocation::Nic);
        world.with(WELL).run(STEADY_MOST + FLOWS);
        prop_assert_eq!(world.location, AddressLocation::Bridge);
        let switchovers = world.switchovers.len();
        world.run(ms(10_000));
        prop_assert_eq!(world.switchovers.len(), switchovers, "no further switchover");
    }
}

#[test]
fn a_failed_switchover_that_is_not_needed_any_more_is_not_retried() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: SwitchProcess::Gone, refused: true, ..WELL }).run(ms(500));
    assert!(!world.machine.is_settled());
    world.with(WELL).run(ms(200));
    assert!(world.machine.is_settled() && world.location == AddressLocation::Bridge);
}

#[test]
fn probes_follow_state_traffic_and_replies() {
    let now = Duration::from_secs(500);
    let sent = |ago: u64| {
        let mut path = PathHealth::default();
        path.probe_sent(now - ms(ago));
        path
    };
    let replied = |ago: u64| {
        let mut path = sent(ago);
        path.reply_received(now - ms(ago) + ms(1));
        path
    };
    let on_nic =
        |ago: u64| FailoverState::OnNic { since: now - Duration::from_secs(ago), why: Reason::Ended };
    let proving = FailoverState::Proving { left: now - ms(900), why: Reason::Ended, since: now - ms(90) };
    let both = Probes { bridge: true, nic: true };
    let bridge = Probes { bridge: true, nic: false };
    let none = Probes::default();
    let quiet = Observation { now, has_traffic: false, ..World::new().observation() };
    let busy = Observation { has_traffic: true, ..quiet };
    // The state, what is observed, the path through the bridge, the probes that are due.
    for (state, seen, path, probes) in [
        (FailoverState::Idle, busy, PathHealth::default(), none),
        (FailoverState::OnBridge, quiet, PathHealth::default(), bridge),
        (FailoverState::OnBridge, quiet, replied(998), none),
        (FailoverState::OnBridge, quiet, replied(999), bridge),
        (FailoverState::OnBridge, busy, replied(48), none),
        (FailoverState::OnBridge, busy, replied(49), bridge),
        (FailoverState::OnBridge, quiet, sent(48), none),
        (FailoverState::OnBridge, quiet, sent(54), bridge),
        (FailoverState::OnBridge, quiet, sent(60), both),
        (FailoverState::OnBridge, Observation { can_probe: false, ..busy }, sent(60), none),
        (FailoverState::OnBridge, Observation { active: false, ..busy }, sent(60), none),
        (FailoverState::OnBridge, Observation { process: SwitchProcess::Gone, ..busy }, sent(60), none),
        (on_nic(1), quiet, sent(18), none),
        (on_nic(1), quiet, sent(19), bridge),
        (on_nic(5), quiet, sent(148), none),
        (on_nic(5), quiet, sent(149), bridge),
        (on_nic(60), quiet, sent(998), none),
        (on_nic(60), quiet, sent(999), bridge),
        (on_nic(60), quiet, replied(19), bridge),
        (proving, quiet, replied(18), none),
        (proving, quiet, replied(19), bridge),
        (proving, quiet, sent(148), none),
        (proving, quiet, sent(149), bridge),
    ] {
        let machine = StateMachine { state, ..StateMachine::default() };
        let seen = Observation { bridge: path, ..seen };
        assert_eq!(machine.probes_due(&seen), probes, "{state:?} {seen:?}");
    }
}
