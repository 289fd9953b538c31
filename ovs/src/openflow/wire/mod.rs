//! OpenFlow 1.4 messages as bytes (ONF TS-012), with the Nicira extensions of Open vSwitch (ovs-fields(7),
//! ovs-actions(7)). No I/O: values in, bytes out, and back.
//!
//! What is read comes from outside: every length is checked, and what is invalid is a [`Malformed`], never a
//! panic. What is valid but cannot be expressed by [`super::flow`] is a foreign flow, and is reported as
//! [`stats::Opaque`].

mod action;
pub(crate) mod bytes;
pub mod decode;
pub mod errors;
pub(crate) mod hello;
mod learn;
pub mod message;
pub(crate) mod monitor;
mod oxm;
pub mod stats;
#[cfg(test)]
mod tests;

/// The version byte of OpenFlow 1.4.
pub const VERSION: u8 = 5;
/// The experimenter number of Nicira, under which Open vSwitch keeps its extensions.
const NICIRA: u32 = 0x0000_2320;

/// Bytes that are not valid OpenFlow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} (byte {at})")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the start of what was read.
    pub at: usize,
}

/// A flow that OpenFlow cannot express.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    /// `goto_table` is an instruction and ends the list.
    #[error("goto_table is not the last action")]
    GotoNotLast,
    /// Lengths on the wire have 16 bits.
    #[error("it takes more than 64 KiB")]
    TooLong,
    /// Of a tag's priority, all bits or none can be matched, and only together with the presence of a tag.
    #[error("vlan_tci is matched on priority bits in a way that OpenFlow 1.4 cannot report back")]
    VlanPriority,
}

/// Why a part of a flow could not be read into our values.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NotOurs {
    /// Well-formed, but not among this crate's matches and actions.
    Unknown(String),
    /// Malformed.
    Malformed(Malformed),
}

impl From<Malformed> for NotOurs {
    fn from(malformed: Malformed) -> Self {
        NotOurs::Malformed(malformed)
    }
}
