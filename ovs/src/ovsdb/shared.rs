//! The state of a followed database, shared by its handles and its session.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::Error;
use super::locks::Locks;
use super::remote::Remote;
use super::snapshot::Snapshot;

/// Whether the cache is following the server now.
#[derive(Clone, Debug)]
pub enum Status {
    /// It is not; the snapshot, if there is one, is the last that was known.
    Connecting {
        /// Since when.
        since: Instant,
        /// Attempts that failed since then.
        attempts: u32,
        /// The newest failure.
        last_error: Option<Arc<str>>,
        /// Generation of the snapshot; zero if there never was one.
        generation: u64,
    },
    /// It is.
    Synced {
        /// Since when.
        since: Instant,
        /// The server in use.
        remote: Remote,
        /// Generation of the newest snapshot.
        generation: u64,
    },
}

impl Status {
    /// Whether the cache is following the server now.
    pub fn is_synced(&self) -> bool {
        matches!(self, Status::Synced { .. })
    }

    /// Generation of the newest snapshot; zero if there never was one.
    pub fn generation(&self) -> u64 {
        match self {
            Status::Connecting { generation, .. } | Status::Synced { generation, .. } => *generation,
        }
    }
}

/// The state that handles and session share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: String,
    snapshot: Mutex<Arc<Snapshot>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) locks: Arc<Locks>,
}

impl Shared {
    /// The state before the first connection.
    pub(super) fn new(database: &str) -> Self {
        let (status, _) = watch::channel(Status::Connecting {
            since: Instant::now(),
            attempts: 0,
            last_error: None,
            generation: 0,
        });
        Self { database: database.to_owned(), snapshot: Mutex::default(), status, locks: Arc::default() }
    }

    pub(super) fn snapshot(&self) -> MutexGuard<'_, Arc<Snapshot>> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn not_connected(&self) -> Error {
        Error::NotConnected { database: self.database.clone() }
    }

    pub(super) fn outcome_unknown(&self) -> Error {
        Error::OutcomeUnknown { database: self.database.clone() }
    }
}
