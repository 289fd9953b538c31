//! When a failed attempt is repeated: once for each failure, after a pause that grows.

use std::time::Duration;

use tokio::time::Instant;

/// The pause after the first failure, doubled with each further one up to the limit.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// The next attempt, if one is due, and the pause that led to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    at: Option<Instant>,
    pause: Option<Duration>,
}

impl Backoff {
    /// When the next attempt is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.at
    }

    /// An attempt failed.
    pub(crate) fn failed(&mut self, now: Instant) {
        let pause = self.pause.map_or(PAUSE.0, |pause| (pause * 2).min(PAUSE.1));
        *self = Self { at: Some(now + pause), pause: Some(pause) };
    }

    /// The attempt is being made. It is not due any more, even if it cannot be completed (no bridge yet, sources not
    /// known): a time in the past would wake the loop without end.
    pub(crate) fn begun(&mut self, now: Instant) {
        self.at = self.at.filter(|at| *at > now);
    }

    /// An attempt succeeded.
    pub(crate) fn recovered(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_and_an_attempt_that_was_begun_is_not_due_again() {
        let (mut retry, now) = (Backoff::default(), Instant::now());
        assert_eq!(retry.due(), None);
        retry.failed(now);
        assert_eq!(retry.due(), Some(now + PAUSE.0));
        retry.begun(now);
        assert_eq!(retry.due(), Some(now + PAUSE.0), "a pass for another reason does not take it away");
        let later = now + PAUSE.0;
        retry.begun(later);
        assert_eq!(retry.due(), None);
        retry.failed(later);
        assert_eq!(retry.due(), Some(later + PAUSE.0 * 2));
        for _ in 0..10 {
            retry.failed(later);
        }
        assert_eq!(retry.due(), Some(later + PAUSE.1));
        retry.recovered();
        retry.failed(later);
        assert_eq!(retry.due(), Some(later + PAUSE.0));
    }
}
