//! From bytes to [`Frame`], total: any bytes give a frame.
//!
//! Header checks are Open vSwitch's own (3.1, userspace datapath), in its order, so that hostile bytes read here as
//! they do on the bridge. It is stricter than RFCs in some places and laxer in others: the version nibble is
//! ignored, a TCP header with an impossible offset has no ports, a broken IPv4 header leaves all fields zero while
//! a broken IPv6 extension chain leaves the addresses. The tests compare the two.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::frame::{Arp, Fragment, Frame, Ip, Network, TransportHeader, ethertype, protocol};
use crate::mac::Mac;

impl Frame {
    /// Reads the headers of a frame that starts with its Ethernet header. Cut off inside that, all is zero.
    pub fn parse(bytes: &[u8]) -> Frame {
        let mut rest = Rest(bytes);
        let (Some(macs), Some(mut kind)) = (rest.take::<12>(), rest.take_u16()) else {
            return Frame::BLANK;
        };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5] = *macs;
        let mut vlan = None;
        if matches!(kind, ethertype::VLAN | ethertype::SERVICE_VLAN)
            && let Some((tci, inner)) = rest.take_tag()
        {
            vlan = Some(tci);
            kind = inner;
        }
        if kind < ETHERNET_II {
            kind = rest.take_snap();
        }
        let network = match kind {
            ethertype::IPV4 => Network::Ip(parse_ipv4(rest).unwrap_or(Ip::BLANK_V4)),
            ethertype::IPV6 => Network::Ip(parse_ipv6(rest).unwrap_or(Ip::BLANK_V6)),
            ethertype::ARP => Network::Arp(parse_arp(rest).unwrap_or(Arp::BLANK)),
            _ => Network::Other,
        };
        Frame {
            destination: Mac([d0, d1, d2, d3, d4, d5]),
            source: Mac([s0, s1, s2, s3, s4, s5]),
            vlan,
            ethertype: kind,
            network,
        }
    }

    /// What fewer than 14 bytes read as.
    const BLANK: Frame = Frame {
        destination: Mac([0; 6]),
        source: Mac([0; 6]),
        vlan: None,
        ethertype: 0,
        network: Network::Other,
    };
}

impl Ip {
    const BLANK_V4: Ip = Ip {
        source: std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        destination: std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        protocol: 0,
        fragment: Fragment::No,
        identification: 0,
        transport: TransportHeader::None,
    };
    const BLANK_V6: Ip = Ip {
        source: std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        destination: std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ..Ip::BLANK_V4
    };
}

impl Arp {
    const BLANK: Arp = Arp { operation: 0, sender: Ipv4Addr::UNSPECIFIED, target: Ipv4Addr::UNSPECIFIED };
}

/// Values below are 802.3 lengths (IEEE 802.3, 3.2.6).
const ETHERNET_II: u16 = 0x0600;
/// LLC with SNAP and the organisation code of Ethernet (RFC 1042).
const SNAP: [u8; 6] = [0xaa, 0xaa, 0x03, 0, 0, 0];
const IPV4_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
/// IPv4: the flag "more fragments" and the offset (RFC 791).
const MORE_OR_OFFSET: u16 = 0x3fff;
const OFFSET: u16 = 0x1fff;
/// IPv6: the fragment header's offset (RFC 8200, section 4.5).
const OFFSET_V6: u16 = 0xfff8;

fn parse_ipv4(rest: Rest<'_>) -> Option<Ip> {
    let header = rest.peek::<IPV4_HEADER>()?;
    let header_length = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(be16(header, 2));
    if header_length < IPV4_HEADER || total < header_length || rest.0.len() < total {
        return None;
    }
    let pieces = be16(header, 6);
    let fragment = match (pieces & MORE_OR_OFFSET, pieces & OFFSET) {
        (0, _) => Fragment::No,
        (_, 0) => Fragment::First,
        _ => Fragment::Later,
    };
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
    let payload = Rest(rest.0.get(header_length..total)?);
    Some(Ip {
        source: Ipv4Addr::new(s0, s1, s2, s3).into(),
        destination: Ipv4Addr::new(d0, d1, d2, d3).into(),
        protocol: header[9],
        fragment,
        identification: be16(header, 4).into(),
        transport: parse_transport(header[9], fragment, payload),
    })
}

fn parse_ipv6(mut rest: Rest<'_>) -> Option<Ip> {
    let header = rest.take::<40>()?;
    let payload = Rest(rest.0.get(..usize::from(be16(header, 4)))?);
    let mut addresses = Rest(&header[8..]);
    let (source, destination) = (addresses.take::<16>()?, addresses.take::<16>()?);
    let bare = Ip {
        source: Ipv6Addr::from(*source).into(),
        destination: Ipv6Addr::from(*destination).into(),
        ..Ip::BLANK_V6
    };
    let Some(chain) = walk_extensions(header[6], payload) else { return Some(bare) };
    Some(Ip {
        protocol: chain.protocol,
        fragment: chain.fragment,
        identification: chain.identification,
        transport: parse_transport(chain.protocol, chain.fragment, chain.payload),
        ..bare
    })
}

/// Where a chain of IPv6 extension headers ends.
struct Chain<'a> {
    protocol: u8,
    fragment: Fragment,
    identification: u32,
    payload: Rest<'a>,
}

