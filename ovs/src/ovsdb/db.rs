//! A database that is followed: its cache, its state, transactions and locks, behind one handle.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::Error;
use super::framing::DEFAULT_LIMIT;
use super::locks::{Lock, Locks};
use super::operation::{Condition, OpResult, Operation};
use super::remote::{Remote, TlsFiles};
use super::session;
use super::snapshot::Snapshot;

/// What to follow, where, and how patiently.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server, or the members of a cluster; they are tried in this order.
    pub remotes: Vec<Remote>,
    /// The database's name, such as `Open_vSwitch` or `OVN_Northbound`.
    pub database: String,
    /// Key and certificates for `ssl:` remotes.
    pub tls: Option<TlsFiles>,
    /// Of a cluster, use the leader only: writes are some ten times faster there.
    pub leader_only: bool,
    /// Silence after which the server is probed, and after which again it is given up; `None` never.
    pub probe_interval: Option<Duration>,
    /// How long to wait between rounds of attempts.
    pub backoff: Backoff,
    /// The largest message accepted from the server.
    pub message_limit: usize,
    /// What to hold in the cache. Tables and columns the server does not know are left out, and said once.
    pub monitors: Vec<MonitorTable>,
}

/// A table to hold in the cache.
#[derive(Clone, Debug)]
pub struct MonitorTable {
    /// Its name.
    pub table: String,
    /// The columns wanted.
    pub columns: Vec<String>,
    /// Rows for which *any* of these holds; all rows if there are none.
    pub conditions: Vec<Condition>,
}

/// The wait after a round of failed attempts: doubled each time, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first round.
    pub first: Duration,
    /// Never more than this.
    pub most: Duration,
}

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

/// A followed database. Clones are cheap and share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Db {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Config {
    /// Follows nothing yet; probes after 5 s and waits from 1 s to 8 s between attempts, as OVS does.
    pub fn new(remotes: Vec<Remote>, database: &str) -> Self {
        Self {
            remotes,
            database: database.to_owned(),
            tls: None,
            leader_only: false,
            probe_interval: Some(Duration::from_secs(5)),
            backoff: Backoff::default(),
            message_limit: DEFAULT_LIMIT,
            monitors: Vec::new(),
        }
    }
}

impl MonitorTable {
    /// All rows of a table, with these columns.
    pub fn new(table: &str, columns: &[&str]) -> Self {
        Self {
            table: table.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            conditions: Vec::new(),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(8) }
    }
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

impl Db {
    /// Begins to follow a database, in a task of its own on the current tokio runtime.
    ///
    /// This never fails: a server that is not there is waited for, and [`status`](Self::status) says why.
    pub fn spawn(config: Config) -> Self {
        let (commands, inbox) = mpsc::channel(64);
        let (status, _) = watch::channel(Status::Connecting {
            since: Instant::now(),
            attempts: 0,
            last_error: None,
            generation: 0,
        });
        let shared = Arc::new(Shared {
            database: config.database.clone(),
            snapshot: Mutex::default(),
            status,
            locks: Locks::default(),
        });
        tokio::spawn(session::run(config, shared.clone(), inbox));
        Self { shared, commands }
    }

    /// The newest content of the cache. It never goes back: a lost connection leaves the last one.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot().clone()
    }

    /// Tells of changes of state and content; several changes may be told as one.
    pub fn subscribe(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    /// Whether the cache is following the server now, and if not, why.
    pub fn status(&self) -> Status {
        self.shared.status.borrow().clone()
    }

    /// Waits until the cache follows the server and gives its content. Without end if it never does: put your
    /// own time limit around it, and read [`status`](Self::status) when it is over.
    pub async fn wait_synced(&self) -> Arc<Snapshot> {
        // An error says that the sender is gone, and it lives in `self.shared`.
        let _ = self.subscribe().wait_for(Status::is_synced).await;
        self.snapshot()
    }

    /// Does all of these operations, or none of them.
    ///
    /// Fails at once while there is no connection. The future may be dropped: the transaction then may or may
    /// not be done, and nothing else is disturbed. When the answer comes, the snapshot shows what was done.
    pub async fn transact(&self, operations: Vec<Operation>) -> Result<Vec<OpResult>, Error> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Transact { operations, reply };
        if self.commands.send(command).await.is_err() {
            return Err(self.shared.not_connected());
        }
        answer.await.unwrap_or_else(|_| Err(self.shared.outcome_unknown()))
    }

    /// Asks for a lock of the server (RFC 7047, section 4.1.8), again after each reconnection, until the
    /// value given back is dropped. Of several clients that ask one holds it.
    pub fn lock(&self, name: &str) -> Lock {
        self.shared.locks.register(name, &self.shared, &self.commands)
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.shared.database
    }
}

/// What the handles and the session have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) database: String,
    snapshot: Mutex<Arc<Snapshot>>,
    pub(super) status: watch::Sender<Status>,
    pub(super) locks: Locks,
}

/// What the handles ask of the session.
#[derive(Debug)]
pub(super) enum Command {
    Transact { operations: Vec<Operation>, reply: oneshot::Sender<Result<Vec<OpResult>, Error>> },
}

impl Shared {
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
