//! What is known of one way to the next hops (through the bridge, or over the NIC itself): pure bookkeeping.

use std::time::Duration;

/// So many questions must stay unanswered before a way counts as silent.
const UNANSWERED: u32 = 3;
/// And so long must the first of them be ago.
const SILENCE: Duration = Duration::from_millis(220);
/// An answer is fresh for so long.
const FRESH: Duration = Duration::from_millis(400);
/// So many questions in a row must be answered for a way to count as proved.
const PROOF: u32 = 3;

/// One way, as it has answered so far. Times are those of the keeper's own clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathHealth {
    /// When something last came this way.
    heard: Option<Duration>,
    /// When the first question was asked that nobody has answered since.
    silent_since: Option<Duration>,
    /// When the last question was asked.
    asked: Option<Duration>,
    /// Questions since something came.
    unanswered: u32,
    /// Questions answered one after the other.
    row: u32,
}

impl PathHealth {
    /// A question was asked.
    pub fn asked(&mut self, now: Duration) {
        if self.unanswered > 0 {
            self.row = 0;
        }
        self.unanswered += 1;
        self.asked = Some(now);
        self.silent_since.get_or_insert(now);
    }

    /// A question was answered.
    pub fn answered(&mut self, now: Duration) {
        if self.unanswered > 0 {
            self.row = self.row.saturating_add(1);
        }
        self.moved(now);
    }

    /// A frame came that nobody asked for: the way works, but it was not proved from end to end.
    pub fn moved(&mut self, now: Duration) {
        self.heard = Some(now);
        self.silent_since = None;
        self.unanswered = 0;
    }

    /// Whoever listens was itself not running for a while: what stayed unanswered in that time says nothing.
    pub fn excuse(&mut self) {
        self.silent_since = None;
        self.unanswered = 0;
    }

    /// Nothing is known any more: whatever forwarded has gone.
    pub fn forget(&mut self) {
        *self = PathHealth::default();
    }

    /// Questions stay unanswered for long enough.
    pub fn is_silent(&self, now: Duration) -> bool {
        self.unanswered >= UNANSWERED && self.silent_for(now).is_some_and(|time| time >= SILENCE)
    }

    /// At least one question is without an answer for longer than an answer takes.
    pub fn is_suspect(&self, now: Duration) -> bool {
        self.unanswered > 1 || self.silent_for(now).is_some_and(|time| time >= SILENCE / 4)
    }

    /// Something came just now, and nothing was asked in vain since.
    pub fn is_fresh(&self, now: Duration) -> bool {
        self.heard.is_some_and(|heard| now.saturating_sub(heard) <= FRESH)
    }

    /// Enough questions in a row were answered, the last just now.
    pub fn is_proved(&self, now: Duration) -> bool {
        self.row >= PROOF && self.is_fresh(now)
    }

    /// Whether the last question had its answer, or there was none.
    pub fn is_settled(&self) -> bool {
        self.unanswered == 0
    }

    /// Whether it has begun to answer in a row.
    pub fn answers(&self) -> bool {
        self.row > 0
    }

    /// When the first question was asked that nobody has answered since.
    pub fn silent_since(&self) -> Option<Duration> {
        self.silent_since
    }

    /// How long ago the last question was.
    pub fn since_asked(&self, now: Duration) -> Option<Duration> {
        self.asked.map(|asked| now.saturating_sub(asked))
    }

    fn silent_for(&self, now: Duration) -> Option<Duration> {
        self.silent_since.map(|since| now.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn silence_takes_questions_and_time() {
        let mut way = PathHealth::default();
        for at in [0, 5, 10, 15] {
            way.asked(ms(at));
        }
        assert!(!way.is_silent(ms(100)), "many questions at once prove nothing");
        assert!(way.is_silent(ms(220)));
        way.moved(ms(221));
        assert!(!way.is_silent(ms(2000)), "nothing was asked since");
        way.asked(ms(2000));
        assert!(!way.is_silent(ms(9000)), "one question may be lost");
        way.asked(ms(9000));
        way.asked(ms(9050));
        way.excuse();
        assert!(!way.is_silent(ms(9999)));
    }

    #[test]
    fn proof_is_a_row_without_a_gap() {
        let mut way = PathHealth::default();
        for at in [0, 20, 40] {
            way.moved(ms(at));
        }
        assert!(!way.is_proved(ms(40)), "frames that nobody asked for are no proof");
        for at in [100, 120] {
            way.asked(ms(at));
            way.answered(ms(at + 1));
        }
        way.asked(ms(140));
        way.asked(ms(160));
        way.answered(ms(161));
        assert!(!way.is_proved(ms(161)), "the row was broken");
        for at in [180, 200] {
            way.asked(ms(at));
            way.answered(ms(at + 1));
        }
        assert!(way.is_proved(ms(201)));
        assert!(!way.is_proved(ms(2000)), "an old proof is none");
    }
}
