//! What the helper and the failover thread share: the configuration, and a few values under atomics.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::EventFd;
use ovs::ovsdb::Remote;

use super::status::FailoverStatus;
use crate::journal::Folder;

/// Which uplink is watched, and what the thread may do.
#[derive(Clone, Debug)]
pub struct FailoverConfig {
    /// The bridge.
    pub bridge: String,
    /// The NIC in it.
    pub nic: String,
    /// The pidfile of ovs-vswitchd.
    pub pidfile: PathBuf,
    /// The switch's database, for a port that has to be attached again.
    pub db: Remote,
    /// The folder of journals and records.
    pub folder: Folder,
    /// Management may leave the bridge.
    pub may_leave: bool,
}

/// Called on the failover thread when the status changes.
pub(super) type OnChange = Box<dyn Fn(&FailoverStatus) + Send>;

/// What the helper sets and the thread reads, and the status in the other direction.
#[derive(Debug)]
pub(super) struct Shared {
    /// The database has the bridge, on the userspace datapath.
    pub(super) has_bridge: AtomicBool,
    /// The database has the NIC as its port.
    pub(super) is_port: AtomicBool,
    /// Our flows are in the switch.
    pub(super) flows_installed: AtomicBool,
    /// The database has a takeover's mark at the bridge.
    pub(super) is_marked: AtomicBool,
    /// The thread has to end.
    pub(super) stop: AtomicBool,
    /// Wakes the thread.
    pub(super) wake: EventFd,
    /// The status as last published.
    pub(super) status: Mutex<FailoverStatus>,
}

impl Shared {
    /// Nothing is set, nothing is known.
    pub(super) fn new(wake: EventFd, status: FailoverStatus) -> Self {
        Self {
            has_bridge: AtomicBool::new(false),
            is_port: AtomicBool::new(false),
            flows_installed: AtomicBool::new(false),
            is_marked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake,
            status: Mutex::new(status),
        }
    }

    /// Sets a value. Whether it changed.
    pub(super) fn set(value: &AtomicBool, to: bool) -> bool {
        value.swap(to, Ordering::Relaxed) != to
    }

    /// Wakes the thread.
    pub(super) fn wake(&self) {
        // A counter that is full wakes as well.
        let _ = self.wake.write(1);
    }

    /// The status as last published.
    pub(super) fn status(&self) -> FailoverStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Publishes a status. Whether it is another one.
    pub(super) fn publish(&self, status: &FailoverStatus) -> bool {
        let mut published = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *published != *status;
        if changed {
            published.clone_from(status);
        }
        changed
    }
}
