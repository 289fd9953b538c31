//! What a switch is asked to change.

use super::flow::{Flow, FlowKey};

/// A set of cookies: those that equal `value` in the bits of `mask`. The way to speak of one owner's flows only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookies {
    /// The bits to compare with.
    pub value: u64,
    /// One bits are compared; 0 means every flow.
    pub mask: u64,
}

/// One change of a switch's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FlowMod {
    /// Adds a flow; one that has the same key is replaced, whoever's it was (see [`mod@super::diff`]).
    Add(Flow),
    /// Gives the flow with this key new actions and keeps its counters, cookie and timeouts; nothing happens when
    /// there is none.
    Modify(Flow),
    /// Deletes the flow with exactly this key, if its cookie is one of these.
    Delete {
        /// Which flow.
        key: FlowKey,
        /// Whose flow it has to be.
        cookies: Cookies,
    },
    /// Deletes every flow with such a cookie.
    DeleteAll {
        /// Whose flows.
        cookies: Cookies,
        /// In this table only.
        table: Option<u8>,
    },
}

impl Cookies {
    /// Every cookie.
    pub const ANY: Cookies = Cookies { value: 0, mask: 0 };

    /// This one cookie.
    pub fn exactly(value: u64) -> Self {
        Cookies { value, mask: u64::MAX }
    }

    /// Whether a cookie is one of these.
    pub fn contain(self, cookie: u64) -> bool {
        (cookie ^ self.value) & self.mask == 0
    }
}
