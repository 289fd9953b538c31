//! The socket in use: the hello, the task that reads, and the queue of what the socket does not take at once.
//!
//! Messages are written by the task that sends them, as far as the socket takes them, without waking another task. The rest
//! is written by a task of its own, so that a switch that sends while it is sent to (errors in a large bundle) blocks
//! neither side.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::requests::Requests;
use crate::openflow::error::{Disconnect, Error};
use crate::openflow::socket::Socket;
use crate::openflow::wire::message::{self, HEADER, Header, kind, next_message};
use crate::openflow::wire::{Malformed, VERSION, hello};

/// Bytes after which a growing message buffer is sent: large enough that the system call is not the cost, small enough
/// that the switch works while the rest is encoded.
pub(super) const CHUNK: usize = 128 * 1024;
/// Buffers that may be queued; a sender with more waits.
const QUEUED_CHUNKS: usize = 8;

/// How long to wait for the switch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// The switch has to be connected and say hello within this.
    pub(super) hello: Duration,
    /// Silence after which an echo request is sent.
    pub(super) silence: Duration,
    /// Further silence after which the connection ends.
    pub(super) give_up: Duration,
}

impl Timeouts {
    /// Echoes as often as Open vSwitch itself sends them; an end later than a switch under load is busy with one large
    /// commit.
    pub(super) const DEFAULT: Timeouts = Timeouts {
        hello: Duration::from_secs(10),
        silence: Duration::from_secs(5),
        give_up: Duration::from_secs(15),
    };
}

/// The sending side, and the two tasks. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Transport {
    outbox: Arc<Outbox>,
    room: Arc<Semaphore>,
    tasks: [AbortHandle; 2],
}

/// Where messages leave, in the order in which they are sent.
#[derive(Debug)]
struct Outbox {
    socket: Socket,
    queue: Mutex<Queue>,
    queued: Notify,
    requests: Arc<Requests>,
}

#[derive(Debug, Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    /// The writer task holds a chunk: nothing may overtake it.
    writing: bool,
    /// The connection has ended: what is sent is discarded.
    closed: bool,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    /// How much of it is written.
    written: usize,
    // Given back when the bytes are written.
    _room: Option<OwnedSemaphorePermit>,
}

impl Transport {
    /// Connects, says hello, starts both tasks.
    pub(super) async fn open(
        address: &str,
        requests: Arc<Requests>,
        timeouts: Timeouts,
    ) -> Result<Transport, Error> {
        let failed = |source| Error::Connect { address: address.to_owned(), source };
        let silent = |_| failed(io::Error::new(io::ErrorKind::TimedOut, "no OpenFlow hello"));
        let connected = timeout(timeouts.hello, Socket::connect(address)).await.map_err(silent)?;
        let socket = connected?.map_err(failed)?;
        let mut hello = Vec::with_capacity(16);
        message::put_hello(&mut hello, 0);
        socket.write_all(&hello).await.map_err(failed)?;
        let mut received = BytesMut::new();
        let first = timeout(timeouts.hello, socket.message(&mut received)).await;
        let (_, first) = first.map_err(silent)?.map_err(failed)?;
        hello::check(&first).map_err(|offer| Error::Version { address: address.to_owned(), offer })?;

        let outbox = Arc::new(Outbox { socket, queue: Mutex::default(), queued: Notify::new(), requests });
        let reader = tokio::spawn(read_all(Arc::clone(&outbox), received, timeouts));
        let writer = tokio::spawn(write_all(Arc::clone(&outbox)));
        let tasks = [reader.abort_handle(), writer.abort_handle()];
        Ok(Transport { outbox, room: Arc::new(Semaphore::new(QUEUED_CHUNKS)), tasks })
    }

    /// An empty buffer, a used one if there is one.
    pub(super) fn buffer(&self) -> Vec<u8> {
        self.outbox.queue().spare.pop().unwrap_or_default()
    }

    /// Sends whole messages; waits while too much is queued. When the connection has ended, they are discarded.
    pub(super) async fn send(&self, bytes: Vec<u8>) {
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        self.outbox.send(bytes, room);
    }

