//! The flows that no service changes: by ingress port, by address, and the reply rule.

use std::net::IpAddr;

use demux::frame::{ethertype, protocol};
use demux::policy::{Family, Split, Transport};
use demux::rule::RuleId;
use ovs::openflow::flow::{Action, Field, Flow, Learn, LearnSpec, Match, OfPort, TCP_ACK, TCP_SYN};

use super::builder::FlowBuilder;
use super::context::{FlowContext, SctpRule};
use super::matches::{End, MatchExt, icmp_errors, icmp_number};
use super::{cookie, table};

/// `ct_mark` of connections that pods opened.
pub const MARK_PODS: u32 = 1;
/// `ct_mark` of connections that the host opened.
pub const MARK_HOST: u32 = 2;

/// Neighbour solicitation and advertisement (RFC 4861).
const NEIGHBOUR: [u8; 2] = [135, 136];
/// Router solicitation, router advertisement, redirect (RFC 4861).
const ROUTER: [u8; 3] = [133, 134, 137];
/// SCTP associations a node's pods may hold open at once, and the seconds of silence after which one is forgotten.
const ASSOCIATIONS: u32 = 4096;
const ASSOCIATION_IDLE: u16 = 300;

/// Every flow that depends on the split alone.
pub(crate) fn split_flows(split: &Split, context: &FlowContext) -> Vec<Flow> {
    let mut builder = FlowBuilder::new(split, context);
    builder.host_flows();
    if let Some(overlay) = context.overlay {
        builder.overlay_flows(overlay);
        builder.overlay_exit_flows();
    }
    builder.wire_flows();
    builder.address_flows();
    builder.reply_rule(table::NODE_PORT);
    if split.snat.iter().any(|address| !split.shared.contains(address)) {
        builder.reply_rule(table::REPLY);
    }
    builder.owner_flows();
    builder.flows
}

