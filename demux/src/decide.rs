//! The one classifier: which owner gets a frame, and which rule says so.
//!
//! [`decide`] walks the stages of the table in [`crate::rule`]. It allocates nothing and looks services up in
//! constant time.

use std::net::IpAddr;

use crate::frame::{Fragment, Frame, Ip, Network, TransportHeader, protocol};
use crate::policy::{Claim, Family, Policy, ServiceAddress, ServiceKey, ServiceOwner, Split, Transport};
use crate::rule::RuleId;
pub use crate::verdict::{DropReason, Ingress, Owner, Verdict};

/// A verdict and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'policy> {
    /// The frame's fate.
    pub verdict: Verdict,
    /// The rule that decided; never a step.
    pub rule: RuleId,
    /// The service whose rule it was.
    pub service: Option<&'policy ServiceKey>,
    /// Another owner of the connection can mean another verdict.
    pub depends_on_owner: bool,
}

/// What follows from one possible owner of a frame's connection: see [`decide_branches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch<'policy> {
    /// The owner that is assumed.
    pub owner: Option<Owner>,
    /// What follows from it.
    pub decision: Decision<'policy>,
}

/// Classifies a frame. `owner` opened the frame's connection; `None` where that is not known.
pub fn decide<'policy>(
    policy: &'policy Policy,
    ingress: Ingress,
    frame: &Frame,
    owner: Option<Owner>,
) -> Decision<'policy> {
    let frame = &with_ports_hidden(*frame);
    match ingress {
        Ingress::Uplink => from_wire(policy, frame, owner),
        Ingress::Other if policy.split.other_ports => from_wire(policy, frame, owner),
        Ingress::Other => to_management(RuleId::CatchAll),
        Ingress::Host => from_host(&policy.split, frame),
        Ingress::Overlay => from_overlay(policy, frame),
    }
}

/// No piece of a datagram is classified by its ports or ICMP type, not even the first, which carries them: all pieces
/// get one verdict. So do bridges (`normal` fragment handling of `ovs-ofctl get-frags`; TCP's flags stay to be seen).
fn with_ports_hidden(mut frame: Frame) -> Frame {
    if let Network::Ip(ip) = &mut frame.network
        && ip.fragment != Fragment::No
    {
        ip.transport = match ip.transport {
            TransportHeader::Tcp { flags, .. } => TransportHeader::Tcp { source: 0, destination: 0, flags },
            _ => TransportHeader::None,
        };
    }
    frame
}

/// Every decision that is possible while a frame's owner is not known: one branch where it does not depend on the
/// owner, else one each for pods, host and no known owner.
pub fn decide_branches<'policy>(
    policy: &'policy Policy,
    ingress: Ingress,
    frame: &Frame,
) -> Vec<Branch<'policy>> {
    let unknown = decide(policy, ingress, frame, None);
    if !unknown.depends_on_owner {
        return vec![Branch { owner: None, decision: unknown }];
    }
    [Some(Owner::Pods), Some(Owner::Host), None]
        .into_iter()
        .map(|owner| Branch { owner, decision: decide(policy, ingress, frame, owner) })
        .collect()
}

fn from_wire<'policy>(policy: &'policy Policy, frame: &Frame, owner: Option<Owner>) -> Decision<'policy> {
    let split = &policy.split;
    let to_shared = frame.destination == split.mac;
    if frame.vlan.is_some() {
        return match to_shared || !split.other_ports {
            true => to_management(RuleId::TaggedWire),
            false => decided(Verdict::Switch, RuleId::TaggedSwitched),
        };
    }
    match &frame.network {
        Network::Ip(ip) => {
            if to_shared && is_tunnel(split, ip) {
                return to_management(RuleId::WireTunnel);
            }
            if let Some(decision) = neighbour_discovery(split, ip) {
                return decision;
            }
            if to_shared {
                return to_service(policy, ip, owner);
            }
        }
        Network::Arp(arp) => {
            return match arp.operation == ARP_REQUEST && split.shared.contains(&IpAddr::V4(arp.target)) {
                true => to_management(RuleId::ArpForShared),
                false => decided(Verdict::Both, RuleId::Arp),
            };
        }
        Network::Other => {}
    }
    match (to_shared, split.other_ports) {
        (true, _) => to_management(RuleId::SharedMacRest),
        (false, false) => to_management(RuleId::CatchAll),
        (false, true) => decided(Verdict::Switch, RuleId::SwitchRest),
    }
}

