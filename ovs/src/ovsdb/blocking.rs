//! A client without a runtime: one request after the other, each with a deadline.
//!
//! For programs that change a database and then wait for the effect: the takeover of an uplink and its undo, which must
//! also work without an executor. [`Db`](super::Db) is for programs that follow.
//!
//! ```no_run
//! # fn example() -> Result<(), ovs::ovsdb::Error> {
//! use std::time::{Duration, Instant};
//! use ovs::ovsdb::blocking::Client;
//! use ovs::ovsdb::{Operation, Remote};
//!
//! let mut client = Client::connect(&"unix:/var/run/openvswitch/db.sock".parse()?, Duration::from_secs(1))?;
//! let deadline = Instant::now() + Duration::from_secs(5);
//! client.transact(&[Operation::comment("an example")], deadline)?;
//! let ofport = client.wait("Interface", &["name", "ofport"], deadline, |rows| {
//!     rows.iter().find(|row| row["name"].as_str() == Some("eth0"))?.get("ofport")?.as_integer()
//! })?;
//! # drop(ofport);
//! # Ok(())
//! # }
//! ```
//!
//! - A transaction is sent once. If its reply does not come (late, never, cut short), the error says that its outcome
//!   is unknown; a reply that comes too late is dropped when it comes.
//! - [`Client::wait`] reads the rows again after each update of the server, so that an update that is older than the last
//!   transaction does no harm.
//! - A connection that ended between two requests is made again before the next one.
//!
//! It never waits beyond a deadline, keeps no copy of the database, and has no TLS: it is meant for the switch of its
//! own node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use self::stream::{Cut, Stream};
use super::message::{self, Body, Event, Message, MessageReader};
use super::{Datum, Error, OpResult, Operation, Remote};

mod stream;
#[cfg(test)]
mod tests;

/// The database of the local switch.
pub const LOCAL_DATABASE: &str = "Open_vSwitch";
/// A reply of more than this is not for a client that keeps no copy.
const MESSAGE_LIMIT: usize = 64 << 20;
/// How long the server may take to read a reply or a cancellation.
const REPLY_TIMEOUT: Duration = Duration::from_millis(100);

/// One row as a `select` gives it: what each column holds.
pub type RowData = BTreeMap<String, Datum>;

/// A connection to a database of the local switch.
#[derive(Debug)]
pub struct Client {
    remote: Remote,
    database: String,
    limit: Duration,
    open: Option<Open>,
    next_id: u64,
}

/// One connection; what was received goes with it.
#[derive(Debug)]
struct Open {
    stream: Stream,
    incoming: MessageReader,
}

impl Client {
    /// Connects to the local switch's database within `limit`.
    pub fn connect(remote: &Remote, limit: Duration) -> Result<Self, Error> {
        Self::connect_to(remote, LOCAL_DATABASE, limit)
    }

    /// Connects to a database by its name.
    pub fn connect_to(remote: &Remote, database: &str, limit: Duration) -> Result<Self, Error> {
        let mut client =
            Self { remote: remote.clone(), database: database.to_owned(), limit, open: None, next_id: 0 };
        client.open = Some(client.connection(Instant::now() + limit)?);
        Ok(client)
    }

    /// The server.
    pub fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Carries out operations, all or none.
    pub fn transact(&mut self, operations: &[Operation], deadline: Instant) -> Result<Vec<OpResult>, Error> {
        self.refresh(deadline)?;
        let id = self.send("transact", &message::transact_params(&self.database, operations), deadline)?;
        let reply = match self.reply(id, deadline) {
            Ok(Ok(reply)) => reply,
            // An error in place of the array: the database is not served, or the request was none.
            Ok(Err(reason)) => {
                return Err(Error::Refused { remote: self.remote.clone(), method: "transact", reason });
            }
            Err(Error::TooLate { remote, .. }) => {
                return Err(Error::TooLate { remote, what: "answer a transaction, which may yet be done" });
            }
            Err(Error::Closed { .. }) => {
                return Err(Error::OutcomeUnknown { database: self.database.clone() });
            }
            Err(error) => return Err(error),
        };
        message::transact_results(&self.database, operations.len(), reply.text())
    }

    /// Reads columns of all rows of a table; `_uuid` is among them when it is named.
    pub fn select(
        &mut self,
        table: &str,
        columns: &[&str],
        deadline: Instant,
    ) -> Result<Vec<RowData>, Error> {
        let results = self.transact(&[Operation::select(table).columns(columns)], deadline)?;
        Ok(results.first().map(|result| result.rows().to_vec()).unwrap_or_default())
    }

    /// Reads a table until `find` finds what it is after: now, and after every change of these columns.
    ///
    /// `None` when the deadline passes and the server was there all the time.
    pub fn wait<T>(
        &mut self,
        table: &str,
        columns: &[&str],
        deadline: Instant,
        mut find: impl FnMut(&[RowData]) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        self.refresh(deadline)?;
        // The monitor comes first, so that no change falls between reading and waiting.
        let monitor = self.watch(table, columns, deadline)?;
        let found = loop {
            if let Some(found) = find(&self.select(table, columns, deadline)?) {
                break Some(found);
            }
            match self.update(deadline) {
                Ok(()) => {}
                Err(Error::TooLate { .. }) => break None,
                Err(error) => return Err(error),
            }
        };
        self.cancel(&monitor);
        Ok(found)
    }

