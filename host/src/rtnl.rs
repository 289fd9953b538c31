//! The kernel's links, addresses, routes, neighbours, rules, nexthops and qdiscs as raw rows, and changes of any
//! number of them in **one** `sendmsg` (rtnetlink(7)).
//!
//! A [`Row`] is one object exactly as the kernel dumps it: its fixed header and its attributes, also those nobody here
//! knows. Put on another device nothing of it is lost. The views ([`address`], [`route`]...) read a row, print it as
//! ip(8) does, and turn it into the row that makes the same object elsewhere ([`Move`]): what the kernel says about an
//! object but does not take is dropped or translated there.
//!
//! [`Socket::batch`] sends any number of requests at once. The kernel works them off within the system call, one after
//! the other, so that no other process's turn and no signal come between two of them: a process killed meanwhile has
//! either sent all or nothing. Each is answered for itself; a refused one does not stop those behind it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::netlink_format::{
    self, NLA_TYPE_MASK, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};
use crate::netlink_socket::{self, NetlinkSocket};
use crate::{Error, Result};

pub mod address;
pub mod events;
pub mod link;
pub mod neighbour;
pub mod nexthop;
pub mod qdisc;
pub mod route;
pub mod rule;

mod hex;
mod show;

/// One object as the kernel dumps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Row {
    /// What it is.
    pub kind: Kind,
    /// The fixed header (`struct rtmsg`...).
    #[serde(with = "hex")]
    pub header: Vec<u8>,
    /// Everything else, in the kernel's order.
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

/// What a row is.
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

/// Which addresses a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "self-explanatory")]
pub enum Family {
    V4,
    V6,
}

/// A device: the index that rows name it by, and its name, which labels and rules hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Index (`ifindex`).
    pub index: u32,
    /// Name.
    pub name: String,
}

/// What is put in the place of what: rows of `from` become rows of `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The device the rows name.
    pub from: Device,
    /// The device they shall name.
    pub to: Device,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// With what.
    pub row: Row,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Make it, refused if it is there (`EEXIST`).
    Create,
    /// Make it, or put it in the place of what is there.
    Replace,
    /// Make it behind what is there (routes).
    Append,
    /// Change what is there (links).
    Change,
    /// Take it away.
    Delete,
}

/// The kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{said}")]
pub struct Refused {
    /// Why, as a number.
    pub errno: i32,
    /// Why, in words: the kernel's own where it has any.
    pub said: String,
}

/// A socket for rows, of the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Socket {
    channel: NetlinkSocket,
}

impl Socket {
    /// Opens one.
    pub fn open() -> Result<Self> {
        Ok(Self { channel: NetlinkSocket::open(libc::NETLINK_ROUTE)? })
    }

    /// All objects of a kind. Routes of all tables (the local one too), without the cached ones; neighbours without
    /// the proxy entries ([`Socket::proxies`]). The family does not matter for links, nexthops and qdiscs.
    pub fn dump(&self, kind: Kind, family: Family) -> Result<Vec<Row>> {
        let mut header = vec![0; kind.header()];
        if !matches!(kind, Kind::Link | Kind::Nexthop | Kind::Qdisc) {
            header[0] = family.number();
        }
        let rows = match self.list(kind, &header) {
            // Nexthop objects came with Linux 5.3, rules can be left out of a kernel.
            Err(Error::Netlink { errno: libc::EOPNOTSUPP, .. })
                if matches!(kind, Kind::Nexthop | Kind::Rule) =>
            {
                Vec::new()
            }
            // A kernel without IPv6 has no handler for it.
            Err(Error::Netlink { errno: libc::EAFNOSUPPORT, .. }) if family == Family::V6 => Vec::new(),
            outcome => outcome?,
        };
        Ok(rows.into_iter().filter(|row| row.is_asked_for(family)).collect())
    }

    /// All objects of a kind, of both families.
    pub fn dump_all(&self, kind: Kind) -> Result<Vec<Row>> {
        let mut rows = self.dump(kind, Family::V4)?;
        if !matches!(kind, Kind::Link | Kind::Nexthop | Kind::Qdisc) {
            rows.extend(self.dump(kind, Family::V6)?);
        }
        Ok(rows)
    }

