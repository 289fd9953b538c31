//! A flow as a value: what a switch should hold, and what it reports.
//!
//! A flow's identity is (table, priority, canonical match) ([`FlowKey`]); its value is cookie, actions and
//! timeouts ([`FlowValue`]). What a bridge dumps back compares equal to what was sent.

use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, Ipv6Addr};

/// An OpenFlow port number (32 bits on the wire since OpenFlow 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OfPort(pub u32);

/// [`Field::VlanTci`]: the bit that says a tag is present; match it against itself for "any tagged frame".
pub const VLAN_PRESENT: u16 = 0x1000;
/// [`Field::IpFrag`]: the bit set on every piece of a fragmented datagram; match it against itself for `nw_frag=yes`.
pub const FRAG_ANY: u8 = 0x1;
/// [`Field::TcpFlags`]: SYN.
pub const TCP_SYN: u16 = 0x002;
/// [`Field::TcpFlags`]: ACK.
pub const TCP_ACK: u16 = 0x010;
/// [`Field::CtState`]: the frame came back from conntrack (`+trk`).
pub const CT_TRACKED: u32 = 0x20;

impl OfPort {
    /// The reserved port of the bridge's own device (`LOCAL`).
    pub const LOCAL: OfPort = OfPort(0xffff_fffe);
    /// The reserved port that stands for the bridge's own MAC learning (`NORMAL`).
    pub const NORMAL: OfPort = OfPort(0xffff_fffa);
    /// The reserved port a frame came in by (`IN_PORT`).
    pub const IN_PORT: OfPort = OfPort(0xffff_fff8);
}

/// A header or metadata field that a flow can match or set. Widths are those of ovs-fields(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are those of ovs-fields(7)")]
pub enum Field {
    InPort,
    EthDst,
    EthSrc,
    EthType,
    VlanTci,
    IpProto,
    IpFrag,
    Ipv4Src,
    Ipv4Dst,
    Ipv6Src,
    Ipv6Dst,
    TcpSrc,
    TcpDst,
    TcpFlags,
    UdpSrc,
    UdpDst,
    SctpSrc,
    SctpDst,
    Icmpv4Type,
    Icmpv4Code,
    Icmpv6Type,
    Icmpv6Code,
    ArpOp,
    ArpSpa,
    ArpTpa,
    NdTarget,
    CtState,
    CtZone,
    CtMark,
    Metadata,
}

/// Value and mask of one matched field, right-aligned. Bits outside the mask are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Masked {
    /// The value, zero where the mask is.
    pub value: u128,
    /// One bits are compared; all ones over the field's width is an exact match.
    pub mask: u128,
}

/// A canonical match: fields in one order, values masked, fully wildcarded fields absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    // Sorted by field, each field once: one small allocation, where a tree takes a kilobyte for four fields.
    fields: Vec<(Field, Masked)>,
}

impl Field {
    /// Width in bits: those that can be matched, which for `IpFrag`, `TcpFlags` and `CtState`
    /// are fewer than the wire carries.
    pub fn bits(self) -> u32 {
        match self {
            Field::Ipv6Src | Field::Ipv6Dst | Field::NdTarget => 128,
            Field::Metadata => 64,
            Field::EthDst | Field::EthSrc => 48,
            Field::InPort
            | Field::Ipv4Src
            | Field::Ipv4Dst
            | Field::ArpSpa
            | Field::ArpTpa
            | Field::CtMark => 32,
            Field::EthType
            | Field::VlanTci
            | Field::TcpSrc
            | Field::TcpDst
            | Field::UdpSrc
            | Field::UdpDst
            | Field::SctpSrc
            | Field::SctpDst
            | Field::ArpOp
            | Field::CtZone => 16,
            Field::TcpFlags => 12,
            Field::IpFrag => 2,
            Field::IpProto
            | Field::CtState
            | Field::Icmpv4Type
            | Field::Icmpv4Code
            | Field::Icmpv6Type
            | Field::Icmpv6Code => 8,
        }
    }

    /// A mask of ones over the field's whole width.
    pub fn full_mask(self) -> u128 {
        match self.bits() {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }
}

impl Match {
    /// A match of everything.
    pub fn any() -> Self {
        Self::default()
    }

    /// Adds an exact match of one field.
    #[must_use]
    pub fn with(self, field: Field, value: impl Into<u128>) -> Self {
        self.masked(field, value, field.full_mask())
    }

