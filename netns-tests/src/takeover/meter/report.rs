//! What the meter saw.

use std::{fmt, time::Duration};

use super::{
    clock::Moment,
    flow::{Direction, Flow, Kind},
    side::{Received, Sent},
};

/// What all flows saw.
#[derive(Debug, Clone)]
pub struct Report {
    /// Each flow.
    pub flows: Vec<FlowReport>,
}

/// What one flow saw.
#[derive(Debug, Clone)]
pub struct FlowReport {
    /// Which.
    pub flow: Flow,
    /// When each request left, by number. Of TCP: when each record was written.
    sent: Vec<Moment>,
    /// Number and time of every answer, in the order of arrival. Of TCP the number says nothing.
    answers: Vec<(u32, Moment)>,
    /// TCP: segments sent again by both ends.
    pub retransmits: u32,
    /// TCP: why the connection did not live to the end.
    pub died: Option<String>,
}

impl FlowReport {
    /// Puts together what its sender and its receivers (the answers', and the far end's) saw.
    pub(super) fn new(flow: Flow, sent: Sent, received: Vec<Received>) -> Self {
        let mut answers: Vec<_> = received.iter().flat_map(|one| one.answers.iter().copied()).collect();
        answers.sort_by_key(|(_, at)| *at);
        let bytes: u64 = received.iter().map(|one| one.bytes).sum();
        let mut died = received.iter().find_map(|one| one.died.clone()).or(sent.died);
        if flow.kind == Kind::Tcp && died.is_none() && bytes < sent.bytes {
            died = Some(format!("{} of {} bytes never came back", sent.bytes - bytes, sent.bytes));
        }
        let retransmits = received.iter().map(|one| one.retransmits).sum();
        Self { flow, sent: sent.times, answers, retransmits, died }
    }

    /// Requests sent.
    pub fn sent(&self) -> usize {
        self.sent.len()
    }

    /// How often each request was answered.
    fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.sent.len()];
        for (number, _) in &self.answers {
            if let Some(count) = usize::try_from(*number).ok().and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        counts
    }

    /// Requests never answered; none for TCP, which sends again.
    pub fn lost(&self) -> usize {
        if self.flow.kind == Kind::Tcp {
            return 0;
        }
        self.counts().into_iter().filter(|count| *count == 0).count()
    }

    /// Requests never answered of those that left between two moments.
    pub fn lost_between(&self, from: Moment, to: Moment) -> usize {
        if self.flow.kind == Kind::Tcp {
            return 0;
        }
        let counts = self.counts();
        let inside = self.sent.iter().zip(counts).filter(|(at, _)| (from..=to).contains(*at));
        inside.filter(|(_, count)| *count == 0).count()
    }

    /// Answers beyond the first.
    pub fn duplicates(&self) -> usize {
        self.duplicates_since(Moment(i64::MIN))
    }

    /// Answers beyond the first to requests that left at this moment or later.
    pub fn duplicates_since(&self, from: Moment) -> usize {
        if self.flow.kind == Kind::Tcp {
            return 0;
        }
        let later = self.sent.iter().zip(self.counts()).filter(|(at, _)| **at >= from);
        later.map(|(_, count)| count.saturating_sub(1) as usize).sum()
    }

    /// When the first answer after a moment came.
    pub fn first_answer_after(&self, from: Moment) -> Option<Moment> {
        self.answers.iter().map(|(_, at)| *at).find(|at| *at > from)
    }

    /// The longest time without an answer.
    pub fn gap(&self) -> Duration {
        self.gap_between(Moment(i64::MIN), Moment(i64::MAX))
    }

    /// The longest time without an answer that touches the time between two moments.
    pub fn gap_between(&self, from: Moment, to: Moment) -> Duration {
        // The first and the last request bound what could have been answered.
        let ends = [self.sent.first(), self.sent.last()].map(|end| end.copied());
        let inner = self.answers.iter().map(|(_, at)| *at);
        let mut all: Vec<Moment> = inner.chain(ends.into_iter().flatten()).collect();
        all.sort();
        let pairs = all.iter().zip(all.iter().skip(1)).filter(|(start, end)| **end >= from && **start <= to);
        pairs.map(|(start, end)| end.since(*start)).max().unwrap_or_default()
    }
}

impl Report {
    /// The flows of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &FlowReport> {
        self.flows.iter().filter(move |one| one.flow.kind == kind)
    }

    /// The flows of one kind and direction.
    pub fn towards(&self, kind: Kind, direction: Direction) -> impl Iterator<Item = &FlowReport> {
        self.of(kind).filter(move |one| one.flow.direction == direction)
    }

    /// Requests never answered, over all flows.
    pub fn lost(&self) -> usize {
        self.flows.iter().map(FlowReport::lost).sum()
    }

    /// Answers beyond the first, over all flows.
    pub fn duplicates(&self) -> usize {
        self.flows.iter().map(FlowReport::duplicates).sum()
    }

    /// The longest gap of any flow of a kind that touches the time between two moments.
    pub fn gap_between(&self, kind: Kind, from: Moment, to: Moment) -> Duration {
        self.of(kind).map(|one| one.gap_between(from, to)).max().unwrap_or_default()
    }

    /// Connections that did not live to the end, and why.
    pub fn dead(&self) -> Vec<String> {
        let died = self.flows.iter().filter_map(|one| Some((one.flow, one.died.as_ref()?)));
        died.map(|(flow, why)| format!("{flow}: {why}")).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.flows {
            write!(
                f,
                "{:14} sent {:5}, lost {:4}, doubled {:4}, longest gap {:7.1} ms",
                one.flow.to_string(),
                one.sent(),
                one.lost(),
                one.duplicates(),
                one.gap().as_secs_f64() * 1e3
            )?;
            if one.flow.kind == Kind::Tcp {
                write!(f, ", {} sent again", one.retransmits)?;
            }
            match &one.died {
                Some(why) => writeln!(f, ", DEAD: {why}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::address::Family;

    fn report(sent: &[i64], answers: &[(u32, i64)]) -> FlowReport {
        FlowReport {
            flow: Flow { kind: Kind::Udp, direction: Direction::In, family: Family::V4 },
            sent: sent.iter().map(|at| Moment(*at)).collect(),
            answers: answers.iter().map(|(number, at)| (*number, Moment(*at))).collect(),
            retransmits: 0,
            died: None,
        }
    }

    #[test]
    fn losses_doubles_and_gaps_are_counted() {
        let one = report(&[0, 10, 20, 30, 40], &[(0, 1), (1, 11), (1, 12), (4, 41)]);
        assert_eq!((one.sent(), one.lost(), one.duplicates()), (5, 2, 1));
        assert_eq!(one.gap(), Duration::from_nanos(28));
        assert_eq!(one.gap_between(Moment(0), Moment(10)), Duration::from_nanos(10));
        assert_eq!(one.lost_between(Moment(30), Moment(50)), 1);
        assert_eq!(one.duplicates_since(Moment(11)), 0);
    }

    #[test]
    fn a_flow_that_stops_being_answered_has_a_gap_to_its_end() {
        let one = report(&[0, 10, 20, 30], &[(0, 1)]);
        assert_eq!(one.gap(), Duration::from_nanos(29));
    }
}
