//! Keeps one database followed, whatever happens to its servers.
//!
//! One task per [`Db`](super::Db). It tries the remotes in turn, checks that the member can be used, reads
//! the schema, monitors, and then does what comes: updates, transactions, locks. Each failure ends in the same
//! place: the status says so, callers get an error, the next remote is tried. The cache stays.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::Error;
use super::command::Command;
use super::config::Config;
use super::connection::Connection;
use super::locks::Request;
use super::member::Members;
use super::message::{self, Body, Event};
use super::operation::OpResult;
use super::schema::Schema;
use super::shared::{Shared, Status};
use super::snapshot::Snapshot;
use super::updates::{self, Layout, TableUpdates};
use super::value::Uuid;

#[cfg(test)]
mod tests;

/// The names of our two monitors, which the server gives back with each update.
const DATA: &str = "data";
const SERVER: &str = "server";
/// Different failures logged before one that works; a peer must not fill the log with ever new texts.
const MOST_LOGGED: usize = 16;

/// Follows the database until the last handle is dropped.
pub(super) async fn run(config: Config, shared: Arc<Shared>, inbox: mpsc::Receiver<Command>) {
    let members = Members::new(&config.database, config.leader_only);
    let mut session = Session {
        config,
        shared,
        inbox,
        layout: Layout::default(),
        last_transaction: Uuid::default(),
        members,
        pending: HashMap::new(),
        logged: BTreeSet::new(),
        without: BTreeSet::new(),
    };
    session.keep_following().await;
}

struct Session {
    config: Config,
    shared: Arc<Shared>,
    inbox: mpsc::Receiver<Command>,
    /// What the cache holds, and up to which transaction.
    layout: Layout,
    last_transaction: Uuid,
    members: Members,
    pending: HashMap<u64, Pending>,
    /// Failures logged since the cache was last synced.
    logged: BTreeSet<String>,
    /// Columns the server does not know, as last logged.
    without: BTreeSet<String>,
}

/// A request that waits for its reply.
enum Pending {
    Transaction { operations: usize, reply: oneshot::Sender<Result<Vec<OpResult>, Error>> },
    Lock(String),
    Unlock,
}

/// Why following a server ended.
enum End {
    /// Every handle was dropped.
    Abandoned,
    /// The server cannot be used, or not any longer.
    Failed(Error),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Failed(error)
    }
}

impl Session {
    async fn keep_following(&mut self) {
        let backoff = self.config.backoff;
        let mut delay = backoff.first;
        let mut failures = 0_usize;
        for attempt in 0_usize.. {
            let count = self.config.remotes.len().max(1);
            let outcome = self.follow(attempt % count).await;
            let followed = self.lost_sync();
            let End::Failed(error) = outcome else { return };
            self.record(&error);
            if followed.is_some_and(|length| length >= delay) {
                // It was good for a while: the next is tried at once, or the same if there is no other.
                (delay, failures) = (backoff.first, 0);
                continue;
            }
            failures += 1;
            if failures.is_multiple_of(count) {
                if self.refusing(tokio::time::sleep(delay)).await.is_err() {
                    return;
                }
                delay = (delay * 2).min(backoff.most);
            }
        }
    }

