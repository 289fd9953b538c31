//! A small world around the pure core: vswitchd that lives and dies, a wire that may be cut, turns that may fail.

use proptest::prelude::*;

use super::*;

const STEP: Duration = Duration::from_millis(10);

/// What really is the case; the mind sees it through questions and counters only.
#[derive(Clone, Copy, Debug)]
struct Truth {
    process: Process,
    /// vswitchd forwards.
    forwards: bool,
    /// The next hop answers.
    hop: bool,
    flows_in: bool,
    /// Turns fail.
    refused: bool,
}

const WELL: Truth =
    Truth { process: Process::Running, forwards: true, hop: true, flows_in: true, refused: false };

struct World {
    now: Duration,
    truth: Truth,
    place: Place,
    mind: StateMachine,
    bridge: PathHealth,
    nic: PathHealth,
    can_ask: bool,
    nic_up: bool,
    may_leave: bool,
    /// When, which order, and what was the case.
    orders: Vec<(Duration, Order, Truth)>,
}

impl World {
    fn new() -> Self {
        World {
            now: Duration::from_secs(100),
            truth: WELL,
            place: Place::Bridge,
            mind: StateMachine::default(),
            bridge: PathHealth::default(),
            nic: PathHealth::default(),
            can_ask: true,
            nic_up: true,
            may_leave: true,
            orders: Vec::new(),
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            now: self.now,
            process: self.truth.process,
            place: self.place,
            bridge: self.bridge,
            nic: self.nic,
            nic_up: self.nic_up,
            can_ask: self.can_ask,
            flows_in: self.truth.flows_in,
            kept: true,
            may_leave: self.may_leave,
        }
    }

    fn step(&mut self) {
        self.now += STEP;
        if self.truth.process != Process::Running {
            self.bridge.forget();
        }
        let asking = self.mind.asking(&self.seen(), false);
        let due = |way: &PathHealth, pace: Option<Duration>| {
            pace.is_some_and(|pace| way.since_asked(self.now).is_none_or(|ago| ago >= pace))
        };
        let through = self.truth.process == Process::Running && self.truth.forwards && self.truth.hop;
        if due(&self.bridge, asking.bridge) {
            self.bridge.asked(self.now);
            if through {
                self.bridge.answered(self.now);
            }
        }
        if due(&self.nic, asking.nic) {
            self.nic.asked(self.now);
            if self.truth.hop {
                self.nic.answered(self.now);
            }
        }
        let (mind, order) = self.mind.next(&self.seen());
        self.mind = mind;
        if order == Order::Stay {
            return;
        }
        self.orders.push((self.now, order, self.truth));
        if !self.truth.refused {
            self.place = if order == Order::ToBridge { Place::Bridge } else { Place::Nic };
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
fn a_dead_switch_is_left_at_once_and_come_back_to_when_it_carries() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: Process::Gone, ..WELL }).run(STEP);
    assert_eq!(world.place, Place::Nic, "one look is enough");
    world.run(ms(500));
    assert!(matches!(world.mind.state, State::OnNic { why: Reason::Ended, .. }));
    // It runs but does not forward yet.
    world.with(Truth { forwards: false, flows_in: false, ..WELL }).run(ms(100));
    assert_eq!(world.place, Place::Nic);
    world.with(Truth { flows_in: false, ..WELL }).run(ms(300));
    assert!(matches!(world.mind.state, State::Proving { .. }), "flows are waited for");
    world.with(WELL).run(ms(50));
    assert_eq!(world.place, Place::Bridge);
    assert_eq!(world.orders.len(), 2);
}

#[test]
fn flows_are_not_waited_for_for_ever() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: Process::Gone, ..WELL }).run(STEP);
    world.with(Truth { flows_in: false, ..WELL }).run(FLOWS + ms(200));
    assert_eq!(world.place, Place::Bridge);
}