    /// Sends a small message without waiting, behind whatever is queued.
    pub(super) fn send_at_once(&self, bytes: Vec<u8>) {
        self.outbox.send(bytes, None);
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Outbox {
    /// Writes as much as the socket takes if nothing is queued, and queues the rest.
    fn send(&self, bytes: Vec<u8>, room: Option<OwnedSemaphorePermit>) {
        let mut chunk = Chunk { bytes, written: 0, _room: room };
        let mut queue = self.queue();
        if queue.closed {
            return;
        }
        if queue.chunks.is_empty() && !queue.writing {
            while let Some(rest) = chunk.bytes.get(chunk.written..).filter(|rest| !rest.is_empty()) {
                match self.socket.try_write(rest) {
                    Ok(written) => chunk.written += written,
                    // Full, or broken: the writer task waits, or finds out.
                    Err(_) => break,
                }
            }
            if chunk.written == chunk.bytes.len() {
                return queue.recycle(chunk);
            }
        }
        queue.chunks.push_back(chunk);
        self.queued.notify_one();
    }

    /// The next chunk for the writer task, the previous one given back.
    fn next_chunk(&self, done: Option<Chunk>) -> Option<Chunk> {
        let mut queue = self.queue();
        if let Some(chunk) = done {
            queue.recycle(chunk);
        }
        let next = queue.chunks.pop_front();
        queue.writing = next.is_some();
        next
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn recycle(&mut self, mut chunk: Chunk) {
        if self.spare.len() < QUEUED_CHUNKS {
            chunk.bytes.clear();
            self.spare.push(chunk.bytes);
        }
    }
}

async fn write_all(outbox: Arc<Outbox>) {
    let reason = tokio::select! {
        reason = write_until_refused(&outbox) => reason,
        // The switch may have stopped reading: the queue, and senders that wait for room, would wait for ever.
        reason = outbox.requests.closed() => reason,
    };
    // A switch that only closed its reading side would otherwise go unnoticed.
    outbox.requests.end(reason);
    let mut queue = outbox.queue();
    queue.closed = true;
    queue.chunks.clear();
}

async fn write_until_refused(outbox: &Outbox) -> Disconnect {
    let mut done = None;
    loop {
        let Some(chunk) = outbox.next_chunk(done.take()) else {
            outbox.queued.notified().await;
            continue;
        };
        let rest = chunk.bytes.get(chunk.written..).unwrap_or_default();
        match outbox.socket.write_all(rest).await {
            Ok(()) => done = Some(chunk),
            Err(error) => return lost(&error),
        }
    }
}

async fn read_all(outbox: Arc<Outbox>, mut received: BytesMut, timeouts: Timeouts) {
    let reason = match read_until_closed(&outbox, &mut received, timeouts).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    outbox.requests.end(reason);
}

async fn read_until_closed(
    outbox: &Outbox,
    received: &mut BytesMut,
    timeouts: Timeouts,
) -> Result<std::convert::Infallible, Disconnect> {
    let mut probed = false;
    loop {
        while let Some((header, message)) = next_message(received)? {
            dispatch(header, message, outbox)?;
        }
        let limit = if probed { timeouts.give_up } else { timeouts.silence };
        match timeout(limit, outbox.socket.read(received)).await {
            Ok(Ok(0)) => return Err(Disconnect::Eof),
            Ok(Ok(_)) => probed = false,
            Ok(Err(error)) => return Err(lost(&error)),
            Err(_) if probed => return Err(Disconnect::Silent(timeouts.silence + timeouts.give_up)),
            Err(_) => {
                probed = true;
                let mut echo = Vec::with_capacity(HEADER);
                message::put_echo_request(&mut echo, 0);
                outbox.send(echo, None);
            }
        }
    }
}

fn dispatch(header: Header, message: Bytes, outbox: &Outbox) -> Result<(), Disconnect> {
    // An error that it has no number for in this version, Open vSwitch sends in OpenFlow 1.0.
    if header.version != VERSION && header.kind != kind::ERROR {
        return Err(Malformed { what: "a message of another OpenFlow version", at: 0 }.into());
    }
    if header.kind == kind::ECHO_REQUEST {
        let mut reply = Vec::with_capacity(message.len());
        message::put_echo_reply(&mut reply, header.xid, message.get(HEADER..).unwrap_or_default());
        outbox.send(reply, None);
    } else if header.kind == kind::MULTIPART_REPLY && header.xid == 0 {
        outbox.requests.flow_update(&message);
    } else if !outbox.requests.deliver(header.xid, message) && header.kind == kind::ERROR {
        tracing::debug!(xid = header.xid, "the switch sent an error for a request that has ended");
    }
    Ok(())
}

/// A peer that is killed resets the connection; it is as gone as one that closed it.
fn lost(error: &io::Error) -> Disconnect {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Disconnect::Eof,
        _ => Disconnect::Io(error.to_string()),
    }
}
