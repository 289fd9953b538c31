//! The socket: agreeing on a version, then one task that reads and one that writes.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::ticket::Desk;
use crate::openflow::error::{Disconnect, Error};
use crate::openflow::wire::message::{self, HEADER, Header, kind};
use crate::openflow::wire::{Malformed, VERSION, hello};

/// Bytes after which a growing message buffer goes to the writer: large enough that the system call is not the cost,
/// small enough that the switch works while we still encode.
pub(super) const CHUNK: usize = 128 * 1024;
/// Buffers that may wait for the writer; whoever has more to say waits.
const WAITING_CHUNKS: usize = 8;
/// Room for one more read. A message has 64 KiB at most.
const READ_ROOM: usize = 64 * 1024;

/// How long we wait for the other side.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// The switch has to be connected and say hello within this.
    pub(super) hello: Duration,
    /// Silence after which we ask for a sign of life.
    pub(super) silence: Duration,
    /// Further silence after which we give up.
    pub(super) give_up: Duration,
}

impl Patience {
    /// Echoes as often as Open vSwitch itself sends them; giving up later than a switch under load is busy with one
    /// large commit.
    pub(super) const USUAL: Patience = Patience {
        hello: Duration::from_secs(10),
        silence: Duration::from_secs(5),
        give_up: Duration::from_secs(15),
    };
}

pub(in crate::openflow) type Reading = Box<dyn AsyncRead + Send + Unpin>;
pub(in crate::openflow) type Writing = Box<dyn AsyncWrite + Send + Unpin>;

/// The sending side, and the two tasks. Dropping it closes the socket.
#[derive(Debug)]
pub(super) struct Link {
    outbox: Outbox,
    room: Arc<Semaphore>,
    tasks: [AbortHandle; 2],
}

/// The queue to the writer, and the buffers that came back from it.
#[derive(Clone, Debug)]
struct Outbox {
    queue: mpsc::UnboundedSender<Chunk>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    // Given back when the bytes are written.
    _room: Option<OwnedSemaphorePermit>,
}

/// Connects, says hello, starts both tasks.
pub(super) async fn open(address: &str, desk: Arc<Desk>, patience: Patience) -> Result<Link, Error> {
    let failed = |source| Error::Connect { address: address.to_owned(), source };
    let silent = |_| failed(io::Error::new(io::ErrorKind::TimedOut, "no OpenFlow hello"));
    let dialled = timeout(patience.hello, dial(address)).await.map_err(silent)?;
    let (mut reading, mut writing) = dialled?.map_err(failed)?;
    let mut hello = Vec::with_capacity(16);
    message::put_hello(&mut hello, 0);
    writing.write_all(&hello).await.map_err(failed)?;
    let mut received = BytesMut::new();
    let first = timeout(patience.hello, read_hello(&mut reading, &mut received)).await;
    let first = first.map_err(silent)?.map_err(failed)?;
    hello::check(&first).map_err(|offer| Error::Version { address: address.to_owned(), offer })?;

    let (queue, chunks) = mpsc::unbounded_channel();
    let outbox = Outbox { queue, spare: Arc::default() };
    let reader = tokio::spawn(read_all(reading, received, outbox.clone(), Arc::clone(&desk), patience));
    let writer = tokio::spawn(write_all(writing, chunks, Arc::clone(&outbox.spare), desk));
    let tasks = [reader.abort_handle(), writer.abort_handle()];
    Ok(Link { outbox, room: Arc::new(Semaphore::new(WAITING_CHUNKS)), tasks })
}

impl Link {
    /// An empty buffer, a used one if there is one.
    pub(super) fn buffer(&self) -> Vec<u8> {
        let mut spare = self.outbox.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Queues whole messages; waits while too much is queued. Fails when the connection has ended.
    pub(super) async fn send(&self, bytes: Vec<u8>) -> Result<(), ()> {
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        self.outbox.queue.send(Chunk { bytes, _room: room }).map_err(drop)
    }

    /// Queues a small message without waiting, whatever is queued before it.
    pub(super) fn send_unasked(&self, bytes: Vec<u8>) {
        self.outbox.send_unasked(bytes);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Outbox {
    fn send_unasked(&self, bytes: Vec<u8>) {
        // A closed queue means that the connection has ended, which everyone is being told.
        let _ = self.queue.send(Chunk { bytes, _room: None });
    }
}

/// Opens the socket. The outer error is a bad address.
pub(in crate::openflow) async fn dial(address: &str) -> Result<io::Result<(Reading, Writing)>, Error> {
    if let Some(path) = address.strip_prefix("unix:").or_else(|| address.starts_with('/').then_some(address))
    {
        return Ok(UnixStream::connect(path).await.map(|stream| {
            let (reading, writing) = stream.into_split();
            (Box::new(reading) as Reading, Box::new(writing) as Writing)
        }));
    }
    let Some(endpoint) = address.strip_prefix("tcp:").filter(|endpoint| endpoint.contains(':')) else {
        return Err(Error::Address { address: address.to_owned() });
    };
    Ok(TcpStream::connect(endpoint).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        let (reading, writing) = stream.into_split();
        Ok((Box::new(reading) as Reading, Box::new(writing) as Writing))
    }))
}

async fn read_hello(reading: &mut Reading, received: &mut BytesMut) -> io::Result<Bytes> {
    loop {
        match next_message(received) {
            Ok(Some((_, message))) => return Ok(message),
            Ok(None) => {}
            Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
        }
        if reading.read_buf(received).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before an OpenFlow hello"));
        }
    }
}

