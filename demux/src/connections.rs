//! The owner of a connection or a datagram: the state that [`decide`] depends on.
//!
//! The two traits are what a packet path implements. [`Table`] is the plain one: it learns from the frames that are
//! classified, as the bridge's connection table and its learned flows do, and is what tests hold others against.

use std::collections::HashMap;

use crate::decide::{Decision, Ingress, Owner, decide};
use crate::frame::{Datagram, Frame, Tuple, protocol};
use crate::policy::Policy;

/// Finds the owner of a connection.
pub trait Connections {
    /// The owner of the connection that a frame with this tuple belongs to, in either direction.
    fn owner(&self, tuple: &Tuple) -> Option<Owner>;
}

/// Finds the owner of a datagram that travels in pieces.
pub trait Fragments {
    /// The owner of the datagram, once its first piece has been seen.
    fn owner(&self, datagram: &Datagram) -> Option<Owner>;
}

/// Classifies a frame, and looks up its owner only where the verdict depends on it.
pub fn classify<'policy>(
    policy: &'policy Policy,
    ingress: Ingress,
    frame: &Frame,
    connections: &impl Connections,
    fragments: &impl Fragments,
) -> Decision<'policy> {
    let unknown = decide(policy, ingress, frame, None);
    if !unknown.depends_on_owner {
        return unknown;
    }
    match owner_of(frame, connections, fragments) {
        None => unknown,
        known => decide(policy, ingress, frame, known),
    }
}

/// The owner of the connection or datagram that a frame belongs to.
pub fn owner_of(frame: &Frame, connections: &impl Connections, fragments: &impl Fragments) -> Option<Owner> {
    let by_tuple = frame.tuple().and_then(|tuple| connections.owner(&tuple));
    by_tuple.or_else(|| frame.datagram().and_then(|datagram| fragments.owner(&datagram)))
}

/// Connections and datagrams in memory, for ever: no entry expires.
#[derive(Clone, Debug, Default)]
pub struct Table {
    connections: HashMap<Tuple, Owner>,
    datagrams: HashMap<Datagram, Owner>,
}

impl Table {
    /// Classifies a frame and remembers what follows from it: the connection it opens, the datagram it begins.
    pub fn classify<'policy>(
        &mut self,
        policy: &'policy Policy,
        ingress: Ingress,
        frame: &Frame,
    ) -> Decision<'policy> {
        let decision = classify(policy, ingress, frame, self, self);
        if let (Some(owner), Some(tuple)) = (decision.rule.commits(), frame.tuple()) {
            self.insert(tuple, owner);
        }
        if let (Some(tuple), Some(datagram)) = (frame.tuple(), frame.datagram())
            // Associations are known apart from connections, and by their ports alone.
            && tuple.protocol != protocol::SCTP
            && let Some(owner) = Connections::owner(self, &tuple)
        {
            self.datagrams.insert(datagram, owner);
        }
        decision
    }

    /// Sets the owner of a connection, in both directions. A later owner replaces an earlier one.
    pub fn insert(&mut self, tuple: Tuple, owner: Owner) {
        self.connections.insert(tuple, owner);
        self.connections.insert(tuple.reversed(), owner);
    }

    /// Sets the owner of a datagram.
    pub fn insert_datagram(&mut self, datagram: Datagram, owner: Owner) {
        self.datagrams.insert(datagram, owner);
    }
}

impl Connections for Table {
    fn owner(&self, tuple: &Tuple) -> Option<Owner> {
        self.connections.get(tuple).copied()
    }
}

impl Fragments for Table {
    fn owner(&self, datagram: &Datagram) -> Option<Owner> {
        self.datagrams.get(datagram).copied()
    }
}