    /// Adds a masked match of one field; an empty mask removes the field.
    #[must_use]
    pub fn masked(mut self, field: Field, value: impl Into<u128>, mask: impl Into<u128>) -> Self {
        let mask = mask.into() & field.full_mask();
        let wanted = Masked { value: value.into() & mask, mask };
        match self.fields.binary_search_by_key(&field, |(have, _)| *have) {
            Ok(at) if mask == 0 => drop(self.fields.remove(at)),
            Ok(at) => self.fields[at].1 = wanted,
            Err(_) if mask == 0 => {}
            Err(at) => self.fields.insert(at, (field, wanted)),
        }
        self
    }

    /// What is matched of one field, if anything.
    pub fn get(&self, field: Field) -> Option<Masked> {
        let at = self.fields.binary_search_by_key(&field, |(have, _)| *have).ok()?;
        Some(self.fields[at].1)
    }

    /// Every matched field in canonical order.
    pub fn iter(&self) -> impl Iterator<Item = (Field, Masked)> + '_ {
        self.fields.iter().copied()
    }
}

/// Mixed to one word first: tens of thousands of matches are looked up in a comparison, and a map's own hash of a hundred
/// bytes each takes longer than all the rest. Matches come from the node's own policy and switch: there is no attack by collisions.
impl Hash for Match {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut mixed = 0_u64;
        // The golden ratio's bits, as in Fibonacci hashing (Knuth, TAOCP 3, 6.4).
        let mut mix = |word: u64| mixed = (mixed.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for (field, masked) in &self.fields {
            mix(*field as u64);
            for number in [masked.value, masked.mask] {
                mix(number as u64);
                mix((number >> 64) as u64);
            }
        }
        state.write_u64(mixed);
    }
}

/// One `ct()` action. The zone is always given; NAT is deliberately not expressible.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ct {
    /// Conntrack zone.
    pub zone: u16,
    /// Commit the connection.
    pub commit: bool,
    /// Table at which the tracked frame starts again, if it does.
    pub table: Option<u8>,
    /// `exec(set_field:N->ct_mark)` on commit.
    pub mark: Option<u32>,
}

/// One clause of a `learn()` action (ovs-actions(7)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LearnSpec {
    /// `FIELD=VALUE` in the learned match.
    MatchValue(Field, u128),
    /// `FIELD=SOURCE[]`: the learned match takes the whole of a field of the frame.
    MatchField(Field, Field),
    /// `output:SOURCE[]`: the learned flow outputs to the port held in a field.
    OutputField(Field),
}

/// A `learn()` action: a frame that passes installs a flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Learn {
    /// Table of the learned flow.
    pub table: u8,
    /// Priority of the learned flow.
    pub priority: u16,
    /// Cookie of the learned flow.
    pub cookie: u64,
    /// Seconds of silence after which the learned flow goes.
    pub idle_timeout: u16,
    /// Learned flows go when this flow goes (`delete_learned`).
    pub delete_learned: bool,
    /// At most so many learned flows (0: no limit).
    pub limit: u32,
    /// Match and actions of the learned flow.
    pub specs: Vec<LearnSpec>,
}

/// What a flow does with a frame, in order. An empty list drops.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `output:PORT`; reserved ports included ([`OfPort::LOCAL`], [`OfPort::NORMAL`], [`OfPort::IN_PORT`]).
    Output(OfPort),
    /// `resubmit(,TABLE)`.
    Resubmit(u8),
    /// `ct(...)`.
    Ct(Ct),
    /// `learn(...)`.
    Learn(Learn),
    /// `goto_table:TABLE`; an instruction on the wire, always last.
    GotoTable(u8),
}

/// A flow's identity in a bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey {
    /// Table.
    pub table: u8,
    /// Priority, higher wins.
    pub priority: u16,
    /// Canonical match.
    pub matches: Match,
}

/// What a flow's identity maps to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FlowValue {
    /// Cookie, the mark of the flow's owner.
    pub cookie: u64,
    /// Idle timeout in seconds, 0 for none.
    pub idle_timeout: u16,
    /// Hard timeout in seconds, 0 for none.
    pub hard_timeout: u16,
    /// Actions in order.
    pub actions: Vec<Action>,
}

/// A whole flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// Identity.
    pub key: FlowKey,
    /// Value.
    pub value: FlowValue,
}

impl Flow {
    /// A flow without timeouts.
    pub fn new(table: u8, priority: u16, matches: Match, cookie: u64, actions: Vec<Action>) -> Self {
        let value = FlowValue { cookie, idle_timeout: 0, hard_timeout: 0, actions };
        Flow { key: FlowKey { table, priority, matches }, value }
    }
}

/// The value of an IPv4 address as a field holds it.
pub fn ipv4(address: Ipv4Addr) -> u128 {
    u128::from(u32::from(address))
}

/// The value of an IPv6 address as a field holds it.
pub fn ipv6(address: Ipv6Addr) -> u128 {
    u128::from(address)
}
