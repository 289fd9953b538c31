//! Builds flows from the pieces they share: actions by where a frame goes.

use demux::policy::Split;
use demux::rule::RuleId;
use ovs::openflow::flow::{Action, Ct, Flow, Match, OfPort};

use super::context::FlowContext;
use super::cookie;
use super::matches::MatchExt;

/// Flows in the making, for one split on one bridge.
pub(crate) struct FlowBuilder<'a> {
    pub(crate) split: &'a Split,
    pub(crate) context: &'a FlowContext,
    pub(crate) flows: Vec<Flow>,
}

impl<'a> FlowBuilder<'a> {
    /// A builder without flows.
    pub(crate) fn new(split: &'a Split, context: &'a FlowContext) -> Self {
        FlowBuilder { split, context, flows: Vec::new() }
    }

    /// Adds a flow that stands for a rule.
    pub(crate) fn add(
        &mut self,
        table: u8,
        priority: u16,
        matches: Match,
        rule: RuleId,
        actions: Vec<Action>,
    ) {
        self.flows.push(Flow::new(table, priority, matches, cookie::of_rule(rule), actions));
    }

    /// To the host.
    pub(crate) fn host(&self) -> Vec<Action> {
        vec![Action::Output(OfPort::LOCAL)]
    }

    /// To the overlay, or to the host while there is no overlay.
    pub(crate) fn pods(&self) -> Vec<Action> {
        vec![Action::Output(self.context.overlay.unwrap_or(OfPort::LOCAL))]
    }

    /// A copy to each.
    pub(crate) fn both(&self) -> Vec<Action> {
        let overlay = self.context.overlay.into_iter().map(Action::Output);
        self.host().into_iter().chain(overlay).collect()
    }

    /// Towards the wire; nowhere while there is no uplink.
    pub(crate) fn out(&self) -> Vec<Action> {
        self.exit().into_iter().map(Action::Output).collect()
    }

    /// Towards the wire; commits the connection with the mark of its owner.
    pub(crate) fn commit_out(&self, mark: u32) -> Vec<Action> {
        let ct = Ct { zone: self.context.zone, commit: true, table: None, mark: Some(mark) };
        self.exit().into_iter().flat_map(|exit| [Action::Ct(ct.clone()), Action::Output(exit)]).collect()
    }

    /// Through conntrack, then to a table.
    pub(crate) fn conntrack(&self, table: u8) -> Vec<Action> {
        vec![Action::Ct(Ct { zone: self.context.zone, commit: false, table: Some(table), mark: None })]
    }

    pub(crate) fn exit(&self) -> Option<OfPort> {
        if self.split.other_ports { Some(OfPort::NORMAL) } else { self.context.uplink }
    }

    /// Matches what comes from outside; `None` while there is no uplink.
    pub(crate) fn wire(&self) -> Option<Match> {
        if self.split.other_ports {
            return Some(Match::any());
        }
        self.context.uplink.map(|uplink| Match::any().in_port(uplink))
    }
}
