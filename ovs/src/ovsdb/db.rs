//! A database that is followed: its cache, its state, transactions and locks, behind one handle.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::Error;
use super::command::Command;
use super::config::Config;
use super::locks::{Lock, Locks};
use super::operation::{OpResult, Operation};
use super::session;
use super::shared::{Shared, Status};
use super::snapshot::Snapshot;

/// A followed database. Clones are cheap and share the connection, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Db {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Db {
    /// Begins to follow a database, in a task of its own on the current tokio runtime.
    ///
    /// This never fails: a server that is not there is waited for, and [`status`](Self::status) says why.
    pub fn spawn(config: Config) -> Self {
        let (commands, inbox) = mpsc::channel(64);
        let shared = Arc::new(Shared::new(&config.database));
        tokio::spawn(session::run(config, shared.clone(), inbox));
        Self { shared, commands }
    }

    /// The newest content of the cache. It never goes back: a lost connection leaves the last one.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot().clone()
    }

    /// Reports changes of state and content; several changes may be reported as one.
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
        // The sender lives in `self.shared`: this does not fail.
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

    /// Requests a lock of the server (RFC 7047, section 4.1.8), again after each reconnection, until the
    /// value given back is dropped. Of several clients, one holds it.
    pub fn lock(&self, name: &str) -> Lock {
        Locks::register(&self.shared.locks, name, &self.commands)
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.shared.database
    }
}
