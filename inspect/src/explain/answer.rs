//! The answer as a value: what is printed as a table or as JSON.

use std::collections::BTreeMap;
use std::fmt;

use demux::decide::{Branch, Ingress, Owner};
use demux::frame::{Fragment, Frame, Ip};
use demux::policy::Split;
use serde::Serialize;

use super::describe::Described;
use super::live::OwnerRead;

/// What is said of all the frames.
#[derive(Debug, Serialize)]
pub struct Answer {
    /// Where the policy is from.
    pub policy: String,
    /// The bridge that was asked as well.
    pub bridge: Option<String>,
    /// Each frame.
    pub frames: Vec<FrameAnswer>,
    /// How many frames each rule decided; where the owner is open, the rules of all branches together.
    pub summary: BTreeMap<String, usize>,
    /// How many frames the bridge treats in another way than the policy says.
    pub differences: usize,
}

/// What is said of one frame.
#[derive(Debug, Serialize)]
pub struct FrameAnswer {
    /// Its headers.
    pub frame: String,
    /// Where it comes from.
    pub from: &'static str,
    /// What a person should know.
    pub notes: Vec<&'static str>,
    /// Who owns its connection, where that was asked and is known.
    pub owner: Option<OwnerAnswer>,
    /// What becomes of it: one branch, or one for each possible owner.
    pub branches: Vec<BranchAnswer>,
}

/// Who owns a connection.
#[derive(Debug, Serialize)]
pub struct OwnerAnswer {
    /// The owner: pods, host or nobody.
    pub owner: &'static str,
    /// How that is known.
    pub by: String,
}

/// What becomes of a frame.
#[derive(Debug, Serialize)]
pub struct BranchAnswer {
    /// The owner that is assumed, where the owner was asked.
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
pub struct LiveAnswer {
    /// Where it sends the frame, as a verdict.
    pub verdict: String,
    /// The rule whose flow decided; none if that flow is not ours.
    pub rule: Option<&'static str>,
    /// The flow that decided.
    pub flow: Option<FlowAnswer>,
    /// Whether that is what the policy says.
    pub agrees: bool,
    /// What is different.
    pub difference: Option<String>,
}

/// A flow of the bridge.
#[derive(Debug, Serialize)]
pub struct FlowAnswer {
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
    pub fn of(policy: String, bridge: Option<String>, frames: Vec<FrameAnswer>) -> Answer {
        let mut summary = BTreeMap::new();
        for frame in &frames {
            *summary.entry(frame.rules()).or_default() += 1;
        }
        let differences = frames.iter().filter(|frame| frame.differs()).count();
        Answer { policy, bridge, frames, summary, differences }
    }
}

impl FrameAnswer {
    /// The policy's answer for a frame; what the bridge does is added to its branches.
    pub fn of(
        split: &Split,
        ingress: Ingress,
        frame: &Frame,
        owner: Option<OwnerRead>,
        branches: &[Branch<'_>],
    ) -> FrameAnswer {
        let open = branches.len() > 1;
        FrameAnswer {
            frame: Described(frame).to_string(),
            from: ingress.name(),
            notes: notes(split, ingress, frame, open),
            owner: owner.map(|read| OwnerAnswer { owner: owner_name(read.owner), by: read.by }),
            branches: branches.iter().map(|branch| BranchAnswer::of(branch, open)).collect(),
        }
    }

    /// The rules of all branches, as one word.
    pub fn rules(&self) -> String {
        self.branches.iter().map(|branch| branch.rule).collect::<Vec<_>>().join(" | ")
    }

    /// Whether the bridge does something else than the policy says.
    pub fn differs(&self) -> bool {
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
        notes.push(
            "its source is the shared MAC, so this node sent it: ask with --from host or --from overlay",
        );
    }
    if frame.ip().is_some_and(is_blank) {
        notes.push(
            "its IP header is broken or cut off: the bridge reads all of it as zero, and so does this answer",
        );
    }
    if open && frame.ip().is_some_and(|ip| ip.fragment == Fragment::Later) {
        notes.push("a later piece names no connection; the first piece of its datagram says whose it is");
    }
    notes
}

fn is_blank(ip: &Ip) -> bool {
    ip.source.is_unspecified() && ip.destination.is_unspecified() && ip.protocol == 0
}
