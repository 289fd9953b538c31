//! One flow of every shape that the gateway's table has, and some that only others install.

use ovs::openflow::flow::{
    Action, CT_TRACKED, Ct, FRAG_ANY, Field, Flow, Learn, LearnSpec, Match, OfPort, TCP_ACK, TCP_SYN,
    VLAN_PRESENT, ipv4, ipv6,
};

const P: u32 = 1;
const Q: u32 = 2;
const LOCAL: Action = Action::Output(OfPort::LOCAL);
const OUT: Action = Action::Output(OfPort(P));
const PODS: Action = Action::Output(OfPort(Q));
const MAC: u64 = 0x0a00_0000_0001;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const ARP: u16 = 0x0806;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;
const ZONE: u16 = 64000;

fn from(port: u32) -> Match {
    Match::any().with(Field::InPort, port)
}

fn proto(matches: Match, family: u16, protocol: u8) -> Match {
    matches.with(Field::EthType, family).with(Field::IpProto, protocol)
}

fn commit(mark: u32) -> Action {
    Action::Ct(Ct { zone: ZONE, commit: true, table: None, mark: Some(mark) })
}

fn lookup(table: u8) -> Action {
    Action::Ct(Ct { zone: ZONE, commit: false, table: Some(table), mark: None })
}

fn learn(family: u16, cookie: u64) -> Action {
    let (source, destination) =
        if family == IPV4 { (Field::Ipv4Src, Field::Ipv4Dst) } else { (Field::Ipv6Src, Field::Ipv6Dst) };
    Action::Learn(Learn {
        table: 6,
        priority: 10,
        cookie,
        idle_timeout: 300,
        delete_learned: true,
        limit: 4096,
        specs: vec![
            LearnSpec::MatchValue(Field::EthType, family.into()),
            LearnSpec::MatchValue(Field::IpProto, SCTP.into()),
            LearnSpec::MatchField(source, destination),
            LearnSpec::MatchField(destination, source),
            LearnSpec::MatchField(Field::SctpSrc, Field::SctpDst),
            LearnSpec::MatchField(Field::SctpDst, Field::SctpSrc),
            LearnSpec::OutputField(Field::InPort),
        ],
    })
}

/// Ports of the layer above IP, by protocol number.
fn ports(protocol: u8) -> (Field, Field) {
    match protocol {
        TCP => (Field::TcpSrc, Field::TcpDst),
        UDP => (Field::UdpSrc, Field::UdpDst),
        _ => (Field::SctpSrc, Field::SctpDst),
    }
}

