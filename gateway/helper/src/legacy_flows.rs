//! Flows of an older helper. They have no cookie, so they are recognised by their shape.
//!
//! Their priority is lower than that of ours, but their table 1 sends established fragments to the pods, the host's too.
//! `status` explains them, and only `--adopt` removes them.

use ovs::openflow::flow::{Action, Field, Flow, FlowKey, OfPort};
use ovs::openflow::{Cookies, Dumped, FlowMod};

use flows::cookie;

const ETH_IPV4: u128 = 0x0800;
const EST: u128 = 0x02;
const REL: u128 = 0x04;
const TRK: u128 = 0x20;
const TCP: u128 = 6;
const UDP: u128 = 17;

/// What a dump holds that is not ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ForeignFlows {
    /// Flows of an older helper.
    pub(crate) older_helper: Vec<FlowKey>,
    /// Other foreign flows, without the bridge's own priority-0 `NORMAL`.
    pub(crate) others: usize,
}

impl ForeignFlows {
    /// Sorts what is not ours.
    pub(crate) fn of(dump: &[Dumped], zone: u16) -> Self {
        let mut foreign = ForeignFlows::default();
        for dumped in dump.iter().filter(|dumped| !cookie::cookies().contain(dumped.cookie)) {
            match &dumped.flow {
                Ok(flow) if is_bridge_default(flow) => {}
                Ok(flow) if dumped.cookie == 0 && is_legacy(flow, zone) => {
                    foreign.older_helper.push(flow.key.clone());
                }
                _ => foreign.others += 1,
            }
        }
        foreign
    }

    /// The changes that remove the older helper's flows.
    pub(crate) fn adoption(&self) -> Vec<FlowMod> {
        let without_cookie = Cookies::exactly(0);
        self.older_helper
            .iter()
            .map(|key| FlowMod::Delete { key: key.clone(), cookies: without_cookie })
            .collect()
    }

    /// What a person should know of them.
    pub(crate) fn explanation(&self) -> Option<String> {
        let count = self.older_helper.len();
        (count > 0).then(|| {
            format!(
                "{count} flows of an older helper (no cookie) are on the bridge; table 1 sends established \
                 fragments of the host to the pods: stop that helper and start this one with --adopt to remove them"
            )
        })
    }
}

/// Whether it is the flow that every new bridge has.
pub fn is_bridge_default(flow: &Flow) -> bool {
    flow.key.table == 0
        && flow.key.priority == 0
        && flow.key.matches.iter().next().is_none()
        && flow.value.actions == [Action::Output(OfPort::NORMAL)]
}

/// Whether the first gateway helper made it, in either of its versions.
pub fn is_legacy(flow: &Flow, zone: u16) -> bool {
    let matches: Vec<_> = flow.key.matches.iter().collect();
    let exact = |field: Field| flow.key.matches.get(field).map(|masked| masked.value);
    let only = |fields: &[Field]| matches.iter().map(|(field, _)| *field).eq(fields.iter().copied());
    match (flow.key.table, flow.key.priority, flow.value.actions.as_slice()) {
        (0, 100, [Action::Ct(ct), Action::Output(_)]) => {
            ct.zone == zone && ct.commit && ct.mark.is_none() && only(&[Field::InPort, Field::EthType])
        }
        (0, 100, [Action::Output(_)]) => {
            let port = if exact(Field::IpProto) == Some(TCP) { Field::TcpDst } else { Field::UdpDst };
            matches!(exact(Field::IpProto), Some(TCP | UDP))
                && exact(Field::EthType) == Some(ETH_IPV4)
                && only(&[Field::InPort, Field::EthType, Field::IpProto, port])
        }
        (0, 50, [Action::Ct(ct)]) => {
            ct.zone == zone && !ct.commit && ct.table == Some(1) && only(&[Field::InPort, Field::EthType])
        }
        (1, 100, [Action::Output(_)]) => {
            only(&[Field::CtState])
                && matches!(exact(Field::CtState), Some(state) if state == TRK | EST || state == TRK | REL)
        }
        (1, 0, [Action::Output(port)]) => {
            matches.is_empty() && (*port == OfPort::NORMAL || *port == OfPort::LOCAL)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ovs::openflow::flow::{Ct, FlowValue, Match};

    fn dumped(table: u8, priority: u16, matches: Match, actions: Vec<Action>, cookie: u64) -> Dumped {
        let value = FlowValue { cookie, idle_timeout: 0, hard_timeout: 0, actions };
        let flow = Flow { key: FlowKey { table, priority, matches }, value };
        Dumped { flow: Ok(flow), cookie, packets: 0, bytes: 0, duration: Duration::ZERO }
    }

    fn ct(commit: bool, table: Option<u8>) -> Action {
        Action::Ct(Ct { zone: 64000, commit, table, mark: None })
    }

    fn older() -> Vec<Dumped> {
        let from = |port: u32| Match::any().with(Field::InPort, port).with(Field::EthType, ETH_IPV4);
        let out = |port| Action::Output(OfPort(port));
        let state = |bits: u128| Match::any().masked(Field::CtState, bits, bits);
        vec![
            dumped(0, 100, from(2), vec![ct(true, None), out(1)], 0),
            dumped(0, 100, from(1).with(Field::IpProto, TCP).with(Field::TcpDst, 30080_u32), vec![out(2)], 0),
            dumped(0, 50, from(1), vec![ct(false, Some(1))], 0),
            dumped(1, 100, state(TRK | EST), vec![out(2)], 0),
            dumped(1, 100, state(TRK | REL), vec![out(2)], 0),
            dumped(1, 0, Match::any(), vec![Action::Output(OfPort::NORMAL)], 0),
        ]
    }

    #[test]
    fn the_older_helpers_flows_are_known_by_their_shape() {
        let mut dump = older();
        dump.push(dumped(0, 0, Match::any(), vec![Action::Output(OfPort::NORMAL)], 0));
        let foreign = ForeignFlows::of(&dump, 64000);
        assert_eq!((foreign.older_helper.len(), foreign.others), (6, 0));
        assert_eq!(foreign.adoption().len(), 6);
        assert!(foreign.explanation().is_some());
    }

    #[test]
    fn what_only_resembles_them_is_foreign() {
        let mut dump = older();
        for flow in &mut dump {
            flow.cookie = 7;
        }
        dump.push(dumped(0, 101, Match::any(), vec![Action::Output(OfPort(3))], 0));
        let foreign = ForeignFlows::of(&dump, 64000);
        assert_eq!((foreign.older_helper.len(), foreign.others), (0, 7));
        assert_eq!(foreign.explanation(), None);
        let ours = dumped(0, 1, Match::any(), vec![], cookie::MARK | 1);
        assert_eq!(ForeignFlows::of(&[ours], 64000), ForeignFlows::default());
    }
}
