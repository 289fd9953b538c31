//! The answer as a value: what is printed as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt;

use demux::decide::{Branch, Ingress, Owner};
use demux::frame::{Fragment, Frame, Ip};
use demux::policy::Split;
use serde::Serialize;

use super::describe::Description;
use super::live::ConnectionOwner;

/// The answer for all frames.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    /// Origin of the policy.
    pub policy: String,
    /// The bridge that was traced, with `--live`.
    pub bridge: Option<String>,
    /// Each frame.
    pub frames: Vec<FrameAnswer>,
    /// Number of frames by rule; where the owner is not known, the rules of all branches form one key.
    pub summary: BTreeMap<String, usize>,
    /// Number of frames on which the bridge disagrees with the policy.
    pub differences: usize,
}

/// The answer for one frame.
#[derive(Debug, Serialize)]
pub(super) struct FrameAnswer {
    /// Its headers.
    pub frame: String,
    /// Where it enters.
    pub from: &'static str,
    /// Hints for the reader.
    pub notes: Vec<&'static str>,
    /// Who owns its connection, where the rule depends on it and it is known.
    pub owner: Option<OwnerAnswer>,
    /// What happens to it: one branch, or one for each possible owner.
    pub branches: Vec<BranchAnswer>,
}

/// Who owns a connection.
#[derive(Debug, Serialize)]
pub(super) struct OwnerAnswer {
    /// The owner: pods, host or nobody.
    pub owner: &'static str,
    /// How it is known.
    pub by: String,
}

/// What happens to a frame.
#[derive(Debug, Serialize)]
pub(super) struct BranchAnswer {
    /// The owner that this branch assumes, where the owner is not known.
    pub owner: Option<&'static str>,
    /// The verdict.
    pub verdict: String,
    /// The rule that decided.
    pub rule: &'static str,
    /// Its number.
    pub number: u16,
    /// What the rule is about.
    pub about: &'static str,
    /// The service whose rule it is.
    pub service: Option<String>,
    /// What the bridge does.
    pub live: Option<LiveAnswer>,
}

/// What the bridge does with a frame.
#[derive(Debug, Serialize)]
pub(super) struct LiveAnswer {
    /// Where it sends the frame, as a verdict.
    pub verdict: String,
    /// The rule whose flow decided; `None` for a flow that is not the helper's.
    pub rule: Option<&'static str>,
    /// The flow that decided.
    pub flow: Option<FlowAnswer>,
    /// Whether it agrees with the policy.
    pub agrees: bool,
    /// How it differs.
    pub difference: Option<String>,
}

/// A flow of the bridge.
#[derive(Debug, Serialize)]
pub(super) struct FlowAnswer {
    /// Its table.
    pub table: u8,
    /// Its priority.
    pub priority: u16,
    /// Its cookie, hexadecimal.
    pub cookie: String,
    /// What it matches.
    pub matches: String,
}

impl Answer {
    /// Puts the answers of all frames together.
    pub(super) fn of(policy: String, bridge: Option<String>, frames: Vec<FrameAnswer>) -> Answer {
        let mut summary = BTreeMap::new();
        for frame in &frames {
            *summary.entry(frame.rules()).or_default() += 1;
        }
        let differences = frames.iter().filter(|frame| frame.differs()).count();
        Answer { policy, bridge, frames, summary, differences }
    }
}

impl FrameAnswer {
    /// The policy's answer for a frame; the caller adds what the bridge does to its branches.
    pub(super) fn of(
        split: &Split,
        ingress: Ingress,
        frame: &Frame,
        owner: Option<ConnectionOwner>,
        branches: &[Branch<'_>],
    ) -> FrameAnswer {
        let open = branches.len() > 1;
        FrameAnswer {
            frame: Description(frame).to_string(),
            from: ingress.name(),
            notes: notes(split, ingress, frame, open),
            owner: owner.map(|read| OwnerAnswer { owner: owner_name(read.owner), by: read.by }),
            branches: branches.iter().map(|branch| BranchAnswer::of(branch, open)).collect(),
        }
    }

    /// The rules of all branches, joined.
    pub(super) fn rules(&self) -> String {
        self.branches.iter().map(|branch| branch.rule).collect::<Vec<_>>().join(" | ")
    }

    /// Whether the bridge disagrees with the policy.
    pub(super) fn differs(&self) -> bool {
        self.branches.iter().filter_map(|branch| branch.live.as_ref()).any(|live| !live.agrees)
    }
}

impl BranchAnswer {
    fn of(branch: &Branch<'_>, open: bool) -> BranchAnswer {
        let decision = &branch.decision;
        BranchAnswer {
            owner: open.then(|| owner_name(branch.owner)),
            verdict: decision.verdict.to_string(),
            rule: decision.rule.name(),
            number: decision.rule.number(),
            about: decision.rule.about(),
            service: decision.service.map(ToString::to_string),
            live: None,
        }
    }
}

impl fmt::Display for FlowAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {}, priority {}, cookie {}", self.table, self.priority, self.cookie)?;
        if self.matches.is_empty() { Ok(()) } else { write!(f, ", {}", self.matches) }
    }
}

fn owner_name(owner: Option<Owner>) -> &'static str {
    owner.map_or("nobody", Owner::name)
}

fn notes(split: &Split, ingress: Ingress, frame: &Frame, open: bool) -> Vec<&'static str> {
    let mut notes = Vec::new();
    if frame.source == split.mac && matches!(ingress, Ingress::Uplink | Ingress::Other) {
        notes.push("its source is the shared MAC, so this node sent it: use --from host or --from overlay");
    }
    if frame.ip().is_some_and(is_blank) {
        notes.push(
            "its IP header is invalid or truncated: the bridge reads all its fields as zero, and so does this answer",
        );
    }
    if open && frame.ip().is_some_and(|ip| ip.fragment == Fragment::Later) {
        notes.push(
            "a later fragment names no connection; the first fragment of its datagram decides the owner",
        );
    }
    notes
}

fn is_blank(ip: &Ip) -> bool {
    ip.source.is_unspecified() && ip.destination.is_unspecified() && ip.protocol == 0
}
