//! One connection to one server: JSON-RPC messages in and out, and proof of life.

use std::io;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::Error;
use super::message::{self, Event, Message, MessageReader};
use super::remote::{Endpoint, Remote, TlsFiles};
use super::tls;

/// How long a server may take to accept a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Messages of our own that may wait; a server that needs more without reading them is disconnected.
const OWN_QUEUE: usize = 1024;
/// Transactions handed to the writer and not yet written.
const REQUEST_QUEUE: usize = 64;
/// Room made for each read, and about how much is written at once.
const READ_SIZE: usize = 64 * 1024;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection. Its writer is a task of its own, so that neither direction waits for the other.
pub(super) struct Connection {
    remote: Remote,
    reader: Reader,
    incoming: MessageReader,
    own: mpsc::Sender<String>,
    requests: mpsc::Sender<String>,
    writer: JoinHandle<()>,
    next_id: u64,
    probe_interval: Option<Duration>,
    last_received: Instant,
    /// When a probe was sent, if nothing came since.
    probed: Option<Instant>,
}

impl Connection {
    /// Connects; TLS is agreed on when this returns.
    pub(super) async fn open(
        remote: Remote,
        tls: Option<TlsFiles>,
        message_limit: usize,
        probe_interval: Option<Duration>,
    ) -> Result<Self, Error> {
        let attempt = timeout(CONNECT_LIMIT, connect(&remote, tls.as_ref()));
        let (reader, writer) = attempt.await.unwrap_or_else(|_| {
            Err(Error::Connect { remote: remote.clone(), source: io::ErrorKind::TimedOut.into() })
        })?;
        let (own, own_queue) = mpsc::channel(OWN_QUEUE);
        let (requests, request_queue) = mpsc::channel(REQUEST_QUEUE);
        Ok(Self {
            incoming: MessageReader::new(&remote, message_limit),
            remote,
            reader,
            own,
            requests,
            writer: tokio::spawn(write(writer, own_queue, request_queue)),
            next_id: 0,
            probe_interval,
            last_received: Instant::now(),
            probed: None,
        })
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.remote
    }

    /// Where transactions go: this queue may be full.
    pub(super) fn requests(&self) -> mpsc::Sender<String> {
        self.requests.clone()
    }

    /// A request as text, and its number.
    pub(super) fn compose(&mut self, method: &str, params: &str) -> (u64, String) {
        let id = self.next_id;
        self.next_id += 1;
        (id, message::request(id, method, params))
    }

    /// Sends a request of the session's own and gives its number.
    pub(super) fn request(&mut self, method: &str, params: &str) -> Result<u64, Error> {
        let (id, text) = self.compose(method, params);
        self.send(text)?;
        Ok(id)
    }

    /// The next message for the session; requests of the server are answered here. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        loop {
            match self.incoming.next()? {
                None => self.fill().await?,
                Some(Message::Event(event)) => return Ok(event),
                Some(Message::Request { reply }) => self.send(reply)?,
            }
        }
    }

    /// A message that is not as the protocol has it.
    pub(super) fn protocol_error(&self, what: &'static str, reason: impl ToString) -> Error {
        Error::Protocol { remote: self.remote.clone(), what, reason: reason.to_string() }
    }

    /// Waits for bytes, and probes a silent server.
    async fn fill(&mut self) -> Result<(), Error> {
        let buffer = self.incoming.buffer();
        buffer.reserve(READ_SIZE);
        // The server has the whole interval after the probe, even if this process was stopped for longer.
        let deadline =
            self.probe_interval.map(|interval| self.probed.unwrap_or(self.last_received) + interval);
        let read = self.reader.read_buf(buffer);
        let read = match deadline {
            None => read.await,
            // `timeout_at` polls the future first: bytes that have come count, however late this runs.
            Some(deadline) => match tokio::time::timeout_at(deadline, read).await {
                Ok(read) => read,
                Err(_) if self.probed.is_some() => {
                    let seconds = self.last_received.elapsed().as_secs();
                    return Err(Error::Silent { remote: self.remote.clone(), seconds });
                }
                Err(_) => {
                    self.probed = Some(Instant::now());
                    return self.send(r#"{"id":"echo","method":"echo","params":[]}"#.to_owned());
                }
            },
        };
        match read {
            Ok(0) => Err(self.incoming.ended()),
            Err(error) => Err(Error::Framing { remote: self.remote.clone(), source: error.into() }),
            Ok(_) => {
                self.last_received = Instant::now();
                self.probed = None;
                Ok(())
            }
        }
    }

    fn send(&self, text: String) -> Result<(), Error> {
        self.own.try_send(text).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                self.protocol_error("more requests than it reads answers to", OWN_QUEUE)
            }
            mpsc::error::TrySendError::Closed(_) => Error::Closed { remote: self.remote.clone() },
        })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.writer.abort();
    }
}

/// Writes what is queued, the session's own messages first; ends when the peer does not take it any more, which
/// the reader then sees as the end of the stream.
async fn write(mut writer: Writer, mut own: mpsc::Receiver<String>, mut requests: mpsc::Receiver<String>) {
    loop {
        let first = tokio::select! {
            biased;
            message = own.recv() => message,
            message = requests.recv() => message,
        };
        let Some(mut bytes) = first else { return };
        while bytes.len() < READ_SIZE {
            let Ok(more) = own.try_recv().or_else(|_| requests.try_recv()) else { break };
            bytes.push_str(&more);
        }
        if writer.write_all(bytes.as_bytes()).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

async fn connect(remote: &Remote, tls: Option<&TlsFiles>) -> Result<(Reader, Writer), Error> {
    let failed = |source| Error::Connect { remote: remote.clone(), source };
    match remote {
        Remote::Unix(path) => {
            let (reader, writer) = UnixStream::connect(path).await.map_err(failed)?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Remote::Tcp(endpoint) => {
            let (reader, writer) = dial(endpoint).await.map_err(failed)?.into_split();
            Ok((Box::new(reader), Box::new(writer)))
        }
        Remote::Ssl(endpoint) => {
            let files = tls.ok_or_else(|| Error::TlsFilesMissing { remote: remote.clone() })?;
            let connector = tls::connector(files)?;
            let stream = dial(endpoint).await.map_err(failed)?;
            // The name goes into the handshake only if it is a DNS name; it is not verified.
            let name = ServerName::try_from(endpoint.host.clone())
                .or_else(|_| ServerName::try_from("ovsdb"))
                .map_err(|error| failed(io::Error::other(error)))?;
            let agreed = connector.connect(name, stream).await;
            let stream = agreed.map_err(|source| Error::Tls { remote: remote.clone(), source })?;
            let (reader, writer) = tokio::io::split(stream);
            Ok((Box::new(reader), Box::new(writer)))
        }
    }
}

async fn dial(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
