//! The comparison: what the classifier says of a case, and what the bridge does with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use demux::connections::Table;
use demux::decide::{Ingress, Verdict};
use demux::frame::{Fragment, Frame, protocol};
use demux::generate::Case;
use demux::policy::Policy;
use demux::rule::RuleId;
use flows::SctpRule;

use ovs::openflow::flow::Flow;

use crate::bridge::{Bridge, port_number};
use crate::faults::matches;

/// What the classifier says of one frame.
#[derive(Clone, Copy, Debug)]
pub struct Opinion {
    pub verdict: Verdict,
    pub rule: RuleId,
}

/// A case in which classifier and bridge are not of one mind.
#[derive(Debug)]
pub struct Disagreement {
    pub what: String,
    pub case: Option<Case>,
}

/// What cases have met so far.
#[derive(Default)]
pub struct Seen {
    pub frames: usize,
    pub rules: BTreeMap<RuleId, u64>,
    pub verdicts: BTreeSet<Verdict>,
}

/// One policy on one bridge.
pub struct Judge<'a> {
    pub bridge: &'a mut Bridge,
    pub policy: &'a Policy,
    pub sctp: SctpRule,
    pub seen: &'a mut Seen,
    /// Say that something is wrong, and not in which case.
    pub quick: bool,
}

/// The least length of a packet that is a first or middle piece: what is shorter, the bridge's connection table takes
/// for an attack and passes on as invalid (`ipf-set-min-frag` in ovs-vswitchd(8); the greater of both families').
const LEAST_PIECE: usize = 1280;

/// A frame of a case with what the classifier says of it.
#[derive(Clone, Copy, Debug)]
pub struct Judged<'a> {
    pub ingress: Ingress,
    pub frame: &'a [u8],
    pub opinion: Opinion,
}

