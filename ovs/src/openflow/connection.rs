//! A held OpenFlow 1.4 connection to one bridge.
//!
//! A caller takes a range of transaction ids (a `Request`) and sends whole messages through the `Transport`; the
//! transport's reader task hands every reply to the request its transaction id belongs to. Reading and writing never
//! wait for each other.

mod bundle;
mod requests;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::HashSet;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use tokio::sync::{Mutex, watch};

use self::bundle::OpenBundle;
use self::requests::{Request, Requests};
use self::transport::{Timeouts, Transport};
use super::error::{Disconnect, Error, Refusal};
use super::mods::{Cookies, FlowMod};
use super::wire::errors::{SwitchError, read_error};
use super::wire::message::{self, kind, multipart};
use super::wire::stats::{Aggregate, Dumped, Port, read_aggregate, read_flows, read_ports};
use super::wire::{Malformed, Unencodable};

/// Changes up to which a bundle is sent in one piece.
const MOST_AT_ONCE: usize = 256;
/// Forms of changes that are remembered; the policy's rows have some dozens.
const MOST_FORMS: usize = 1024;

/// A connection to a bridge, safe to use from several tasks at once; requests under way do not wait for each other.
///
/// A future of its methods can be dropped at any time: its replies are discarded, a bundle it had begun is
/// discarded, the connection stays usable. Dropping the connection closes it.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    requests: Arc<Requests>,
    next_bundle: AtomicU32,
    /// The forms of changes that this switch has accepted.
    accepted: std::sync::Mutex<HashSet<FlowMod>>,
    /// Whether the switch reports changes.
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
        Self::connect_with(address, Timeouts::DEFAULT).await
    }

    async fn connect_with(address: &str, timeouts: Timeouts) -> Result<Connection, Error> {
        let requests = Arc::new(Requests::default());
        let transport = Transport::open(address, Arc::clone(&requests), timeouts).await?;
        let connection = Connection {
            transport,
            requests,
            next_bundle: AtomicU32::new(1),
            accepted: std::sync::Mutex::default(),
            monitored: Mutex::default(),
        };
        let mut request = connection.request(2)?;
        let mut out = connection.transport.buffer();
        message::put_quiet(&mut out, request.xid(0));
        message::put_barrier(&mut out, request.xid(1));
        connection.transport.send(out).await;
        let what = "to be sent no asynchronous messages";
        connection.reply(&mut request, kind::BARRIER_REPLY, what).await?;
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

    /// The quick way for a few changes, all or none too: one is sent with a barrier, more as a bundle, in one round trip
    /// where the switch has accepted such changes before.
    ///
    /// [`Error::PartlyCommitted`] is the one case that is not atomic: the switch refuses what it accepted before.
    pub async fn apply(&self, mods: &[FlowMod]) -> Result<(), Error> {
        match mods {
            [] => Ok(()),
            [change] => self.apply_one(change).await,
            [..] if mods.len() > MOST_AT_ONCE => self.bundle(mods).await.map(drop),
            [..] => self.apply_few(mods).await,
        }
    }

    async fn apply_one(&self, change: &FlowMod) -> Result<(), Error> {
        let mut request = self.request(2)?;
        let mut out = self.transport.buffer();
        message::put_flow_mod(&mut out, request.xid(0), change)
            .map_err(|source| unencodable(0, change, source))?;
        message::put_barrier(&mut out, request.xid(1));
        self.transport.send(out).await;
        let mut refused = None;
        loop {
            let (index, answer) = self.answer(&mut request).await?;
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

    async fn apply_few(&self, mods: &[FlowMod]) -> Result<(), Error> {
        let forms: Vec<FlowMod> = mods.iter().map(FlowMod::form).collect();
        let known = {
            let accepted = self.accepted();
            forms.iter().all(|form| accepted.contains(form))
        };
        let bundle = OpenBundle::begin(self, mods)?;
        let done = if known { bundle.run_accepted().await } else { bundle.run().await.map(drop) };
        let mut accepted = self.accepted();
        match &done {
            Ok(()) if !known && accepted.len() < MOST_FORMS => accepted.extend(forms),
            Err(Error::PartlyCommitted { .. } | Error::Refused { .. }) if known => accepted.clear(),
            _ => {}
        }
        done
    }

    fn accepted(&self) -> std::sync::MutexGuard<'_, HashSet<FlowMod>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The flows with such a cookie.
    pub async fn dump(&self, cookies: Cookies) -> Result<Vec<Dumped>, Error> {
        let what = "a dump of flows";
        let mut request = self.request(1)?;
        let mut out = self.transport.buffer();
        message::put_flow_request(&mut out, request.xid(0), multipart::FLOW, cookies);
        self.transport.send(out).await;
        let mut flows = Vec::new();
        while self
            .reply(&mut request, kind::MULTIPART_REPLY, what)
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
        let mut request = self.request(1)?;
        let mut out = self.transport.buffer();
        message::put_flow_request(&mut out, request.xid(0), multipart::AGGREGATE, cookies);
        self.transport.send(out).await;
        self.reply(&mut request, kind::MULTIPART_REPLY, what).await?.read(what, read_aggregate)
    }

    /// The bridge's ports, `LOCAL` included.
    pub async fn ports(&self) -> Result<Vec<Port>, Error> {
        let what = "a list of ports";
        let mut request = self.request(1)?;
        let mut out = self.transport.buffer();
        message::put_port_request(&mut out, request.xid(0));
        self.transport.send(out).await;
        let mut ports = Vec::new();
        while self
            .reply(&mut request, kind::MULTIPART_REPLY, what)
            .await?
            .read(what, |message| read_ports(message, &mut ports))?
        {}
        Ok(ports)
    }

    /// Returns when the switch has carried out all earlier requests.
    pub async fn barrier(&self) -> Result<(), Error> {
        let mut request = self.request(1)?;
        let mut out = self.transport.buffer();
        message::put_barrier(&mut out, request.xid(0));
        self.transport.send(out).await;
        self.reply(&mut request, kind::BARRIER_REPLY, "a barrier").await.map(drop)
    }

    /// Sends an echo request and waits for the reply.
    pub async fn echo(&self) -> Result<(), Error> {
        let mut request = self.request(1)?;
        let mut out = self.transport.buffer();
        message::put_echo_request(&mut out, request.xid(0));
        self.transport.send(out).await;
        self.reply(&mut request, kind::ECHO_REPLY, "an echo").await.map(drop)
    }

    /// Begins to watch for changes of flows that are not made over this connection: other programs, timeouts, and what
    /// `learn()` adds unless its cookie is among the ignored. A second call replaces the first.
    ///
    /// It says that something changed, not what: the remedy for drift is to dump and compare.
    pub async fn watch(&self, ignored: Vec<u64>) -> Result<Changes, Error> {
        // A second monitor of the same kind would be refused.
        let mut monitored = self.monitored.lock().await;
        // The receiver first, so that nothing falls between.
        let changes = self.requests.monitor(ignored);
        let mut request = self.request(2)?;
        let mut out = self.transport.buffer();
        if !*monitored {
            message::put_monitor_request(&mut out, request.xid(0));
        }
        message::put_barrier(&mut out, request.xid(1));
        self.transport.send(out).await;
        self.reply(&mut request, kind::BARRIER_REPLY, "to report changes of flows").await?;
        *monitored = true;
        Ok(Changes { changes })
    }

    /// Resolves when the connection is gone. EOF means that ovs-vswitchd ended, and that its tables will be empty.
    pub async fn closed(&self) -> Disconnect {
        self.requests.closed().await
    }

    fn request(&self, count: usize) -> Result<Request, Error> {
        Requests::begin(&self.requests, count).map_err(Error::Closed)
    }

    /// The next answer, whatever it is, and the place in the request that it is for.
    async fn answer(&self, request: &mut Request) -> Result<(usize, Answer), Error> {
        match request.next().await {
            Some((index, message)) => Ok((index, Answer(message))),
            None => Err(Error::Closed(self.requests.closed().await)),
        }
    }

    /// The answer to a request of one message: of that kind, or the switch's refusal.
    async fn reply(&self, request: &mut Request, wanted: u8, what: &'static str) -> Result<Answer, Error> {
        loop {
            let (_, answer) = self.answer(request).await?;
            match answer.kind() {
                kind if kind == wanted => return Ok(answer),
                kind::ERROR => return Err(Error::Switch { what, error: answer.error(what)? }),
                _ => {}
            }
        }
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

/// A whole message that answers a request.
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
