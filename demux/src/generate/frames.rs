//! Frames generated for a policy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Case;
use super::bytes::{self, Ends, Header};
use super::policies::{REMOTE_MASK, REMOTE_V4, REMOTE_V6, v4, v6};
use super::random::Random;
use crate::decide::{Ingress, Owner};
use crate::frame::{ethertype, protocol};
use crate::mac::Mac;
use crate::policy::{Policy, ServiceAddress, Transport};

const BROADCAST: Mac = Mac([0xff; 6]);
const ROUTER: Mac = Mac([0x0a, 0, 0, 0, 0, 0xfe]);
const SYN: u16 = 0x02;
const SYN_ACK: u16 = 0x12;

/// Makes the case of a number.
pub(crate) fn case(random: &mut Random, policy: &Policy, number: u32) -> Case {
    let other = if policy.split.other_ports { 20 } else { 4 };
    let ingresses =
        [(60, Ingress::Uplink), (20, Ingress::Overlay), (14, Ingress::Host), (other, Ingress::Other)];
    let ingress = random.weighted(&ingresses, Ingress::Uplink);
    let mut maker = Maker { random, policy, number, ingress };
    let make = maker.random.weighted(&kinds(), Maker::packet);
    make(&mut maker)
}

type Kind<'a> = fn(&mut Maker<'a>) -> Case;

/// The kinds of cases, with how many of about a hundred there are.
fn kinds<'a>() -> [(usize, Kind<'a>); 9] {
    [
        (48, Maker::packet),
        (8, Maker::fragments),
        (8, Maker::arp),
        (8, Maker::neighbours),
        (4, Maker::tunnel),
        (5, Maker::tagged),
        (4, Maker::other_types),
        (10, Maker::damaged),
        (3, Maker::noise),
    ]
}

struct Maker<'a> {
    random: &'a mut Random,
    policy: &'a Policy,
    number: u32,
    ingress: Ingress,
}

/// One exchange between two addresses: the node's is `local`, in whichever direction a packet goes.
#[derive(Clone, Copy)]
struct Session {
    local: IpAddr,
    remote: IpAddr,
    local_port: u16,
    remote_port: u16,
    traffic: Traffic,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Traffic {
    Tcp,
    Udp,
    Sctp,
    EchoRequest,
    EchoReply,
    IcmpError,
    IcmpOther,
    Protocol(u8),
}

impl Maker<'_> {
    /// An IP packet; now and then one of a connection that is known.
    fn packet(&mut self) -> Case {
        let session = self.session();
        let (opening, owned) = self.opening(session);
        let header = self.header(session);
        let payload = self.payload(session, !self.outbound(), owned, &[]);
        let packet = bytes::ip(self.ends(session), &header, &payload);
        let frame = self.frame(bytes::ethertype_of(session.local), &packet);
        Case { opening, ..self.bare("packet", frame) }
    }

    /// One piece of a datagram, with the others.
    fn fragments(&mut self) -> Case {
        let session = self.session();
        let (opening, owned) = self.opening(session);
        // Conntrack turns away first pieces below 1200 and 1280 bytes (`ovs-appctl dpctl/ipf-get-status`).
        let size = if owned || self.random.percent(30) { 1400 } else { 8 * (1 + self.random.below(12)) };
        let length = size + self.random.below(size);
        let data = self.random.bytes(length);
        let whole = self.payload(session, !self.outbound(), owned, &data);
        let header = Header { identification: self.number, ..self.header(session) };
        let last = whole.len().div_ceil(size) - 1;
        let macs = self.macs();
        let pieces = whole.chunks(size).enumerate().map(|(index, piece)| {
            let header = Header { offset: (index * size) as u16, more: index < last, ..header.clone() };
            let packet = bytes::ip(self.ends(session), &header, piece);
            bytes::ethernet(macs.0, macs.1, bytes::ethertype_of(session.local), &packet)
        });
        let mut pieces = pieces.collect::<Vec<_>>();
        let chosen = pieces.swap_remove(self.random.below(pieces.len()));
        Case { opening, pieces, ..self.bare("fragment", chosen) }
    }