#[test]
fn a_switch_that_forwards_nothing_is_left_within_half_a_second() {
    let mut world = World::new();
    world.run(ms(2000)).with(Truth { forwards: false, ..WELL });
    // The last idle question may have been just before.
    world.run(ms(1400));
    assert_eq!(world.place, Place::Nic);
    assert!(matches!(world.mind.state, State::OnNic { why: Reason::Silent, .. }), "{:?}", world.mind);
    world.run(ms(60_000)).with(WELL).run(ms(1500));
    assert_eq!(world.place, Place::Bridge);
}

#[test]
fn a_cut_wire_is_no_reason_to_leave() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { hop: false, ..WELL }).run(ms(60_000));
    assert!(world.orders.is_empty(), "{:?}", world.orders);
}

#[test]
fn a_nic_that_is_down_takes_nothing() {
    let mut world = World { nic_up: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: Process::Gone, ..WELL }).run(ms(5000));
    assert!(world.orders.is_empty(), "{:?}", world.orders);
    world.nic_up = true;
    world.run(STEP);
    assert_eq!(world.place, Place::Nic);
}

#[test]
fn a_stopped_switch_and_no_next_hop() {
    let mut world = World { can_ask: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: Process::Stopped, ..WELL }).run(STEP);
    assert_eq!(world.place, Place::Nic);
    world.with(WELL).run(UNPROVED + ms(50));
    assert_eq!(world.place, Place::Bridge);
    // Silence cannot be noticed.
    world.with(Truth { forwards: false, ..WELL }).run(ms(5000));
    assert_eq!(world.orders.len(), 2);
}

#[test]
fn another_bridge_is_proved_anew() {
    let mut world = World { can_ask: false, place: Place::Nic, ..World::new() };
    world.run(UNPROVED - ms(50));
    world.mind.prove_anew();
    world.run(UNPROVED - ms(50));
    assert_eq!(world.place, Place::Nic);
    world.run(ms(100));
    assert_eq!(world.place, Place::Bridge);
}

#[test]
fn the_more_often_it_changes_the_longer_the_bridge_must_be_steady() {
    let mut world = World::new();
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.run(ms(300)).with(Truth { process: Process::Gone, ..WELL }).run(ms(100));
        world.with(WELL);
        let back = world.now;
        while world.place != Place::Bridge && world.now < back + ms(100_000) {
            world.step();
        }
        waits.push(world.now - back);
    }
    assert!(waits.iter().take(2).all(|wait| *wait < ms(200)), "{waits:?}");
    assert!(waits.is_sorted() && waits[7] >= ms(8000), "{waits:?}");
    world.run(MEMORY).with(Truth { process: Process::Gone, ..WELL }).run(ms(100)).with(WELL).run(ms(200));
    assert_eq!(world.place, Place::Bridge, "an old unrest is forgotten");
}

#[test]
fn who_starts_anew_goes_on_from_what_is_found() {
    // A predecessor left it on the NIC.
    let mut world = World { place: Place::Nic, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.place, Place::Bridge);
    // A predecessor was killed in the middle of a turn.
    let mut world = World { place: Place::Both, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.place, Place::Bridge);
    let mut world = World { place: Place::Both, ..World::new() };
    world.with(Truth { process: Process::Gone, ..WELL }).run(STEP);
    assert_eq!(world.place, Place::Nic);
    let mut world = World { place: Place::Both, ..World::new() };
    world.with(Truth { forwards: false, ..WELL }).run(HALF + ms(100));
    assert_eq!(world.place, Place::Nic);
    // A switch that was dead before.
    let mut world = World::new();
    world.with(Truth { process: Process::Gone, ..WELL }).run(STEP);
    assert_eq!(world.place, Place::Nic);
}

#[test]
fn what_is_put_back_on_the_nic_is_moved_again() {
    let mut world = World::new();
    world.run(ms(500));
    world.place = Place::Both;
    world.run(STEP);
    assert_eq!(world.place, Place::Bridge);
}