fn neighbour_discovery(split: &Split, ip: &Ip) -> Option<Decision<'static>> {
    if !(ip.protocol == protocol::ICMPV6 && ip.destination.is_ipv6()) {
        return None;
    }
    // Another code is invalid (RFC 4861, section 6.1 and 7.1), and the host drops it.
    let TransportHeader::Icmp { kind, code: 0, target, .. } = ip.transport else { return None };
    match (kind, target) {
        (icmpv6::SOLICITATION, Some(target)) if split.shared.contains(&IpAddr::V6(target)) => {
            Some(to_management(RuleId::NdForShared))
        }
        (icmpv6::SOLICITATION | icmpv6::ADVERTISEMENT, _) => Some(decided(Verdict::Both, RuleId::Nd)),
        (icmpv6::ROUTER_SOLICITATION | icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT, _) => {
            Some(to_management(RuleId::RouterDiscovery))
        }
        _ => None,
    }
}

/// Services on external addresses, then NodePorts, then the reply rule.
fn to_service<'policy>(policy: &'policy Policy, ip: &Ip, owner: Option<Owner>) -> Decision<'policy> {
    let split = &policy.split;
    if is_icmp_error(ip) && policy.serves_external(ip.destination) {
        return decided(Verdict::Both, RuleId::ExternalIcmpError);
    }
    let transport = Transport::from_number(ip.protocol);
    let claim = |address| policy.claim(address, transport?, ip.destination_port());
    if let Some(claim) = claim(ServiceAddress::External(ip.destination)) {
        return served(claim, ip, &EXTERNAL_RULES);
    }
    if split.shared.contains(&ip.destination) {
        match claim(ServiceAddress::Node(Family::of(ip.destination))) {
            Some(claim) => served(claim, ip, &NODE_PORT_RULES),
            None => reply(split, ip, owner),
        }
    } else if split.snat.contains(&ip.destination) {
        reply(split, ip, owner)
    } else {
        to_management(RuleId::OtherAddress)
    }
}

/// The rules of one kind of service address.
struct ServiceRuleIds {
    north_south: RuleId,
    north_south_source: RuleId,
    host: RuleId,
    host_source: RuleId,
    denied: RuleId,
    no_endpoint: RuleId,
}

const EXTERNAL_RULES: ServiceRuleIds = ServiceRuleIds {
    north_south: RuleId::External,
    north_south_source: RuleId::ExternalSource,
    host: RuleId::ExternalHost,
    host_source: RuleId::ExternalHostSource,
    denied: RuleId::ExternalSourceDenied,
    no_endpoint: RuleId::ExternalNoEndpoint,
};

const NODE_PORT_RULES: ServiceRuleIds = ServiceRuleIds {
    north_south: RuleId::NodePort,
    north_south_source: RuleId::NodePortSource,
    host: RuleId::NodePortHost,
    host_source: RuleId::NodePortHostSource,
    denied: RuleId::NodePortSourceDenied,
    no_endpoint: RuleId::NodePortNoEndpoint,
};

fn served<'policy>(claim: Claim<'policy>, ip: &Ip, rules: &ServiceRuleIds) -> Decision<'policy> {
    let limited = claim.port.sources.is_some();
    let (verdict, rule) = match claim.port.owner {
        ServiceOwner::Drop => (Verdict::Drop(DropReason::NoEndpoint), rules.no_endpoint),
        _ if !claim.port.serves(ip.source) => (Verdict::Drop(DropReason::SourceDenied), rules.denied),
        ServiceOwner::NorthSouth if limited => (Verdict::NorthSouth, rules.north_south_source),
        ServiceOwner::NorthSouth => (Verdict::NorthSouth, rules.north_south),
        ServiceOwner::Management if limited => (Verdict::Management, rules.host_source),
        ServiceOwner::Management => (Verdict::Management, rules.host),
    };
    Decision { service: Some(claim.service), ..decided(verdict, rule) }
}

