//! Errors of a connection to a switch.

use std::fmt;
use std::io;
use std::time::Duration;

use super::wire::errors::SwitchError;
use super::wire::{Malformed, Unencodable};

/// A failed request: what was attempted, on what, and what a person can do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be one of a switch.
    #[error("{address:?} is no OpenFlow address; give unix:PATH, an absolute path, or tcp:HOST:PORT")]
    Address {
        /// What was given.
        address: String,
    },
    /// Nothing answers there.
    #[error(
        "cannot connect to the switch at {address}: {source}; is ovs-vswitchd running, and does the bridge exist?"
    )]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The switch does not speak OpenFlow 1.4.
    #[error(
        "the switch at {address} does not speak OpenFlow 1.4 ({offer}); \
         allow it with: ovs-vsctl add bridge BRIDGE protocols OpenFlow14"
    )]
    Version {
        /// Where.
        address: String,
        /// What it offers.
        offer: String,
    },
    /// The connection is gone, and with it every request under way. After a restart the switch's tables are empty.
    #[error("the connection to the switch is gone: {0}; connect again and compare")]
    Closed(Disconnect),
    /// A flow cannot be encoded in OpenFlow; nothing was sent.
    #[error("flow {index} cannot be sent: {source}: {flow}")]
    Unencodable {
        /// Its place in the request.
        index: usize,
        /// The flow as text.
        flow: String,
        /// Why not.
        source: Unencodable,
    },
    /// The switch refused some of the flows, so that none was committed.
    #[error("the switch refused {} of {of} flow changes, none is committed; the first: {}", refused.len(), first(refused))]
    Refused {
        /// Which, in order.
        refused: Vec<Refusal>,
        /// How many changes were requested.
        of: usize,
    },
    /// The switch refused some of the flow changes and committed the others. Only a switch that refuses what it accepted
    /// earlier on the same connection does that.
    #[error("the switch refused {} of {of} flow changes and committed the others; compare its flows with the wanted ones; the first: {}", refused.len(), first(refused))]
    PartlyCommitted {
        /// Which were refused, in order.
        refused: Vec<Refusal>,
        /// How many changes were requested.
        of: usize,
    },
    /// The switch refused a request.
    #[error("the switch refused {what}: {error}")]
    Switch {
        /// The request.
        what: &'static str,
        /// Its answer.
        error: SwitchError,
    },
    /// The switch's reply is malformed.
    #[error("cannot read the switch's answer to {what}: {source}")]
    Answer {
        /// The request.
        what: &'static str,
        /// What is wrong with it.
        source: Malformed,
    },
}

/// One refused flow change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place in the request.
    pub index: usize,
    /// The change as text.
    pub what: String,
    /// The switch's reason.
    pub error: SwitchError,
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disconnect {
    /// The switch closed it: ovs-vswitchd ended or started again, or the bridge was deleted.
    #[error("the switch closed it")]
    Eof,
    /// Reading or writing failed.
    #[error("{0}")]
    Io(String),
    /// The switch sent a message that is not OpenFlow 1.4.
    #[error("the switch sent a malformed message: {0}")]
    Malformed(#[from] Malformed),
    /// Not even an echo came back.
    #[error("the switch has been silent for {0:?}")]
    Silent(Duration),
    /// It was closed on this side.
    #[error("it was closed on this side")]
    Dropped,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {}", self.error, self.what)
    }
}

fn first(refused: &[Refusal]) -> String {
    refused.first().map(Refusal::to_string).unwrap_or_default()
}
