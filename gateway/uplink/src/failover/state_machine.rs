//! When management leaves the bridge and when it comes back: a pure function of what was and what is seen.
//!
//! ```text
//!               ended, stopped, or silent while the NIC is answered
//!   OnBridge ------------------------------------------------------> OnNic
//!      ^                                                               |  vswitchd runs and answers come
//!      |   answers in a row, flows in (or waited for long enough),     v
//!      '-- and steady for longer, the more often it changed ------- Proving
//! ```
//!
//! The truth about where management is, is what the kernel holds, never what was ordered: an order that failed is given
//! again, and a turn that somebody else made is taken note of.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::path_health::PathHealth;

/// An order that did not come out is given again after this.
const RETRY: Duration = Duration::from_millis(250);
/// How long flows are waited for once the way is proved: nobody knows whether the rest of the helper still works.
const FLOWS: Duration = Duration::from_secs(3);
/// Without a next hop to ask, vswitchd must have run for this long.
const UNPROVED: Duration = Duration::from_secs(1);
/// Addresses on both devices and nothing proved: after this the NIC it is.
const HALF: Duration = Duration::from_secs(1);
/// Failovers are remembered for this long.
const MEMORY: Duration = Duration::from_secs(600);
/// So many failovers within the memory cost nothing; each further one doubles the time that the bridge must be steady.
const FREE: usize = 2;
/// The first such time, and the longest.
const STEADY: Duration = Duration::from_millis(500);
const STEADY_MOST: Duration = Duration::from_secs(60);

/// ovs-vswitchd, as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It ended, or nobody holds the bridge's tap.
    Gone,
    /// It was stopped (SIGSTOP).
    Stopped,
    /// It may do what it likes: the NIC is no port of the bridge any more.
    Detached,
    /// It runs, or nothing says that it does not.
    Running,
}

/// Where the node's addresses are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// On the bridge's device.
    Bridge,
    /// On the NIC.
    Nic,
    /// On both: a turn that did not come to its end, or somebody put them back.
    Both,
    /// On neither.
    #[default]
    Nowhere,
}

/// Why management went to the NIC. The names are those of the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// vswitchd ended.
    Ended,
    /// vswitchd was stopped.
    Stopped,
    /// vswitchd runs, but what is sent into the bridge does not come back, while the NIC is answered.
    Silent,
    /// Somebody took the NIC's port off the bridge.
    Detached,
    /// It was on the NIC already when it was first looked at.
    Found,
}

/// Everything that is seen, at one moment of the keeper's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The moment.
    pub now: Duration,
    /// vswitchd.
    pub process: Process,
    /// The addresses.
    pub place: Place,
    /// The way through the bridge.
    pub bridge: PathHealth,
    /// The way over the NIC.
    pub nic: PathHealth,
    /// The NIC is set up: what is put on one that is down loses its routes.
    pub nic_up: bool,
    /// There is a next hop to ask.
    pub can_ask: bool,
    /// Our flows are in the switch, as far as is known.
    pub flows_in: bool,
    /// This bridge is ours to look after now: it holds the NIC, and no takeover is under way.
    pub kept: bool,
    /// Management may leave the bridge.
    pub may_leave: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Stay,
    /// Turn management to the NIC.
    ToNic(Reason),
    /// Turn management to the bridge.
    ToBridge,
}

/// What is going on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing of ours to look after.
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
    /// Management is on the NIC, and the bridge begins to carry.
    Proving {
        /// Since when management is away.
        away: Duration,
        /// Why.
        why: Reason,
        /// Since when the bridge answers without a gap.
        since: Duration,
    },
}

/// How to ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// Ask through the bridge when the last question is this long ago.
    pub bridge: Option<Duration>,
    /// Ask over the NIC when the last question is this long ago.
    pub nic: Option<Duration>,
}

