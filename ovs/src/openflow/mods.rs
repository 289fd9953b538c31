//! Changes of a switch's flows.

use super::flow::{Field, Flow, FlowKey, Match};

/// A set of cookies: those that equal `value` in the bits of `mask`. It selects one owner's flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cookies {
    /// The bits to compare with.
    pub value: u64,
    /// One bits are compared; 0 means every flow.
    pub mask: u64,
}

/// One change of a switch's tables.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FlowMod {
    /// Adds a flow; one that has the same key is replaced, a foreign one too (see [`mod@super::diff`]).
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

impl FlowMod {
    /// The same change with the addresses and ports of its match set to 0: switches accept every value there, so they
    /// accept all changes of a form or none (but for a full table).
    pub(super) fn form(&self) -> FlowMod {
        let form = |key: &FlowKey| FlowKey { matches: form_of(&key.matches), ..*key };
        match self {
            FlowMod::Add(flow) => FlowMod::Add(Flow { key: form(&flow.key), value: flow.value.clone() }),
            FlowMod::Modify(flow) => {
                FlowMod::Modify(Flow { key: form(&flow.key), value: flow.value.clone() })
            }
            FlowMod::Delete { key, cookies } => FlowMod::Delete { key: form(key), cookies: *cookies },
            FlowMod::DeleteAll { .. } => self.clone(),
        }
    }
}

fn form_of(matches: &Match) -> Match {
    let any_value = |field| {
        matches!(
            field,
            Field::Ipv4Src
                | Field::Ipv4Dst
                | Field::Ipv6Src
                | Field::Ipv6Dst
                | Field::TcpSrc
                | Field::TcpDst
                | Field::UdpSrc
                | Field::UdpDst
                | Field::SctpSrc
                | Field::SctpDst
        )
    };
    matches.iter().fold(Match::any(), |form, (field, masked)| {
        let value = if any_value(field) { 0 } else { masked.value };
        form.masked(field, value, masked.mask)
    })
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
