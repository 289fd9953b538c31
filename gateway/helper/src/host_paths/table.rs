//! The elements of the nft table: typed, and shared by services that need the same one.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use demux::policy::Transport;
use host::nft;

/// The name of our nft table, of the family `inet`. All of it is ours; nothing outside of it is.
pub(crate) const TABLE: &str = "ovn_k8s_gateway";

/// The sets and maps of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SetName {
    /// The node's own accesses, to the cluster address.
    Svc4,
    /// The same for IPv6.
    Svc6,
    /// Ports that only this host's endpoints serve, to the endpoint.
    Direct4,
    /// The same for IPv6.
    Direct6,
    /// Ports of this host's endpoints, to the address they listen on.
    Endpoints4,
    /// The same for IPv6.
    Endpoints6,
    /// NodePorts that are not the host's.
    NodePorts,
}

/// What an element is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ElementKey {
    /// The set or map it is in.
    pub(crate) set: SetName,
    /// The address, in the sets whose key has one.
    pub(crate) address: Option<IpAddr>,
    /// Transport protocol.
    pub(crate) protocol: Transport,
    /// Port.
    pub(crate) port: u16,
}

/// What an element maps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ElementData {
    /// Nothing: an element of a set.
    Member,
    /// An address.
    Address(IpAddr),
    /// An address and a port.
    Socket(SocketAddr),
}

/// An element that came, went or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ElementChange {
    /// Which.
    pub(crate) key: ElementKey,
    /// What it mapped to; `None`: it did not exist.
    pub(crate) before: Option<ElementData>,
    /// What it maps to; `None`: it does not exist any more.
    pub(crate) after: Option<ElementData>,
}

impl SetName {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Svc4,
        Self::Svc6,
        Self::Direct4,
        Self::Direct6,
        Self::Endpoints4,
        Self::Endpoints6,
        Self::NodePorts,
    ];

    /// The name in nft.
    #[must_use]
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Svc4 => "svc4",
            Self::Svc6 => "svc6",
            Self::Direct4 => "direct4",
            Self::Direct6 => "direct6",
            Self::Endpoints4 => "endpoints4",
            Self::Endpoints6 => "endpoints6",
            Self::NodePorts => "node_ports",
        }
    }

    /// nft's types of the key's parts.
    #[must_use]
    pub(crate) const fn key_types(self) -> &'static [&'static str] {
        match self {
            Self::Svc4 | Self::Direct4 => &["ipv4_addr", "inet_proto", "inet_service"],
            Self::Svc6 | Self::Direct6 => &["ipv6_addr", "inet_proto", "inet_service"],
            Self::Endpoints4 | Self::Endpoints6 | Self::NodePorts => &["inet_proto", "inet_service"],
        }
    }

    /// nft's types of the data's parts, none for a set.
    #[must_use]
    pub(crate) const fn data_types(self) -> &'static [&'static str] {
        match self {
            Self::Svc4 | Self::Direct4 => &["ipv4_addr", "inet_service"],
            Self::Svc6 | Self::Direct6 => &["ipv6_addr", "inet_service"],
            Self::Endpoints4 => &["ipv4_addr"],
            Self::Endpoints6 => &["ipv6_addr"],
            Self::NodePorts => &[],
        }
    }
}

impl ElementKey {
    /// As nft takes it. The protocol is a number: names need a file that slim systems have not.
    #[must_use]
    pub(crate) fn nft(&self) -> String {
        let rest = format!("{} . {}", self.protocol.number(), self.port);
        self.address.map_or(rest.clone(), |address| format!("{address} . {rest}"))
    }
}

impl ElementData {
    /// As nft takes it, `None` for an element of a set.
    #[must_use]
    pub(crate) fn nft(&self) -> Option<String> {
        match self {
            Self::Member => None,
            Self::Address(address) => Some(address.to_string()),
            Self::Socket(socket) => Some(format!("{} . {}", socket.ip(), socket.port())),
        }
    }
}

