//! Planted faults: tables that are wrong in one point, as a renderer could get them wrong.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use demux::frame::{Fragment, Frame, Network, TransportHeader};
use demux::policy::Family;
use demux::rule::RuleId;
use flows::{MARK_HOST, MARK_PODS, rule_of};
use ovs::openflow::flow::{Action, Field, Flow, FlowKey, FlowValue, LearnSpec, Masked, OfPort, ipv4, ipv6};

use crate::bridge::{OVERLAY, UPLINK};

/// One wrong table.
pub struct Fault {
    /// What is wrong, for a person, and the same for the same fault in another policy's table.
    pub name: String,
    /// Whose rows are wrong.
    pub rule: RuleId,
    /// Which frames can show it.
    pub shown_by: ShownBy,
    /// The table.
    pub flows: HashMap<FlowKey, FlowValue>,
}

/// Which frames can show that a table is wrong.
pub enum ShownBy {
    /// Those that should meet the rule and match a row of each of these.
    Rows(Vec<Vec<Flow>>),
    /// Those that follow on one that should meet the rule.
    Answers,
    /// Those that should not meet the rule, too.
    All,
}

/// Every fault that can be planted into a table.
pub fn faults(flows: &HashMap<FlowKey, FlowValue>) -> Vec<Fault> {
    let flows: Vec<Flow> =
        flows.iter().map(|(key, value)| Flow { key: key.clone(), value: value.clone() }).collect();
    let rules: BTreeSet<RuleId> = flows.iter().map(rule).collect();
    let mut planter = Planter { flows: &flows, faults: Vec::new() };
    for one in rules {
        planter.plant(format!("{one} forgotten"), one, false, |_| None);
        for family in Family::ALL {
            planter.plant(format!("{one} without {family}"), one, false, |flow| {
                (family_of(flow) != Some(family)).then(|| flow.clone())
            });
        }
        planter.plant(format!("{one} to the wrong port"), one, false, |flow| Some(astray(flow)));
        planter.plant(format!("{one} nowhere"), one, false, |flow| {
            let drops = flow.value.actions.is_empty();
            let actions = if drops { vec![Action::Output(OfPort::LOCAL)] } else { Vec::new() };
            Some(with_actions(flow, actions))
        });
        planter.plant(format!("{one} without its commit"), one, true, |flow| Some(without_commit(flow)));
        planter.plant(format!("{one} with the other owner's mark"), one, true, |flow| Some(other_mark(flow)));
        planter.plant(format!("{one} in another zone"), one, true, |flow| Some(other_zone(flow)));
        planter.plant(format!("{one} learning the wrong way round"), one, true, |flow| Some(same_way(flow)));
        // Behind the check, a port beside is met by services on neighbouring ports alone.
        let behind = [
            RuleId::ExternalSource,
            RuleId::ExternalHostSource,
            RuleId::NodePortSource,
            RuleId::NodePortHostSource,
        ]
        .contains(&one);
        for (field, about) in MASKS.iter().filter(|_| !behind) {
            planter
                .plant(format!("{one} with a wider {about}"), one, false, |flow| Some(wider(flow, *field)));
        }
        planter.swap(one);
    }
    planter.faults
}

/// Fields whose neighbouring values frames do hit.
const MASKS: &[(Field, &str)] = &[
    (Field::VlanTci, "tag"),
    (Field::IpFrag, "fragment bit"),
    (Field::TcpFlags, "set of flags"),
    (Field::TcpDst, "port"),
    (Field::UdpDst, "port"),
    (Field::ArpOp, "operation"),
    (Field::ArpTpa, "target"),
    (Field::NdTarget, "target"),
    (Field::CtMark, "mark"),
];

struct Planter<'a> {
    flows: &'a [Flow],
    faults: Vec<Fault>,
}