    /// The neighbour entries that answer for others (`ip neigh show proxy`).
    pub fn proxies(&self, family: Family) -> Result<Vec<Row>> {
        let mut header = vec![0; Kind::Neighbour.header()];
        header[0] = family.number();
        header[neighbour::FLAGS] = neighbour::NTF_PROXY;
        let mut rows = match self.list(Kind::Neighbour, &header) {
            Err(Error::Netlink { errno: libc::EAFNOSUPPORT, .. }) if family == Family::V6 => Vec::new(),
            outcome => outcome?,
        };
        rows.retain(|row| row.family() == Some(family));
        Ok(rows)
    }

    fn list(&self, kind: Kind, header: &[u8]) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let what = format!("list the {}", kind.plural());
        self.channel.dump(&what, kind.number() + GET, header, |message| match message {
            None => rows.clear(),
            Some(message) if message.kind == kind.number() => rows.extend(Row::read(kind, message.body)),
            Some(_) => {}
        })?;
        Ok(rows)
    }

    /// Sends all in one `sendmsg`; the outcome of each, in order. An empty batch sends nothing. Never split: what does
    /// not fit is an error, and nothing has been done then.
    pub fn batch(&self, requests: &[Request]) -> Result<Vec<Option<Refused>>> {
        let first = self.channel.sequences(requests.len());
        let mut bytes = Vec::with_capacity(requests.len() * 96);
        for (request, sequence) in requests.iter().zip(first..) {
            request.push(&mut bytes, sequence);
        }
        let answers = self.channel.exchange("change the network", &bytes, first, requests.len())?;
        Ok(answers.into_iter().map(Refused::of).collect())
    }

    /// Sends one.
    pub fn apply(&self, request: &Request) -> Result<()> {
        match self.batch(std::slice::from_ref(request))?.into_iter().flatten().next() {
            None => Ok(()),
            Some(refused) => Err(request.refused(refused)),
        }
    }
}

impl Refused {
    fn of(answer: netlink_format::Answer) -> Option<Self> {
        (answer.errno != 0).then(|| Self { errno: answer.errno, said: netlink_socket::message_of(&answer) })
    }

    /// What was to be made is there already.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.errno == libc::EEXIST
    }

    /// What was to be taken away is not there, or its device is not.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self.errno, libc::ESRCH | libc::ENOENT | libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENXIO)
    }
}

impl Request {
    /// Makes the object; refused if it is there.
    #[must_use]
    pub fn create(row: Row) -> Self {
        Self { verb: Verb::Create, row }
    }

    /// Makes the object, in the place of what is there.
    #[must_use]
    pub fn replace(row: Row) -> Self {
        Self { verb: Verb::Replace, row }
    }

    /// Makes the object behind what is there.
    #[must_use]
    pub fn append(row: Row) -> Self {
        Self { verb: Verb::Append, row }
    }

    /// Changes the object.
    #[must_use]
    pub fn change(row: Row) -> Self {
        Self { verb: Verb::Change, row }
    }

    /// Takes the object away.
    #[must_use]
    pub fn delete(row: Row) -> Self {
        Self { verb: Verb::Delete, row }
    }

    /// A refusal of this request as an error that says what was attempted.
    #[must_use]
    pub fn refused(&self, refused: Refused) -> Error {
        Error::Netlink { attempted: self.to_string(), message: refused.said, errno: refused.errno }
    }

