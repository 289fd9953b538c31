//! The rows that no service changes: where frames come from, whose address it is, and the reply rule.

use std::net::IpAddr;

use demux::frame::{ethertype, protocol};
use demux::policy::{Family, Split, Transport};
use demux::rule::RuleId;
use ovs::openflow::flow::{Action, Ct, Field, Flow, Learn, LearnSpec, Match, OfPort};

use super::matches::{End, Narrow, icmp_number};
use super::{Datapath, SctpRule, cookie};

/// The tables, by what they ask.
pub mod table {
    /// From where.
    pub const INGRESS: u8 = 0;
    /// To which external address and port; is it an address of ours at all.
    pub const ADDRESS: u8 = 1;
    /// To which NodePort; then the reply rule.
    pub const NODE_PORT: u8 = 2;
    /// Whose connection, by the mark.
    pub const OWNER: u8 = 3;
    /// Out of the overlay.
    pub const OVERLAY: u8 = 4;
    /// From which source, for external addresses.
    pub const EXTERNAL_SOURCE: u8 = 5;
    /// Whose SCTP association.
    pub const ASSOCIATION: u8 = 6;
    /// The reply rule, for addresses that have no NodePorts.
    pub const REPLY: u8 = 7;
    /// From which source, for NodePorts.
    pub const NODE_PORT_SOURCE: u8 = 8;
}

/// `ct_mark` of connections that pods opened.
pub const MARK_PODS: u32 = 1;
/// `ct_mark` of connections that the host opened.
pub const MARK_HOST: u32 = 2;

/// ICMP errors: destination unreachable, source quench, time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS_V4: [u8; 4] = [3, 4, 11, 12];
/// ICMPv6 errors: destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443).
const ICMP_ERRORS_V6: [u8; 4] = [1, 2, 3, 4];
/// Neighbour solicitation and advertisement (RFC 4861).
const NEIGHBOUR: [u8; 2] = [135, 136];
/// Router solicitation, router advertisement, redirect (RFC 4861).
const ROUTER: [u8; 3] = [133, 134, 137];
/// TCP's SYN and ACK bits.
const SYN: u16 = 0x02;
const ACK: u16 = 0x10;
/// SCTP associations a node's pods may hold open at once, and the seconds of silence after which one is forgotten.
const ASSOCIATIONS: u32 = 4096;
const ASSOCIATION_IDLE: u16 = 300;

/// Rows in the making, for one split on one datapath.
pub struct Rows<'a> {
    pub split: &'a Split,
    pub datapath: &'a Datapath,
    pub flows: Vec<Flow>,
}

/// Every row that stands for the split alone.
pub fn rows(split: &Split, datapath: &Datapath) -> Vec<Flow> {
    let mut rows = Rows { split, datapath, flows: Vec::new() };
    rows.host_rows();
    if let Some(overlay) = datapath.overlay {
        rows.overlay_rows(overlay);
        rows.overlay_exit_rows();
    }
    rows.wire_rows();
    rows.address_rows();
    rows.reply_rule(table::NODE_PORT);
    if split.snat.iter().any(|address| !split.shared.contains(address)) {
        rows.reply_rule(table::REPLY);
    }
    rows.owner_rows();
    rows.flows
}

/// The ICMP error types of a family.
pub fn icmp_errors(family: Family) -> [u8; 4] {
    match family {
        Family::V4 => ICMP_ERRORS_V4,
        Family::V6 => ICMP_ERRORS_V6,
    }
}

impl<'a> Rows<'a> {
    /// Adds a row.
    pub fn row(&mut self, table: u8, priority: u16, matches: Match, rule: RuleId, actions: Vec<Action>) {
        self.flows.push(Flow::new(table, priority, matches, cookie::of_rule(rule), actions));
    }

    /// To the host.
    pub fn host(&self) -> Vec<Action> {
        vec![Action::Output(OfPort::LOCAL)]
    }

    /// To the overlay, or to the host as long as there is no overlay.
    pub fn pods(&self) -> Vec<Action> {
        vec![Action::Output(self.datapath.overlay.unwrap_or(OfPort::LOCAL))]
    }

