//! Management that outlives the switch: on the userspace datapath, the node's own addresses go to the NIC while the
//! bridge carries nothing, and come back when it does.
//!
//! A thread of its own, without runtime: it goes on when the rest of the helper waits for a vswitchd that stands still,
//! and never asks a database or a control socket anything. (A NIC that was made anew has to be attached to the switch
//! again: a further thread does that, for two seconds at most.)
//!
//! ```text
//!   pidfd of vswitchd, its threads --.
//!   carrier, counters of the bridge --+--> Seen --> mind (pure) --> turn: ears and mouth, NIC or bridge
//!   answers through bridge and NIC ---'                |
//!   rows: who carries the addresses                    '--> Management (status, metrics, log)
//! ```
//!
//! | what dies | how it is noticed | how soon |
//! |---|---|---|
//! | vswitchd | its first thread that ends (pidfd) | at once; 16 to 33 ms before Linux 6.9 |
//! | vswitchd, stopped | its state, with the next look | 50 ms |
//! | vswitchd, stuck; the database under it | nothing comes through the bridge, the NIC is answered | 250 to 400 ms |
//!
//! Frames that come from the bridge are proof enough; only when none come is a next hop asked, and when nothing moves at
//! all, once a second. When the NIC is not answered either, the wire or the router is dead, and turning would mend
//! nothing.
//!
//! It keeps the guard against hearing frames twice, too, and takes off the NIC what a network manager puts back there.
//! State is never kept: it is read from the kernel, so that a successor goes on from what it finds. It ends with the
//! helper, and leaves things as they are.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sys::eventfd::{EfdFlags, EventFd};
use ovs::ovsdb::Remote;

use super::error::{Error, Result};
use super::journal::Folder;

mod address_location;
mod events;
mod path_health;
mod probe_path;
mod process;
mod reattach;
mod restore_addresses;
pub mod state_machine;
mod status;
mod worker;

pub use state_machine::Reason;
pub use status::{At, Management};

/// What is to be kept.
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
    /// Where takeovers are written down.
    pub folder: Folder,
    /// Management may leave the bridge.
    pub may_leave: bool,
}

/// The keeper at work. Dropped, it ends; what it turned stays turned.
#[derive(Debug)]
pub struct Failover {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the helper and the keeper's thread tell each other.
#[derive(Debug)]
struct Shared {
    keep: AtomicBool,
    listed: AtomicBool,
    flows_in: AtomicBool,
    marked: AtomicBool,
    stop: AtomicBool,
    wake: EventFd,
    management: Mutex<Management>,
}

/// Who hears of news.
type Events = Box<dyn Fn(&Management) + Send>;

impl Failover {
    /// Starts it. It does nothing until it is told to keep the bridge. `news` is called on its thread.
    pub fn start(duty: FailoverConfig, news: impl Fn(&Management) + Send + 'static) -> Result<Self> {
        let failed = |source: std::io::Error| Error::Io {
            attempted: "start the thread that keeps management alive".to_owned(),
            source,
            remedy: "raise the limits on threads and open files",
        };
        let wake = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| failed(errno.into()))?;
        let management = Management { failover: duty.may_leave, ..Management::default() };
        let shared = Arc::new(Shared {
            keep: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            flows_in: AtomicBool::new(false),
            marked: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            wake,
            management: Mutex::new(management),
        });
        let mut work = worker::Worker::new(duty, shared.clone(), Box::new(news))?;
        let thread = std::thread::Builder::new().name("keeper".to_owned());
        let thread = thread.spawn(move || work.run()).map_err(failed)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Whether the bridge is there, of the userspace datapath, and whether the NIC is its port: as the database says.
    pub fn keep(&self, bridge: bool, listed: bool) {
        let before = self.shared.listed.swap(listed, Ordering::Relaxed);
        if self.shared.keep.swap(bridge, Ordering::Relaxed) != bridge || before != listed {
            self.shared.wake();
        }
    }

    /// Whether the bridge carries a takeover's mark, as the database says: its record may be lost.
    pub fn marked(&self, is_marked: bool) {
        if self.shared.marked.swap(is_marked, Ordering::Relaxed) != is_marked {
            self.shared.wake();
        }
    }

    /// Whether our flows are in the switch.
    pub fn flows_in(&self, are_in: bool) {
        if self.shared.flows_in.swap(are_in, Ordering::Relaxed) != are_in {
            self.shared.wake();
        }
    }

    /// Where management is.
    pub fn management(&self) -> Management {
        self.shared.management.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Failover {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // A turn that is under way is brought to its end: some milliseconds.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn wake(&self) {
        // A counter that is full wakes as well.
        let _ = self.wake.write(1);
    }
}
