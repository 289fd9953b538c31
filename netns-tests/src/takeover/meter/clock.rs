//! Time as the kernel stamps packets with it, and threads that keep to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A moment on the clock of packet time stamps, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub i64);

impl Moment {
    /// Now.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
    }

    /// So much later.
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// How long ago the other was, zero when it is later.
    pub fn since(self, other: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(other.0)).unwrap_or(0))
    }
}

/// Puts the calling thread before ordinary ones, within reason: it works for microseconds at a time, and what it
/// measures is the others. Real-time scheduling would starve a busy machine. Not allowed everywhere, and not needed.
#[allow(unsafe_code, reason = "setpriority(2) has no safe wrapper")]
pub(super) fn take_precedence() {
    // SAFETY: the call takes numbers only; 0 names the calling thread (setpriority(2), "C library/kernel differences").
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -15) };
}
