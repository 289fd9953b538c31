//! Questions that are asked beside each other, each for a bounded time.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

/// A question under way. One that is not waited for any more goes on by itself and is forgotten: looking up a name can
/// take as long as its servers please, and nothing can be told to give that up.
pub(super) struct Asked<T>(Receiver<T>);

/// Asks in a thread of its own. `None` to wait for when there can be no thread.
pub(super) fn ask<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Asked<T> {
    let (tell, told) = mpsc::channel();
    let started = thread::Builder::new().name("doctor".to_owned()).spawn(move || drop(tell.send(question())));
    drop(started);
    Asked(told)
}

impl<T> Asked<T> {
    /// The answer, or none by the deadline.
    pub(super) fn by(self, deadline: Instant) -> Option<T> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_and_none() {
        assert_eq!(ask(|| 7).by(Instant::now() + Duration::from_secs(30)), Some(7));
        let (hold, held) = mpsc::channel::<()>();
        assert_eq!(ask(move || held.recv().is_ok()).by(Instant::now() + Duration::from_millis(5)), None);
        drop(hold);
    }
}
