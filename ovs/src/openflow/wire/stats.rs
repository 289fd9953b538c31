//! Answers of the switch: flows, counters, ports.

use std::time::Duration;

use crate::openflow::flow::{Flow, FlowKey, OfPort};

/// One flow as a switch reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// The flow, or what is known of one that this crate has no words for.
    pub flow: Result<Flow, Opaque>,
    /// Cookie, the mark of the flow's owner.
    pub cookie: u64,
    /// Packets that met it.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How long it has been there.
    pub duration: Duration,
}

/// A flow with matches or actions that this crate does not know: someone else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opaque {
    /// Table.
    pub table: u8,
    /// Priority.
    pub priority: u16,
    /// Its identity, if only the actions are unknown.
    pub key: Option<FlowKey>,
    /// The unknown part, for a person.
    pub unknown: String,
}

/// Sums over a set of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Aggregate {
    /// Packets that met the flows.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// How many flows.
    pub flows: u32,
}

/// A port of the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// OpenFlow port number; it can change when the switch restarts.
    pub number: OfPort,
    /// Name, at most 15 bytes.
    pub name: String,
    /// MAC address.
    pub mac: [u8; 6],
    /// Administratively down (`OFPPC_PORT_DOWN`).
    pub down: bool,
    /// No link (`OFPPS_LINK_DOWN`).
    pub no_link: bool,
    /// Left out of floods (`no-flood`).
    pub no_flood: bool,
}
