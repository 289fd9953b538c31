//! Time as the kernel stamps packets with it, and threads that keep to it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::lab::machine::at_our_pace;

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

/// Puts the calling thread before all ordinary ones: it works for microseconds at a time, and what it measures is the
/// others. Not allowed everywhere, and not needed. Where the machine is slow (`LAB_SLOWNESS`) it would take all there is.
#[allow(unsafe_code, reason = "sched_setscheduler(2) has no safe wrapper")]
pub(super) fn take_precedence() {
    if at_our_pace(Duration::from_secs(1)) > Duration::from_secs(1) {
        return;
    }
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the pointer is to a live value of the type the call wants, and it is only read; 0 names this thread.
    unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
}