impl Planter<'_> {
    /// Changes the rows of one rule; no fault when nothing changes or two rows fall together. `late` when only what
    /// comes after a frame can show it.
    fn plant(&mut self, name: String, of: RuleId, late: bool, change: impl Fn(&Flow) -> Option<Flow>) {
        let changed: Vec<Option<Flow>> = self
            .flows
            .iter()
            .map(|flow| if rule(flow) == of { change(flow) } else { Some(flow.clone()) })
            .collect();
        let wrong = changed.iter().zip(self.flows).filter(|(changed, flow)| changed.as_ref() != Some(*flow));
        let wrong: Vec<Flow> = wrong.map(|(_, flow)| flow.clone()).collect();
        if !wrong.is_empty() {
            let shown_by = match late {
                true => ShownBy::Answers,
                false if name.contains("wider") => ShownBy::All,
                false => ShownBy::Rows(vec![wrong]),
            };
            self.add(name, of, shown_by, changed.into_iter().flatten().collect());
        }
    }

    /// Gives a rule's rows the priority of the next rule below it that has a frame in common, and the other way round.
    fn swap(&mut self, upper: RuleId) {
        let uppers: Vec<&Flow> = self.flows.iter().filter(|flow| rule(flow) == upper).collect();
        let lower = self.flows.iter().filter(|lower| {
            rule(lower) != upper
                && uppers.iter().any(|flow| stands_above(flow, lower) && overlap(flow, lower))
        });
        let Some(lower) = lower.max_by_key(|flow| (flow.key.priority, rule(flow), Reverse(flow.key.table)))
        else {
            return;
        };
        let (table, low, other) = (lower.key.table, lower.key.priority, rule(lower));
        let Some(high) = uppers.iter().map(|flow| flow.key.priority).find(|high| *high > low) else { return };
        let turned = |flow: &Flow| {
            let mut flow = flow.clone();
            if flow.key.table == table && rule(&flow) == upper && flow.key.priority == high {
                flow.key.priority = low;
            } else if flow.key.table == table && rule(&flow) == other && flow.key.priority == low {
                flow.key.priority = high;
            }
            flow
        };
        let flows = self.flows.iter().map(turned).collect();
        let rows = |of, priority| -> Vec<Flow> {
            let of =
                |flow: &&Flow| rule(flow) == of && (flow.key.table, flow.key.priority) == (table, priority);
            self.flows.iter().filter(of).cloned().collect()
        };
        let shown_by = ShownBy::Rows(vec![rows(upper, high), rows(other, low)]);
        self.add(format!("{upper} and {other} with swapped priorities"), upper, shown_by, flows);
    }

    fn add(&mut self, name: String, rule: RuleId, shown_by: ShownBy, flows: Vec<Flow>) {
        let count = flows.len();
        let flows: HashMap<_, _> = flows.into_iter().map(|flow| (flow.key, flow.value)).collect();
        if flows.len() == count {
            self.faults.push(Fault { name, rule, shown_by, flows });
        }
    }
}

fn rule(flow: &Flow) -> RuleId {
    rule_of(flow.value.cookie).unwrap()
}

fn family_of(flow: &Flow) -> Option<Family> {
    match flow.key.matches.get(Field::EthType)?.value {
        0x0800 => Some(Family::V4),
        0x86dd => Some(Family::V6),
        _ => None,
    }
}

fn stands_above(upper: &Flow, lower: &Flow) -> bool {
    upper.key.table == lower.key.table
        && upper.key.priority > lower.key.priority
        && upper.value.actions != lower.value.actions
}

/// Whether a frame can match both.
fn overlap(one: &Flow, other: &Flow) -> bool {
    one.key.matches.iter().all(|(field, a)| {
        other.key.matches.get(field).is_none_or(|b| (a.value ^ b.value) & a.mask & b.mask == 0)
    })
}

fn with_actions(flow: &Flow, actions: Vec<Action>) -> Flow {
    Flow { key: flow.key.clone(), value: FlowValue { actions, ..flow.value.clone() } }
}

fn with_each(flow: &Flow, change: impl Fn(&mut Action)) -> Flow {
    let mut flow = flow.clone();
    flow.value.actions.iter_mut().for_each(change);
    flow
}

fn astray(flow: &Flow) -> Flow {
    if let [first @ Action::Output(_), Action::Output(_), ..] = &flow.value.actions[..] {
        return with_actions(flow, vec![first.clone()]);
    }
    with_each(flow, |action| {
        if let Action::Output(port) = action {
            *port = match *port {
                OfPort::LOCAL => OVERLAY,
                OVERLAY => OfPort::LOCAL,
                UPLINK => OfPort::LOCAL,
                _ => OVERLAY,
            };
        }
    })
}