    /// A copy to each.
    pub fn both(&self) -> Vec<Action> {
        let overlay = self.datapath.overlay.into_iter().map(Action::Output);
        self.host().into_iter().chain(overlay).collect()
    }

    /// Towards the wire; nowhere as long as there is none.
    pub fn out(&self) -> Vec<Action> {
        self.exit().into_iter().map(Action::Output).collect()
    }

    /// Towards the wire, and the connection is the holder's of this mark from now on.
    fn commit_out(&self, mark: u32) -> Vec<Action> {
        let ct = Ct { zone: self.datapath.zone, commit: true, table: None, mark: Some(mark) };
        self.exit().into_iter().flat_map(|exit| [Action::Ct(ct.clone()), Action::Output(exit)]).collect()
    }

    /// Through conntrack, and on in a table.
    fn ask(&self, table: u8) -> Vec<Action> {
        vec![Action::Ct(Ct { zone: self.datapath.zone, commit: false, table: Some(table), mark: None })]
    }

    fn exit(&self) -> Option<OfPort> {
        if self.split.other_ports { Some(OfPort::NORMAL) } else { self.datapath.uplink }
    }

    /// A match of what comes from outside; `None` while nothing can.
    fn wire(&self) -> Option<Match> {
        if self.split.other_ports {
            return Some(Match::any());
        }
        self.datapath.uplink.map(|uplink| Match::any().in_port(uplink))
    }

    fn host_rows(&mut self) {
        use RuleId::*;
        let local = Match::any().in_port(OfPort::LOCAL);
        self.row(table::INGRESS, 1000, local.clone().tagged(), TaggedHost, self.out());
        self.row(table::INGRESS, 700, local.clone(), HostOut, self.out());
        for family in Family::ALL {
            for tunnel in self.split.tunnels.iter() {
                let matches = self.tunnel(local.clone(), family, *tunnel);
                self.row(table::INGRESS, 900, matches, HostTunnel, self.out());
            }
            if !self.split.tracks() {
                continue;
            }
            let own = self.commit_out(MARK_HOST);
            let tcp = local.clone().protocol(family, protocol::TCP);
            let syn = tcp.clone().masked(Field::TcpFlags, SYN, SYN | ACK);
            let echo = if family == Family::V4 { 8 } else { 128 };
            // All pieces of a datagram one way: later ones of IPv6 do not show their protocol, and conntrack holds
            // pieces back whose siblings it does not see.
            let pieces = local.clone().family(family).fragment();
            self.row(table::INGRESS, 860, pieces, HostTracked, own.clone());
            self.row(table::INGRESS, 850, syn, HostSyn, own.clone());
            self.row(table::INGRESS, 850, local.clone().icmp(family, echo), HostEcho, own.clone());
            for untracked in [protocol::TCP, protocol::SCTP, icmp_number(family)] {
                let matches = local.clone().protocol(family, untracked);
                self.row(table::INGRESS, 840, matches, HostUntracked, self.out());
            }
            self.row(table::INGRESS, 830, local.clone().family(family), HostTracked, own);
        }
    }

    fn overlay_rows(&mut self, overlay: OfPort) {
        use RuleId::*;
        let any = Match::any().in_port(overlay);
        let gateway = any.clone().with(Field::EthSrc, self.split.mac.to_u64());
        self.row(table::INGRESS, 1000, any.clone().tagged(), TaggedOverlay, Vec::new());
        for range in self.split.service_ranges.iter() {
            let matches = gateway.clone().network(End::Destination, *range);
            self.row(table::INGRESS, 910, matches, ServiceRangeLeak, Vec::new());
        }
        self.row(table::INGRESS, 900, gateway.clone().arp(), OverlayArp, self.out());
        for kind in NEIGHBOUR {
            self.row(table::INGRESS, 900, gateway.clone().icmp(Family::V6, kind), OverlayNd, self.out());
        }
        for family in Family::ALL {
            let on = vec![Action::GotoTable(table::OVERLAY)];
            self.row(table::INGRESS, 800, gateway.clone().family(family), OverlayIp, on);
        }
        self.row(table::INGRESS, 710, gateway, OverlayNotIp, Vec::new());
        self.row(table::INGRESS, 700, any, ForeignSourceMac, Vec::new());
    }

