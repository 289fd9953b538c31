//! Waiting for several descriptors at once.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The positions of those that became readable within the time.
pub(super) fn readable(fds: &[BorrowedFd<'_>], within: Duration) -> Vec<usize> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    if poll(&mut polled, timeout).is_err() {
        return Vec::new();
    }
    let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
    polled.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(at, _)| at).collect()
}