    fn push(&self, bytes: &mut Vec<u8>, sequence: u32) {
        let (offset, flags) = match self.verb {
            Verb::Create => (NEW, NLM_F_CREATE | NLM_F_EXCL),
            Verb::Replace => (NEW, NLM_F_CREATE | NLM_F_REPLACE),
            Verb::Append => (NEW, NLM_F_CREATE | NLM_F_APPEND),
            Verb::Change => (NEW, 0),
            Verb::Delete => (DELETE, 0),
        };
        let kind = self.row.kind.number() + offset;
        netlink_format::push_message(bytes, kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, |body| {
            body.extend(&self.row.header);
            for attribute in &self.row.attributes {
                netlink_format::push_attribute(body, attribute.kind, &attribute.value);
            }
        });
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Create => "add",
            Verb::Replace => "replace",
            Verb::Append => "append",
            Verb::Change => "change",
            Verb::Delete => "delete",
        };
        write!(f, "{verb} {}", self.row)
    }
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
        shown.unwrap_or_else(|| f.write_str("that cannot be read"))
    }
}

// linux/rtnetlink.h: the types of a kind follow each other.
const NEW: u16 = 0;
const DELETE: u16 = 1;
const GET: u16 = 2;

impl Kind {
    fn number(self) -> u16 {
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
    fn header(self) -> usize {
        match self {
            Self::Link => 16,
            Self::Address | Self::Nexthop => 8,
            Self::Route | Self::Neighbour | Self::Rule => 12,
            Self::Qdisc => 20,
        }
    }

    fn singular(self) -> &'static str {
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

    fn plural(self) -> &'static str {
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

    fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.number() == number)
    }
}

impl Row {
    /// An empty row: a header of zeros and no attribute.
    #[must_use]
    pub fn empty(kind: Kind) -> Self {
        Self { kind, header: vec![0; kind.header()], attributes: Vec::new() }
    }

    fn read(kind: Kind, body: &[u8]) -> Option<Self> {
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

    fn number(&self, kind: u16) -> Option<u32> {
        netlink_format::number(self.attribute(kind)?, 0)
    }

    fn text(&self, kind: u16) -> Option<String> {
        self.attribute(kind).map(netlink_format::text)
    }

    /// Puts an attribute in the place of the one with that number, or behind the others.
    fn set(&mut self, kind: u16, value: Vec<u8>) {
        match self.attributes.iter_mut().find(|attribute| attribute.number() == kind) {
            Some(found) => found.value = value,
            None => self.attributes.push(Attribute { kind, value }),
        }
    }

    fn drop_attributes(&mut self, kinds: &[u16]) {
        self.attributes.retain(|attribute| !kinds.contains(&attribute.number()));
    }

    fn keep_attributes(&mut self, kinds: &[u16]) {
        self.attributes.retain(|attribute| kinds.contains(&attribute.number()));
    }

    fn byte(&self, at: usize) -> u8 {
        self.header.get(at).copied().unwrap_or_default()
    }

    fn set_byte(&mut self, at: usize, value: u8) {
        if let Some(byte) = self.header.get_mut(at) {
            *byte = value;
        }
    }

    fn word(&self, at: usize) -> u32 {
        netlink_format::number(&self.header, at).unwrap_or_default()
    }

    fn set_word(&mut self, at: usize, value: u32) {
        if let Some(bytes) = self.header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *bytes = value.to_ne_bytes();
        }
    }

    fn half(&self, at: usize) -> u16 {
        netlink_format::short(&self.header, at).unwrap_or_default()
    }

    fn set_half(&mut self, at: usize, value: u16) {
        if let Some(bytes) = self.header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
            *bytes = value.to_ne_bytes();
        }
    }

    /// Is it of this kind, with a header as long as it must be? What was read from a file may not be.
    fn is(&self, kind: Kind) -> bool {
        self.kind == kind && self.header.len() == kind.header()
    }

    fn is_asked_for(&self, family: Family) -> bool {
        match self.kind {
            Kind::Link | Kind::Nexthop | Kind::Qdisc => true,
            // Cached routes are what the kernel learned by itself, from redirects for instance.
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

impl Move {
    /// The same way back.
    #[must_use]
    pub fn back(&self) -> Self {
        Self { from: self.to.clone(), to: self.from.clone() }
    }

    fn index(&self, index: u32) -> u32 {
        if index == self.from.index { self.to.index } else { index }
    }

    fn name(&self, name: &str) -> String {
        if name == self.from.name { self.to.name.clone() } else { name.to_owned() }
    }
}

#[cfg(test)]
mod tests;