impl FlowBuilder<'_> {
    fn host_flows(&mut self) {
        use RuleId::*;
        let local = Match::any().in_port(OfPort::LOCAL);
        self.add(table::INGRESS, 1000, local.clone().tagged(), TaggedHost, self.out());
        self.add(table::INGRESS, 700, local.clone(), HostOut, self.out());
        for family in Family::ALL {
            for tunnel in self.split.tunnels.iter() {
                let matches = self.tunnel(local.clone(), family, *tunnel);
                self.add(table::INGRESS, 900, matches, HostTunnel, self.out());
            }
            if !self.split.tracks() {
                continue;
            }
            let own = self.commit_out(MARK_HOST);
            let tcp = local.clone().protocol(family, protocol::TCP);
            let syn = tcp.clone().masked(Field::TcpFlags, TCP_SYN, TCP_SYN | TCP_ACK);
            let echo = if family == Family::V4 { 8 } else { 128 };
            // All pieces of a datagram one way: later ones of IPv6 do not carry their protocol, and conntrack holds
            // back pieces of an incomplete datagram.
            let pieces = local.clone().family(family).fragment();
            self.add(table::INGRESS, 860, pieces, HostTracked, own.clone());
            self.add(table::INGRESS, 850, syn, HostSyn, own.clone());
            self.add(table::INGRESS, 850, local.clone().icmp(family, echo), HostEcho, own.clone());
            for untracked in [protocol::TCP, protocol::SCTP, icmp_number(family)] {
                let matches = local.clone().protocol(family, untracked);
                self.add(table::INGRESS, 840, matches, HostUntracked, self.out());
            }
            self.add(table::INGRESS, 830, local.clone().family(family), HostTracked, own);
        }
    }

    fn overlay_flows(&mut self, overlay: OfPort) {
        use RuleId::*;
        let any = Match::any().in_port(overlay);
        let gateway = any.clone().with(Field::EthSrc, self.split.mac.to_u64());
        self.add(table::INGRESS, 1000, any.clone().tagged(), TaggedOverlay, Vec::new());
        for range in self.split.service_ranges.iter() {
            let matches = gateway.clone().network(End::Destination, *range);
            self.add(table::INGRESS, 910, matches, ServiceRangeLeak, Vec::new());
        }
        self.add(table::INGRESS, 900, gateway.clone().arp(), OverlayArp, self.out());
        for kind in NEIGHBOUR {
            self.add(table::INGRESS, 900, gateway.clone().icmp(Family::V6, kind), OverlayNd, self.out());
        }
        for family in Family::ALL {
            let on = vec![Action::GotoTable(table::OVERLAY)];
            self.add(table::INGRESS, 800, gateway.clone().family(family), OverlayIp, on);
        }
        self.add(table::INGRESS, 710, gateway, OverlayNotIp, Vec::new());
        self.add(table::INGRESS, 700, any, ForeignSourceMac, Vec::new());
    }

    fn overlay_exit_flows(&mut self) {
        use RuleId::*;
        let pods = self.commit_out(MARK_PODS);
        for family in Family::ALL {
            // All pieces one way, as for the host's.
            let pieces = Match::any().family(family).fragment();
            self.add(table::OVERLAY, 110, pieces, OverlayTracked, pods.clone());
            let sctp = Match::any().protocol(family, protocol::SCTP);
            let associate = match self.context.sctp {
                SctpRule::Learned => {
                    self.exit().into_iter().flat_map(|exit| [learn(family), Action::Output(exit)]).collect()
                }
                SctpRule::Tracked => pods.clone(),
            };
            self.add(table::OVERLAY, 90, sctp, OverlaySctp, associate);
            if !self.split.tracks() {
                let tcp = Match::any().protocol(family, protocol::TCP);
                self.add(table::OVERLAY, 50, tcp, OverlayUntracked, self.out());
            }
            self.add(table::OVERLAY, 0, Match::any().family(family), OverlayTracked, pods.clone());
        }
    }

    fn wire_flows(&mut self) {
        use RuleId::*;
        if let Some(wire) = self.wire() {
            self.wire_tagged_flows(&wire);
            self.wire_neighbour_flows(&wire);
            let ours = wire.with(Field::EthDst, self.split.mac.to_u64());
            for family in Family::ALL {
                let ip = ours.clone().family(family);
                self.add(
                    table::INGRESS,
                    650,
                    ip.clone().fragment(),
                    WireFragment,
                    self.conntrack(table::ADDRESS),
                );
                for tunnel in self.split.tunnels.iter() {
                    let matches = self.tunnel(ours.clone(), family, *tunnel);
                    self.add(table::INGRESS, 640, matches, WireTunnel, self.host());
                }
                self.add(table::INGRESS, 500, ip, WireIp, vec![Action::GotoTable(table::ADDRESS)]);
            }
            self.add(table::INGRESS, 400, ours, SharedMacRest, self.host());
        }
        // Above the bridge's own priority-0 flow, which is not ours.
        let (rest, actions) = match self.split.other_ports {
            true => (SwitchRest, vec![Action::Output(OfPort::NORMAL)]),
            false => (CatchAll, self.host()),
        };
        self.add(table::INGRESS, 1, Match::any(), rest, actions);
    }

    /// Tagged frames first: a match of `ip` takes tagged IP as well.
    fn wire_tagged_flows(&mut self, wire: &Match) {
        if self.split.other_ports {
            let ours = wire.clone().with(Field::EthDst, self.split.mac.to_u64());
            let switch = vec![Action::Output(OfPort::NORMAL)];
            self.add(table::INGRESS, 990, ours.tagged(), RuleId::TaggedWire, self.host());
            self.add(table::INGRESS, 980, wire.clone().tagged(), RuleId::TaggedSwitched, switch);
        } else {
            self.add(table::INGRESS, 1000, wire.clone().tagged(), RuleId::TaggedWire, self.host());
        }
    }

    fn wire_neighbour_flows(&mut self, wire: &Match) {
        use RuleId::*;
        let with_other_ports = |mut actions: Vec<Action>| {
            if self.split.other_ports {
                actions.push(Action::Output(OfPort::NORMAL));
            }
            actions
        };
        let (both, host) = (with_other_ports(self.both()), with_other_ports(self.host()));
        // The code is matched as well: a bridge's cached flow for an invalid solicitation (code 1) knows no target,
        // and without this would match valid ones too, whatever their target.
        let message = |kind| wire.clone().icmp(Family::V6, kind).with(Field::Icmpv6Code, 0u8);
        let arp = wire.clone().arp();
        for address in self.split.shared.iter() {
            match address {
                IpAddr::V4(v4) => {
                    let request = arp.clone().with(Field::ArpOp, 1u8).with(Field::ArpTpa, u32::from(*v4));
                    self.add(table::INGRESS, 630, request, ArpForShared, self.host());
                }
                IpAddr::V6(v6) => {
                    let request = message(135).with(Field::NdTarget, u128::from(*v6));
                    self.add(table::INGRESS, 630, request, NdForShared, self.host());
                }
            }
        }
        self.add(table::INGRESS, 620, arp, Arp, both.clone());
        for kind in NEIGHBOUR {
            self.add(table::INGRESS, 620, message(kind), Nd, both.clone());
        }
        for kind in ROUTER {
            self.add(table::INGRESS, 620, message(kind), RouterDiscovery, host.clone());
        }
    }

    fn address_flows(&mut self) {
        for address in self.split.shared.iter() {
            let (matches, on) = (to(*address), vec![Action::GotoTable(table::NODE_PORT)]);
            self.add(table::ADDRESS, 10, matches, RuleId::SharedAddress, on);
        }
        for address in self.split.snat.difference(&self.split.shared) {
            let (matches, on) = (to(*address), vec![Action::GotoTable(table::REPLY)]);
            self.add(table::ADDRESS, 10, matches, RuleId::SnatAddress, on);
        }
        self.add(table::ADDRESS, 0, Match::any(), RuleId::OtherAddress, self.host());
        self.add(table::EXTERNAL_SOURCE, 0, Match::any(), RuleId::ExternalSourceDenied, Vec::new());
        self.add(table::NODE_PORT_SOURCE, 0, Match::any(), RuleId::NodePortSourceDenied, Vec::new());
    }

    /// The reply rule, in the table of the addresses that have NodePorts or of those that have none.
    fn reply_rule(&mut self, table: u8) {
        use RuleId::*;
        let tracked = Match::any().tracked();
        let owner = vec![on_to(table, table::OWNER)];
        self.add(table, 70, tracked, TrackedFragment, owner);
        if let Some(ports) = self.split.partition() {
            for (value, mask) in ports.masks() {
                self.partition(table, value, mask);
            }
            for (family, kind) in [(Family::V4, 0), (Family::V6, 129)] {
                self.add(table, 30, Match::any().icmp(family, kind), EchoReply, self.both());
            }
        }
        let associations = match self.context.sctp {
            SctpRule::Learned => vec![Action::Resubmit(table::ASSOCIATION)],
            SctpRule::Tracked => self.conntrack(table::ASSOCIATION),
        };
        for family in Family::ALL {
            for kind in icmp_errors(family) {
                self.add(table, 60, Match::any().icmp(family, kind), IcmpError, self.both());
            }
            let sctp = Match::any().protocol(family, protocol::SCTP);
            self.add(table, 50, sctp, SctpLookup, associations.clone());
            if self.split.tracks() {
                // ct() needs a match of the family.
                self.add(table, 0, Match::any().family(family), OwnerLookup, self.conntrack(table::OWNER));
            }
        }
        if !self.split.tracks() {
            self.add(table, 0, Match::any(), OutsidePartition, self.host());
        }
    }

    /// One masked port of OVN's SNAT range.
    fn partition(&mut self, table: u8, value: u16, mask: u16) {
        for family in Family::ALL {
            for transport in [Transport::Tcp, Transport::Udp] {
                let matches = Match::any().protocol(family, transport.number());
                let matches = matches.port(transport, End::Destination, value, mask);
                self.add(table, 40, matches, RuleId::Partition, self.pods());
            }
        }
    }

    fn owner_flows(&mut self) {
        use RuleId::*;
        let mark = |mark: u32| Match::any().with(Field::CtMark, mark);
        // No ct_state: related and invalid packets of a connection belong to its owner, too.
        self.add(table::OWNER, 100, mark(MARK_PODS), OwnerPods, self.pods());
        self.add(table::OWNER, 90, mark(MARK_HOST), OwnerHost, self.host());
        self.add(table::OWNER, 0, Match::any(), OwnerUnknown, self.host());
        if self.context.sctp == SctpRule::Tracked {
            self.add(table::ASSOCIATION, 100, mark(MARK_PODS), SctpOwned, self.pods());
        }
        self.add(table::ASSOCIATION, 0, Match::any(), SctpUnknown, self.host());
    }

    fn tunnel(&self, matches: Match, family: Family, port: u16) -> Match {
        let udp = matches.protocol(family, protocol::UDP);
        udp.port(Transport::Udp, End::Destination, port, u16::MAX)
    }
}

