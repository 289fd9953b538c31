//! A held OpenFlow 1.4 connection to one bridge.
//!
//! Three parties: the callers, who take a range of transaction numbers (a `Ticket`) and hand whole messages to the
//! writer; the writer task, which alone writes; and the reader task, which alone reads and gives every answer to the
//! ticket its number belongs to. Reader and writer never wait for each other, so that a switch that answers while we
//! still send (errors in a large bundle) stalls nobody.

mod bundle;
mod link;
#[cfg(test)]
mod tests;
mod ticket;

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use bytes::Bytes;
use tokio::sync::{Mutex, watch};

use self::bundle::OpenBundle;
use self::link::{Link, Patience};
pub(super) use self::link::{Reading, Writing, dial};
use self::ticket::{Desk, Ticket};
use super::error::{Disconnect, Error, Refusal};
use super::mods::{Cookies, FlowMod};
use super::wire::errors::{SwitchError, read_error};
use super::wire::message::{self, kind, multipart};
use super::wire::stats::{Aggregate, Dumped, Port, read_aggregate, read_flows, read_ports};
use super::wire::{Malformed, Unencodable};

/// A connection to a bridge, safe to use from several tasks at once; requests under way do not wait for each other.
///
/// A future of its methods can be dropped at any time: what it had asked is forgotten, a bundle it had begun is
/// discarded, the connection stays usable. Dropping the connection closes it.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    desk: Arc<Desk>,
    next_bundle: AtomicU32,
    /// The switch has been asked to tell of changes.
    monitored: Mutex<bool>,
}

/// What others do to the flows of a bridge, counted.
#[derive(Debug)]
pub struct Changes {
    changes: watch::Receiver<u64>,
}

/// What a committed bundle was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BundleReport {
    /// Flow changes in it.
    pub mods: usize,
    /// Bytes sent for them.
    pub bytes: usize,
}

impl Connection {
    /// Connects to `unix:PATH`, an absolute path, or `tcp:HOST:PORT`, and agrees on OpenFlow 1.4.
    ///
    /// Must be called inside a tokio runtime, which then runs the connection's two tasks.
    pub async fn connect(address: &str) -> Result<Connection, Error> {
        Self::connect_with(address, Patience::USUAL).await
    }

    async fn connect_with(address: &str, patience: Patience) -> Result<Connection, Error> {
        let desk = Arc::new(Desk::default());
        let link = link::open(address, Arc::clone(&desk), patience).await?;
        let connection =
            Connection { link, desk, next_bundle: AtomicU32::new(1), monitored: Mutex::default() };
        let ticket = connection.ticket(2)?;
        let mut out = connection.link.buffer();
        message::put_quiet(&mut out, ticket.xid(0));
        connection.send(out).await?;
        connection.finish_with_barrier(ticket, "to be sent nothing unasked").await?;
        Ok(connection)
    }

    /// Makes all the changes at once, or none of them: an atomic, ordered bundle.
    ///
    /// When the switch refuses any of them, all refusals come back as [`Error::Refused`] and the bundle is discarded.
    /// A call that is dropped, or ends because the connection does, may have been committed if that was its last step.
    pub async fn bundle(&self, mods: &[FlowMod]) -> Result<BundleReport, Error> {
        if mods.is_empty() {
            return Ok(BundleReport::default());
        }
        OpenBundle::begin(self, mods)?.run().await
    }

    /// The quick way for a few changes: one goes as a plain message and a barrier, more as a bundle. All or none, too.
    pub async fn apply(&self, mods: &[FlowMod]) -> Result<(), Error> {
        let [change] = mods else { return self.bundle(mods).await.map(drop) };
        let mut ticket = self.ticket(2)?;
        let mut out = self.link.buffer();
        message::put_flow_mod(&mut out, ticket.xid(0), change)
            .map_err(|source| unencodable(0, change, source))?;
        message::put_barrier(&mut out, ticket.xid(1));
        self.send(out).await?;
        let mut refused = None;
        loop {
            let (index, answer) = self.answer(&mut ticket).await?;
            match (index, answer.kind()) {
                (1, kind::BARRIER_REPLY) => break,
                (1, kind::ERROR) => {
                    let what = "a barrier";
                    return Err(Error::Switch { what, error: answer.error(what)? });
                }
                (_, kind::ERROR) => refused = Some(answer.error("a flow change")?),
                _ => {}
            }
        }
        match refused {
            None => Ok(()),
            Some(error) => Err(Error::Refused { refused: vec![refusal(0, change, error)], of: 1 }),
        }
    }

    /// The flows with such a cookie.
    pub async fn dump(&self, cookies: Cookies) -> Result<Vec<Dumped>, Error> {
        let what = "a dump of flows";
        let mut ticket = self.ticket(1)?;
        let mut out = self.link.buffer();
        message::put_flow_request(&mut out, ticket.xid(0), multipart::FLOW, cookies);
        self.send(out).await?;
        let mut flows = Vec::new();
        while self
            .reply(&mut ticket, kind::MULTIPART_REPLY, what)
            .await?
            .read(what, |message| read_flows(message, &mut flows))?
        {}
        Ok(flows)
    }

    /// Every flow, learned and foreign ones included.
    pub async fn dump_all(&self) -> Result<Vec<Dumped>, Error> {
        self.dump(Cookies::ANY).await
    }

