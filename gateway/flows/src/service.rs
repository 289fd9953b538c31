//! The flows of one port of one service.

use std::net::IpAddr;

use demux::policy::{Family, ServiceAddress, ServiceOwner, ServicePort, Split};
use demux::rule::RuleId;
use ovs::openflow::flow::{Action, Flow, Match};

use super::builder::FlowBuilder;
use super::context::FlowContext;
use super::matches::{End, MatchExt, icmp_errors};
use super::table;

/// The rules of a service port, by where it is reached.
struct Rules {
    table: u8,
    sources_table: u8,
    pods: RuleId,
    host: RuleId,
    no_endpoint: RuleId,
    check: RuleId,
    pods_source: RuleId,
    host_source: RuleId,
}

const NODE_PORT: Rules = Rules {
    table: table::NODE_PORT,
    sources_table: table::NODE_PORT_SOURCE,
    pods: RuleId::NodePort,
    host: RuleId::NodePortHost,
    no_endpoint: RuleId::NodePortNoEndpoint,
    check: RuleId::NodePortSourcesCheck,
    pods_source: RuleId::NodePortSource,
    host_source: RuleId::NodePortHostSource,
};

const EXTERNAL: Rules = Rules {
    table: table::ADDRESS,
    sources_table: table::EXTERNAL_SOURCE,
    pods: RuleId::External,
    host: RuleId::ExternalHost,
    no_endpoint: RuleId::ExternalNoEndpoint,
    check: RuleId::ExternalSourcesCheck,
    pods_source: RuleId::ExternalSource,
    host_source: RuleId::ExternalHostSource,
};

/// Every flow of a service port. They depend on the port and the split alone, so that services change one by one.
pub(crate) fn port_flows(split: &Split, context: &FlowContext, port: &ServicePort) -> Vec<Flow> {
    let mut builder = FlowBuilder::new(split, context);
    builder.inbound(port);
    if port.owner == ServiceOwner::NorthSouth && context.overlay.is_some() {
        builder.answers(port);
    }
    builder.flows
}

/// The flows of an external address that OVN serves, however many services are on it: ICMP errors to it, such as those
/// of path MTU discovery.
pub(crate) fn external_address_flows(split: &Split, context: &FlowContext, address: IpAddr) -> Vec<Flow> {
    let mut builder = FlowBuilder::new(split, context);
    let family = Family::of(address);
    for kind in icmp_errors(family) {
        let matches = Match::any().icmp(family, kind).address(End::Destination, address);
        builder.add(table::ADDRESS, 100, matches, RuleId::ExternalIcmpError, builder.both());
    }
    builder.flows
}

impl FlowBuilder<'_> {
    fn inbound(&mut self, port: &ServicePort) {
        let rules = match port.address {
            // No address: only frames to an address that has NodePorts come here.
            ServiceAddress::Node(_) => NODE_PORT,
            ServiceAddress::External(_) => EXTERNAL,
        };
        let matches = transport(port, End::Destination);
        let matches = match port.address {
            ServiceAddress::Node(_) => matches,
            ServiceAddress::External(address) => matches.address(End::Destination, address),
        };
        let (actions, open, ranged) = match port.owner {
            ServiceOwner::NorthSouth => (self.pods(), rules.pods, rules.pods_source),
            ServiceOwner::Management => (self.host(), rules.host, rules.host_source),
            ServiceOwner::Drop => {
                return self.add(rules.table, 100, matches, rules.no_endpoint, Vec::new());
            }
        };
        let Some(sources) = &port.sources else {
            return self.add(rules.table, 100, matches, open, actions);
        };
        let check = vec![Action::GotoTable(rules.sources_table)];
        self.add(rules.table, 100, matches.clone(), rules.check, check);
        for range in sources.iter().filter(|range| Family::of(range.addr()) == port.address.family()) {
            let matches = matches.clone().network(End::Source, *range);
            self.add(rules.sources_table, 10, matches, ranged, actions.clone());
        }
    }

    /// Answers of the service's endpoints leave untracked, as requests came in.
    fn answers(&mut self, port: &ServicePort) {
        let matches = transport(port, End::Source);
        match port.address {
            ServiceAddress::Node(family) => {
                for address in self.split.shared.iter().filter(|address| Family::of(**address) == family) {
                    let matches = matches.clone().address(End::Source, *address);
                    self.add(table::OVERLAY, 99, matches, RuleId::NodePortAnswer, self.out());
                }
            }
            ServiceAddress::External(address) => {
                // Above a NodePort's, as on the way in: an external address may be a shared one.
                let matches = matches.address(End::Source, address);
                self.add(table::OVERLAY, 100, matches, RuleId::ExternalAnswer, self.out());
            }
        }
    }
}

fn transport(port: &ServicePort, end: End) -> Match {
    let matches = Match::any().protocol(port.address.family(), port.protocol.number());
    matches.port(port.protocol, end, port.port, u16::MAX)
}
