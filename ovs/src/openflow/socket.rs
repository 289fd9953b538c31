//! A socket to a switch, and the messages in what it sends.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};

use super::error::Error;
use super::wire::message::{Header, next_message};

/// Room made for a read. A message has 64 KiB at most.
const READ_SIZE: usize = 64 * 1024;
/// The least room for a read: most replies are small, and new room costs an allocation.
const LEAST_READ: usize = 4 * 1024;

/// A connected socket. Both directions take `&self`, so that one task can read while another writes.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Socket {
    /// Connects to `unix:PATH`, an absolute path, or `tcp:HOST:PORT`. The outer error is a bad address.
    pub(super) async fn connect(address: &str) -> Result<io::Result<Self>, Error> {
        let path = address.strip_prefix("unix:").or_else(|| address.starts_with('/').then_some(address));
        if let Some(path) = path {
            return Ok(UnixStream::connect(path).await.map(Socket::Unix));
        }
        let Some(endpoint) = address.strip_prefix("tcp:").filter(|endpoint| endpoint.contains(':')) else {
            return Err(Error::Address { address: address.to_owned() });
        };
        Ok(TcpStream::connect(endpoint).await.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }))
    }

    /// Writes what the socket takes at once; `WouldBlock` when that is nothing.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Unix(stream) => stream.try_write(bytes),
            Socket::Tcp(stream) => stream.try_write(bytes),
        }
    }

    /// Writes all of it.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.ready(Interest::WRITABLE).await?;
            match self.try_write(bytes) {
                Ok(written) => bytes.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends what has come, at least one byte; 0 at the end of the stream. May be dropped without loss.
    pub(super) async fn read(&self, received: &mut BytesMut) -> io::Result<usize> {
        if received.capacity() - received.len() < LEAST_READ {
            received.reserve(READ_SIZE);
        }
        loop {
            self.ready(Interest::READABLE).await?;
            let read = match self {
                Socket::Unix(stream) => stream.try_read_buf(received),
                Socket::Tcp(stream) => stream.try_read_buf(received),
            };
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    /// The next whole message.
    pub(super) async fn message(&self, received: &mut BytesMut) -> io::Result<(Header, Bytes)> {
        loop {
            match next_message(received) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(malformed) => return Err(io::Error::new(io::ErrorKind::InvalidData, malformed)),
            }
            if self.read(received).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed"));
            }
        }
    }

    async fn ready(&self, interest: Interest) -> io::Result<()> {
        match self {
            Socket::Unix(stream) => stream.ready(interest).await.map(drop),
            Socket::Tcp(stream) => stream.ready(interest).await.map(drop),
        }
    }
}