/// The reply rule, for what belongs to no service.
fn reply(split: &Split, ip: &Ip, owner: Option<Owner>) -> Decision<'static> {
    // All pieces of a datagram are classified by their owner, whatever they carry: later pieces of IPv6 do not even
    // carry their protocol.
    if ip.fragment != Fragment::No {
        return by_owner(ip, owner);
    }
    if is_icmp_error(ip) {
        return decided(Verdict::Both, RuleId::IcmpError);
    }
    if ip.protocol == protocol::SCTP {
        return by_association(ip, owner);
    }
    if let Some(ports) = split.partition() {
        if matches!(ip.protocol, protocol::TCP | protocol::UDP) && ports.contains(ip.destination_port()) {
            return decided(Verdict::NorthSouth, RuleId::Partition);
        }
        if matches!(icmp_kind(ip), Some((Family::V4, icmp::ECHO_REPLY) | (Family::V6, icmpv6::ECHO_REPLY))) {
            return decided(Verdict::Both, RuleId::EchoReply);
        }
    }
    match split.tracks() {
        true => by_owner(ip, owner),
        false => to_management(RuleId::OutsidePartition),
    }
}

/// By the connection table, which has no owner for SCTP and for a frame that names no connection.
fn by_owner(ip: &Ip, owner: Option<Owner>) -> Decision<'static> {
    let depends_on_owner = match ip.protocol {
        protocol::SCTP => false,
        protocol::TCP | protocol::UDP => ip.fragment != Fragment::No || ip.transport != TransportHeader::None,
        _ if ip.fragment == Fragment::No && icmp_kind(ip).is_some() => ip.transport != TransportHeader::None,
        _ => true,
    };
    let decision = match owner.filter(|_| depends_on_owner) {
        Some(Owner::Pods) => decided(Verdict::NorthSouth, RuleId::OwnerPods),
        Some(Owner::Host) => to_management(RuleId::OwnerHost),
        None => to_management(RuleId::OwnerUnknown),
    };
    Decision { depends_on_owner, ..decision }
}

/// By the associations that pods have opened.
fn by_association(ip: &Ip, owner: Option<Owner>) -> Decision<'static> {
    let depends_on_owner = ip.transport != TransportHeader::None;
    let decision = match owner.filter(|_| depends_on_owner) {
        Some(Owner::Pods) => decided(Verdict::NorthSouth, RuleId::SctpLearned),
        _ => to_management(RuleId::SctpUnknown),
    };
    Decision { depends_on_owner, ..decision }
}

fn from_overlay<'policy>(policy: &'policy Policy, frame: &Frame) -> Decision<'policy> {
    let split = &policy.split;
    let out = |rule| decided(exit(split), rule);
    let dropped = |reason, rule| decided(Verdict::Drop(reason), rule);
    if frame.vlan.is_some() {
        return dropped(DropReason::Tagged, RuleId::TaggedOverlay);
    }
    if frame.source != split.mac {
        return dropped(DropReason::SourceMac, RuleId::ForeignSourceMac);
    }
    let ip = match &frame.network {
        Network::Ip(ip) => ip,
        Network::Arp(_) => return out(RuleId::OverlayArp),
        Network::Other => return dropped(DropReason::NotIp, RuleId::OverlayNotIp),
    };
    if split.service_ranges.iter().any(|range| range.contains(&ip.destination)) {
        return dropped(DropReason::ServiceRange, RuleId::ServiceRangeLeak);
    }
    if matches!(icmp_kind(ip), Some((Family::V6, icmpv6::SOLICITATION | icmpv6::ADVERTISEMENT))) {
        return out(RuleId::OverlayNd);
    }
    let answers = |address| {
        let claim = policy.claim(address, Transport::from_number(ip.protocol)?, ip.source_port())?;
        (claim.port.owner == ServiceOwner::NorthSouth).then_some(claim.service)
    };
    if split.shared.contains(&ip.source)
        && let Some(service) = answers(ServiceAddress::Node(Family::of(ip.source)))
    {
        return Decision { service: Some(service), ..out(RuleId::NodePortAnswer) };
    }
    if let Some(service) = answers(ServiceAddress::External(ip.source)) {
        return Decision { service: Some(service), ..out(RuleId::ExternalAnswer) };
    }
    match ip.protocol {
        // One rule for all pieces: conntrack holds back a piece until it has seen the others.
        _ if ip.fragment != Fragment::No => out(RuleId::OverlayTracked),
        protocol::SCTP => out(RuleId::OverlaySctp),
        protocol::TCP if !split.tracks() => out(RuleId::OverlayUntracked),
        _ => out(RuleId::OverlayTracked),
    }
}