/// The state, with what has to be remembered from one look to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateMachine {
    /// What is going on.
    pub state: State,
    /// When management left the bridge, the latest last.
    departures: Vec<Duration>,
    /// The last order, and when.
    tried: Option<(Order, Duration)>,
    /// Since when addresses are on both devices.
    half: Option<Duration>,
}

impl StateMachine {
    /// One look: what is the state now, and what is to be done.
    #[must_use]
    pub fn next(&self, seen: &Seen) -> (StateMachine, Order) {
        let mut mind = self.clone();
        mind.departures.retain(|at| seen.now.saturating_sub(*at) < MEMORY);
        if !seen.kept {
            mind.state = State::Idle;
            (mind.tried, mind.half) = (None, None);
            return (mind, Order::Stay);
        }
        mind.half = (seen.place == Place::Both).then(|| self.half.unwrap_or(seen.now));
        let order = match seen.place {
            Place::Nowhere => Order::Stay,
            Place::Bridge => mind.on_bridge(seen),
            Place::Nic => mind.on_nic(seen),
            Place::Both => mind.on_both(seen),
        };
        mind.give(order, seen.now)
    }

    /// What was being proved was another bridge than this one.
    pub fn prove_anew(&mut self) {
        if let State::Proving { away, why, .. } = self.state {
            self.state = State::OnNic { since: away, why };
        }
    }

    /// Nothing is under way: no order waits for its outcome.
    pub fn is_calm(&self) -> bool {
        self.tried.is_none()
    }

    /// Management is on the NIC already: what goes there now was added on the bridge meanwhile.
    pub fn is_away(&self) -> bool {
        matches!(self.state, State::OnNic { .. } | State::Proving { .. })
    }

    /// How the ways are to be asked now.
    pub fn asking(&self, seen: &Seen, stirred: bool) -> Asking {
        const CLOSE: Duration = Duration::from_millis(50);
        const FAST: Duration = Duration::from_millis(20);
        // On a busy machine an answer takes its time: it is waited for before the question is put again.
        const PATIENT: Duration = Duration::from_millis(150);
        const IDLE: Duration = Duration::from_secs(1);
        if !seen.can_ask || !seen.kept || seen.process != Process::Running {
            return Asking::default();
        }
        let proving = if seen.bridge.is_settled() { FAST } else { PATIENT };
        match self.state {
            State::Idle => Asking::default(),
            State::OnBridge => {
                let suspect = seen.bridge.is_suspect(seen.now);
                let close = stirred || !seen.bridge.is_settled();
                Asking { bridge: Some(if close { CLOSE } else { IDLE }), nic: suspect.then_some(CLOSE) }
            }
            State::Proving { .. } => Asking { bridge: Some(proving), nic: None },
            State::OnNic { since, .. } => {
                // A database that is away for an hour is no reason for fifty questions a second all the while.
                let away = seen.now.saturating_sub(since);
                let pace = match away.as_secs() {
                    _ if seen.bridge.answers() => proving,
                    0..5 => FAST,
                    5..60 => PATIENT,
                    _ => IDLE,
                };
                Asking { bridge: Some(pace), nic: None }
            }
        }
    }

    /// How long the bridge must answer without a gap before management returns.
    fn steady(&self) -> Duration {
        match self.departures.len().checked_sub(FREE + 1) {
            None => Duration::ZERO,
            Some(further) => {
                (STEADY * 2_u32.saturating_pow(u32::try_from(further).unwrap_or(31).min(16))).min(STEADY_MOST)
            }
        }
    }

    fn on_bridge(&mut self, seen: &Seen) -> Order {
        self.state = State::OnBridge;
        match cause(seen) {
            Some(why) if may_leave(seen) => Order::ToNic(why),
            _ => {
                // Whatever was ordered has come out, or is not wanted any more.
                self.tried = None;
                Order::Stay
            }
        }
    }

