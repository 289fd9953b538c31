//! What the bridge does with a frame, held against what the policy says. Pure.

use std::collections::BTreeSet;
use std::fmt;

use demux::decide::{Decision, Verdict};
use demux::policy::Split;
use demux::rule::RuleId;
use ovs::openflow::flow::OfPort;

use super::answer::{FlowAnswer, LiveAnswer};
use super::source::Site;
use super::trace::{Met, Sent, Trace};
use flows::rule_of;

/// A way out of the bridge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Exit {
    Host,
    Overlay,
    Uplink,
    Switch,
    Other(String),
}

/// A set of ways out, said as a verdict.
struct Exits(BTreeSet<Exit>);

/// Says what the trace means, and whether it is what the policy's decision means.
pub fn compare(split: &Split, decision: &Decision<'_>, trace: &Trace, site: &Site) -> LiveAnswer {
    let (wanted, found) = (wanted(split, decision), found(trace, site));
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
                said(rule, decider)
            )
        }),
    }
}

/// The ways out that a decision means.
fn wanted(split: &Split, decision: &Decision<'_>) -> Exits {
    let mut exits: BTreeSet<Exit> = match decision.verdict {
        Verdict::Management => [Exit::Host].into(),
        Verdict::NorthSouth => [Exit::Overlay].into(),
        Verdict::Both => [Exit::Host, Exit::Overlay].into(),
        Verdict::Uplink => [Exit::Uplink].into(),
        Verdict::Switch => [Exit::Switch].into(),
        Verdict::Drop(_) => BTreeSet::new(),
    };
    if split.other_ports && decision.rule.switches_too() {
        exits.insert(Exit::Switch);
    }
    Exits(exits)
}

fn found(trace: &Trace, site: &Site) -> Exits {
    let exit = |sent: &Sent| match sent {
        Sent::Port(OfPort::LOCAL) => Exit::Host,
        Sent::Port(OfPort::NORMAL) => Exit::Switch,
        Sent::Port(port) if site.overlay == Some(*port) => Exit::Overlay,
        Sent::Port(port) if site.uplink == Some(*port) => Exit::Uplink,
        Sent::Port(port) => Exit::Other(format!("port {}", port.0)),
        Sent::Other(text) => Exit::Other(text.clone()),
    };
    Exits(trace.sent.iter().map(exit).collect())
}

/// What decided: the first flow that is not ours, or no flow at all, else the last that was met.
fn decider(trace: &Trace) -> Option<&Met> {
    let foreign = |met: &&Met| met.flow.as_ref().is_none_or(|flow| rule_of(flow.cookie).is_none());
    trace.met.iter().find(foreign).or(trace.met.last())
}

/// The rule of the policy that decided, if one did.
fn rule(trace: &Trace) -> Option<RuleId> {
    decider(trace)?.flow.as_ref().and_then(|flow| rule_of(flow.cookie))
}

/// Which of two rules says that an SCTP association is the pods' hangs on the datapath, not on the policy.
fn same(found: RuleId, wanted: RuleId) -> bool {
    let plain = |rule| if rule == RuleId::SctpOwned { RuleId::SctpLearned } else { rule };
    plain(found) == plain(wanted)
}

fn flow(met: &Met) -> Option<FlowAnswer> {
    let flow = met.flow.as_ref()?;
    Some(FlowAnswer {
        table: met.table,
        priority: flow.priority,
        cookie: format!("{:#x}", flow.cookie),
        matches: flow.matches.clone(),
    })
}