    /// Sums over the flows with such a cookie.
    pub async fn aggregate(&self, cookies: Cookies) -> Result<Aggregate, Error> {
        let what = "sums over flows";
        let mut ticket = self.ticket(1)?;
        let mut out = self.link.buffer();
        message::put_flow_request(&mut out, ticket.xid(0), multipart::AGGREGATE, cookies);
        self.send(out).await?;
        self.reply(&mut ticket, kind::MULTIPART_REPLY, what).await?.read(what, read_aggregate)
    }

    /// The bridge's ports, `LOCAL` included.
    pub async fn ports(&self) -> Result<Vec<Port>, Error> {
        let what = "a list of ports";
        let mut ticket = self.ticket(1)?;
        let mut out = self.link.buffer();
        message::put_port_request(&mut out, ticket.xid(0));
        self.send(out).await?;
        let mut ports = Vec::new();
        while self
            .reply(&mut ticket, kind::MULTIPART_REPLY, what)
            .await?
            .read(what, |message| read_ports(message, &mut ports))?
        {}
        Ok(ports)
    }

    /// Returns when the switch has done all that was asked before.
    pub async fn barrier(&self) -> Result<(), Error> {
        let mut ticket = self.ticket(1)?;
        let mut out = self.link.buffer();
        message::put_barrier(&mut out, ticket.xid(0));
        self.send(out).await?;
        self.reply(&mut ticket, kind::BARRIER_REPLY, "a barrier").await.map(drop)
    }

    /// Asks the switch for a sign of life.
    pub async fn echo(&self) -> Result<(), Error> {
        let mut ticket = self.ticket(1)?;
        let mut out = self.link.buffer();
        message::put_echo_request(&mut out, ticket.xid(0));
        self.send(out).await?;
        self.reply(&mut ticket, kind::ECHO_REPLY, "an echo").await.map(drop)
    }

    /// Begins to watch for changes of flows that are not made over this connection: other programs, timeouts, and what
    /// `learn()` adds unless its cookie is among the ignored. A second call replaces the first.
    ///
    /// It tells that something happened, not what: the cure for drift is to dump and compare.
    pub async fn watch(&self, ignored: Vec<u64>) -> Result<Changes, Error> {
        // A second monitor of the same kind would be refused.
        let mut monitored = self.monitored.lock().await;
        // The receiver first, so that nothing falls between.
        let changes = self.desk.watch(ignored);
        let mut ticket = self.ticket(2)?;
        let mut out = self.link.buffer();
        if !*monitored {
            message::put_monitor_request(&mut out, ticket.xid(0));
        }
        message::put_barrier(&mut out, ticket.xid(1));
        self.send(out).await?;
        self.reply(&mut ticket, kind::BARRIER_REPLY, "to be told of changes").await?;
        *monitored = true;
        Ok(Changes { changes })
    }

    /// Resolves when the connection is gone. EOF means that ovs-vswitchd ended, and that its tables will be empty.
    pub async fn closed(&self) -> Disconnect {
        self.desk.closed().await
    }

    fn ticket(&self, count: usize) -> Result<Ticket, Error> {
        Desk::ticket(&self.desk, count).map_err(Error::Closed)
    }

    async fn send(&self, message: Vec<u8>) -> Result<(), Error> {
        match self.link.send(message).await {
            Ok(()) => Ok(()),
            Err(()) => Err(Error::Closed(self.desk.closed().await)),
        }
    }

    /// The next answer, whatever it is, and the place in the ticket that it is for.
    async fn answer(&self, ticket: &mut Ticket) -> Result<(usize, Answer), Error> {
        match ticket.next().await {
            Some((index, message)) => Ok((index, Answer(message))),
            None => Err(Error::Closed(self.desk.closed().await)),
        }
    }

    /// The answer to a request of one message: of that kind, or the switch's refusal.
    async fn reply(&self, ticket: &mut Ticket, wanted: u8, what: &'static str) -> Result<Answer, Error> {
        loop {
            let (_, answer) = self.answer(ticket).await?;
            match answer.kind() {
                kind if kind == wanted => return Ok(answer),
                kind::ERROR => return Err(Error::Switch { what, error: answer.error(what)? }),
                _ => {}
            }
        }
    }

    async fn finish_with_barrier(&self, mut ticket: Ticket, what: &'static str) -> Result<(), Error> {
        let mut out = self.link.buffer();
        message::put_barrier(&mut out, ticket.xid(1));
        self.send(out).await?;
        self.reply(&mut ticket, kind::BARRIER_REPLY, what).await.map(drop)
    }
}

impl Changes {
    /// Resolves after a change since the last call (or since the watch began), with the number of changes seen so far;
    /// with none when the connection is gone.
    pub async fn next(&mut self) -> Option<u64> {
        self.changes.changed().await.ok()?;
        Some(*self.changes.borrow_and_update())
    }
}

/// A whole message that answers something we asked.
struct Answer(Bytes);

impl Answer {
    fn kind(&self) -> u8 {
        // The reader hands out nothing shorter than a header.
        self.0.get(1).copied().unwrap_or(kind::ERROR)
    }

    fn read<T>(
        &self,
        what: &'static str,
        read: impl FnOnce(&[u8]) -> Result<T, Malformed>,
    ) -> Result<T, Error> {
        read(&self.0).map_err(|source| Error::Answer { what, source })
    }

    fn error(&self, what: &'static str) -> Result<SwitchError, Error> {
        self.read(what, read_error)
    }
}

fn unencodable(index: usize, change: &FlowMod, source: Unencodable) -> Error {
    Error::Unencodable { index, flow: change.to_string(), source }
}

fn refusal(index: usize, change: &FlowMod, error: SwitchError) -> Refusal {
    Refusal { index, what: change.to_string(), error }
}