async fn read_all(
    mut reading: Reading,
    mut received: BytesMut,
    outbox: Outbox,
    desk: Arc<Desk>,
    patience: Patience,
) {
    let reason = match read_until_closed(&mut reading, &mut received, &outbox, &desk, patience).await {
        Ok(never) => match never {},
        Err(reason) => reason,
    };
    desk.end(reason);
}

async fn read_until_closed(
    reading: &mut Reading,
    received: &mut BytesMut,
    outbox: &Outbox,
    desk: &Desk,
    patience: Patience,
) -> Result<std::convert::Infallible, Disconnect> {
    let mut asked = false;
    loop {
        while let Some((header, message)) = next_message(received)? {
            dispatch(header, message, outbox, desk)?;
        }
        received.reserve(READ_ROOM);
        match timeout(if asked { patience.give_up } else { patience.silence }, reading.read_buf(received))
            .await
        {
            Ok(Ok(0)) => return Err(Disconnect::Eof),
            Ok(Ok(_)) => asked = false,
            // A peer that is killed resets the connection; it is as gone as one that closed it.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Err(Disconnect::Eof),
            Ok(Err(error)) => return Err(Disconnect::Io(error.to_string())),
            Err(_) if asked => return Err(Disconnect::Silent(patience.silence + patience.give_up)),
            Err(_) => {
                asked = true;
                let mut echo = Vec::with_capacity(HEADER);
                message::put_echo_request(&mut echo, 0);
                outbox.send_unasked(echo);
            }
        }
    }
}

fn dispatch(header: Header, message: Bytes, outbox: &Outbox, desk: &Desk) -> Result<(), Disconnect> {
    // An error that it has no number for in this version, Open vSwitch sends in OpenFlow 1.0.
    if header.version != VERSION && header.kind != kind::ERROR {
        return Err(Malformed { what: "a message of another OpenFlow version", at: 0 }.into());
    }
    if header.kind == kind::ECHO_REQUEST {
        let mut reply = Vec::with_capacity(message.len());
        message::put_echo_reply(&mut reply, header.xid, &message[HEADER..]);
        outbox.send_unasked(reply);
    } else if header.kind == kind::MULTIPART_REPLY && header.xid == 0 {
        desk.news(&message);
    } else if !desk.deliver(header.xid, message) && header.kind == kind::ERROR {
        tracing::debug!(xid = header.xid, "the switch sent an error that nobody waits for");
    }
    Ok(())
}

/// Takes one whole message off the front, if it is there.
fn next_message(received: &mut BytesMut) -> Result<Option<(Header, Bytes)>, Malformed> {
    let Some(head) = received.first_chunk::<HEADER>() else { return Ok(None) };
    let header = Header::read(head);
    let length = usize::from(header.length);
    if length < HEADER {
        return Err(Malformed { what: "a message shorter than its header", at: 2 });
    }
    if received.remaining() < length {
        return Ok(None);
    }
    Ok(Some((header, received.split_to(length).freeze())))
}

async fn write_all(
    mut writing: Writing,
    mut chunks: mpsc::UnboundedReceiver<Chunk>,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
    desk: Arc<Desk>,
) {
    let reason = tokio::select! {
        reason = write_until_refused(&mut writing, &mut chunks, &spare) => reason,
        // The switch may have stopped reading: what waits for it, and whoever waits for room, would wait for ever.
        reason = desk.closed() => reason,
    };
    // A switch that only closed its reading side would otherwise go unnoticed.
    desk.end(reason);
}

async fn write_until_refused(
    writing: &mut Writing,
    chunks: &mut mpsc::UnboundedReceiver<Chunk>,
    spare: &Mutex<Vec<Vec<u8>>>,
) -> Disconnect {
    while let Some(mut chunk) = chunks.recv().await {
        match writing.write_all(&chunk.bytes).await {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                return Disconnect::Eof;
            }
            Err(error) => return Disconnect::Io(error.to_string()),
        }
        chunk.bytes.clear();
        let mut spare = spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < WAITING_CHUNKS {
            spare.push(chunk.bytes);
        }
    }
    Disconnect::Dropped
}
