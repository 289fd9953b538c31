//! The right to change the uplink, which the takeovers on this node share.

use std::time::Duration;

use super::Worker;
use crate::error::Result;
use crate::journal::{Journal, JournalState, Lock};

/// A takeover with another state folder is waited for no longer than this when management has to leave a dead bridge: it
/// may hang, or wait for its confirmation for an hour.
const PATIENCE: Duration = Duration::from_secs(5);
/// A wait that was not asked about for this long has ended; the next one is for another takeover.
const ENDED: Duration = Duration::from_secs(1);

/// How long a takeover with another state folder has been waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LockWait {
    /// Since when, and when that was last asked.
    wait: Option<(Duration, Duration)>,
}

/// What follows from a lock that is held elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The wait begins.
    Begins,
    /// It goes on.
    GoesOn,
    /// It was long enough.
    IsOver,
}

impl LockWait {
    fn next(self, now: Duration) -> (Self, Waiting) {
        let known = self.wait.filter(|(_, last)| now.saturating_sub(*last) < ENDED);
        let since = known.map_or(now, |(since, _)| since);
        let waiting = match known {
            None => Waiting::Begins,
            Some(_) if now.saturating_sub(since) < PATIENCE => Waiting::GoesOn,
            Some(_) => Waiting::IsOver,
        };
        (Self { wait: Some((since, now)) }, waiting)
    }
}

impl Worker {
    /// The right to change this uplink, without waiting; `false`: a takeover of this bridge is running, and undoes itself.
    /// Of one with another folder it is not known which bridge it takes over.
    pub(super) fn lock(&self) -> Result<(Lock, bool)> {
        let lock = self.config.folder.lock_or_go_on(Duration::ZERO);
        let is_ours = |journal: &Journal| {
            journal.state == JournalState::Open
                && journal.uplinks.iter().any(|uplink| uplink.bridge == self.config.bridge)
        };
        let is_free = lock.is_held()
            || !lock.is_held_elsewhere()
                && !self.config.folder.journal()?.is_some_and(|journal| is_ours(&journal));
        Ok((lock, is_free))
    }

    /// The right to give the NIC what management needs; `None`: not now. A takeover with another folder is waited for, but
    /// not for ever.
    pub(super) fn lock_for_nic(&mut self) -> Result<Option<Lock>> {
        let (lock, is_free) = self.lock()?;
        let goes_on = is_free || lock.is_held_elsewhere() && self.has_waited();
        Ok(goes_on.then_some(lock))
    }

    fn has_waited(&mut self) -> bool {
        let (wait, waiting) = self.lock_wait.next(self.now());
        self.lock_wait = wait;
        if waiting == Waiting::Begins {
            tracing::warn!(
                "management has to leave {}, but another takeover (with another --state-dir) holds the lock; waiting up \
                 to {} s",
                self.config.bridge,
                PATIENCE.as_secs()
            );
        }
        waiting == Waiting::IsOver
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_of_another_takeover_is_waited_for_five_seconds() {
        let mut wait = LockWait::default();
        for (now, wanted) in [
            (1000, Waiting::Begins),
            (1050, Waiting::GoesOn),
            (2000, Waiting::GoesOn),
            (2900, Waiting::GoesOn),
            (3800, Waiting::GoesOn),
            (4700, Waiting::GoesOn),
            (5600, Waiting::GoesOn),
            (5999, Waiting::GoesOn),
            (6000, Waiting::IsOver),
            (6900, Waiting::IsOver),
            (7900, Waiting::Begins),
        ] {
            let (next, found) = wait.next(Duration::from_millis(now));
            assert_eq!(found, wanted, "at {now} ms");
            wait = next;
        }
    }
}