#[test]
fn a_turn_that_is_refused_is_tried_again_but_not_without_pause() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: Process::Gone, refused: true, ..WELL }).run(ms(1000));
    assert!((3..=5).contains(&world.orders.len()), "{}", world.orders.len());
    world.with(Truth { process: Process::Gone, ..WELL }).run(RETRY + STEP);
    assert_eq!(world.place, Place::Nic);
}

#[test]
fn told_to_stay_it_stays_but_still_comes_back() {
    let mut world = World { may_leave: false, ..World::new() };
    world.run(ms(500)).with(Truth { process: Process::Gone, ..WELL }).run(ms(5000));
    assert!(world.orders.is_empty());
    let mut world = World { may_leave: false, place: Place::Nic, ..World::new() };
    world.run(ms(300));
    assert_eq!(world.place, Place::Bridge);
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let mut world = World::new();
    world.truth.process = Process::Gone;
    let (mind, order) = world.mind.next(&Seen { kept: false, ..world.seen() });
    assert_eq!((mind.state, order), (State::Idle, Order::Stay));
    world.place = Place::Nowhere;
    assert_eq!(world.mind.next(&world.seen()).1, Order::Stay);
}

fn truths() -> impl Strategy<Value = (Truth, u64)> {
    let process = prop_oneof![
        4 => Just(Process::Running),
        2 => Just(Process::Gone),
        1 => Just(Process::Stopped),
        1 => Just(Process::Detached)
    ];
    let truth = (process, any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), prop::bool::weighted(0.1));
    (truth, 1u64..3000).prop_map(|((process, forwards, hop, flows_in, refused), time)| {
        (Truth { process, forwards, hop, flows_in, refused }, time)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn it_never_turns_without_cause_and_always_ends_where_frames_are_carried(
        phases in prop::collection::vec(truths(), 1..12),
        start in prop_oneof![Just(Place::Bridge), Just(Place::Nic), Just(Place::Both)],
    ) {
        let mut world = World { place: start, ..World::new() };
        for (truth, time) in phases {
            world.with(truth).run(ms(time));
        }
        for (at, order, truth) in &world.orders {
            let early = *at <= Duration::from_secs(100) + HALF + ms(20);
            match order {
                Order::ToNic(Reason::Ended) => prop_assert_eq!(truth.process, Process::Gone),
                Order::ToNic(Reason::Stopped) => prop_assert_eq!(truth.process, Process::Stopped),
                Order::ToNic(Reason::Detached) => prop_assert_eq!(truth.process, Process::Detached),
                // Silence and answers may be a moment old when the truth has just changed; never without vswitchd.
                Order::ToNic(Reason::Silent) => prop_assert_eq!(truth.process, Process::Running),
                Order::ToNic(Reason::Found) => prop_assert!(start != Place::Bridge),
                Order::ToBridge => prop_assert!(truth.process == Process::Running || early),
                Order::Stay => prop_assert!(false),
            }
        }
        // However it went: a dead switch leaves management on the NIC, a sound one gets it back.
        world.with(Truth { process: Process::Gone, ..WELL }).run(RETRY + STEP);
        prop_assert_eq!(world.place, Place::Nic);
        world.with(WELL).run(STEADY_MOST + FLOWS);
        prop_assert_eq!(world.place, Place::Bridge);
        let turns = world.orders.len();
        world.run(ms(10_000));
        prop_assert_eq!(world.orders.len(), turns, "and all is quiet");
    }
}

#[test]
fn a_turn_that_failed_and_is_not_wanted_any_more_is_forgotten() {
    let mut world = World::new();
    world.run(ms(500)).with(Truth { process: Process::Gone, refused: true, ..WELL }).run(ms(500));
    assert!(!world.mind.is_calm());
    world.with(WELL).run(ms(200));
    assert!(world.mind.is_calm() && world.place == Place::Bridge);
}
