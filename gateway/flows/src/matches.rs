//! Matches as the table needs them: family, protocol, ports, addresses and prefixes.

use std::net::IpAddr;

use demux::frame::{ethertype, protocol};
use demux::policy::{Family, Transport};
use ipnet::IpNet;
use ovs::openflow::flow::{CT_TRACKED, FRAG_ANY, Field, Match, OfPort, VLAN_PRESENT, ipv4, ipv6};

/// ICMP errors: destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS_V4: [u8; 4] = [3, 4, 11, 12];
/// ICMPv6 errors: destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const ICMP_ERRORS_V6: [u8; 4] = [1, 2, 3, 4];

/// The end of a packet that is matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

/// The matches that flows are built from; each adds to what is there.
pub(crate) trait MatchExt: Sized {
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

impl MatchExt for Match {
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
        self.masked(Field::VlanTci, VLAN_PRESENT, VLAN_PRESENT)
    }

    fn fragment(self) -> Match {
        self.masked(Field::IpFrag, FRAG_ANY, FRAG_ANY)
    }

    fn tracked(self) -> Match {
        self.masked(Field::CtState, CT_TRACKED, CT_TRACKED)
    }
}

/// The ICMP error types of a family.
pub(crate) fn icmp_errors(family: Family) -> [u8; 4] {
    match family {
        Family::V4 => ICMP_ERRORS_V4,
        Family::V6 => ICMP_ERRORS_V6,
    }
}

/// The IP protocol number of a family's ICMP.
pub(crate) fn icmp_number(family: Family) -> u8 {
    match family {
        Family::V4 => protocol::ICMP,
        Family::V6 => protocol::ICMPV6,
    }
}
