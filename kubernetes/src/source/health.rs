//! The health of a source, and its log lines: at once when it changes, then ever more rarely while a failure lasts.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::kind::Kind;
use super::{Batch, Health, Problem};

/// How long a failure lasts before it is logged again, at first and at most.
const LOG_AGAIN: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(3600));

/// The health of the whole from the health of the kinds.
#[derive(Debug)]
pub(super) struct HealthLog {
    health: Health,
    kinds: BTreeMap<Kind, State>,
    /// When a failure may be logged again, and the pause before.
    log_again: Option<(SystemTime, Duration)>,
    /// The present failure was logged.
    logged: bool,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    error: Option<String>,
    failures: u32,
}

impl HealthLog {
    pub(super) fn new(origin: String, now: SystemTime) -> Self {
        let health = Health { origin, connected: false, since: now, last_error: None, failures: 0 };
        Self { health, kinds: BTreeMap::new(), log_again: None, logged: false }
    }

    pub(super) fn get(&self) -> &Health {
        &self.health
    }

    pub(super) fn connected(&mut self, kind: Kind, batch: &mut Batch) {
        let state = self.kinds.entry(kind).or_default();
        let had_error = state.error.is_some();
        *state = State { connected: true, ..State::default() };
        if kind.is_required() {
            self.update(batch);
        } else {
            batch.problems_changed |= had_error;
        }
    }

    pub(super) fn failed(&mut self, kind: Kind, error: String, batch: &mut Batch) {
        let state = self.kinds.entry(kind).or_default();
        state.connected = false;
        state.failures = state.failures.saturating_add(1);
        let differs = state.error.as_ref() != Some(&error);
        if kind.is_required() {
            state.error = Some(error);
            self.update(batch);
        } else if differs {
            // Optional: the source is healthy without them, and while it is not, its health reports the failure.
            if self.health.connected {
                tracing::info!("not watched: {error}");
            }
            state.error = Some(error);
            batch.problems_changed |= self.health.connected;
        }
    }

    /// What is missing though the source is healthy.
    pub(super) fn optional_problems(&self) -> impl Iterator<Item = Problem> {
        let optional = self.kinds.iter().filter(|(kind, _)| self.health.connected && !kind.is_required());
        optional.filter_map(|(kind, state)| {
            let reason = state.error.clone()?;
            Some(Problem {
                place: format!("{}s of {}", kind.name(), self.health.origin),
                object: None,
                reason,
            })
        })
    }

    fn has_optional_errors(&self) -> bool {
        self.kinds.iter().any(|(kind, state)| !kind.is_required() && state.error.is_some())
    }

    fn update(&mut self, batch: &mut Batch) {
        let required = || Kind::REQUIRED.iter().map(|kind| self.kinds.get(kind));
        let connected = required().all(|state| state.is_some_and(|state| state.connected));
        let last_error = required().flatten().find_map(|state| state.error.clone());
        let failures = required().flatten().map(|state| state.failures).max().unwrap_or(0);
        let now = SystemTime::now();

        let before = (self.health.connected, self.health.failures);
        batch.health_changed |= before != (connected, failures) || last_error != self.health.last_error;
        batch.problems_changed |= before.0 != connected && self.has_optional_errors();
        let away = now.duration_since(self.health.since).unwrap_or_default();
        self.health.failures = failures;
        self.health.last_error = last_error;
        if connected != self.health.connected {
            self.health.connected = connected;
            self.health.since = now;
        }
        self.log(now, away);
    }

    /// A failure is logged at once, then when the pause has passed, and the pause doubles. One that comes and goes is
    /// one failure: only a quiet time as long as the pause makes the next one new.
    fn log(&mut self, now: SystemTime, away: Duration) {
        let Health { origin, last_error, failures, .. } = &self.health;
        let Some(error) = last_error else {
            if self.health.connected && std::mem::take(&mut self.logged) {
                tracing::info!("{origin}: connected again after {} s", away.as_secs());
            }
            return;
        };
        let pause = match self.log_again {
            Some((at, _)) if now < at => return,
            Some((at, pause)) if now < at + pause => (pause * 2).min(LOG_AGAIN.1),
            _ => LOG_AGAIN.0,
        };
        self.log_again = Some((now + pause, pause));
        self.logged = true;
        tracing::warn!("{origin}: {error} (failures in a row: {failures}); what is known is kept");
    }
}
