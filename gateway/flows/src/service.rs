//! The rows of one port of one service.

use std::net::IpAddr;

use demux::policy::{Family, ServiceAddress, ServiceOwner, ServicePort, Split};
use demux::rule::RuleId;
use ovs::openflow::flow::{Action, Flow, Match};

use super::Datapath;
use super::matches::{End, Narrow};
use super::split::{Rows, icmp_errors, table};

/// The rules of a service port, by where it is reached.
struct Rules {
    table: u8,
    sources_table: u8,
    pods: RuleId,
    host: RuleId,
    nobody: RuleId,
    check: RuleId,
    pods_source: RuleId,
    host_source: RuleId,
}

const NODE_PORT: Rules = Rules {
    table: table::NODE_PORT,
    sources_table: table::NODE_PORT_SOURCE,
    pods: RuleId::NodePort,
    host: RuleId::NodePortHost,
    nobody: RuleId::NodePortNoEndpoint,
    check: RuleId::NodePortSourcesCheck,
    pods_source: RuleId::NodePortSource,
    host_source: RuleId::NodePortHostSource,
};

const EXTERNAL: Rules = Rules {
    table: table::ADDRESS,
    sources_table: table::EXTERNAL_SOURCE,
    pods: RuleId::External,
    host: RuleId::ExternalHost,
    nobody: RuleId::ExternalNoEndpoint,
    check: RuleId::ExternalSourcesCheck,
    pods_source: RuleId::ExternalSource,
    host_source: RuleId::ExternalHostSource,
};

/// Every row of a service port. Depends on the port and the split alone, so that services come and go one by one.
pub fn rows(split: &Split, datapath: &Datapath, port: &ServicePort) -> Vec<Flow> {
    let mut rows = Rows { split, datapath, flows: Vec::new() };
    rows.inbound(port);
    if port.owner == ServiceOwner::NorthSouth && datapath.overlay.is_some() {
        rows.answers(port);
    }
    rows.flows
}

/// The rows of an external address that OVN serves, whatever the number of services on it: ICMP errors to it, such as
/// those of path MTU discovery.
pub fn address_rows(split: &Split, datapath: &Datapath, address: IpAddr) -> Vec<Flow> {
    let mut rows = Rows { split, datapath, flows: Vec::new() };
    let family = Family::of(address);
    for kind in icmp_errors(family) {
        let matches = Match::any().icmp(family, kind).address(End::Destination, address);
        rows.row(table::ADDRESS, 100, matches, RuleId::ExternalIcmpError, rows.both());
    }
    rows.flows
}

impl Rows<'_> {
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
                return self.row(rules.table, 100, matches, rules.nobody, Vec::new());
            }
        };
        let Some(sources) = &port.sources else {
            return self.row(rules.table, 100, matches, open, actions);
        };
        let check = vec![Action::GotoTable(rules.sources_table)];
        self.row(rules.table, 100, matches.clone(), rules.check, check);
        for range in sources.iter().filter(|range| Family::of(range.addr()) == port.address.family()) {
            let matches = matches.clone().network(End::Source, *range);
            self.row(rules.sources_table, 10, matches, ranged, actions.clone());
        }
    }

    /// What the service's own endpoints answer leaves untracked, as the question came in.
    fn answers(&mut self, port: &ServicePort) {
        let matches = transport(port, End::Source);
        match port.address {
            ServiceAddress::Node(family) => {
                for address in self.split.shared.iter().filter(|address| Family::of(**address) == family) {
                    let matches = matches.clone().address(End::Source, *address);
                    self.row(table::OVERLAY, 99, matches, RuleId::NodePortAnswer, self.out());
                }
            }
            ServiceAddress::External(address) => {
                // Above a NodePort's, as on the way in: an external address may be a shared one.
                let matches = matches.address(End::Source, address);
                self.row(table::OVERLAY, 100, matches, RuleId::ExternalAnswer, self.out());
            }
        }
    }
}

fn transport(port: &ServicePort, end: End) -> Match {
    let matches = Match::any().protocol(port.address.family(), port.protocol.number());
    matches.port(port.protocol, end, port.port, u16::MAX)
}