    fn overlay_exit_rows(&mut self) {
        use RuleId::*;
        let pods = self.commit_out(MARK_PODS);
        for family in Family::ALL {
            // All pieces one way, as for the host's.
            let pieces = Match::any().family(family).fragment();
            self.row(table::OVERLAY, 110, pieces, OverlayTracked, pods.clone());
            let sctp = Match::any().protocol(family, protocol::SCTP);
            let associate = match self.datapath.sctp {
                SctpRule::Learned => {
                    self.exit().into_iter().flat_map(|exit| [learn(family), Action::Output(exit)]).collect()
                }
                SctpRule::Tracked => pods.clone(),
            };
            self.row(table::OVERLAY, 90, sctp, OverlaySctp, associate);
            if !self.split.tracks() {
                let tcp = Match::any().protocol(family, protocol::TCP);
                self.row(table::OVERLAY, 50, tcp, OverlayUntracked, self.out());
            }
            self.row(table::OVERLAY, 0, Match::any().family(family), OverlayTracked, pods.clone());
        }
    }

    fn wire_rows(&mut self) {
        use RuleId::*;
        if let Some(wire) = self.wire() {
            self.wire_tagged_rows(&wire);
            self.wire_neighbour_rows(&wire);
            let ours = wire.with(Field::EthDst, self.split.mac.to_u64());
            for family in Family::ALL {
                let ip = ours.clone().family(family);
                self.row(table::INGRESS, 650, ip.clone().fragment(), WireFragment, self.ask(table::ADDRESS));
                for tunnel in self.split.tunnels.iter() {
                    let matches = self.tunnel(ours.clone(), family, *tunnel);
                    self.row(table::INGRESS, 640, matches, WireTunnel, self.host());
                }
                self.row(table::INGRESS, 500, ip, WireIp, vec![Action::GotoTable(table::ADDRESS)]);
            }
            self.row(table::INGRESS, 400, ours, SharedMacRest, self.host());
        }
        // Above the bridge's own priority-0 flow, which is not ours.
        let (rest, actions) = match self.split.other_ports {
            true => (SwitchRest, vec![Action::Output(OfPort::NORMAL)]),
            false => (CatchAll, self.host()),
        };
        self.row(table::INGRESS, 1, Match::any(), rest, actions);
    }

    /// Tagged frames first: a match of `ip` takes tagged IP as well.
    fn wire_tagged_rows(&mut self, wire: &Match) {
        if self.split.other_ports {
            let ours = wire.clone().with(Field::EthDst, self.split.mac.to_u64());
            let switch = vec![Action::Output(OfPort::NORMAL)];
            self.row(table::INGRESS, 990, ours.tagged(), RuleId::TaggedWire, self.host());
            self.row(table::INGRESS, 980, wire.clone().tagged(), RuleId::TaggedSwitched, switch);
        } else {
            self.row(table::INGRESS, 1000, wire.clone().tagged(), RuleId::TaggedWire, self.host());
        }
    }

    fn wire_neighbour_rows(&mut self, wire: &Match) {
        use RuleId::*;
        let heard_by_others = |mut actions: Vec<Action>| {
            if self.split.other_ports {
                actions.push(Action::Output(OfPort::NORMAL));
            }
            actions
        };
        let (both, host) = (heard_by_others(self.both()), heard_by_others(self.host()));
        // Asked for the code as well: a bridge's cached flow for an invalid solicitation (code 1) knows no target,
        // and without this would not tell it from valid ones, whichever their target.
        let message = |kind| wire.clone().icmp(Family::V6, kind).with(Field::Icmpv6Code, 0u8);
        let arp = wire.clone().arp();
        for address in self.split.shared.iter() {
            match address {
                IpAddr::V4(v4) => {
                    let asked = arp.clone().with(Field::ArpOp, 1u8).with(Field::ArpTpa, u32::from(*v4));
                    self.row(table::INGRESS, 630, asked, ArpForShared, self.host());
                }
                IpAddr::V6(v6) => {
                    let asked = message(135).with(Field::NdTarget, u128::from(*v6));
                    self.row(table::INGRESS, 630, asked, NdForShared, self.host());
                }
            }
        }
        self.row(table::INGRESS, 620, arp, Arp, both.clone());
        for kind in NEIGHBOUR {
            self.row(table::INGRESS, 620, message(kind), Nd, both.clone());
        }
        for kind in ROUTER {
            self.row(table::INGRESS, 620, message(kind), RouterDiscovery, host.clone());
        }
    }

