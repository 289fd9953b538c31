//! A failure that repeats is logged once, then with growing pauses, and its end is logged with a count.
//!
//! ```
//! # use ovs::vlog::repeat::Repeat;
//! let mut api = Repeat::new("Kubernetes API");
//! api.failed(&"connection refused"); // WARN Kubernetes API: connection refused
//! api.failed(&"connection refused"); // nothing
//! api.recovered();                   // INFO Kubernetes API: works again after 2 failures in 0 s
//! ```

use std::fmt::Display;
use std::time::{Duration, Instant};

/// The first pause; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(10);

/// No pause is longer than this: an operator who looks an hour later still finds the cause near the end of the log.
const LONGEST: Duration = Duration::from_secs(600);

/// Different texts remembered. A peer that makes up a new text each time is held to the pace of the oldest.
const TEXTS: usize = 8;

/// One thing that may fail again and again.
#[derive(Debug)]
pub struct Repeat {
    what: String,
    since: Option<Instant>,
    failures: u64,
    texts: Vec<Text>,
}

/// A text that was logged, and when it may be again.
#[derive(Debug)]
struct Text {
    text: String,
    due: Instant,
    pause: Duration,
    silent: u64,
}

impl Repeat {
    /// `what` begins every line.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), since: None, failures: 0, texts: Vec::new() }
    }

    /// Notes a failure and logs it as a warning if it is due. True when it was logged.
    pub fn failed(&mut self, error: &dyn Display) -> bool {
        let line = self.note(Instant::now(), &error.to_string());
        if let Some(line) = &line {
            tracing::warn!(target: "repeat", "{line}");
        }
        line.is_some()
    }

    /// Notes a success, and logs it when failures came before it.
    pub fn recovered(&mut self) {
        if let Some(line) = self.note_end(Instant::now()) {
            tracing::info!(target: "repeat", "{line}");
        }
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// The line to log for a failure at `now`, if it is due; for callers that log by themselves.
    pub fn note(&mut self, now: Instant, error: &str) -> Option<String> {
        self.failures += 1;
        self.since.get_or_insert(now);
        if let Some(known) = self.texts.iter_mut().find(|known| known.text == error) {
            known.silent += 1;
            if now < known.due {
                return None;
            }
            let silent = std::mem::take(&mut known.silent);
            known.pause = (known.pause * 2).min(LONGEST);
            known.due = now + known.pause;
            return Some(format!("{}: {error} ({silent} times more since this was logged)", self.what));
        }
        if self.texts.len() == TEXTS {
            let (oldest, first) = self
                .texts
                .iter()
                .enumerate()
                .min_by_key(|(_, text)| text.due)
                .map(|(at, text)| (at, text.due))?;
            if now < first {
                return None;
            }
            self.texts.swap_remove(oldest);
        }
        self.texts.push(Text { text: error.to_owned(), due: now + FIRST, pause: FIRST, silent: 0 });
        Some(format!("{}: {error}", self.what))
    }

    /// The line to log for a success at `now`, if failures came before it.
    pub fn note_end(&mut self, now: Instant) -> Option<String> {
        let since = self.since.take()?;
        let failures = std::mem::take(&mut self.failures);
        self.texts.clear();
        let seconds = now.saturating_duration_since(since).as_secs();
        let noun = if failures == 1 { "failure" } else { "failures" };
        Some(format!("{}: works again after {failures} {noun} in {seconds} s", self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_of_failures_is_a_handful_of_lines() {
        let mut repeat = Repeat::new("API");
        let start = Instant::now();
        let lines: Vec<_> =
            (0..3600).filter_map(|s| repeat.note(start + Duration::from_secs(s), "refused")).collect();
        assert_eq!(lines[0], "API: refused");
        assert!((8..=14).contains(&lines.len()), "{} lines", lines.len());
        let end = repeat.note_end(start + Duration::from_secs(3600)).unwrap();
        assert_eq!(end, "API: works again after 3600 failures in 3600 s");
        assert_eq!(repeat.note_end(start), None);
        assert!(repeat.note(start, "refused").is_some(), "a new failure is logged at once");
    }

    #[test]
    fn another_text_is_logged_at_once_but_not_without_end() {
        let mut repeat = Repeat::new("API");
        let start = Instant::now();
        assert!(repeat.note(start, "401").is_some());
        assert!(repeat.note(start, "500").is_some());
        assert!(repeat.note(start, "401").is_none());
        let logged = (0..1000).filter(|n| repeat.note(start, &format!("error {n}")).is_some()).count();
        assert_eq!(logged, TEXTS - 2);
    }
}