fn without_commit(flow: &Flow) -> Flow {
    let stays = |action: &&Action| !matches!(action, Action::Ct(ct) if ct.commit);
    with_actions(flow, flow.value.actions.iter().filter(stays).cloned().collect())
}

fn other_mark(flow: &Flow) -> Flow {
    with_each(flow, |action| {
        if let Action::Ct(ct) = action {
            ct.mark = ct.mark.map(|mark| MARK_PODS + MARK_HOST - mark);
        }
    })
}

fn other_zone(flow: &Flow) -> Flow {
    with_each(flow, |action| {
        if let Action::Ct(ct) = action {
            ct.zone += 1;
        }
    })
}

fn same_way(flow: &Flow) -> Flow {
    with_each(flow, |action| {
        if let Action::Learn(learn) = action {
            for spec in &mut learn.specs {
                if let LearnSpec::MatchField(learned, from) = spec {
                    *from = *learned;
                }
            }
        }
    })
}

/// Clears the lowest compared bit, or all of a field that is compared as a whole.
fn wider(flow: &Flow, field: Field) -> Flow {
    let mut flow = flow.clone();
    if let Some(Masked { value, mask }) = flow.key.matches.get(field) {
        let whole = matches!(field, Field::ArpOp | Field::CtMark);
        let mask = if whole { 0 } else { mask & (mask - 1) };
        flow.key.matches = flow.key.matches.clone().masked(field, value, mask);
    }
    flow
}

/// Whether a frame from a port matches one of these rows, the mark of its connection left aside.
pub fn matches(rows: &[Flow], port: OfPort, frame: &Frame) -> bool {
    rows.iter().any(|row| {
        row.key.matches.iter().all(|(field, Masked { value, mask })| {
            let has = || field_of(field, port, frame);
            field == Field::CtMark || has().is_some_and(|has| (has ^ value) & mask == 0)
        })
    })
}

fn field_of(field: Field, port: OfPort, frame: &Frame) -> Option<u128> {
    let ip = frame.ip();
    let whole = ip.filter(|ip| ip.fragment == Fragment::No);
    let kind = || match whole?.transport {
        TransportHeader::Icmp { kind, code, target, .. } => Some((kind, code, target)),
        _ => None,
    };
    let v4 = |address: IpAddr| if let IpAddr::V4(address) = address { Some(ipv4(address)) } else { None };
    let v6 = |address: IpAddr| if let IpAddr::V6(address) = address { Some(ipv6(address)) } else { None };
    let arp = || if let Network::Arp(arp) = frame.network { Some(arp) } else { None };
    Some(match field {
        Field::InPort => port.0.into(),
        Field::EthDst => frame.destination.to_u64().into(),
        Field::EthSrc => frame.source.to_u64().into(),
        Field::EthType => frame.ethertype.into(),
        Field::VlanTci => frame.vlan.map_or(0, |tci| tci | 0x1000).into(),
        Field::IpProto => ip?.protocol.into(),
        Field::IpFrag => u128::from(whole.is_none() && ip.is_some()),
        // Pieces alone are asked for before a row asks whether they were.
        Field::CtState => {
            if whole.is_none() && ip.is_some() {
                0x20
            } else {
                0
            }
        }
        Field::Ipv4Src => v4(ip?.source)?,
        Field::Ipv4Dst => v4(ip?.destination)?,
        Field::Ipv6Src => v6(ip?.source)?,
        Field::Ipv6Dst => v6(ip?.destination)?,
        Field::TcpSrc | Field::UdpSrc | Field::SctpSrc => whole?.source_port().into(),
        Field::TcpDst | Field::UdpDst | Field::SctpDst => whole?.destination_port().into(),
        Field::TcpFlags => match ip?.transport {
            TransportHeader::Tcp { flags, .. } => flags.into(),
            _ => return None,
        },
        Field::Icmpv4Type | Field::Icmpv6Type => kind()?.0.into(),
        Field::Icmpv4Code | Field::Icmpv6Code => kind()?.1.into(),
        Field::NdTarget => ipv6(kind()?.2?),
        Field::ArpOp => arp()?.operation.into(),
        Field::ArpTpa => ipv4(arp()?.target),
        _ => return None,
    })
}