    fn address_rows(&mut self) {
        for address in self.split.shared.iter() {
            let (matches, on) = (to(*address), vec![Action::GotoTable(table::NODE_PORT)]);
            self.row(table::ADDRESS, 10, matches, RuleId::SharedAddress, on);
        }
        for address in self.split.snat.difference(&self.split.shared) {
            let (matches, on) = (to(*address), vec![Action::GotoTable(table::REPLY)]);
            self.row(table::ADDRESS, 10, matches, RuleId::SnatAddress, on);
        }
        self.row(table::ADDRESS, 0, Match::any(), RuleId::OtherAddress, self.host());
        self.row(table::EXTERNAL_SOURCE, 0, Match::any(), RuleId::ExternalSourceDenied, Vec::new());
        self.row(table::NODE_PORT_SOURCE, 0, Match::any(), RuleId::NodePortSourceDenied, Vec::new());
    }

    /// The reply rule, in the table of the addresses that have NodePorts or of those that have none.
    fn reply_rule(&mut self, table: u8) {
        use RuleId::*;
        let asked = Match::any().tracked();
        let owner = vec![on_to(table, table::OWNER)];
        self.row(table, 70, asked, TrackedFragment, owner);
        if let Some(ports) = self.split.partition() {
            for (value, mask) in ports.masks() {
                self.partition(table, value, mask);
            }
            for (family, kind) in [(Family::V4, 0), (Family::V6, 129)] {
                self.row(table, 30, Match::any().icmp(family, kind), EchoReply, self.both());
            }
        }
        let associations = match self.datapath.sctp {
            SctpRule::Learned => vec![Action::Resubmit(table::ASSOCIATION)],
            SctpRule::Tracked => self.ask(table::ASSOCIATION),
        };
        for family in Family::ALL {
            for kind in icmp_errors(family) {
                self.row(table, 60, Match::any().icmp(family, kind), IcmpError, self.both());
            }
            let sctp = Match::any().protocol(family, protocol::SCTP);
            self.row(table, 50, sctp, SctpLookup, associations.clone());
            if self.split.tracks() {
                // ct() needs a match of the family.
                self.row(table, 0, Match::any().family(family), OwnerLookup, self.ask(table::OWNER));
            }
        }
        if !self.split.tracks() {
            self.row(table, 0, Match::any(), OutsidePartition, self.host());
        }
    }

    /// One masked port of OVN's SNAT range.
    fn partition(&mut self, table: u8, value: u16, mask: u16) {
        for family in Family::ALL {
            for transport in [Transport::Tcp, Transport::Udp] {
                let matches = Match::any().protocol(family, transport.number());
                let matches = matches.port(transport, End::Destination, value, mask);
                self.row(table, 40, matches, RuleId::Partition, self.pods());
            }
        }
    }

    fn owner_rows(&mut self) {
        use RuleId::*;
        let mark = |mark: u32| Match::any().with(Field::CtMark, mark);
        // No ct_state: related and invalid packets of a connection belong to its owner, too.
        self.row(table::OWNER, 100, mark(MARK_PODS), OwnerPods, self.pods());
        self.row(table::OWNER, 90, mark(MARK_HOST), OwnerHost, self.host());
        self.row(table::OWNER, 0, Match::any(), OwnerUnknown, self.host());
        if self.datapath.sctp == SctpRule::Tracked {
            self.row(table::ASSOCIATION, 100, mark(MARK_PODS), SctpOwned, self.pods());
        }
        self.row(table::ASSOCIATION, 0, Match::any(), SctpUnknown, self.host());
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