    fn on_nic(&mut self, seen: &Seen) -> Order {
        let (away, why, since) = match self.state {
            State::OnNic { since, why } => (since, why, None),
            State::Proving { away, why, since } => (away, why, Some(since)),
            State::Idle | State::OnBridge => (seen.now, self.why_left(), None),
        };
        if matches!(self.tried, Some((Order::ToNic(_), _))) {
            self.tried = None;
        }
        if !carries(seen) {
            self.state = State::OnNic { since: away, why };
            return Order::Stay;
        }
        let since = since.unwrap_or(seen.now);
        self.state = State::Proving { away, why, since };
        let steady = seen.now.saturating_sub(since);
        let proved = if seen.can_ask { seen.bridge.is_proved(seen.now) } else { steady >= UNPROVED };
        let flows = seen.flows_in || steady >= FLOWS;
        if proved && flows && steady >= self.steady() { Order::ToBridge } else { Order::Stay }
    }

    /// A turn was cut off, or an address was put back on the NIC: on to where frames are carried.
    fn on_both(&mut self, seen: &Seen) -> Order {
        let half = self.half.map_or(Duration::ZERO, |since| seen.now.saturating_sub(since));
        match (cause(seen), self.state) {
            (Some(why), _) if may_leave(seen) => Order::ToNic(why),
            (_, State::OnBridge) => Order::ToBridge,
            _ if carries(seen) && (!seen.can_ask || seen.bridge.is_proved(seen.now)) => Order::ToBridge,
            (_, State::Idle) => {
                // Looked at for the first time: asked as when management is away.
                self.state = State::OnNic { since: seen.now, why: Reason::Found };
                Order::Stay
            }
            _ if half >= HALF && seen.nic_up => Order::ToNic(self.why_left()),
            _ => Order::Stay,
        }
    }

    fn why_left(&self) -> Reason {
        match (self.tried, self.state) {
            (_, State::OnNic { why, .. } | State::Proving { why, .. }) => why,
            (Some((Order::ToNic(why), _)), _) => why,
            _ => Reason::Found,
        }
    }

    /// An order is given once, and again when it did not come out.
    fn give(mut self, order: Order, now: Duration) -> (StateMachine, Order) {
        if order == Order::Stay {
            return (self, order);
        }
        let again = self.tried.is_some_and(|(tried, at)| {
            std::mem::discriminant(&tried) == std::mem::discriminant(&order) && now.saturating_sub(at) < RETRY
        });
        if again {
            return (self, Order::Stay);
        }
        let first = !matches!((self.tried, order), (Some((Order::ToNic(_), _)), Order::ToNic(_)));
        if matches!(order, Order::ToNic(_)) && first && !self.is_away() {
            self.departures.push(now);
        }
        self.tried = Some((order, now));
        (self, order)
    }
}

/// What speaks against the bridge, if anything does.
fn cause(seen: &Seen) -> Option<Reason> {
    match seen.process {
        Process::Gone => Some(Reason::Ended),
        Process::Stopped => Some(Reason::Stopped),
        Process::Detached => Some(Reason::Detached),
        // When the NIC is not answered either, the wire or the next hop is dead, and turning would mend nothing.
        Process::Running => {
            let silent = seen.bridge.is_silent(seen.now) && seen.nic.is_fresh(seen.now);
            silent.then_some(Reason::Silent)
        }
    }
}

fn may_leave(seen: &Seen) -> bool {
    seen.may_leave && seen.nic_up
}

/// The bridge begins to carry.
fn carries(seen: &Seen) -> bool {
    seen.process == Process::Running && (!seen.can_ask || seen.bridge.answers())
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Ended => "ovs-vswitchd ended",
            Reason::Stopped => "ovs-vswitchd was stopped",
            Reason::Silent => "ovs-vswitchd runs, but the bridge carries nothing",
            Reason::Detached => "it is no port of the bridge any more",
            Reason::Found => "it was found there",
        })
    }
}

impl Reason {
    /// As the metric's label has it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Ended => "ended",
            Reason::Stopped => "stopped",
            Reason::Silent => "silent",
            Reason::Detached => "detached",
            Reason::Found => "found",
        }
    }
}

#[cfg(test)]
mod tests;
