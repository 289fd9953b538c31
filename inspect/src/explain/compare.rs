//! What the bridge does with a frame, compared with what the policy says. Pure.

use std::collections::BTreeSet;
use std::fmt;

use demux::decide::{Decision, Verdict};
use demux::policy::Split;
use demux::rule::RuleId;
use ovs::openflow::flow::OfPort;

use super::answer::{FlowAnswer, LiveAnswer};
use super::source::BridgeInfo;
use super::trace::{Lookup, Output, Trace};
use flows::rule_of;

/// Where a frame leaves the bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Destination {
    Host,
    Overlay,
    Uplink,
    Switch,
    Other(String),
}

/// A set of destinations, printed as a verdict.
struct Destinations(BTreeSet<Destination>);

/// Translates the trace into a verdict, and compares it with the policy's decision.
pub(super) fn compare(
    split: &Split,
    decision: &Decision<'_>,
    trace: &Trace,
    bridge: &BridgeInfo,
) -> LiveAnswer {
    let (wanted, found) = (wanted(split, decision), found(trace, bridge));
    let rule = rule(trace);
    let agrees = wanted.0 == found.0 && rule.is_some_and(|rule| same(rule, decision.rule));
    let decider = decider(trace);
    LiveAnswer {
        verdict: found.to_string(),
        rule: rule.map(RuleId::name),
        flow: decider.and_then(flow),
        agrees,
        difference: (!agrees).then(|| {
            format!(
                "the policy says {} by {}, the bridge does {found} by {}",
                decision.verdict,
                decision.rule,
                decider_text(rule, decider)
            )
        }),
    }
}

/// The destinations of a decision.
fn wanted(split: &Split, decision: &Decision<'_>) -> Destinations {
    let mut destinations: BTreeSet<Destination> = match decision.verdict {
        Verdict::Management => [Destination::Host].into(),
        Verdict::NorthSouth => [Destination::Overlay].into(),
        Verdict::Both => [Destination::Host, Destination::Overlay].into(),
        Verdict::Uplink => [Destination::Uplink].into(),
        Verdict::Switch => [Destination::Switch].into(),
        Verdict::Drop(_) => BTreeSet::new(),
    };
    if split.other_ports && decision.rule.switches_too() {
        destinations.insert(Destination::Switch);
    }
    Destinations(destinations)
}

fn found(trace: &Trace, bridge: &BridgeInfo) -> Destinations {
    let destination = |sent: &Output| match sent {
        Output::Port(OfPort::LOCAL) => Destination::Host,
        Output::Port(OfPort::NORMAL) => Destination::Switch,
        Output::Port(port) if bridge.overlay == Some(*port) => Destination::Overlay,
        Output::Port(port) if bridge.uplink == Some(*port) => Destination::Uplink,
        Output::Port(port) => Destination::Other(format!("port {}", port.0)),
        Output::Other(text) => Destination::Other(text.clone()),
    };
    Destinations(trace.outputs.iter().map(destination).collect())
}

/// The lookup that decided: the first with a foreign flow or no flow, else the last.
fn decider(trace: &Trace) -> Option<&Lookup> {
    let foreign = |lookup: &&Lookup| lookup.flow.as_ref().is_none_or(|flow| rule_of(flow.cookie).is_none());
    trace.lookups.iter().find(foreign).or(trace.lookups.last())
}

/// The rule of the policy that decided, if any.
fn rule(trace: &Trace) -> Option<RuleId> {
    decider(trace)?.flow.as_ref().and_then(|flow| rule_of(flow.cookie))
}

/// Which of two rules recognises an SCTP association of the pods depends on the datapath, not on the policy.
fn same(found: RuleId, wanted: RuleId) -> bool {
    let plain = |rule| if rule == RuleId::SctpOwned { RuleId::SctpLearned } else { rule };
    plain(found) == plain(wanted)
}

fn flow(lookup: &Lookup) -> Option<FlowAnswer> {
    let flow = lookup.flow.as_ref()?;
    Some(FlowAnswer {
        table: lookup.table,
        priority: flow.priority,
        cookie: format!("{:#x}", flow.cookie),
        matches: flow.matches.clone(),
    })
}

