//! Policies and frames generated from a seed, for tests that compare renderers with [`decide`].
//!
//! Frames lean towards the policy: its addresses, its ports, the edges of its ranges, so that every rule is met.
//! Among them are options, extension headers, fragments, ICMP errors, tags, tunnels, cut-off and random bytes. The
//! same seed gives the same policies and frames.
//!
//! Every case has a remote address of its own, so that no case finds what another left in a connection table.

mod bytes;
mod frames;
mod policies;
mod random;

use crate::connections::{Table, owner_of};
use crate::decide::{Decision, Ingress, Owner, decide};
use crate::frame::{Frame, protocol};
use crate::policy::Policy;
use crate::rule::RuleId;
use random::Random;

/// One frame to classify, with what has to happen before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What kind of case it is, for the message of a failing test.
    pub label: &'static str,
    /// The frames that make the owner known, to be sent before.
    pub opening: Vec<(Ingress, Vec<u8>)>,
    /// Where the frame comes from.
    pub ingress: Ingress,
    /// The frame.
    pub bytes: Vec<u8>,
    /// The other pieces of the datagram when the frame is one, from the same ingress. A switch that reassembles
    /// datagrams decides on no piece before it has seen them all.
    pub pieces: Vec<Vec<u8>>,
    /// The owner of the frame's connection after the opening.
    pub owner: Option<Owner>,
}

/// Generates policies and cases.
#[derive(Clone, Debug)]
pub struct Generator {
    random: Random,
    /// Cases generated so far: numbers the remote addresses.
    made: u32,
}

impl Case {
    /// The frame's headers.
    pub fn frame(&self) -> Frame {
        Frame::parse(&self.bytes)
    }

    /// The classifier's decision.
    pub fn decide<'policy>(&self, policy: &'policy Policy) -> Decision<'policy> {
        decide(policy, self.ingress, &self.frame(), self.owner)
    }
}

impl Generator {
    /// The same seed gives the same sequence.
    pub fn new(seed: u64) -> Self {
        Generator { random: Random::new(seed), made: 0 }
    }

    /// The next policy.
    pub fn policy(&mut self) -> Policy {
        policies::policy(&mut self.random)
    }

    /// The next case for a policy.
    pub fn case(&mut self, policy: &Policy) -> Case {
        self.made = self.made.wrapping_add(1);
        let mut case = frames::case(&mut self.random, policy, self.made);
        case.owner = owner_after(&case, policy);
        case
    }

    /// The next cases for a policy.
    pub fn cases(&mut self, policy: &Policy, count: usize) -> Vec<Case> {
        (0..count).map(|_| self.case(policy)).collect()
    }
}

/// The rules that decisions end in under some policy: all but the steps and what only one datapath's rendering has.
pub fn reachable() -> impl Iterator<Item = RuleId> {
    RuleId::ALL.iter().copied().filter(|rule| !rule.is_step() && *rule != RuleId::SctpOwned)
}

/// The owner that the opening makes known.
fn owner_after(case: &Case, policy: &Policy) -> Option<Owner> {
    let mut table = Table::default();
    for (ingress, bytes) in &case.opening {
        table.classify(policy, *ingress, &Frame::parse(bytes));
    }
    for piece in std::iter::once(&case.bytes).chain(&case.pieces) {
        let frame = Frame::parse(piece);
        let associated = frame.tuple().is_some_and(|tuple| tuple.protocol == protocol::SCTP);
        if let (false, Some(datagram), Some(owner)) =
            (associated, frame.datagram(), owner_of(&frame, &table, &table))
        {
            table.insert_datagram(datagram, owner);
        }
    }
    owner_of(&case.frame(), &table, &table)
}

#[cfg(test)]
mod tests;
