//! Who owns which connection, from the output of `dpctl/dump-conntrack`.

use std::collections::HashMap;
use std::net::IpAddr;

use demux::decide::Owner;
use demux::frame::{Tuple, protocol};

use flows::{MARK_HOST, MARK_PODS};

/// The owners of a zone's connections, by the tuple of either direction.
#[derive(Debug, Default)]
pub(super) struct ConntrackZone(HashMap<Tuple, Option<Owner>>);

impl ConntrackZone {
    /// Parses a dump. Entries that do not parse are left out.
    pub(super) fn read(dump: &str) -> ConntrackZone {
        let mut zone = ConntrackZone::default();
        for line in dump.lines() {
            let owner = owner_of(line);
            for tuple in ["orig=(", "reply=("].into_iter().filter_map(|side| tuple_of(line, side)) {
                zone.0.insert(tuple, owner);
            }
        }
        zone
    }

    /// The owner of a tuple's connection; `None` when there is no connection, or it has no owner mark.
    pub(super) fn owner(&self, tuple: &Tuple) -> Option<Owner> {
        self.0.get(tuple).copied().flatten()
    }

    /// Whether a connection has this tuple.
    pub(super) fn knows(&self, tuple: &Tuple) -> bool {
        self.0.contains_key(tuple)
    }
}

fn owner_of(line: &str) -> Option<Owner> {
    let mark = line.split(',').find_map(|word| word.strip_prefix("mark="))?;
    let mark = match mark.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => mark.parse().ok()?,
    };
    match mark {
        MARK_PODS => Some(Owner::Pods),
        MARK_HOST => Some(Owner::Host),
        _ => None,
    }
}

fn tuple_of(line: &str, side: &str) -> Option<Tuple> {
    let number = protocol_number(line.split(',').next()?)?;
    let (_, rest) = line.split_once(side)?;
    let (inside, _) = rest.split_once(')')?;
    let word = |name: &str| {
        let mut words = inside.split(',').filter_map(|word| word.split_once('='));
        words.find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let address = |name| word(name).and_then(|text| text.parse::<IpAddr>().ok());
    let port = |name| word(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (source_port, destination_port) = match word("type") {
        // As in the frame: the identifier is the requester's port.
        Some("8" | "128") => (port("id"), 0),
        Some("0" | "129") => (0, port("id")),
        Some(_) => return None,
        None => (port("sport"), port("dport")),
    };
    Some(Tuple {
        protocol: number,
        source: address("src")?,
        destination: address("dst")?,
        source_port,
        destination_port,
    })
}

/// Protocol names of the dump; a protocol without a name is a number.
fn protocol_number(name: &str) -> Option<u8> {
    Some(match name {
        "tcp" => protocol::TCP,
        "udp" => protocol::UDP,
        "sctp" => protocol::SCTP,
        "icmp" => protocol::ICMP,
        "icmpv6" => protocol::ICMPV6,
        "igmp" => 2,
        "dccp" => 33,
        "udplite" => 136,
        other => other.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUMP: &str = "\
tcp,orig=(src=172.18.0.11,dst=203.0.113.10,sport=40001,dport=80),reply=(src=203.0.113.10,dst=172.18.0.11,sport=80,dport=40001),zone=64000,mark=1,protoinfo=(state=ESTABLISHED)
udp,orig=(src=2001:db8::1,dst=2001:db8::2,sport=1,dport=53),reply=(src=2001:db8::2,dst=2001:db8::1,sport=53,dport=1),zone=64000,mark=2
icmp,orig=(src=172.18.0.11,dst=203.0.113.10,id=7,type=8,code=0),reply=(src=203.0.113.10,dst=172.18.0.11,id=7,type=0,code=0),zone=64000,mark=0x1
47,orig=(src=172.18.0.11,dst=203.0.113.10,sport=0,dport=0),reply=(src=203.0.113.10,dst=172.18.0.11,sport=0,dport=0),zone=64000
nonsense
";

    fn tuple(protocol: u8, source: &str, destination: &str, ports: (u16, u16)) -> Tuple {
        Tuple {
            protocol,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: ports.0,
            destination_port: ports.1,
        }
    }

    #[test]
    fn either_direction_finds_its_owner() {
        let zone = ConntrackZone::read(DUMP);
        let reply = tuple(6, "203.0.113.10", "172.18.0.11", (80, 40001));
        assert_eq!(zone.owner(&reply), Some(Owner::Pods));
        assert_eq!(zone.owner(&reply.reversed()), Some(Owner::Pods));
        assert_eq!(zone.owner(&tuple(17, "2001:db8::2", "2001:db8::1", (53, 1))), Some(Owner::Host));
        assert_eq!(zone.owner(&tuple(1, "203.0.113.10", "172.18.0.11", (0, 7))), Some(Owner::Pods));
        let unmarked = tuple(47, "203.0.113.10", "172.18.0.11", (0, 0));
        assert_eq!((zone.owner(&unmarked), zone.knows(&unmarked)), (None, true));
        let stranger = tuple(6, "203.0.113.10", "172.18.0.11", (81, 40001));
        assert_eq!((zone.owner(&stranger), zone.knows(&stranger)), (None, false));
    }
}