    fn arp(&mut self) -> Case {
        let operations = [(55, 1), (30, 2), (5, 3), (5, 0), (5, 257)];
        let operation = self.random.weighted(&operations, 1);
        let target = self.any_local(Some(true));
        let (Ok(sender), Ok(target)) =
            (<[u8; 4]>::try_from(bytes::octets(self.remote(true))), target_v4(target))
        else {
            return self.packet();
        };
        let mut body = bytes::arp(operation, (ROUTER, sender), (self.policy.split.mac, target));
        if self.random.percent(8) {
            // Hardware type, protocol type, or one of the lengths.
            let at = self.random.below(6);
            body[at] = body[at].wrapping_add(1);
        }
        let (destination, source) = self.macs();
        let destination = if self.random.percent(60) { BROADCAST } else { destination };
        self.bare("arp", bytes::ethernet(destination, source, ethertype::ARP, &body))
    }

    fn neighbours(&mut self) -> Case {
        let kind = self.random.weighted(&[(50, 135), (25, 136), (8, 133), (8, 134), (8, 137), (8, 143)], 135);
        let target = self.any_local(Some(false));
        let to_group = self.random.percent(50);
        let group = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, self.number as u16));
        let ours = if to_group { group } else { self.any_local(Some(false)) };
        let remote = self.remote(false);
        let ends = if self.outbound() {
            Ends { source: target, destination: if to_group { group } else { remote } }
        } else {
            Ends { source: remote, destination: ours }
        };
        let option = [&[1, 1][..], &ROUTER.0].concat();
        let mut data = bytes::octets(target);
        for _ in 0..self.random.weighted(&[(3, 0), (6, 1), (1, 2)], 0) {
            data.extend(&option);
        }
        if self.random.percent(5) {
            data.truncate(self.random.below(data.len()));
        }
        let code = u8::from(self.random.percent(5));
        let message = bytes::icmp(ends, kind, code, [0; 4], &data);
        let packet = bytes::ip(ends, &Header { protocol: protocol::ICMPV6, ..Header::default() }, &message);
        let (destination, source) = self.macs();
        let destination = if to_group { Mac([0x33, 0x33, 0xff, 0, 0, 1]) } else { destination };
        self.bare("neighbours", bytes::ethernet(destination, source, ethertype::IPV6, &packet))
    }

    fn tunnel(&mut self) -> Case {
        let tunnels = [6081, 4789, 6082];
        let mut session = Session { traffic: Traffic::Udp, ..self.session() };
        let port = self.random.pick(&tunnels).unwrap_or(6081);
        if self.outbound() {
            session.remote_port = port;
        } else {
            session.local_port = port;
        }
        let inner = self.random.bytes(40);
        let payload = self.payload(session, !self.outbound(), false, &inner);
        let packet = bytes::ip(self.ends(session), &self.header(session), &payload);
        let frame = self.frame(bytes::ethertype_of(session.local), &packet);
        self.bare("tunnel", frame)
    }

    fn tagged(&mut self) -> Case {
        let inner = if self.random.percent(80) { self.packet() } else { self.arp() };
        let mut frame = inner.bytes;
        for _ in 0..self.random.weighted(&[(80, 1), (20, 2)], 1) {
            let kind = if self.random.percent(75) { ethertype::VLAN } else { ethertype::SERVICE_VLAN };
            // Without the drop-eligible bit and above 0: an access port or the host may not undo the tag.
            bytes::tag(&mut frame, kind, self.random.between(1, 4094));
        }
        if self.random.percent(5) {
            frame.truncate(14 + self.random.below(5));
        }
        self.bare("tagged", frame)
    }

    /// Neither IP nor ARP by the Ethernet type; some carry IP by SNAP.
    fn other_types(&mut self) -> Case {
        let session = self.session();
        let payload = self.payload(session, !self.outbound(), false, &[]);
        let packet = bytes::ip(self.ends(session), &self.header(session), &payload);
        let carried = bytes::ethertype_of(session.local);
        let snap = |kind: u16| [&[0xaa, 0xaa, 3, 0, 0, 0][..], &kind.to_be_bytes(), &packet].concat();
        let (kind, body) = match self.random.below(6) {
            0 => (0x88cc, self.random.bytes(46)),
            1 => (0x8847, self.random.bytes(46)),
            2 => (0x8035, bytes::arp(3, (ROUTER, [0; 4]), (ROUTER, [0; 4]))),
            3 => (46, self.random.bytes(46)),
            4 => (packet.len() as u16 + 8, snap(carried)),
            _ => (packet.len() as u16 + 8, snap(0x0100)),
        };
        let frame = self.frame(kind, &body);
        self.bare("other type", frame)
    }

    /// A frame that is cut off somewhere, or has some octets changed. Its connection is never a known one.
    fn damaged(&mut self) -> Case {
        let sound = match self.random.below(4) {
            0 => self.fragments(),
            1 => self.arp(),
            2 => self.neighbours(),
            _ => self.packet(),
        };
        let mut frame = sound.bytes;
        let headers = frame.len().min(100);
        if self.random.percent(50) {
            frame.truncate(14 + self.random.below(headers.saturating_sub(13)));
            return self.bare("cut off", frame);
        }
        for _ in 0..1 + self.random.below(3) {
            // Behind the MACs and the Ethernet type, most of the time.
            let from = if self.random.percent(80) { 14 } else { 0 };
            let at = from + self.random.below(headers.saturating_sub(from));
            let flipped = 1 << self.random.below(8);
            if let Some(octet) = frame.get_mut(at) {
                *octet ^= flipped;
            }
        }
        self.bare("damaged", frame)
    }

    /// Random bytes, behind sensible MACs and types most of the time.
    fn noise(&mut self) -> Case {
        let length = 14 + self.random.below(100);
        let mut frame = self.random.bytes(length);
        if self.random.percent(80) {
            let kinds = [ethertype::IPV4, ethertype::IPV6, ethertype::ARP, ethertype::VLAN];
            let kind = self.random.pick(&kinds).unwrap_or(ethertype::IPV4);
            frame = self.frame(kind, &frame[14..]);
        }
        self.bare("noise", frame)
    }

    fn bare(&self, label: &'static str, bytes: Vec<u8>) -> Case {
        Case { label, opening: Vec::new(), ingress: self.ingress, bytes, pieces: Vec::new(), owner: None }
    }

    fn outbound(&self) -> bool {
        matches!(self.ingress, Ingress::Host | Ingress::Overlay)
    }

    /// The frame that makes a packet's connection known, for some of those that come from outside.
    fn opening(&mut self, session: Session) -> (Vec<(Ingress, Vec<u8>)>, bool) {
        let opener = match session.traffic {
            Traffic::EchoReply => Traffic::EchoRequest,
            Traffic::Tcp | Traffic::Udp | Traffic::Sctp | Traffic::Protocol(47 | 50) => session.traffic,
            _ => return (Vec::new(), false),
        };
        if self.outbound() || self.random.percent(45) {
            return (Vec::new(), false);
        }
        let owner = if self.random.percent(60) { Owner::Pods } else { Owner::Host };
        let from = if owner == Owner::Pods { Ingress::Overlay } else { Ingress::Host };
        let session = Session { traffic: opener, ..session };
        let payload = self.payload(session, false, false, &[]);
        let ends = Ends { source: session.local, destination: session.remote };
        let header = Header { protocol: protocol_of(session), ..Header::default() };
        let packet = bytes::ip(ends, &header, &payload);
        let mac = self.policy.split.mac;
        let frame = bytes::ethernet(ROUTER, mac, bytes::ethertype_of(session.local), &packet);
        (vec![(from, frame)], true)
    }

    fn session(&mut self) -> Session {
        let traffic = [
            (26, Traffic::Tcp),
            (24, Traffic::Udp),
            (12, Traffic::Sctp),
            (8, Traffic::EchoRequest),
            (8, Traffic::EchoReply),
            (10, Traffic::IcmpError),
            (4, Traffic::IcmpOther),
            (3, Traffic::Protocol(47)),
            (1, Traffic::Protocol(50)),
            (1, Traffic::Protocol(protocol::ICMP)),
            (1, Traffic::Protocol(protocol::ICMPV6)),
            (1, Traffic::Protocol(2)),
            (1, Traffic::Protocol(255)),
        ];
        let traffic = self.random.weighted(&traffic, Traffic::Tcp);
        let local = self.any_local(None);
        let mut session = Session {
            local,
            remote: self.remote(local.is_ipv4()),
            local_port: self.port(),
            remote_port: self.random.between(1, u16::MAX),
            traffic,
        };
        if self.random.percent(45) {
            self.aim_at_service(&mut session);
        }
        if self.ingress == Ingress::Overlay && self.random.percent(8) {
            let last = self.random.octet();
            session.remote =
                if session.local.is_ipv4() { v4([10, 96, 3, last]) } else { v6(0x96, last.into()) };
        }
        session
    }

    /// Takes address, protocol and port of some service, or an address beside it.
    fn aim_at_service(&mut self, session: &mut Session) {
        let services = self.policy.services().map(|(_, rules)| rules).collect::<Vec<_>>();
        let Some(rules) = self.random.pick(&services) else { return };
        let Some(port) = rules.ports.get(self.random.below(rules.ports.len())) else { return };
        session.local = match port.address {
            ServiceAddress::External(address) => address,
            ServiceAddress::Node(family) => {
                let family = family == crate::policy::Family::V4;
                self.shared(family)
                    .filter(|_| self.random.percent(85))
                    .unwrap_or_else(|| self.any_local(Some(family)))
            }
        };
        session.remote = self.remote(session.local.is_ipv4());
        session.local_port = port.port;
        if !matches!(session.traffic, Traffic::IcmpError) {
            session.traffic = match port.protocol {
                Transport::Tcp => Traffic::Tcp,
                Transport::Udp => Traffic::Udp,
                Transport::Sctp => Traffic::Sctp,
            };
        }
    }

    /// A port, most often at an edge of the partition or inside it.
    fn port(&mut self) -> u16 {
        let Some(range) = self.policy.split.partition().filter(|_| self.random.percent(75)) else {
            return self.random.between(1, u16::MAX);
        };
        let edges = [range.low(), range.high(), range.low() - 1, range.high().saturating_add(1)];
        match self.random.below(6) {
            edge @ 0..4 => edges[edge].max(1),
            _ => self.random.between(range.low(), range.high()),
        }
    }

    fn shared(&mut self, family_v4: bool) -> Option<IpAddr> {
        let all = self.policy.split.shared.iter().copied();
        let all = all.filter(|address| address.is_ipv4() == family_v4).collect::<Vec<_>>();
        self.random.pick(&all)
    }

    /// An address on our side of the wire: shared, translated to, external, or the host's alone.
    fn any_local(&mut self, family_v4: Option<bool>) -> IpAddr {
        let family_v4 = family_v4.unwrap_or_else(|| self.random.percent(50));
        let last = 1 + self.random.octet() % 5;
        let foreign = if family_v4 { v4([192, 0, 2, 200 + last]) } else { v6(1, 0x200 + u128::from(last)) };
        let external = if family_v4 { v4([203, 0, 113, last]) } else { v6(0x113, last.into()) };
        let snat = self.policy.split.snat.iter().copied();
        let snat = snat.filter(|address| address.is_ipv4() == family_v4).collect::<Vec<_>>();
        match self.random.below(20) {
            0..13 => self.shared(family_v4).unwrap_or(foreign),
            13..16 => self.random.pick(&snat).unwrap_or(external),
            16..18 => external,
            _ => foreign,
        }
    }

    /// The remote address of this case.
    fn remote(&self, family_v4: bool) -> IpAddr {
        // An odd factor makes a permutation: neighbours in number lie in different ranges of sources.
        let low = self.number.wrapping_mul(0x9e37_79b1) & REMOTE_MASK;
        match family_v4 {
            true => Ipv4Addr::from(REMOTE_V4 | low).into(),
            false => Ipv6Addr::from(REMOTE_V6 | u128::from(low)).into(),
        }
    }

    fn ends(&self, session: Session) -> Ends {
        ends(session, !self.outbound())
    }

    fn header(&mut self, session: Session) -> Header {
        let mut header = Header { protocol: protocol_of(session), ..Header::default() };
        if self.random.percent(15) {
            header.options = [1, 1, 1, 0].repeat(1 + self.random.below(10));
            let extensions: [(u8, usize); 4] = [
                (protocol::HOP_BY_HOP, 0),
                (protocol::ROUTING, 0),
                (protocol::DESTINATION_OPTIONS, 1),
                (protocol::AUTHENTICATION, 4),
            ];
            for (number, length) in extensions {
                if self.random.percent(40) {
                    let octets =
                        if number == protocol::AUTHENTICATION { (length + 2) * 4 } else { (length + 1) * 8 };
                    let mut body = vec![0; octets - 1];
                    body[0] = length as u8;
                    if number != protocol::AUTHENTICATION && number != protocol::ROUTING {
                        // One option of padding fills the header (RFC 8200, section 4.2).
                        body[1] = 1;
                        body[2] = (octets - 4) as u8;
                    }
                    header.extensions.push((number, body));
                }
            }
        }
        header
    }

    /// What the IP packet carries. `answers` for the second packet of a connection that was opened.
    fn payload(&mut self, session: Session, inbound: bool, answers: bool, data: &[u8]) -> Vec<u8> {
        let ends = ends(session, inbound);
        let (here, there) = (session.local_port, session.remote_port);
        let ports = if inbound { (there, here) } else { (here, there) };
        let identifier = here.max(1).to_be_bytes();
        let echo = [identifier[0], identifier[1], 0, 1];
        let is_v4 = session.local.is_ipv4();
        match session.traffic {
            Traffic::Tcp if answers => bytes::tcp(ends, ports, SYN_ACK, (7, 0x1001), data),
            Traffic::Tcp if inbound || self.random.percent(50) || !self.outbound() => {
                bytes::tcp(ends, ports, SYN, (0x1000, 0), data)
            }
            Traffic::Tcp => {
                let flags = self.random.below(0x100) as u16;
                bytes::tcp(ends, ports, flags, (0x1001, 8), data)
            }
            Traffic::Udp => bytes::udp(ends, ports, data),
            Traffic::Sctp => [bytes::sctp(ports, !answers), data.to_vec()].concat(),
            Traffic::EchoRequest => bytes::icmp(ends, if is_v4 { 8 } else { 128 }, 0, echo, data),
            Traffic::EchoReply => bytes::icmp(ends, if is_v4 { 0 } else { 129 }, 0, echo, data),
            Traffic::IcmpError => {
                let kinds = if is_v4 { [3, 4, 11, 12] } else { [1, 2, 3, 4] };
                let kind = self.random.pick(&kinds).unwrap_or(3);
                let inner = self.quoted(session, inbound);
                bytes::icmp(ends, kind, 0, [0, 0, 5, 0], &[&inner, data].concat())
            }
            Traffic::IcmpOther => {
                let kinds = if is_v4 { [5, 9, 10, 17] } else { [5, 100, 130, 143] };
                let kind = self.random.pick(&kinds).unwrap_or(5);
                bytes::icmp(ends, kind, 0, echo, &[&[0; 20], data].concat())
            }
            Traffic::Protocol(_) => [&[0; 16], data].concat(),
        }
    }

    /// The packet that an ICMP error is about: the other way round.
    fn quoted(&mut self, session: Session, inbound: bool) -> Vec<u8> {
        let ends = ends(session, !inbound);
        let segment = bytes::udp(ends, (session.local_port, session.remote_port), &[0; 8]);
        bytes::ip(ends, &Header { protocol: protocol::UDP, ..Header::default() }, &segment)
    }

    /// Destination and source MAC.
    fn macs(&mut self) -> (Mac, Mac) {
        let mac = self.policy.split.mac;
        let strange = Mac([0x0a, 0, 0, 0, 1, self.random.octet()]);
        let astray = self.random.weighted(&[(88, mac), (4, BROADCAST), (8, strange)], mac);
        if self.outbound() {
            (ROUTER, if astray == BROADCAST { mac } else { astray })
        } else {
            (astray, ROUTER)
        }
    }

    fn frame(&mut self, kind: u16, payload: &[u8]) -> Vec<u8> {
        let (destination, source) = self.macs();
        bytes::ethernet(destination, source, kind, payload)
    }
}

fn ends(session: Session, inbound: bool) -> Ends {
    match inbound {
        true => Ends { source: session.remote, destination: session.local },
        false => Ends { source: session.local, destination: session.remote },
    }
}

fn protocol_of(session: Session) -> u8 {
    match session.traffic {
        Traffic::Tcp => protocol::TCP,
        Traffic::Udp => protocol::UDP,
        Traffic::Sctp => protocol::SCTP,
        Traffic::Protocol(number) => number,
        _ if session.local.is_ipv4() => protocol::ICMP,
        _ => protocol::ICMPV6,
    }
}

fn target_v4(address: IpAddr) -> Result<[u8; 4], ()> {
    match address {
        IpAddr::V4(address) => Ok(address.octets()),
        IpAddr::V6(_) => Err(()),
    }
}
