//! OpenFlow 1.4 messages as bytes (ONF TS-012), with the Nicira extensions of Open vSwitch (ovs-fields(7),
//! ovs-actions(7)). No I/O: values in, bytes out, and back.

pub mod errors;
pub mod stats;

/// Bytes that are not what OpenFlow says they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct Malformed {
    /// What is wrong.
    pub what: &'static str,
    /// Where, counted from the start of the message.
    pub at: usize,
}

/// A flow that OpenFlow has no words for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    /// `goto_table` is an instruction and ends the list.
    #[error("goto_table is not the last action")]
    GotoNotLast,
    /// Lengths on the wire have 16 bits.
    #[error("its actions take more than 64 KiB")]
    TooLong,
    /// A tag's priority bits can only be matched all or none.
    #[error("vlan_tci is matched on a part of the priority bits, which OpenFlow 1.4 cannot report back")]
    VlanPriority,
}
