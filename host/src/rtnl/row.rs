//! One object of the kernel as a row: its fixed header and its attributes.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{address, hex, link, neighbour, nexthop, qdisc, route, rule};
use crate::netlink_format::{self, NLA_TYPE_MASK};

/// One object as the kernel dumps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// Its kind.
    pub kind: Kind,
    /// The fixed header (`struct rtmsg`...).
    #[serde(with = "hex")]
    pub header: Vec<u8>,
    /// The attributes, in the kernel's order.
    pub attributes: Vec<Attribute>,
}

/// An attribute of a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attribute {
    /// Its number, with the flags the kernel sets (nested, byte order).
    pub kind: u16,
    /// Its value.
    #[serde(with = "hex")]
    pub value: Vec<u8>,
}

/// The kind of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Kind {
    Link,
    Address,
    Route,
    Neighbour,
    Rule,
    Nexthop,
    Qdisc,
}

/// The address family of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Family {
    V4,
    V6,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind.singular())?;
        let shown = match self.kind {
            Kind::Link => link::Link::of(self).map(|link| write!(f, "{link}")),
            Kind::Address => {
                address::Address::of(self).map(|address| write!(f, "{address} dev {}", address.device()))
            }
            Kind::Route => route::Route::of(self).map(|route| write!(f, "{route}")),
            Kind::Neighbour => {
                neighbour::Neighbour::of(self).map(|entry| write!(f, "{entry} dev {}", entry.device()))
            }
            Kind::Rule => rule::Rule::of(self).map(|rule| write!(f, "{rule}")),
            Kind::Nexthop => nexthop::Nexthop::of(self).map(|nexthop| write!(f, "{nexthop}")),
            Kind::Qdisc => qdisc::Qdisc::of(self).map(|qdisc| write!(f, "{qdisc} dev {}", qdisc.device())),
        };
        shown.unwrap_or_else(|| f.write_str("(malformed)"))
    }
}

// linux/rtnetlink.h: the message types of a kind follow each other.
pub(super) const NEW: u16 = 0;
pub(super) const DELETE: u16 = 1;
pub(super) const GET: u16 = 2;

impl Kind {
    /// All kinds.
    pub(crate) const ALL: [Self; 7] =
        [Self::Link, Self::Address, Self::Route, Self::Neighbour, Self::Rule, Self::Nexthop, Self::Qdisc];

    pub(super) fn number(self) -> u16 {
        match self {
            Self::Link => libc::RTM_NEWLINK,
            Self::Address => libc::RTM_NEWADDR,
            Self::Route => libc::RTM_NEWROUTE,
            Self::Neighbour => libc::RTM_NEWNEIGH,
            Self::Rule => libc::RTM_NEWRULE,
            Self::Qdisc => libc::RTM_NEWQDISC,
            Self::Nexthop => 104,
        }
    }

    /// Bytes of the fixed header.
    pub(super) fn header(self) -> usize {
        match self {
            Self::Link => 16,
            Self::Address | Self::Nexthop => 8,
            Self::Route | Self::Neighbour | Self::Rule => 12,
            Self::Qdisc => 20,
        }
    }

    pub(super) fn singular(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Neighbour => "neighbour",
            Self::Rule => "rule",
            Self::Nexthop => "nexthop",
            Self::Qdisc => "qdisc",
        }
    }

    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Link => "links",
            Self::Address => "addresses",
            Self::Route => "routes",
            Self::Neighbour => "neighbours",
            Self::Rule => "rules",
            Self::Nexthop => "nexthops",
            Self::Qdisc => "qdiscs",
        }
    }
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// `AF_INET` or `AF_INET6`.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }

    /// The family of an address.
    #[must_use]
    pub(super) fn of_address(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }
}

impl Row {
    /// A row with a header of zeros and no attribute.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        Self { kind, header: vec![0; kind.header()], attributes: Vec::new() }
    }

    pub(crate) fn read(kind: Kind, body: &[u8]) -> Option<Self> {
        let (header, rest) = body.split_at_checked(kind.header())?;
        let attributes = netlink_format::attributes(rest)
            .map(|(kind, value)| Attribute { kind, value: value.to_vec() })
            .collect();
        Some(Self { kind, header: header.to_vec(), attributes })
    }

    /// The value of an attribute, by its number.
    #[must_use]
    pub fn attribute(&self, kind: u16) -> Option<&[u8]> {
        let found = self.attributes.iter().find(|attribute| attribute.number() == kind)?;
        Some(&found.value)
    }

    /// The address family in the header; `None` where there is none (links, nexthop groups).
    #[must_use]
    pub fn family(&self) -> Option<Family> {
        Family::of(*self.header.first()?)
    }

    pub(super) fn number(&self, kind: u16) -> Option<u32> {
        netlink_format::number(self.attribute(kind)?, 0)
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        self.attribute(kind).map(netlink_format::text)
    }

    /// Replaces the attribute with that number, or appends it.
    pub(super) fn set(&mut self, kind: u16, value: Vec<u8>) {
        match self.attributes.iter_mut().find(|attribute| attribute.number() == kind) {
            Some(found) => found.value = value,
            None => self.attributes.push(Attribute { kind, value }),
        }
    }

    pub(super) fn drop_attributes(&mut self, kinds: &[u16]) {
        self.attributes.retain(|attribute| !kinds.contains(&attribute.number()));
    }

    pub(super) fn keep_attributes(&mut self, kinds: &[u16]) {
        self.attributes.retain(|attribute| kinds.contains(&attribute.number()));
    }

    pub(super) fn byte(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }

    pub(super) fn set_byte(&mut self, at: usize, value: u8) {
        if let Some(byte) = self.header.get_mut(at) {
            *byte = value;
        }
    }

    pub(super) fn word(&self, at: usize) -> u32 {
        netlink_format::number(&self.header, at).unwrap_or_default()
    }

    pub(super) fn set_word(&mut self, at: usize, value: u32) {
        if let Some(bytes) = self.header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *bytes = value.to_ne_bytes();
        }
    }

    pub(super) fn half(&self, at: usize) -> u16 {
        netlink_format::short(&self.header, at).unwrap_or_default()
    }

    pub(super) fn set_half(&mut self, at: usize, value: u16) {
        if let Some(bytes) = self.header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *bytes = value.to_ne_bytes();
        }
    }

    /// It is of this kind, with a header of the right length: a row from a file may have another one.
    pub(super) fn is(&self, kind: Kind) -> bool {
        self.kind == kind && self.header.len() == kind.header()
    }

    pub(super) fn is_requested(&self, family: Family) -> bool {
        match self.kind {
            Kind::Link | Kind::Nexthop | Kind::Qdisc => true,
            // Cloned routes are the kernel's cache, from redirects for instance.
            Kind::Route => {
                self.family() == Some(family) && self.word(route::FLAGS) & route::RTM_F_CLONED == 0
            }
            Kind::Neighbour => {
                self.family() == Some(family) && self.byte(neighbour::FLAGS) & neighbour::NTF_PROXY == 0
            }
            Kind::Address | Kind::Rule => self.family() == Some(family),
        }
    }
}

impl Attribute {
    /// Its number without the flags.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.kind & NLA_TYPE_MASK
    }
}