fn to(address: IpAddr) -> Match {
    Match::any().address(End::Destination, address)
}

/// `goto_table` leads forward only (OpenFlow 1.4, 5.9); back it has to be `resubmit`.
fn on_to(from: u8, to: u8) -> Action {
    if from < to { Action::GotoTable(to) } else { Action::Resubmit(to) }
}

/// Learns the way back of an SCTP association: out of the port that this frame came in by.
fn learn(family: Family) -> Action {
    let (number, source, destination) = match family {
        Family::V4 => (ethertype::IPV4, Field::Ipv4Src, Field::Ipv4Dst),
        Family::V6 => (ethertype::IPV6, Field::Ipv6Src, Field::Ipv6Dst),
    };
    Action::Learn(Learn {
        table: table::ASSOCIATION,
        priority: 10,
        cookie: cookie::learned(),
        idle_timeout: ASSOCIATION_IDLE,
        delete_learned: true,
        limit: ASSOCIATIONS,
        specs: vec![
            LearnSpec::MatchValue(Field::EthType, u128::from(number)),
            LearnSpec::MatchValue(Field::IpProto, u128::from(protocol::SCTP)),
            LearnSpec::MatchField(source, destination),
            LearnSpec::MatchField(destination, source),
            LearnSpec::MatchField(Field::SctpSrc, Field::SctpDst),
            LearnSpec::MatchField(Field::SctpDst, Field::SctpSrc),
            LearnSpec::OutputField(Field::InPort),
        ],
    })
}