fn said(rule: Option<RuleId>, decider: Option<&Met>) -> String {
    match (rule, decider) {
        (Some(rule), _) => rule.to_string(),
        (None, Some(Met { table, flow: None })) => format!("no flow at all in table {table}"),
        (None, Some(met @ Met { flow: Some(_), .. })) => {
            let flow = flow(met).map(|flow| flow.to_string()).unwrap_or_default();
            format!("a flow that is not the helper's ({flow})")
        }
        (None, None) => "nothing".to_owned(),
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut exits = self.0.clone();
        let mut words = Vec::new();
        if exits.contains(&Exit::Host) && exits.remove(&Exit::Overlay) {
            exits.remove(&Exit::Host);
            words.push("both".to_owned());
        }
        words.extend(exits.into_iter().map(|exit| match exit {
            Exit::Host => "management".to_owned(),
            Exit::Overlay => "north-south".to_owned(),
            Exit::Uplink => "uplink".to_owned(),
            Exit::Switch => "switch".to_owned(),
            Exit::Other(text) => text,
        }));
        f.write_str(if words.is_empty() { "drop" } else { "" })?;
        f.write_str(&words.join(" + "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::trace::MetFlow;
    use flows::cookie;

    fn site() -> Site {
        Site {
            bridge: "breth0".to_owned(),
            uplink: Some(OfPort(1)),
            overlay: Some(OfPort(2)),
            others: Vec::new(),
            zone: 64000,
        }
    }

    fn decision(verdict: Verdict, rule: RuleId) -> Decision<'static> {
        Decision { verdict, rule, service: None, asked_owner: false }
    }

    fn met(table: u8, cookie: u64) -> Met {
        Met { table, flow: Some(MetFlow { matches: "ip".to_owned(), priority: 7, cookie }) }
    }

    fn ours(table: u8, rule: RuleId) -> Met {
        met(table, cookie::of_rule(rule))
    }

    fn judged(decision: Decision<'_>, met: Vec<Met>, sent: &[OfPort]) -> LiveAnswer {
        let trace = Trace { met, sent: sent.iter().copied().map(Sent::Port).collect() };
        compare(&Split::default(), &decision, &trace, &site())
    }

    #[test]
    fn of_one_mind() {
        let node_port = vec![ours(0, RuleId::WireIp), ours(2, RuleId::NodePort)];
        let answer = judged(decision(Verdict::NorthSouth, RuleId::NodePort), node_port, &[OfPort(2)]);
        assert!(answer.agrees && answer.difference.is_none());
        assert_eq!((answer.verdict.as_str(), answer.rule), ("north-south", Some("node-port")));
        let both = judged(
            decision(Verdict::Both, RuleId::Arp),
            vec![ours(0, RuleId::Arp)],
            &[OfPort::LOCAL, OfPort(2)],
        );
        assert_eq!((both.verdict.as_str(), both.agrees), ("both", true));
        let owned = vec![ours(6, RuleId::SctpOwned)];
        assert!(judged(decision(Verdict::NorthSouth, RuleId::SctpLearned), owned, &[OfPort(2)]).agrees);
    }

    #[test]
    fn each_difference_is_named() {
        let node_port = || decision(Verdict::NorthSouth, RuleId::NodePort);
        let foreign = judged(node_port(), vec![met(0, 0)], &[]);
        assert_eq!((foreign.verdict.as_str(), foreign.rule), ("drop", None));
        let said = foreign.difference.unwrap();
        assert!(
            said.contains("a flow that is not the helper's (table 0, priority 7, cookie 0x0, ip)"),
            "{said}"
        );
        let nothing = vec![ours(0, RuleId::WireIp), Met { table: 1, flow: None }];
        let said = judged(node_port(), nothing, &[]).difference.unwrap();
        assert!(said.contains("no flow at all in table 1"), "{said}");
        let other = judged(node_port(), vec![ours(3, RuleId::OwnerUnknown)], &[OfPort::LOCAL]);
        assert!(other.difference.unwrap().ends_with("the bridge does management by owner-unknown"));
        let strange = judged(node_port(), vec![ours(2, RuleId::NodePort)], &[OfPort(9)]);
        assert_eq!((strange.verdict.as_str(), strange.agrees), ("port 9", false));
    }
}