impl fmt::Display for ElementKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{} {}", self.protocol, SocketAddr::new(address, self.port)),
            None => write!(f, "{} {}", self.protocol, self.port),
        }
    }
}

impl fmt::Display for ElementData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member => Ok(()),
            Self::Address(address) => write!(f, " -> {address}"),
            Self::Socket(socket) => write!(f, " -> {socket}"),
        }
    }
}

impl fmt::Display for ElementChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, data) = match (&self.before, &self.after) {
            (None, Some(after)) => ("+", after),
            (Some(before), None) => ("-", before),
            (_, Some(after)) => ("~", after),
            (None, None) => return Ok(()),
        };
        write!(f, "{} {sign} {}{data}", self.key.set.name(), self.key)
    }
}

/// The desired elements. One that several Services need stays until the last of them is gone; when they need different
/// data, the least is taken, whatever the order they came in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elements(BTreeMap<ElementKey, SharedData>);

/// The data needed for one key, sorted. Nearly always one: the list then costs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SharedData {
    first: ElementData,
    others: Vec<ElementData>,
}

impl Elements {
    /// One more Service needs it.
    pub(crate) fn add(&mut self, key: ElementKey, data: ElementData) {
        match self.0.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(SharedData { first: data, others: Vec::new() });
            }
            Entry::Occupied(mut entry) => {
                let shared = entry.get_mut();
                let (first, other) = (shared.first.min(data), shared.first.max(data));
                shared.first = first;
                let at = shared.others.partition_point(|known| *known < other);
                shared.others.insert(at, other);
            }
        }
    }

    /// One Service less needs it.
    pub(crate) fn remove(&mut self, key: ElementKey, data: ElementData) {
        let Entry::Occupied(mut entry) = self.0.entry(key) else { return };
        let shared = entry.get_mut();
        if shared.first != data {
            if let Some(at) = shared.others.iter().position(|known| *known == data) {
                shared.others.remove(at);
            }
        } else if shared.others.is_empty() {
            entry.remove();
        } else {
            shared.first = shared.others.remove(0);
        }
    }

    /// What a key maps to.
    #[must_use]
    pub(crate) fn get(&self, key: &ElementKey) -> Option<ElementData> {
        self.0.get(key).map(|shared| shared.first)
    }

    /// Those of one set.
    pub(crate) fn of(&self, set: SetName) -> impl Iterator<Item = (ElementKey, ElementData)> + '_ {
        let first = ElementKey { set, address: None, protocol: Transport::Tcp, port: 0 };
        let own = self.0.range(first..).take_while(move |(key, _)| key.set == set);
        own.map(|(key, shared)| (*key, shared.first))
    }

    /// All, by set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ElementKey, ElementData)> + '_ {
        self.0.iter().map(|(key, shared)| (*key, shared.first))
    }
}

/// An element as nft lists it, `None` when it is not of this shape.
pub(crate) fn listed(set: SetName, element: &nft::Element) -> Option<(ElementKey, ElementData)> {
    let mut parts = element.key.iter();
    let address = match set.key_types().len() {
        3 => Some(parts.next()?.parse().ok()?),
        _ => None,
    };
    let protocol = transport(parts.next()?)?;
    let port = parts.next()?.parse().ok()?;
    let data = match (set.data_types().len(), element.data.as_slice()) {
        (0, []) => ElementData::Member,
        (1, [ip]) => ElementData::Address(ip.parse().ok()?),
        (2, [ip, port]) => ElementData::Socket(SocketAddr::new(ip.parse().ok()?, port.parse().ok()?)),
        _ => return None,
    };
    parts.next().is_none().then_some((ElementKey { set, address, protocol, port }, data))
}

/// nft prints a protocol's name where the system has a file of them, its number elsewhere.
fn transport(text: &str) -> Option<Transport> {
    text.parse().ok().or_else(|| Transport::from_number(text.parse().ok()?))
}