    /// Monitors changes, and gives the monitor's name.
    fn watch(&mut self, table: &str, columns: &[&str], deadline: Instant) -> Result<String, Error> {
        let name = format!(r#"["wait",{}]"#, self.next_id);
        let request = serde_json::json!({ table: { "columns": columns, "select": {"initial": false} } });
        let parameters = format!(r#"["{}",{name},{request}]"#, self.database);
        let id = self.send("monitor", &parameters, deadline)?;
        match self.reply(id, deadline)? {
            Ok(_) => Ok(name),
            Err(reason) => Err(Error::Refused { remote: self.remote.clone(), method: "monitor", reason }),
        }
    }

    /// Ends a monitor. The reply is not waited for; without it there are only more updates to skip.
    fn cancel(&mut self, monitor: &str) {
        let deadline = Instant::now() + REPLY_TIMEOUT;
        drop(self.send("monitor_cancel", &format!("[{monitor}]"), deadline));
    }

    /// Waits for the next change.
    fn update(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            let event = self.next(deadline, "report a change")?;
            if matches!(event, Event::Notification { method, .. } if method.starts_with("update")) {
                return Ok(());
            }
        }
    }

    /// Waits for the reply to a request: its result as text, or its error.
    fn reply(&mut self, wanted: u64, deadline: Instant) -> Result<Result<Body, String>, Error> {
        loop {
            match self.next(deadline, "answer")? {
                Event::Reply { id, outcome } if id == wanted => return Ok(outcome),
                // A server that sends other messages all the time is late too.
                _ if Instant::now() >= deadline => return Err(self.error(Cut::Late, "answer")),
                // A reply to a request that was given up, or an update: `wait` reads the rows again.
                Event::Reply { .. } | Event::Notification { .. } => {}
            }
        }
    }

    /// Ensures a connection: reads and answers what has come, and connects again where it ended.
    fn refresh(&mut self, deadline: Instant) -> Result<(), Error> {
        while self.open.is_some() {
            match self.next(Instant::now(), "end its messages") {
                Ok(_) if Instant::now() >= deadline => return Err(self.error(Cut::Late, "end its messages")),
                Ok(_) => {}
                Err(Error::TooLate { .. }) => return Ok(()),
                Err(Error::Closed { .. }) => self.open = None,
                Err(error) => return Err(error),
            }
        }
        let limit = deadline.min(Instant::now() + self.limit);
        self.open = Some(self.connection(limit)?);
        Ok(())
    }

    fn connection(&self, deadline: Instant) -> Result<Open, Error> {
        let stream = Stream::connect(&self.remote, deadline)?;
        Ok(Open { stream, incoming: MessageReader::new(&self.remote, MESSAGE_LIMIT) })
    }

    fn send(&mut self, method: &str, parameters: &str, deadline: Instant) -> Result<u64, Error> {
        let id = self.next_id;
        self.next_id += 1;
        self.write(&message::request(id, method, parameters), deadline)?;
        Ok(id)
    }

    /// Writes a whole message, or gives the connection up: half a message cannot be continued.
    fn write(&mut self, text: &str, deadline: Instant) -> Result<(), Error> {
        let Some(open) = &mut self.open else {
            return Err(Error::NotConnected { database: self.database.clone() });
        };
        match open.stream.write(text.as_bytes(), deadline) {
            Ok(()) => Ok(()),
            Err(cut) => {
                self.open = None;
                Err(self.error(cut, "take a request"))
            }
        }
    }

    /// The next reply or notification. Requests of the server are answered here.
    fn next(&mut self, deadline: Instant, what: &'static str) -> Result<Event, Error> {
        loop {
            let Some(open) = &mut self.open else {
                return Err(Error::NotConnected { database: self.database.clone() });
            };
            match open.incoming.next() {
                Ok(Some(Message::Event(event))) => return Ok(event),
                // The server gives up a client that does not answer: this has its own time limit.
                Ok(Some(Message::Request { reply })) => {
                    self.write(&reply, deadline.max(Instant::now() + REPLY_TIMEOUT))?;
                }
                Ok(None) => match open.stream.read(open.incoming.buffer(), deadline) {
                    Ok(()) => {}
                    Err(Cut::Late) => return Err(self.error(Cut::Late, what)),
                    Err(cut) => {
                        tracing::debug!("{}: {cut:?}: {}", self.remote, open.incoming.ended());
                        self.open = None;
                        return Err(self.error(cut, what));
                    }
                },
                Err(error) => {
                    self.open = None;
                    return Err(error);
                }
            }
        }
    }

    fn error(&self, cut: Cut, what: &'static str) -> Error {
        let remote = self.remote.clone();
        match cut {
            Cut::Late => Error::TooLate { remote, what },
            Cut::Closed => Error::Closed { remote },
            Cut::Io(source) => Error::Framing { remote, source: source.into() },
        }
    }
}
