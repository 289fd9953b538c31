//! The targets of probes on an uplink: the routers of its routes, or its neighbours if it has none. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use host::neighbour_probe::Question;
use host::rtnl::address::Address;
use host::rtnl::neighbour::Neighbour;

use crate::device_config::DeviceRows;

/// Neighbours that replied once (`NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE`, linux/neighbour.h).
const REPLIED: u16 = 0x02 | 0x04 | 0x08 | 0x10;

/// What the probes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbePurpose {
    /// A proof, before and after a switchover. One reply is enough, and without one the takeover fails: so every neighbour
    /// is a candidate, and a source address of another scope is better than none.
    Proof,
    /// Monitoring, up to fifty times a second while the helper runs. A target that does not reply over any path
    /// would keep management on the NIC: so only neighbours that replied once, only from a source of the target's
    /// scope, and never from an address whose uniqueness the kernel still checks.
    Watch,
}

impl ProbePurpose {
    /// The largest number of targets.
    fn limit(self) -> usize {
        match self {
            Self::Proof => 16,
            Self::Watch => 4,
        }
    }
}

/// The probes for an uplink that carries `rows`.
#[must_use]
pub(crate) fn probe_targets(rows: &DeviceRows, purpose: ProbePurpose) -> Vec<Question> {
    let usable = |address: &&Address| purpose == ProbePurpose::Proof || !address.is_tentative();
    let own: Vec<(IpAddr, u8)> = rows
        .addresses()
        .iter()
        .filter(usable)
        .filter_map(|address| Some((address.local()?, address.prefix())))
        .collect();
    let mut targets: BTreeSet<IpAddr> = rows.routers().into_iter().collect();
    if targets.is_empty() {
        let entries = rows.neighbours.iter().filter_map(Neighbour::of);
        // This node itself replies for the address of a proxy entry.
        let others = entries.filter(|entry| !entry.is_proxy());
        let candidates = others.filter(|entry| match purpose {
            ProbePurpose::Proof => true,
            ProbePurpose::Watch => {
                entry.state() & REPLIED != 0 && entry.address().is_some_and(is_beyond_link)
            }
        });
        targets = candidates.filter_map(|entry| entry.address()).collect();
    }
    let probe = |target| source(&own, target, purpose).map(|source| Question { target, source });
    targets.into_iter().filter_map(probe).take(purpose.limit()).collect()
}

/// The own address to probe from: one of the target's network, else one of its family and scope, else (for a proof) one
/// of its family.
fn source(own: &[(IpAddr, u8)], target: IpAddr, purpose: ProbePurpose) -> Option<IpAddr> {
    let family: Vec<&(IpAddr, u8)> =
        own.iter().filter(|(address, _)| address.is_ipv4() == target.is_ipv4()).collect();
    let has_scope = |own: &&&(IpAddr, u8)| is_beyond_link(own.0) == is_beyond_link(target);
    let is_near =
        |own: &&&(IpAddr, u8)| ipnet::IpNet::new(own.0, own.1).is_ok_and(|network| network.contains(&target));
    let near = family.iter().find(|own| is_near(own) && has_scope(own));
    let any = family.first().filter(|_| purpose == ProbePurpose::Proof);
    near.or_else(|| family.iter().find(has_scope)).or(any).map(|own| own.0)
}

/// Whether an address is a unicast address that is valid beyond the link.
pub(crate) fn is_beyond_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified(),
        IpAddr::V6(ip) => {
            !ip.is_unicast_link_local() && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified()
        }
    }
}

#[cfg(test)]
mod tests {
    use host::netns::Namespace;
    use host::rtnl::Socket;

    use super::*;
    use crate::device_config::Network;

    fn own(addresses: &[(&str, u8)]) -> Vec<(IpAddr, u8)> {
        addresses.iter().map(|(address, prefix)| (address.parse().unwrap(), *prefix)).collect()
    }

    #[test]
    fn a_target_is_probed_from_an_address_of_its_own_network() {
        let own = own(&[("10.0.0.5", 24), ("172.18.0.11", 24), ("fe80::5", 64), ("fc00::5", 64)]);
        for purpose in [ProbePurpose::Watch, ProbePurpose::Proof] {
            let from = |target: &str| {
                source(&own, target.parse().unwrap(), purpose).map(|source| source.to_string())
            };
            assert_eq!(from("172.18.0.1").as_deref(), Some("172.18.0.11"));
            assert_eq!(
                from("192.0.2.1").as_deref(),
                Some("10.0.0.5"),
                "an on-link gateway outside the own networks"
            );
            assert_eq!(from("fe80::1").as_deref(), Some("fe80::5"));
            assert_eq!(from("fc00::1").as_deref(), Some("fc00::5"));
            assert_eq!(source(&own[..1], "fc00::1".parse().unwrap(), purpose), None);
        }
    }

    #[test]
    fn only_a_proof_probes_from_an_address_of_another_scope() {
        let (own, router) = (own(&[("fc00::5", 64)]), "fe80::1".parse().unwrap());
        assert_eq!(source(&own, router, ProbePurpose::Watch), None);
        assert_eq!(source(&own, router, ProbePurpose::Proof), Some("fc00::5".parse().unwrap()));
    }

    #[test]
    fn proofs_have_more_targets_than_monitoring() {
        let ip = |line: &str| {
            let done = std::process::Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(done.success(), "{line}");
        };
        let work = || {
            ip("link add nic type veth peer name wire");
            ip("link set wire up");
            ip("link set nic up");
            ip("address add 172.18.0.200/24 dev nic");
            for host in 1..=20 {
                let state = if host <= 10 { "permanent" } else { "stale" };
                ip(&format!(
                    "neighbour add 172.18.0.{host} lladdr 0a:00:00:00:00:{host:02x} nud {state} dev nic"
                ));
            }
            let observe = || {
                let network = Network::observe(&Socket::open().unwrap()).unwrap();
                network.of(&network.link("nic").unwrap().device())
            };
            let targets = |rows: &DeviceRows, purpose| -> Vec<String> {
                probe_targets(rows, purpose).iter().map(|probe| probe.target.to_string()).collect()
            };
            let rows = observe();
            assert_eq!(targets(&rows, ProbePurpose::Proof).len(), 16);
            let watched = targets(&rows, ProbePurpose::Watch);
            assert_eq!(
                watched,
                ["172.18.0.11", "172.18.0.12", "172.18.0.13", "172.18.0.14"],
                "they replied once"
            );
            ip("route add default via 172.18.0.1");
            let rows = observe();
            for purpose in [ProbePurpose::Proof, ProbePurpose::Watch] {
                assert_eq!(targets(&rows, purpose), ["172.18.0.1"], "only the router");
                let bare = DeviceRows { addresses: Vec::new(), ..rows.clone() };
                assert!(targets(&bare, purpose).is_empty(), "there is no source address");
            }
        };
        Namespace::create().unwrap().run(work).unwrap();
    }
}