impl Judge<'_> {
    /// Sends the cases of one batch and compares every frame's way, then how often each rule was met.
    pub fn batch(&mut self, cases: &[&Case]) -> Result<(), Disagreement> {
        let cases = cases.iter().copied().filter(|case| self.can_tell(case));
        let (lonely, whole): (Vec<&Case>, Vec<&Case>) = cases.partition(|case| is_held_back(case));
        self.counted(&whole)?;
        // Or they would come out with some later frame, when waiting for the others has been given up.
        self.bridge.set_reassembly(false);
        self.counted(&lonely)?;
        self.bridge.set_reassembly(true);
        Ok(())
    }

    fn counted(&mut self, cases: &[&Case]) -> Result<(), Disagreement> {
        if cases.is_empty() {
            return Ok(());
        }
        let before = self.bridge.counters();
        let mut expected = before.clone();
        for case in cases {
            for rule in self.send(case)? {
                *expected.entry(rule).or_default() += 1;
            }
        }
        let mut after = self.bridge.counters();
        for counters in [&mut expected, &mut after] {
            counters.retain(|rule, count| !rule.is_step() && *count > 0);
        }
        self.bridge.forget();
        if after.contains_key(&RuleId::OverlaySctp) {
            self.bridge.unlearn();
        }
        if expected == after { Ok(()) } else { Err(self.blame(cases, &before, &expected, &after)) }
    }

    /// Whether a frame of this case meets a rule, or may pass by it, and matches a row of each of these.
    pub fn meets(&self, case: &Case, rule: RuleId, rows: &[Vec<Flow>]) -> bool {
        self.opinions(case).iter().any(|judged| {
            let (port, frame) = (port_number(judged.ingress), Frame::parse(judged.frame));
            (rule.is_step() || judged.opinion.rule == rule)
                && rows.iter().all(|rows| matches(rows, port, &frame))
        })
    }

    /// Some things this bridge cannot tell, being one of the userspace datapath.
    fn can_tell(&self, case: &Case) -> bool {
        // Its conntrack knows no SCTP ports and sees pieces one by one; where SCTP is left to conntrack, the kernel's
        // does it, and puts datagrams together first.
        let is_sctp_piece =
            |frame: &Frame| is_piece(frame) && frame.ip().is_some_and(|ip| ip.protocol == protocol::SCTP);
        let sctp =
            self.sctp == SctpRule::Tracked && frames(case).any(|bytes| is_sctp_piece(&Frame::parse(bytes)));
        // It loses the pieces of IPv6 datagrams with as much in front of the payload.
        let lost = !case.pieces.is_empty() && frames(case).any(|bytes| extensions(bytes) >= 64);
        !sctp && !lost
    }

    /// Finds the case that made the counters differ, by sending each alone.
    fn blame(
        &mut self,
        cases: &[&Case],
        before: &BTreeMap<RuleId, u64>,
        expected: &BTreeMap<RuleId, u64>,
        after: &BTreeMap<RuleId, u64>,
    ) -> Disagreement {
        if cases.len() > 1 && !self.quick {
            for case in cases {
                if let Err(disagreement) = self.batch(&[*case]) {
                    return disagreement;
                }
            }
        }
        let rules: BTreeSet<_> = expected.keys().chain(after.keys()).collect();
        let count = |counters: &BTreeMap<RuleId, u64>, rule| counters.get(rule).copied().unwrap_or(0);
        let grown = |counters, rule| count(counters, rule) - count(before, rule);
        let differing: Vec<String> = rules
            .into_iter()
            .filter(|rule| expected.get(rule) != after.get(rule))
            .map(|rule| format!("{rule}: expected {}, met {}", grown(expected, rule), grown(after, rule)))
            .collect();
        let case = (cases.len() == 1).then(|| (*cases[0]).clone());
        Disagreement { what: format!("rules differ: {}", differing.join("; ")), case }
    }

    /// What the classifier says of each frame of a case, in the order they are sent.
    pub fn opinions<'case>(&self, case: &'case Case) -> Vec<Judged<'case>> {
        let mut table = Table::default();
        let opening = case.opening.iter().map(|(ingress, bytes)| (*ingress, bytes));
        let mut pieces: Vec<_> = frames(case).map(|bytes| (case.ingress, bytes)).collect();
        // The first piece first: it names the connection.
        pieces.sort_by_key(|(_, bytes)| Frame::parse(bytes).tuple().is_none());
        let judge = |(ingress, bytes): (Ingress, &'case Vec<u8>)| {
            let decision = table.classify(self.policy, ingress, &Frame::parse(bytes));
            let rule = match (decision.rule, self.sctp) {
                (RuleId::SctpLearned, SctpRule::Tracked) => RuleId::SctpOwned,
                (rule, _) => rule,
            };
            Judged { ingress, frame: bytes, opinion: Opinion { verdict: decision.verdict, rule } }
        };
        opening.chain(pieces).map(judge).collect()
    }

    /// Sends a case, compares where its frames went, and says which rules they should have met.
    fn send(&mut self, case: &Case) -> Result<Vec<RuleId>, Disagreement> {
        let disagree = |what| Disagreement { what, case: Some(case.clone()) };
        let judged = self.opinions(case);
        let (opening, frames) = judged.split_at(case.opening.len());
        for frame in opening {
            let output = self.bridge.inject(frame.ingress, frame.frame);
            self.compare(&output, &[*frame]).map_err(disagree)?;
            if frame.opinion.rule == RuleId::OverlaySctp {
                // A wider cached flow of the host's hides what was learned until the switch looks at it again: soon,
                // but not at once.
                self.bridge.empty_cache();
            }
        }
        let output: Vec<_> =
            frames.iter().flat_map(|frame| self.bridge.inject(frame.ingress, frame.frame)).collect();
        self.compare(&output, frames).map_err(disagree)?;
        for Judged { opinion, .. } in &judged {
            *self.seen.rules.entry(opinion.rule).or_default() += 1;
            self.seen.verdicts.insert(opinion.verdict);
            self.seen.frames += 1;
        }
        Ok(judged.iter().map(|judged| judged.opinion.rule).collect())
    }

    /// Compares what left the bridge with what should have.
    fn compare(&self, output: &[(Ingress, Vec<u8>)], judged: &[Judged<'_>]) -> Result<(), String> {
        let mut left: Vec<(Ingress, &[u8])> =
            output.iter().map(|(side, frame)| (*side, frame.as_slice())).collect();
        for Judged { ingress, frame, opinion } in judged {
            for side in must_go_to(opinion.verdict) {
                // Nothing goes back where it came from.
                if side == *ingress {
                    continue;
                }
                match left.iter().position(|copy| *copy == (side, *frame)) {
                    Some(found) => drop(left.swap_remove(found)),
                    None => return Err(report(judged, output, &format!("nothing went to {side}"))),
                }
            }
            if self.is_switched(*opinion) {
                // Learning says where; never to the overlay, and to everybody else when it is for all.
                for side in [Ingress::Uplink, Ingress::Host, Ingress::Other] {
                    match left.iter().position(|copy| *copy == (side, *frame)) {
                        Some(found) => drop(left.swap_remove(found)),
                        None if is_for_all(frame) && side != *ingress => {
                            return Err(report(judged, output, &format!("no copy was switched to {side}")));
                        }
                        None => {}
                    }
                }
            }
        }
        match left.first() {
            None => Ok(()),
            Some((side, _)) => Err(report(judged, output, &format!("something went to {side} as well"))),
        }
    }

    fn is_switched(&self, opinion: Opinion) -> bool {
        opinion.verdict == Verdict::Switch || self.policy.split.other_ports && opinion.rule.switches_too()
    }
}