fn from_host(split: &Split, frame: &Frame) -> Decision<'static> {
    let out = |rule| decided(exit(split), rule);
    if frame.vlan.is_some() {
        return out(RuleId::TaggedHost);
    }
    let Network::Ip(ip) = &frame.network else { return out(RuleId::HostOut) };
    if is_tunnel(split, ip) {
        return out(RuleId::HostTunnel);
    }
    if !split.tracks() {
        return out(RuleId::HostOut);
    }
    if ip.fragment != Fragment::No {
        return out(RuleId::HostTracked);
    }
    match (ip.protocol, ip.transport, icmp_kind(ip)) {
        (protocol::TCP, TransportHeader::Tcp { flags, .. }, _) if flags & (TCP_SYN | TCP_ACK) == TCP_SYN => {
            out(RuleId::HostSyn)
        }
        (_, _, Some((Family::V4, icmp::ECHO) | (Family::V6, icmpv6::ECHO))) => out(RuleId::HostEcho),
        (protocol::TCP | protocol::SCTP, ..) | (_, _, Some(_)) => out(RuleId::HostUntracked),
        _ => out(RuleId::HostTracked),
    }
}

const ARP_REQUEST: u8 = 1;
const TCP_SYN: u16 = 0x02;
const TCP_ACK: u16 = 0x10;

/// ICMP types (IANA "ICMP Type Numbers").
mod icmp {
    pub(super) const ECHO_REPLY: u8 = 0;
    pub(super) const ECHO: u8 = 8;
}

/// ICMPv6 types (IANA "ICMPv6 Type Numbers").
mod icmpv6 {
    pub(super) const ECHO: u8 = 128;
    pub(super) const ECHO_REPLY: u8 = 129;
    pub(super) const ROUTER_SOLICITATION: u8 = 133;
    pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
    pub(super) const SOLICITATION: u8 = 135;
    pub(super) const ADVERTISEMENT: u8 = 136;
    pub(super) const REDIRECT: u8 = 137;
}

fn decided(verdict: Verdict, rule: RuleId) -> Decision<'static> {
    Decision { verdict, rule, service: None, depends_on_owner: false }
}

fn to_management(rule: RuleId) -> Decision<'static> {
    decided(Verdict::Management, rule)
}

/// Where frames of the host and of the overlay leave.
fn exit(split: &Split) -> Verdict {
    if split.other_ports { Verdict::Switch } else { Verdict::Uplink }
}

fn is_tunnel(split: &Split, ip: &Ip) -> bool {
    ip.protocol == protocol::UDP
        && matches!(ip.transport, TransportHeader::Ports { destination, .. } if split.tunnels.contains(&destination))
}

/// The ICMP type and its family, if it is ICMP of the header's own family. Cut off, the type reads 0.
fn icmp_kind(ip: &Ip) -> Option<(Family, u8)> {
    let family = match (ip.protocol, ip.destination) {
        (protocol::ICMP, IpAddr::V4(_)) => Family::V4,
        (protocol::ICMPV6, IpAddr::V6(_)) => Family::V6,
        _ => return None,
    };
    match ip.transport {
        TransportHeader::Icmp { kind, .. } => Some((family, kind)),
        _ => Some((family, 0)),
    }
}

/// Unreachable, source quench, time exceeded, parameter problem (RFC 792); the error types of RFC 4443 in use.
fn is_icmp_error(ip: &Ip) -> bool {
    matches!(icmp_kind(ip), Some((Family::V4, 3 | 4 | 11 | 12) | (Family::V6, 1..=4)))
}

#[cfg(test)]
mod tests;