    /// Follows one server for as long as it can be followed.
    async fn follow(&mut self, index: usize) -> End {
        match self.try_follow(index).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_follow(&mut self, index: usize) -> Result<std::convert::Infallible, End> {
        let remote = self
            .config
            .remotes
            .get(index)
            .cloned()
            .ok_or_else(|| Error::BadRemote { text: String::new(), reason: "no remote is given" })?;
        let Config { tls, message_limit, probe_interval, .. } = self.config.clone();
        let opening = Connection::open(remote, tls, message_limit, probe_interval);
        let mut connection = self.refusing(opening).await??;
        self.check_member(&mut connection).await?;
        self.read_all(&mut connection).await?;
        for request in self.shared.locks.restart() {
            self.request_lock(&mut connection, request)?;
        }
        self.synced(&connection);
        loop {
            self.serve(&mut connection).await?;
        }
    }

    /// Waits for one thing to do and does it.
    async fn serve(&mut self, connection: &mut Connection) -> Result<(), End> {
        let writer = connection.requests();
        let closed = Error::Closed { remote: connection.remote().clone() };
        // A transaction is taken over only when the writer has room for it; answers are read meanwhile.
        let command = async {
            match writer.reserve().await {
                Ok(permit) => self.inbox.recv().await.map(|command| (permit, command)).ok_or(End::Abandoned),
                Err(_) => Err(End::Failed(closed)),
            }
        };
        tokio::select! {
            event = connection.next() => self.handle(connection, event?),
            command = command => {
                let (permit, Command::Transact { operations, reply }) = command?;
                let params = message::transact_params(&self.config.database, &operations);
                let (id, text) = connection.compose("transact", &params);
                self.pending.insert(id, Pending::Transaction { operations: operations.len(), reply });
                permit.send(text);
                Ok(())
            }
            requests = self.shared.locks.requests() => {
                for request in requests {
                    self.request_lock(connection, request)?;
                }
                Ok(())
            }
        }
    }

    fn handle(&mut self, connection: &Connection, event: Event) -> Result<(), End> {
        match event {
            Event::Reply { id, outcome } => {
                if let Some(pending) = self.pending.remove(&id) {
                    self.answer(connection, pending, outcome)?;
                }
                Ok(())
            }
            Event::Notification { method, params } => self.notified(connection, &method, &params),
        }
    }

    fn answer(
        &self,
        connection: &Connection,
        pending: Pending,
        outcome: Result<Body, String>,
    ) -> Result<(), Error> {
        match (pending, outcome) {
            (Pending::Transaction { operations, reply }, outcome) => {
                // The caller may have given up.
                let _ = reply.send(self.transaction_result(operations, outcome));
                Ok(())
            }
            (Pending::Lock(name), Ok(body)) => {
                #[derive(serde::Deserialize)]
                struct Answer {
                    locked: bool,
                }
                let answer: Answer = parse(connection, "an answer about a lock", &body)?;
                // A "stolen" or "locked" that came before this answer is about the time before it.
                self.shared.locks.set_held(&name, answer.locked);
                Ok(())
            }
            (Pending::Lock(name), Err(reason)) => {
                tracing::warn!("{}: the lock {name} was refused: {reason}", self.config.database);
                Ok(())
            }
            (Pending::Unlock, _) => Ok(()),
        }
    }

    fn transaction_result(
        &self,
        operations: usize,
        outcome: Result<Body, String>,
    ) -> Result<Vec<OpResult>, Error> {
        let database = &self.config.database;
        let body = outcome.map_err(|error| Error::Transaction {
            database: database.clone(),
            operation: None,
            error,
            details: String::new(),
        })?;
        message::transact_results(database, operations, body.text())
    }

    fn notified(&mut self, connection: &Connection, method: &str, params: &Body) -> Result<(), End> {
        match method {
            "update3" => {
                let what = "an update";
                let (monitor, transaction, updates): (&str, Uuid, TableUpdates<'_>) =
                    parse(connection, what, params)?;
                match monitor {
                    DATA => {
                        let before = self.snapshot();
                        match updates::apply(&before, updates) {
                            Ok(after) => self.publish(after),
                            Err(reason) => {
                                // The cache is in doubt: read everything next time.
                                self.last_transaction = Uuid::default();
                                return Err(connection.protocol_error(what, reason).into());
                            }
                        }
                        self.last_transaction = transaction;
                    }
                    SERVER => {
                        let checked = self.members.update(updates);
                        checked.map_err(|reason| self.wrong_member(connection, reason))?;
                    }
                    _ => {}
                }
            }
            "locked" | "stolen" => {
                let names: Vec<String> = parse(connection, "a notice about a lock", params)?;
                names.iter().for_each(|name| self.shared.locks.set_held(name, method == "locked"));
            }
            "monitor_canceled" => {
                return Err(Error::Closed { remote: connection.remote().clone() }.into());
            }
            _ => tracing::debug!("{}: ignored a notification {method}", self.config.database),
        }
        Ok(())
    }

    /// Checks whether this server can be used, and monitors that.
    async fn check_member(&mut self, connection: &mut Connection) -> Result<(), End> {
        // Servers before OVS 2.9 have no such database; then nothing is checked.
        let Ok(schema) = self.call(connection, "get_schema", &json!(["_Server"]).to_string()).await? else {
            return Ok(());
        };
        let schema: Schema = parse(connection, "the schema of _Server", &schema)?;
        let (layout, _) = Layout::new(&Members::monitors(), &schema);
        let params = json!(["_Server", SERVER, layout.requests(&Members::monitors()), Uuid::default()]);
        let Ok(content) = self.call(connection, "monitor_cond_since", &params.to_string()).await? else {
            return Ok(());
        };
        let (_, _, updates): (bool, Uuid, TableUpdates<'_>) = parse(connection, "its own state", &content)?;
        let checked = self.members.replace(&layout, updates);
        checked.map_err(|reason| self.wrong_member(connection, reason).into())
    }

    /// Reads the schema and all that is monitored, or only what is new since the last sync.
    async fn read_all(&mut self, connection: &mut Connection) -> Result<(), End> {
        let params = json!([self.config.database]).to_string();
        let schema = self.must_call(connection, "get_schema", &params).await?;
        let schema: Schema = parse(connection, "a schema", &schema)?;
        let monitors = self.config.monitors.clone();
        let (layout, without) = Layout::new(&monitors, &schema);
        self.log_missing_columns(&schema, without);
        if layout != self.layout {
            self.last_transaction = Uuid::default();
        }
        if layout.is_empty() {
            self.layout = layout;
            return Ok(());
        }
        let params = json!([self.config.database, DATA, layout.requests(&monitors), self.last_transaction]);
        let content = self.must_call(connection, "monitor_cond_since", &params.to_string()).await?;
        let what = "the monitored tables";
        let (found, transaction, updates): (bool, Uuid, TableUpdates<'_>) =
            parse(connection, what, &content)?;
        let before = self.snapshot();
        let after = match found && self.layout == layout {
            true => updates::apply(&before, updates),
            false => updates::replace(&before, &layout, updates),
        };
        let after = after.map_err(|reason| {
            self.last_transaction = Uuid::default();
            connection.protocol_error(what, reason)
        })?;
        self.layout = layout;
        self.last_transaction = transaction;
        if let Some(after) = after {
            *self.shared.snapshot() = Arc::new(after);
        }
        Ok(())
    }

    fn request_lock(&mut self, connection: &mut Connection, request: Request) -> Result<(), Error> {
        let (method, name) = match &request {
            Request::Lock(name) => ("lock", name),
            Request::Unlock(name) => ("unlock", name),
            Request::Steal(name) => {
                // A connection that has requested a lock must release it before it may steal it.
                let id = connection.request("unlock", &json!([name]).to_string())?;
                self.pending.insert(id, Pending::Unlock);
                ("steal", name)
            }
        };
        let id = connection.request(method, &json!([name]).to_string())?;
        let pending = match request {
            Request::Unlock(_) => Pending::Unlock,
            Request::Lock(name) | Request::Steal(name) => Pending::Lock(name),
        };
        self.pending.insert(id, pending);
        Ok(())
    }

    /// Sends a request and waits for its reply; other messages are handled meanwhile.
    async fn call(
        &mut self,
        connection: &mut Connection,
        method: &'static str,
        params: &str,
    ) -> Result<Result<Body, String>, End> {
        let sent = connection.request(method, params)?;
        loop {
            match self.refusing(connection.next()).await?? {
                Event::Reply { id, outcome } if id == sent => return Ok(outcome),
                other => self.handle(connection, other)?,
            }
        }
    }

    async fn must_call(
        &mut self,
        connection: &mut Connection,
        method: &'static str,
        params: &str,
    ) -> Result<Body, End> {
        let outcome = self.call(connection, method, params).await?;
        let remote = connection.remote().clone();
        outcome.map_err(|reason| Error::Refused { remote, method, reason }.into())
    }

    /// Awaits something, and refuses transactions meanwhile.
    async fn refusing<T>(&mut self, work: impl Future<Output = T>) -> Result<T, End> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                command = self.inbox.recv() => match command {
                    None => return Err(End::Abandoned),
                    Some(Command::Transact { reply, .. }) => {
                        let _ = reply.send(Err(self.shared.not_connected()));
                    }
                },
            }
        }
    }

    fn wrong_member(&self, connection: &Connection, reason: &'static str) -> Error {
        Error::WrongMember { remote: connection.remote().clone(), reason }
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.snapshot().clone()
    }

    fn publish(&self, after: Option<Snapshot>) {
        let Some(after) = after else { return };
        let new = after.generation;
        *self.shared.snapshot() = Arc::new(after);
        self.shared.status.send_modify(|status| match status {
            Status::Connecting { generation, .. } | Status::Synced { generation, .. } => *generation = new,
        });
    }

    /// The cache holds what the server has.
    fn synced(&mut self, connection: &Connection) {
        let snapshot = self.snapshot();
        let remote = connection.remote().clone();
        let rows: usize = snapshot.tables().map(|(_, table)| table.len()).sum();
        tracing::info!("{}: following {remote}, {rows} rows", self.config.database);
        self.logged.clear();
        let generation = snapshot.generation();
        self.shared.status.send_replace(Status::Synced { since: Instant::now(), remote, generation });
    }

    /// The connection is gone. Gives how long the cache was synced.
    fn lost_sync(&mut self) -> Option<Duration> {
        // Callers that wait for a reply see the end of the channel.
        self.pending.clear();
        self.shared.locks.lost();
        let mut length = None;
        self.shared.status.send_if_modified(|status| {
            let Status::Synced { since, generation, .. } = status else { return false };
            length = Some(since.elapsed());
            let (attempts, last_error) = (0, None);
            let generation = *generation;
            *status = Status::Connecting { since: Instant::now(), attempts, last_error, generation };
            true
        });
        length
    }

    /// Reports a failure: always in the status, in the log once until the cache is synced again.
    fn record(&mut self, error: &Error) {
        let text = error.to_string();
        self.shared.status.send_modify(|status| {
            if let Status::Connecting { attempts, last_error, .. } = status {
                *attempts += 1;
                *last_error = Some(text.as_str().into());
            }
        });
        let new = self.logged.len() < MOST_LOGGED && self.logged.insert(text.clone());
        let database = &self.config.database;
        match error {
            _ if !new => tracing::debug!("{database}: {text}"),
            // Normal in a cluster.
            Error::WrongMember { .. } => tracing::info!("{database}: {text}"),
            _ => tracing::warn!("{database}: {text}; retrying until it works"),
        }
    }

    fn log_missing_columns(&mut self, schema: &Schema, without: BTreeSet<String>) {
        if !without.is_empty() && without != self.without {
            let names = without.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let (name, version) = (&schema.name, &schema.version);
            tracing::info!("{name}: schema {version} of the server has no {names}; taken as unset");
        }
        self.without = without;
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(
    connection: &Connection,
    what: &'static str,
    body: &'a Body,
) -> Result<T, Error> {
    serde_json::from_str(body.text()).map_err(|error| connection.protocol_error(what, error))
}