/// Whether learning has to send it everywhere: a group's, but not the bridges' own, nor what is cut off inside a tag.
fn is_for_all(bytes: &[u8]) -> bool {
    bytes[0] & 1 == 1 && !bytes.starts_with(&[0x01, 0x80, 0xc2]) && bytes.len() >= 60
}

/// A case's own frames, what opened its connection left out.
pub fn frames(case: &Case) -> impl Iterator<Item = &Vec<u8>> {
    std::iter::once(&case.bytes).chain(&case.pieces)
}

fn is_piece(frame: &Frame) -> bool {
    frame.ip().is_some_and(|ip| ip.fragment != Fragment::No)
}

/// Bytes of IPv6 extension headers up to and with the fragment header.
fn extensions(bytes: &[u8]) -> usize {
    if bytes.get(12..14) != Some(&[0x86, 0xdd]) {
        return 0;
    }
    let (mut number, mut at) = (bytes.get(20).copied(), 54);
    while let (Some(kind), Some([next, length, ..])) = (number, bytes.get(at..)) {
        at += match kind {
            protocol::FRAGMENT => return at + 8 - 54,
            protocol::AUTHENTICATION => (usize::from(*length) + 2) * 4,
            protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS => {
                (usize::from(*length) + 1) * 8
            }
            _ => return at - 54,
        };
        number = Some(*next);
    }
    at - 54
}

/// Whether the connection table would keep pieces of this case waiting: some are missing, or too short to be taken.
fn is_held_back(case: &Case) -> bool {
    let mut lengths: Vec<usize> = frames(case).map(Vec::len).collect();
    lengths.sort_unstable();
    let whole = !case.pieces.is_empty() && lengths[1..].iter().all(|length| *length >= LEAST_PIECE + 14);
    frames(case).any(|bytes| is_piece(&Frame::parse(bytes))) && !whole
}

fn must_go_to(verdict: Verdict) -> Vec<Ingress> {
    match verdict {
        Verdict::Management => vec![Ingress::Host],
        Verdict::NorthSouth => vec![Ingress::Overlay],
        Verdict::Both => vec![Ingress::Host, Ingress::Overlay],
        Verdict::Uplink => vec![Ingress::Uplink],
        Verdict::Switch | Verdict::Drop(_) => Vec::new(),
    }
}

fn report(judged: &[Judged<'_>], output: &[(Ingress, Vec<u8>)], what: &str) -> String {
    let sides: Vec<String> = output.iter().map(|(side, _)| side.to_string()).collect();
    let said: Vec<String> = judged
        .iter()
        .map(|Judged { opinion, .. }| format!("{} by {}", opinion.verdict, opinion.rule))
        .collect();
    format!("{what}: expected {}; went to [{}]", said.join(", "), sides.join(", "))
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.what)?;
        let Some(case) = &self.case else { return Ok(()) };
        writeln!(f, "case '{}', owner {:?}", case.label, case.owner)?;
        let frames = frames(case).map(|frame| (case.ingress, frame));
        for (ingress, frame) in case.opening.iter().map(|(ingress, frame)| (*ingress, frame)).chain(frames) {
            let hex: String = frame.iter().take(96).map(|byte| format!("{byte:02x}")).collect();
            writeln!(f, "  from {ingress} ({} bytes): {hex}\n    {:?}", frame.len(), Frame::parse(frame))?;
        }
        Ok(())
    }
}
