//! Matches as the table needs them: family, protocol, ports, addresses and prefixes.

use std::net::IpAddr;

use demux::frame::{ethertype, protocol};
use demux::policy::{Family, Transport};
use ipnet::IpNet;
use ovs::openflow::flow::{Field, Match, OfPort, ipv4, ipv6};

/// `ct_state=+trk` (ovs-fields(7)).
const TRACKED: u32 = 0x20;
/// The VLAN tag's presence bit in `vlan_tci`.
const TAG_PRESENT: u16 = 0x1000;
/// `nw_frag=yes`: any piece of a datagram.
const FRAGMENT_ANY: u8 = 1;

/// Which end of a packet a match speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// The few matches that rows are put together from; each narrows what is there.
pub trait Narrow: Sized {
    fn in_port(self, port: OfPort) -> Match;
    fn family(self, family: Family) -> Match;
    fn protocol(self, family: Family, number: u8) -> Match;
    fn icmp(self, family: Family, kind: u8) -> Match;
    fn port(self, transport: Transport, end: End, value: u16, mask: u16) -> Match;
    fn network(self, end: End, network: IpNet) -> Match;
    fn address(self, end: End, address: IpAddr) -> Match;
    fn arp(self) -> Match;
    fn tagged(self) -> Match;
    fn fragment(self) -> Match;
    fn tracked(self) -> Match;
}

impl Narrow for Match {
    fn in_port(self, port: OfPort) -> Match {
        self.with(Field::InPort, port.0)
    }

    fn family(self, family: Family) -> Match {
        let number = match family {
            Family::V4 => ethertype::IPV4,
            Family::V6 => ethertype::IPV6,
        };
        self.with(Field::EthType, number)
    }

    fn protocol(self, family: Family, number: u8) -> Match {
        self.family(family).with(Field::IpProto, number)
    }

    fn icmp(self, family: Family, kind: u8) -> Match {
        match family {
            Family::V4 => self.protocol(family, protocol::ICMP).with(Field::Icmpv4Type, kind),
            Family::V6 => self.protocol(family, protocol::ICMPV6).with(Field::Icmpv6Type, kind),
        }
    }

    fn port(self, transport: Transport, end: End, value: u16, mask: u16) -> Match {
        let field = match (transport, end) {
            (Transport::Tcp, End::Source) => Field::TcpSrc,
            (Transport::Tcp, End::Destination) => Field::TcpDst,
            (Transport::Udp, End::Source) => Field::UdpSrc,
            (Transport::Udp, End::Destination) => Field::UdpDst,
            (Transport::Sctp, End::Source) => Field::SctpSrc,
            (Transport::Sctp, End::Destination) => Field::SctpDst,
        };
        self.masked(field, value, mask)
    }

    fn network(self, end: End, network: IpNet) -> Match {
        match network {
            IpNet::V4(net) => {
                let field = if end == End::Source { Field::Ipv4Src } else { Field::Ipv4Dst };
                self.family(Family::V4).masked(field, ipv4(net.network()), ipv4(net.netmask()))
            }
            IpNet::V6(net) => {
                let field = if end == End::Source { Field::Ipv6Src } else { Field::Ipv6Dst };
                self.family(Family::V6).masked(field, ipv6(net.network()), ipv6(net.netmask()))
            }
        }
    }

    fn address(self, end: End, address: IpAddr) -> Match {
        self.network(end, IpNet::from(address))
    }

    fn arp(self) -> Match {
        self.with(Field::EthType, ethertype::ARP)
    }

    fn tagged(self) -> Match {
        self.masked(Field::VlanTci, TAG_PRESENT, TAG_PRESENT)
    }

    fn fragment(self) -> Match {
        self.masked(Field::IpFrag, FRAGMENT_ANY, FRAGMENT_ANY)
    }

    fn tracked(self) -> Match {
        self.masked(Field::CtState, TRACKED, TRACKED)
    }
}

/// The IP protocol number of a family's ICMP.
pub fn icmp_number(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}
