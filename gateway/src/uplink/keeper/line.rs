//! One of the two ways, as the thread holds it: its device's counters, who asks there, and what came back.

use std::time::Duration;

use host::neighbour_probe::{Prober, Question};
use host::pulse::Pulse;

use super::way::Way;

/// One of the two ways.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// What it answered.
    pub(super) way: Way,
    /// Who asks there, on the device of this number.
    pub(super) asker: Option<(u32, Prober)>,
    /// The device, when it was last looked at.
    pub(super) pulse: Option<Pulse>,
    /// Questions since the last look.
    pub(super) asked: u64,
}

impl Line {
    /// Takes note of the answers that have come.
    pub(super) fn hear(&mut self, now: Duration, questions: &[Question]) {
        let Some((_, asker)) = &self.asker else { return };
        // An error is as good as no answer: who asks in vain finds out.
        while let Ok(Some(heard)) = asker.hear() {
            if questions.iter().any(|question| question.is_answered_by(&heard)) {
                self.way.answered(now);
            }
        }
    }

    /// Takes note of the device's counters; how many frames it received and sent since the last look.
    pub(super) fn feel(&mut self, pulse: Option<Pulse>) -> (u64, u64) {
        let before = std::mem::replace(&mut self.pulse, pulse);
        match (before, pulse) {
            (Some(before), Some(now)) if before.index == now.index => {
                (now.received.saturating_sub(before.received), now.sent.saturating_sub(before.sent))
            }
            _ => {
                self.asker = None;
                (0, 0)
            }
        }
    }

    /// Asks all; one answer is enough.
    pub(super) fn ask(&mut self, now: Duration, questions: &[Question]) {
        let Some(pulse) = self.pulse else { return };
        if self.asker.as_ref().is_none_or(|(index, _)| *index != pulse.index) {
            self.asker = Prober::open(pulse.index, pulse.mac).ok().map(|asker| (pulse.index, asker));
        }
        let Some((_, asker)) = &self.asker else { return };
        for question in questions {
            // One that cannot be sent stays unanswered.
            let _ = asker.send(question);
            self.asked += 1;
        }
        self.way.asked(now);
    }
}
