//! The headers of a frame, as Open vSwitch reads them.
//!
//! A small value without borrows. Fields that a frame does not carry, or that are cut off, read as zero: that is
//! what the bridge matches on, so it is what the classifier must see (`lib/flow.c`, `miniflow_extract`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::mac::Mac;

/// Ethernet types that the split distinguishes.
pub mod ethertype {
    /// IPv4.
    pub const IPV4: u16 = 0x0800;
    /// ARP.
    pub const ARP: u16 = 0x0806;
    /// IPv6.
    pub const IPV6: u16 = 0x86dd;
    /// 802.1Q customer tag.
    pub const VLAN: u16 = 0x8100;
    /// 802.1ad service tag.
    pub const SERVICE_VLAN: u16 = 0x88a8;
    /// What the bridge calls a frame that names no protocol (802.2 without SNAP).
    pub const NONE: u16 = 0x05ff;
}

/// IP protocol numbers that the split distinguishes (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header; also what later IPv6 fragments carry as their protocol.
    pub const FRAGMENT: u8 = 44;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// One frame's headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Destination MAC.
    pub destination: Mac,
    /// Source MAC.
    pub source: Mac,
    /// The outermost VLAN tag, if the frame has one: the tag control information.
    pub vlan: Option<u16>,
    /// Ethernet type behind the tags.
    pub ethertype: u16,
    /// What the Ethernet type says.
    pub network: Network,
}

/// The network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// IPv4 or IPv6 by its Ethernet type; all zero when the header is broken.
    Ip(Ip),
    /// ARP; all zero when the body is not Ethernet/IPv4 or cut off.
    Arp(Arp),
    /// Anything else.
    Other,
}

/// An IPv4 or IPv6 header and what lies behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The transport protocol, behind extension headers; 44 for later IPv6 fragments.
    pub protocol: u8,
    /// Whether it is a piece of a datagram.
    pub fragment: Fragment,
    /// The datagram's identification, 0 where there is none.
    pub identification: u32,
    /// The transport header.
    pub transport: TransportHeader,
}

/// Whether a packet is a piece of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fragment {
    /// A whole datagram.
    #[default]
    No,
    /// The first piece: it carries the transport header.
    First,
    /// A later piece.
    Later,
}

/// What lies behind the IP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransportHeader {
    /// Nothing that is read: another protocol, a later fragment, or cut off.
    #[default]
    None,
    /// TCP.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// The twelve flag bits.
        flags: u16,
    },
    /// UDP or SCTP, by the protocol.
    Ports {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// ICMP or ICMPv6, by the protocol.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// The first half of the rest of the header: an echo's identifier.
        identifier: u16,
        /// Target of a neighbour solicitation or advertisement.
        target: Option<Ipv6Addr>,
    },
}

/// An ARP body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// Operation; 0 for those above 255.
    pub operation: u8,
    /// Sender's address.
    pub sender: Ipv4Addr,
    /// Target address.
    pub target: Ipv4Addr,
}

/// What names a connection, as one of its frames carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port; an echo request's identifier; 0 for protocols without ports.
    pub source_port: u16,
    /// Destination port; an echo reply's identifier; 0 for protocols without ports.
    pub destination_port: u16,
}

/// What names a datagram that travels in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Datagram {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Identification.
    pub identification: u32,
    /// IP protocol number for IPv4 (RFC 791), 0 for IPv6 (RFC 8200, section 4.5, names datagrams without it).
    pub protocol: u8,
}

impl Frame {
    /// The IP header, if the frame has one.
    pub fn ip(&self) -> Option<&Ip> {
        match &self.network {
            Network::Ip(ip) => Some(ip),
            _ => None,
        }
    }
}

impl Ip {
    /// Source port, 0 where there is none.
    pub fn source_port(&self) -> u16 {
        match self.transport {
            TransportHeader::Tcp { source, .. } | TransportHeader::Ports { source, .. } => source,
            _ => 0,
        }
    }

    /// Destination port, 0 where there is none.
    pub fn destination_port(&self) -> u16 {
        match self.transport {
            TransportHeader::Tcp { destination, .. } | TransportHeader::Ports { destination, .. } => {
                destination
            }
            _ => 0,
        }
    }
}

impl Frame {
    /// The connection that the frame names: `None` for fragments behind the first, ICMP other than echo, and
    /// frames cut off before their ports.
    pub fn tuple(&self) -> Option<Tuple> {
        let ip = self.ip()?;
        let (source_port, destination_port) = match (ip.protocol, ip.transport) {
            (
                _,
                TransportHeader::Tcp { source, destination, .. }
                | TransportHeader::Ports { source, destination },
            ) => (source, destination),
            (_, TransportHeader::Icmp { kind, code: 0, identifier, .. }) => match (kind, ip.destination) {
                (8, IpAddr::V4(_)) | (128, IpAddr::V6(_)) => (identifier, 0),
                (0, IpAddr::V4(_)) | (129, IpAddr::V6(_)) => (0, identifier),
                _ => return None,
            },
            (protocol::TCP | protocol::UDP | protocol::SCTP | protocol::ICMP | protocol::ICMPV6, _) => {
                return None;
            }
            _ if ip.fragment == Fragment::Later => return None,
            _ => (0, 0),
        };
        Some(Tuple {
            protocol: ip.protocol,
            source: ip.source,
            destination: ip.destination,
            source_port,
            destination_port,
        })
    }

    /// The datagram that the frame is a piece of.
    pub fn datagram(&self) -> Option<Datagram> {
        let ip = self.ip().filter(|ip| ip.fragment != Fragment::No)?;
        Some(Datagram {
            source: ip.source,
            destination: ip.destination,
            identification: ip.identification,
            protocol: if ip.destination.is_ipv4() { ip.protocol } else { 0 },
        })
    }
}

impl Tuple {
    /// The tuple of the connection's other direction.
    #[must_use]
    pub fn reversed(self) -> Tuple {
        Tuple {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            ..self
        }
    }
}