pub fn shapes(cookie: u64) -> Vec<Flow> {
    let mut flows = Vec::new();
    let mut number = 0;
    let mut flow = |table: u8, priority: u16, matches: Match, actions: Vec<Action>| {
        number += 1;
        flows.push(Flow::new(table, priority, matches, cookie | number, actions));
    };
    let local = OfPort::LOCAL.0;
    let a4 = ipv4("192.0.2.10".parse().unwrap());
    let a6 = ipv6("2001:db8::10".parse().unwrap());

    // Table 0: from where.
    for port in [P, Q, local] {
        let action = if port == local { vec![OUT] } else { vec![] };
        flow(0, 1000, from(port).masked(Field::VlanTci, VLAN_PRESENT, VLAN_PRESENT), action);
    }
    let overlay = || from(Q).with(Field::EthSrc, MAC);
    flow(0, 900, overlay().with(Field::EthType, ARP), vec![OUT]);
    for kind in [135_u8, 136] {
        flow(0, 900, proto(overlay(), IPV6, ICMP6).with(Field::Icmpv6Type, kind), vec![OUT]);
    }
    let range4 = (ipv4("10.96.0.0".parse().unwrap()), u128::from(0xffff_0000_u32));
    flow(0, 901, overlay().with(Field::EthType, IPV4).masked(Field::Ipv4Dst, range4.0, range4.1), vec![]);
    let range6 = (ipv6("fd00:10:96::".parse().unwrap()), u128::MAX << 16);
    flow(0, 901, overlay().with(Field::EthType, IPV6).masked(Field::Ipv6Dst, range6.0, range6.1), vec![]);
    for family in [IPV4, IPV6] {
        flow(0, 800, overlay().with(Field::EthType, family), vec![Action::GotoTable(4)]);
    }
    flow(0, 700, from(Q), vec![]);
    flow(0, 700, from(local), vec![OUT]);
    for family in [IPV4, IPV6] {
        for port in [6081_u16, 4789] {
            flow(0, 900, proto(from(local), family, UDP).with(Field::UdpDst, port), vec![OUT]);
            let arriving = from(P).with(Field::EthDst, MAC);
            flow(0, 640, proto(arriving, family, UDP).with(Field::UdpDst, port), vec![LOCAL]);
        }
        let syn_ack = proto(from(local), family, TCP).masked(Field::TcpFlags, TCP_SYN, TCP_SYN | TCP_ACK);
        flow(0, 850, syn_ack, vec![commit(2), OUT]);
        flow(0, 830, from(local).with(Field::EthType, family), vec![commit(2), OUT]);
        for protocol in [TCP, SCTP, if family == IPV4 { ICMP } else { ICMP6 }] {
            flow(0, 840, proto(from(local), family, protocol), vec![OUT]);
        }
        let wire = from(P).with(Field::EthDst, MAC).with(Field::EthType, family);
        flow(0, 650, wire.clone().masked(Field::IpFrag, FRAG_ANY, FRAG_ANY), vec![lookup(1)]);
        flow(0, 500, wire, vec![Action::GotoTable(1)]);
    }
    flow(0, 850, proto(from(local), IPV4, ICMP).with(Field::Icmpv4Type, 8_u8), vec![commit(2), OUT]);
    flow(0, 850, proto(from(local), IPV6, ICMP6).with(Field::Icmpv6Type, 128_u8), vec![commit(2), OUT]);
    let arp = || from(P).with(Field::EthType, ARP);
    flow(0, 630, arp().with(Field::ArpOp, 1_u16).with(Field::ArpTpa, a4), vec![LOCAL]);
    flow(0, 620, arp(), vec![LOCAL, PODS]);
    flow(
        0,
        621,
        arp().masked(Field::ArpSpa, a4, u128::from(u32::MAX << 4)),
        vec![Action::Output(OfPort::NORMAL)],
    );
    let nd = || proto(from(P), IPV6, ICMP6);
    flow(0, 630, nd().with(Field::Icmpv6Type, 135_u8).with(Field::NdTarget, a6), vec![LOCAL]);
    flow(0, 620, nd().with(Field::Icmpv6Type, 136_u8), vec![LOCAL, PODS, Action::Output(OfPort::NORMAL)]);
    flow(0, 400, from(P).with(Field::EthDst, MAC), vec![LOCAL]);
    flow(0, 401, Match::any().masked(Field::EthDst, 1_u128 << 40, 1_u128 << 40), vec![LOCAL]);
    flow(0, 1, Match::any(), vec![LOCAL]);

    // Tables 1 to 6: services, reply rule, owner, out of the overlay, source ranges, associations.
    for family in [IPV4, IPV6] {
        let (source, destination, address) = if family == IPV4 {
            (Field::Ipv4Src, Field::Ipv4Dst, a4)
        } else {
            (Field::Ipv6Src, Field::Ipv6Dst, a6)
        };
        for protocol in [TCP, UDP, SCTP] {
            let (from_port, to_port) = ports(protocol);
            let service = || proto(Match::any(), family, protocol);
            let external = service().with(destination, address).with(to_port, 443_u16);
            flow(1, 100, external.clone(), vec![PODS]);
            flow(1, 99, external, vec![Action::GotoTable(5)]);
            flow(2, 100, service().with(to_port, 30080_u16), vec![PODS]);
            flow(2, 40, service().masked(to_port, 40960_u16, 0xf000_u16), vec![PODS]);
            flow(4, 100, service().with(source, address).with(from_port, 30080_u16), vec![OUT]);
            let bits = if family == IPV4 { 32 } else { 128 };
            let slash_28 = u128::MAX << (bits - 28);
            flow(5, 10, service().with(to_port, 30080_u16).masked(source, address, slash_28), vec![PODS]);
        }
        flow(
            1,
            10,
            Match::any().with(Field::EthType, family).with(destination, address),
            vec![Action::GotoTable(2)],
        );
        flow(2, 50, proto(Match::any(), family, SCTP), vec![Action::Resubmit(6)]);
        flow(2, 0, Match::any().with(Field::EthType, family), vec![lookup(3)]);
        flow(4, 90, proto(Match::any(), family, SCTP), vec![learn(family, cookie | 0xfffe), OUT]);
        flow(4, 0, Match::any().with(Field::EthType, family), vec![commit(1), OUT]);
    }
    for kind in [3_u8, 4, 11, 12, 0] {
        flow(2, 60, proto(Match::any(), IPV4, ICMP).with(Field::Icmpv4Type, kind), vec![LOCAL, PODS]);
    }
    for kind in [1_u8, 2, 3, 4, 129] {
        flow(2, 60, proto(Match::any(), IPV6, ICMP6).with(Field::Icmpv6Type, kind), vec![LOCAL, PODS]);
    }
    let tracked = |set: u32, of: u32| Match::any().masked(Field::CtState, set, of);
    flow(2, 1, tracked(CT_TRACKED, CT_TRACKED), vec![Action::GotoTable(3)]);
    flow(2, 2, tracked(CT_TRACKED, CT_TRACKED | 0x10).with(Field::CtZone, ZONE), vec![Action::GotoTable(3)]);
    flow(3, 100, Match::any().with(Field::CtMark, 1_u8), vec![PODS]);
    flow(3, 99, Match::any().masked(Field::CtMark, 1_u8, 3_u8), vec![PODS, Action::GotoTable(4)]);
    flow(5, 0, Match::any(), vec![]);

    // Not of the table, but shapes that a canonical form has to survive.
    flow(7, 32768, Match::any(), vec![LOCAL]);
    for (priority, value, mask) in [(1, 0_u8, 3_u8), (2, 1, 3), (3, 3, 3), (4, 0, 2)] {
        let matches = Match::any().with(Field::EthType, IPV4).masked(Field::IpFrag, value, mask);
        flow(7, priority, matches, vec![LOCAL]);
    }
    for (priority, value, mask) in [
        (1, 0_u16, 0x1fff_u16),
        (6, 0, 0x1000),
        (2, 0x1064, 0x1fff),
        (3, 0xb064, 0xffff),
        (4, 0xb000, 0xf000),
        (5, 0x1004, 0x100f),
    ] {
        flow(8, priority, Match::any().masked(Field::VlanTci, value, mask), vec![LOCAL]);
    }
    flow(8, 18, Match::any().with(Field::EthType, 0x88cc_u16), vec![LOCAL]);
    flow(
        8,
        7,
        Match::any().with(Field::EthType, IPV4).with(Field::IpProto, 47_u8),
        vec![Action::Output(OfPort::IN_PORT)],
    );
    flow(8, 8, proto(Match::any(), IPV4, TCP).with(Field::TcpFlags, TCP_SYN | TCP_ACK), vec![LOCAL]);
    flow(8, 9, Match::any().with(Field::Metadata, 7_u8), vec![LOCAL, Action::Resubmit(9)]);
    flow(8, 10, Match::any().masked(Field::Metadata, 7_u8, 7_u8), vec![]);
    flow(8, 11, Match::any().with(Field::EthType, IPV4).masked(Field::Ipv4Src, 1_u8, 0xff_u8), vec![]);
    flow(8, 12, Match::any().with(Field::CtState, 0x22_u32), vec![]);
    flow(8, 13, Match::any().masked(Field::InPort, 1_u8, u32::MAX), vec![]);
    flow(
        8,
        14,
        proto(Match::any(), IPV4, ICMP).with(Field::Icmpv4Type, 3_u8).with(Field::Icmpv4Code, 4_u8),
        vec![],
    );
    flow(8, 15, nd().with(Field::Icmpv6Type, 135_u8).masked(Field::NdTarget, a6, u128::MAX << 64), vec![]);
    flow(8, 16, Match::any().with(Field::EthType, 0x8035_u16), vec![]);
    flow(8, 17, Match::any().with(Field::CtMark, 0_u8), vec![]);

    let mut timed = Flow::new(9, 5, Match::any(), cookie | 0x100, vec![LOCAL]);
    timed.value.idle_timeout = 600;
    timed.value.hard_timeout = 3600;
    flows.push(timed);
    let taught = |specs: Vec<LearnSpec>| {
        let (priority, idle_timeout, delete_learned, limit) = (0x8000, 0, false, 0);
        Action::Learn(Learn { table: 9, priority, cookie: 0, idle_timeout, delete_learned, limit, specs })
    };
    let of = |field, value: u128| LearnSpec::MatchValue(field, value);
    let whole = taught(vec![
        LearnSpec::MatchField(Field::EthDst, Field::EthSrc),
        LearnSpec::MatchField(Field::VlanTci, Field::VlanTci),
        LearnSpec::OutputField(Field::InPort),
    ]);
    let told4 = taught(vec![
        of(Field::EthDst, MAC.into()),
        of(Field::EthType, IPV4.into()),
        of(Field::Ipv4Src, a4),
        of(Field::IpProto, TCP.into()),
        of(Field::TcpDst, 80),
        of(Field::TcpSrc, 81),
        of(Field::TcpFlags, TCP_SYN.into()),
        of(Field::CtMark, 7),
    ]);
    let told6 = taught(vec![
        of(Field::EthSrc, MAC.into()),
        of(Field::InPort, 3),
        of(Field::EthType, IPV6.into()),
        of(Field::Ipv6Dst, a6),
        of(Field::IpProto, ICMP6.into()),
        of(Field::Icmpv6Type, 135),
        of(Field::NdTarget, a6),
        of(Field::Metadata, 3),
    ]);
    let told_arp = taught(vec![
        of(Field::EthType, ARP.into()),
        of(Field::ArpOp, 1),
        of(Field::ArpSpa, a4),
        of(Field::CtZone, 9),
        of(Field::VlanTci, 0x1009),
    ]);
    for (number, learn) in (0_u16..).zip([whole, told4, told6, told_arp]) {
        flows.push(Flow::new(9, 10 + number, Match::any(), cookie | u64::from(0x101 + number), vec![learn]));
    }
    flows
}
