//! Requests that run at the same time, each with a deadline.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Instant;

/// A request in progress. One that misses its deadline continues on its thread and its result is dropped: a name lookup
/// takes as long as its servers take, and cannot be cancelled.
pub(super) struct Pending<T>(Receiver<T>);

/// Runs a request on its own thread. If no thread can be started, it counts as unanswered.
pub(super) fn spawn<T: Send + 'static>(request: impl FnOnce() -> T + Send + 'static) -> Pending<T> {
    let (sender, receiver) = mpsc::channel();
    let started =
        thread::Builder::new().name("doctor".to_owned()).spawn(move || drop(sender.send(request())));
    drop(started);
    Pending(receiver)
}

impl<T> Pending<T> {
    /// The result; `None` when there is none by the deadline.
    pub(super) fn wait_until(self, deadline: Instant) -> Option<T> {
        self.0.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_answer_and_none() {
        assert_eq!(spawn(|| 7).wait_until(Instant::now() + Duration::from_secs(30)), Some(7));
        let (hold, held) = mpsc::channel::<()>();
        let pending = spawn(move || held.recv().is_ok());
        assert_eq!(pending.wait_until(Instant::now() + Duration::from_millis(5)), None);
        drop(hold);
    }
}
