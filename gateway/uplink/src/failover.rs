//! Failover: on the userspace datapath, management goes to the NIC while the bridge carries nothing, and returns when it
//! does.
//!
//! A thread of its own, without runtime: it goes on while the rest of the helper waits for a vswitchd that hangs, and it
//! asks no database and no control socket. (A recreated NIC has to be attached to the switch again: a further thread does
//! that, for two seconds at most.)
//!
//! ```text
//!   pidfd of vswitchd, its threads --.
//!   carrier, counters of the bridge --+--> Observation --> pass (pure) --> actions: switchover, ingress filter, probes
//!   replies through bridge and NIC ---'    (observer)          |           (worker)
//!   rows: where the addresses are                              '--> FailoverStatus (status, metrics, log)
//! ```
//!
//! | what fails | how it is detected | how soon |
//! |---|---|---|
//! | vswitchd ends | its first thread that ends (pidfd) | at once; 16 to 33 ms before Linux 6.9 |
//! | vswitchd is stopped | its state, in the next pass | 50 ms |
//! | vswitchd hangs, or the database under it | nothing comes through the bridge, probes over the NIC get replies | 250 to 400 ms |
//!
//! Frames that come from the bridge are proof enough; only when none come is a next hop probed, and without any traffic
//! once a second. Without replies over the NIC either, the wire or the router is dead, and a switchover would mend nothing.
//!
//! The thread also keeps the ingress filter right, and takes off the NIC what a network manager puts back there. It keeps
//! no state on the disk: the kernel has it, so that the next process goes on from what it finds. It ends with the helper,
//! and leaves things as they are.
//!
//! | module | subject |
//! |---|---|
//! | `observer`, `observation` | what is observed: by whom, and the value |
//! | `schedule` | when what is due: pure |
//! | `pass` | one pass, from observation to actions: pure. Parts: `state_machine`, `bridge_watch`, `reattach_detection` |
//! | `worker`, `action` | the thread, and what it does |
//! | `path_health`, `address_location` | what probes and rows mean: pure |
//! | `probe_path`, `vswitchd` | probers and counters of one path; the process |
//! | `poll` | waits for several descriptors |
//! | `shared`, `status` | between helper and thread; what is reported |

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::error::{Error, Result};

mod action;
mod address_location;
mod bridge_watch;
mod observation;
mod observer;
mod pass;
mod path_health;
mod poll;
mod probe_path;
mod reattach_detection;
mod schedule;
mod shared;
mod state_machine;
mod status;
mod vswitchd;
mod worker;

pub use action::Reason;
pub use shared::FailoverConfig;
pub use status::{FailoverStatus, ManagementLocation};

use shared::Shared;
use worker::Worker;

/// The running failover thread. Dropped, it ends; management stays where it is.
#[derive(Debug)]
pub struct Failover {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Failover {
    /// Starts the thread. It does nothing until [`Failover::set_bridge`] says that there is a bridge. `on_change` is called
    /// on it with each new status.
    pub fn start(
        config: FailoverConfig,
        on_change: impl Fn(&FailoverStatus) + Send + 'static,
    ) -> Result<Self> {
        let failed = |source: std::io::Error| Error::Io {
            attempted: "start the failover thread".to_owned(),
            source,
            remedy: "raise the limits on threads and open files",
        };
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let status = FailoverStatus { may_leave: config.may_leave, ..FailoverStatus::default() };
        let shared = Arc::new(Shared::new(wake, status));
        let mut worker = Worker::new(config, shared.clone(), Box::new(on_change))?;
        let thread = std::thread::Builder::new().name("failover".to_owned());
        let thread = thread.spawn(move || worker.run()).map_err(failed)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What the database says: whether the bridge is there, on the userspace datapath, and whether the NIC is its port.
    pub fn set_bridge(&self, has_bridge: bool, is_port: bool) {
        let port_changed = Shared::set(&self.shared.is_port, is_port);
        if Shared::set(&self.shared.has_bridge, has_bridge) || port_changed {
            self.shared.wake();
        }
    }

    /// Whether the database has a takeover's mark at the bridge: the record of it may be lost.
    pub fn set_marked(&self, is_marked: bool) {
        if Shared::set(&self.shared.is_marked, is_marked) {
            self.shared.wake();
        }
    }

    /// Whether our flows are in the switch.
    pub fn set_flows_installed(&self, are_installed: bool) {
        if Shared::set(&self.shared.flows_installed, are_installed) {
            self.shared.wake();
        }
    }

    /// Where management is.
    pub fn status(&self) -> FailoverStatus {
        self.shared.status()
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A switchover that is running is completed: some milliseconds.
            let _ = thread.join();
        }
    }
}