/// Goes to the end of the chain, or to the first header of a later fragment; `None` where the chain is cut off.
fn walk_extensions(first: u8, payload: Rest<'_>) -> Option<Chain<'_>> {
    let mut chain = Chain { protocol: first, fragment: Fragment::No, identification: 0, payload };
    loop {
        match chain.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                let [next, length, ..] = *chain.payload.peek::<8>()?;
                chain.payload = chain.payload.skip((usize::from(length) + 1) * 8)?;
                chain.protocol = next;
            }
            protocol::AUTHENTICATION => {
                let [next, length, ..] = *chain.payload.peek::<8>()?;
                chain.payload = chain.payload.skip((usize::from(length) + 2) * 4)?;
                chain.protocol = next;
            }
            protocol::FRAGMENT => {
                let [next, _, high, low, identification @ ..] = *chain.payload.take::<8>()?;
                let pieces = u16::from_be_bytes([high, low]);
                chain.identification = u32::from_be_bytes(identification);
                if pieces & OFFSET_V6 != 0 {
                    return Some(Chain { fragment: Fragment::Later, protocol: protocol::FRAGMENT, ..chain });
                }
                // Reserved bits count as well: the bridge compares the whole field with zero.
                if pieces != 0 {
                    chain.fragment = Fragment::First;
                }
                chain.protocol = next;
            }
            _ => return Some(chain),
        }
    }
}

fn parse_transport(number: u8, fragment: Fragment, mut payload: Rest<'_>) -> TransportHeader {
    if fragment == Fragment::Later {
        return TransportHeader::None;
    }
    let header = match number {
        protocol::TCP => parse_tcp(payload),
        protocol::UDP => payload.peek::<8>().map(|header| parse_ports(header)),
        protocol::SCTP => payload.peek::<12>().map(|header| parse_ports(header)),
        protocol::ICMP | protocol::ICMPV6 => payload.take::<8>().map(|header| {
            let [kind, code, _, _, high, low, ..] = *header;
            let target = (number == protocol::ICMPV6 && code == 0 && matches!(kind, 135 | 136))
                .then(|| parse_target(payload).unwrap_or(Ipv6Addr::UNSPECIFIED));
            TransportHeader::Icmp { kind, code, identifier: u16::from_be_bytes([high, low]), target }
        }),
        _ => None,
    };
    header.unwrap_or_default()
}

fn parse_tcp(payload: Rest<'_>) -> Option<TransportHeader> {
    let header = payload.peek::<TCP_HEADER>()?;
    let length = usize::from(header[12] >> 4) * 4;
    (TCP_HEADER..=payload.0.len()).contains(&length).then(|| TransportHeader::Tcp {
        source: be16(header, 0),
        destination: be16(header, 2),
        flags: be16(header, 12) & 0x0fff,
    })
}

fn parse_ports(header: &[u8]) -> TransportHeader {
    TransportHeader::Ports { source: be16(header, 0), destination: be16(header, 2) }
}

/// Target of a neighbour solicitation or advertisement (RFC 4861, section 4.3). `None` where it is cut off, or where
/// a link-layer address is given twice, which the bridge takes for invalid.
fn parse_target(mut body: Rest<'_>) -> Option<Ipv6Addr> {
    let target = Ipv6Addr::from(*body.take::<16>()?);
    let mut given = [false; 2];
    while let Some([kind, length, address @ ..]) = body.peek::<8>().copied() {
        let length = usize::from(length) * 8;
        let Some(next) = body.skip(length).filter(|_| length != 0) else { break };
        if let (1 | 2, 8) = (kind, length) {
            let given = &mut given[usize::from(kind) - 1];
            if *given {
                return None;
            }
            *given = address != [0; 6];
        }
        body = next;
    }
    Some(target)
}

fn parse_arp(rest: Rest<'_>) -> Option<Arp> {
    let [hardware @ .., o0, o1, _, _, _, _, _, _, s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] =
        *rest.peek::<28>()?;
    // Ethernet, IPv4, and the lengths of their addresses (RFC 826).
    (hardware == [0, 1, 8, 0, 6, 4]).then_some(Arp {
        operation: if o0 == 0 { o1 } else { 0 },
        sender: Ipv4Addr::new(s0, s1, s2, s3),
        target: Ipv4Addr::new(t0, t1, t2, t3),
    })
}

/// What has not been read yet.
#[derive(Clone, Copy)]
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn peek<const N: usize>(self) -> Option<&'a [u8; N]> {
        self.0.first_chunk()
    }

    fn skip(self, count: usize) -> Option<Rest<'a>> {
        self.0.get(count..).map(Rest)
    }

    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(head)
    }

    fn take_u16(&mut self) -> Option<u16> {
        self.take().map(|bytes| u16::from_be_bytes(*bytes))
    }

    /// A tag's control information and the Ethernet type behind it; a tag without one is no tag.
    fn take_tag(&mut self) -> Option<(u16, u16)> {
        let [t0, t1, k0, k1] = *self.take::<4>()?;
        Some((u16::from_be_bytes([t0, t1]), u16::from_be_bytes([k0, k1])))
    }

    /// The Ethernet type of an 802.2 frame, if it carries one by SNAP.
    fn take_snap(&mut self) -> u16 {
        let Some([llc @ .., k0, k1]) = self.peek::<8>().copied() else { return ethertype::NONE };
        let kind = u16::from_be_bytes([k0, k1]);
        if llc != SNAP {
            return ethertype::NONE;
        }
        self.take::<8>();
        if kind < ETHERNET_II { ethertype::NONE } else { kind }
    }
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
