//! What one way of the traffic has seen so far, readable while it goes on.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// Whose traffic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The node's.
    Management,
    /// The pods'.
    NorthSouth,
}

impl Owner {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Management, Self::NorthSouth];

    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Management => "management",
            Self::NorthSouth => "north-south",
        }
    }
}

/// Counters of one way. One thread writes them, others read.
#[derive(Debug)]
pub struct Meter {
    /// What it is.
    pub title: String,
    /// Whose.
    pub owner: Owner,
    /// Who must answer.
    expected: String,
    began: Instant,
    sent: AtomicU64,
    answered: AtomicU64,
    lost: AtomicU64,
    wrong: AtomicU64,
    /// Times a session died and was opened again.
    reopened: AtomicU64,
    /// Microseconds from `began` to the last answer.
    last: AtomicU64,
    /// The longest time between two answers, in microseconds: of all, and since the last [`Meter::mark`].
    gaps: [AtomicU64; 2],
    words: Mutex<Words>,
}

#[derive(Debug, Default)]
struct Words {
    strangers: BTreeSet<String>,
    died: Option<String>,
}

/// The counters at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests that were not answered within a second.
    pub lost: u64,
    /// Answers by another server than expected.
    pub wrong: u64,
    /// Times a session had to be opened again.
    pub reopened: u64,
    /// The longest time between two answers.
    pub longest: Duration,
    /// The same since the last mark.
    pub recent: Duration,
    /// How long ago the last answer was.
    pub silent: Duration,
    /// Who answered that should not have.
    pub strangers: Vec<String>,
    /// Why the session died the first time.
    pub died: Option<String>,
}

impl Meter {
    /// A meter of a way that begins now.
    pub fn new(owner: Owner, title: &str, expected: &str) -> Self {
        Self {
            title: title.to_owned(),
            owner,
            expected: expected.to_owned(),
            began: Instant::now(),
            sent: AtomicU64::default(),
            answered: AtomicU64::default(),
            lost: AtomicU64::default(),
            wrong: AtomicU64::default(),
            reopened: AtomicU64::default(),
            last: AtomicU64::default(),
            gaps: Default::default(),
            words: Mutex::default(),
        }
    }

    /// One was sent.
    pub fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// One was answered, by `name`.
    pub fn answered(&self, name: &str) {
        self.answered.fetch_add(1, Relaxed);
        if name != self.expected {
            self.wrong.fetch_add(1, Relaxed);
            self.words().strangers.insert(name.to_owned());
        }
        let now = micros(self.began.elapsed());
        let gap = now.saturating_sub(self.last.swap(now, Relaxed));
        for longest in &self.gaps {
            longest.fetch_max(gap, Relaxed);
        }
    }

    /// Something came back that was not what was sent.
    pub fn garbled(&self) {
        self.answered("somebody with another answer");
    }

    /// One was waited for long enough.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    /// One that counted as lost came after all.
    pub fn found(&self) {
        self.lost.fetch_sub(1, Relaxed);
    }

    /// The session died.
    pub fn died(&self, why: String) {
        self.words().died.get_or_insert(why);
    }

    /// The session is there again.
    pub fn reopened(&self) {
        self.reopened.fetch_add(1, Relaxed);
    }

    /// From here on [`Reading::recent`] starts from zero.
    pub fn mark(&self) {
        self.gaps[1].store(0, Relaxed);
    }

    /// The counters now.
    pub fn read(&self) -> Reading {
        let words = self.words();
        let silent =
            Duration::from_micros(micros(self.began.elapsed()).saturating_sub(self.last.load(Relaxed)));
        let gap = |index: usize| {
            self.gaps.get(index).map_or(Duration::ZERO, |gap| Duration::from_micros(gap.load(Relaxed)))
        };
        Reading {
            sent: self.sent.load(Relaxed),
            answered: self.answered.load(Relaxed),
            lost: self.lost.load(Relaxed),
            wrong: self.wrong.load(Relaxed),
            reopened: self.reopened.load(Relaxed),
            longest: gap(0).max(silent),
            recent: gap(1).max(silent),
            silent,
            strangers: words.strangers.iter().cloned().collect(),
            died: words.died.clone(),
        }
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(length: Duration) -> u64 {
    u64::try_from(length.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_by_somebody_else_is_seen() {
        let meter = Meter::new(Owner::NorthSouth, "a way", "pod11");
        meter.sent();
        meter.answered("pod11");
        meter.sent();
        meter.answered("node1");
        meter.sent();
        meter.lost();
        let reading = meter.read();
        assert_eq!((reading.sent, reading.answered, reading.lost, reading.wrong), (3, 2, 1, 1));
        assert_eq!(reading.strangers, ["node1"]);
        meter.found();
        assert_eq!(meter.read().lost, 0);
    }
}