fn decider_text(rule: Option<RuleId>, decider: Option<&Lookup>) -> String {
    match (rule, decider) {
        (Some(rule), _) => rule.to_string(),
        (None, Some(Lookup { table, flow: None })) => format!("no flow at all in table {table}"),
        (None, Some(lookup @ Lookup { flow: Some(_), .. })) => {
            let flow = flow(lookup).map(|flow| flow.to_string()).unwrap_or_default();
            format!("a flow that is not the helper's ({flow})")
        }
        (None, None) => "nothing".to_owned(),
    }
}

impl fmt::Display for Destinations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut destinations = self.0.clone();
        let mut names = Vec::new();
        if destinations.contains(&Destination::Host) && destinations.remove(&Destination::Overlay) {
            destinations.remove(&Destination::Host);
            names.push("both".to_owned());
        }
        names.extend(destinations.into_iter().map(|destination| match destination {
            Destination::Host => "management".to_owned(),
            Destination::Overlay => "north-south".to_owned(),
            Destination::Uplink => "uplink".to_owned(),
            Destination::Switch => "switch".to_owned(),
            Destination::Other(text) => text,
        }));
        f.write_str(if names.is_empty() { "drop" } else { "" })?;
        f.write_str(&names.join(" + "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::trace::MatchedFlow;
    use flows::cookie;

    fn bridge() -> BridgeInfo {
        BridgeInfo {
            name: "breth0".to_owned(),
            uplink: Some(OfPort(1)),
            overlay: Some(OfPort(2)),
            others: Vec::new(),
            zone: 64000,
        }
    }

    fn decision(verdict: Verdict, rule: RuleId) -> Decision<'static> {
        Decision { verdict, rule, service: None, depends_on_owner: false }
    }

    fn lookup(table: u8, cookie: u64) -> Lookup {
        Lookup { table, flow: Some(MatchedFlow { matches: "ip".to_owned(), priority: 7, cookie }) }
    }

    fn ours(table: u8, rule: RuleId) -> Lookup {
        lookup(table, cookie::of_rule(rule))
    }

    fn compared(decision: Decision<'_>, lookups: Vec<Lookup>, ports: &[OfPort]) -> LiveAnswer {
        let trace = Trace { lookups, outputs: ports.iter().copied().map(Output::Port).collect() };
        compare(&Split::default(), &decision, &trace, &bridge())
    }

    #[test]
    fn bridge_agrees() {
        let node_port = vec![ours(0, RuleId::WireIp), ours(2, RuleId::NodePort)];
        let answer = compared(decision(Verdict::NorthSouth, RuleId::NodePort), node_port, &[OfPort(2)]);
        assert!(answer.agrees && answer.difference.is_none());
        assert_eq!((answer.verdict.as_str(), answer.rule), ("north-south", Some("node-port")));
        let both = compared(
            decision(Verdict::Both, RuleId::Arp),
            vec![ours(0, RuleId::Arp)],
            &[OfPort::LOCAL, OfPort(2)],
        );
        assert_eq!((both.verdict.as_str(), both.agrees), ("both", true));
        let owned = vec![ours(6, RuleId::SctpOwned)];
        assert!(compared(decision(Verdict::NorthSouth, RuleId::SctpLearned), owned, &[OfPort(2)]).agrees);
    }

    #[test]
    fn each_difference_is_named() {
        let node_port = || decision(Verdict::NorthSouth, RuleId::NodePort);
        let foreign = compared(node_port(), vec![lookup(0, 0)], &[]);
        assert_eq!((foreign.verdict.as_str(), foreign.rule), ("drop", None));
        let difference = foreign.difference.unwrap();
        assert!(
            difference.contains("a flow that is not the helper's (table 0, priority 7, cookie 0x0, ip)"),
            "{difference}"
        );
        let nothing = vec![ours(0, RuleId::WireIp), Lookup { table: 1, flow: None }];
        let difference = compared(node_port(), nothing, &[]).difference.unwrap();
        assert!(difference.contains("no flow at all in table 1"), "{difference}");
        let other = compared(node_port(), vec![ours(3, RuleId::OwnerUnknown)], &[OfPort::LOCAL]);
        assert!(other.difference.unwrap().ends_with("the bridge does management by owner-unknown"));
        let other_port = compared(node_port(), vec![ours(2, RuleId::NodePort)], &[OfPort(9)]);
        assert_eq!((other_port.verdict.as_str(), other_port.agrees), ("port 9", false));
    }
}
