//! Generated policies: small address spaces and few ports, so that frames meet them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::random::Random;
use crate::mac::Mac;
use crate::policy::{
    Family, Policy, PortRange, ReplyRule, ServiceAddress, ServiceKey, ServiceOwner, ServicePort,
    ServiceRules, Split, Transport,
};

/// Where the remote addresses of cases lie (RFC 2544's and a documentation prefix).
pub(crate) const REMOTE_V4: u32 = 0xc612_0000;
pub(crate) const REMOTE_V6: u128 = 0x2001_0db8_ffff_0000_0000_0000_0000_0000;
/// The bits in which remote addresses differ.
pub(crate) const REMOTE_MASK: u32 = 0x1_ffff;

pub(crate) fn policy(random: &mut Random) -> Policy {
    let split = split(random);
    let mut policy = Policy::new(split);
    let mut taken = BTreeSet::new();
    for number in 0..random.below(12) {
        let ports = (0..1 + random.below(4)).map(|_| port(random, &policy.split)).collect::<Vec<_>>();
        let ports = ports.into_iter().filter(|port| taken.insert(port.slot())).collect();
        let key = ServiceKey::new(format!("shop/service-{number}"));
        policy.set_service(key, Arc::new(ServiceRules::new(ports)));
    }
    policy
}

fn split(random: &mut Random) -> Split {
    let families =
        random.weighted(&[(6, (true, true)), (3, (true, false)), (1, (false, true))], (true, true));
    let addresses = |first: u8, count: usize| -> BTreeSet<IpAddr> {
        let numbers = (first..).take(count);
        let both = numbers.flat_map(|last| [v4([192, 0, 2, last]), v6(1, last.into())]);
        both.filter(|address| if address.is_ipv4() { families.0 } else { families.1 }).collect()
    };
    let shared = addresses(1, 1 + random.below(2));
    let snat = addresses(100, random.below(3));
    Split {
        mac: Mac([0x0a, 0x58, 0xc0, 0, 2, random.octet()]),
        shared,
        snat,
        service_ranges: ["10.96.0.0/16", "2001:db8:96::/112"]
            .iter()
            .filter_map(|range| range.parse().ok())
            .collect(),
        tunnels: [6081, 4789].into_iter().take(random.below(3)).collect(),
        reply: reply_rule(random),
        other_ports: random.percent(30),
    }
}

fn reply_rule(random: &mut Random) -> ReplyRule {
    let low = random.between(32000, 50000);
    let high = low.saturating_add(random.between(0, 15000));
    match PortRange::new(low, high) {
        Ok(ports) if random.percent(60) => ReplyRule::Partitioned { ports, drain: random.percent(33) },
        _ => ReplyRule::Tracked,
    }
}

fn port(random: &mut Random, split: &Split) -> ServicePort {
    let shared = split.shared.iter().copied().collect::<Vec<_>>();
    let owners = [(5, ServiceOwner::NorthSouth), (2, ServiceOwner::Management), (2, ServiceOwner::Drop)];
    let node = random.percent(50);
    let address = match (node, random.percent(50)) {
        (true, true) => ServiceAddress::Node(Family::V4),
        (true, false) => ServiceAddress::Node(Family::V6),
        // An external address can be the node's own.
        (false, _) if random.percent(15) => {
            random.pick(&shared).map_or(ServiceAddress::Node(Family::V4), ServiceAddress::External)
        }
        (false, true) => ServiceAddress::External(v4([203, 0, 113, 1 + random.octet() % 4])),
        (false, false) => ServiceAddress::External(v6(0x113, 1 + u128::from(random.octet() % 4))),
    };
    let ports = if node { (30000, 30040) } else { (80, 90) };
    ServicePort {
        address,
        protocol: random.pick(&Transport::ALL).unwrap_or(Transport::Tcp),
        port: random.between(ports.0, ports.1),
        owner: random.weighted(&owners, ServiceOwner::NorthSouth),
        sources: random.percent(40).then(|| sources(random)),
    }
}

/// Ranges that hold some of the remote addresses; now and then none at all.
fn sources(random: &mut Random) -> BTreeSet<IpNet> {
    (0..random.below(4))
        .filter_map(|_| {
            let part = random.next() as u32 & REMOTE_MASK;
            match random.percent(50) {
                true => IpNet::new(Ipv4Addr::from(REMOTE_V4 | part).into(), 14 + random.octet() % 7),
                false => {
                    IpNet::new(Ipv6Addr::from(REMOTE_V6 | u128::from(part)).into(), 110 + random.octet() % 7)
                }
            }
            .ok()
            .map(|range| range.trunc())
        })
        .collect()
}

pub(crate) fn v4(octets: [u8; 4]) -> IpAddr {
    Ipv4Addr::from(octets).into()
}

/// An address of a documentation prefix.
pub(crate) fn v6(net: u16, host: u128) -> IpAddr {
    Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(net) << 80 | host).into()
}
