//! A listener that holds few connections, each for a short while.
//!
//! Ports of health checks are open to everybody who reaches the node. Connections that nobody ends would take the
//! process's file descriptors, and with them its way back to the switch.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Connections held by one port at once; further ones wait in the kernel's queue.
const AT_ONCE: usize = 32;
/// A connection is closed after so long, whatever it does. A scrape of all metrics takes milliseconds.
const AT_MOST: Duration = Duration::from_secs(10);

/// ConnectionLimit connections at once, each for a short while.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    listener: TcpListener,
    room: Arc<Semaphore>,
    patience: Duration,
}

/// A connection that ends when its time is up.
#[derive(Debug)]
pub(crate) struct Short {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

impl ConnectionLimit {
    /// Holds no more than a few of this listener's connections.
    pub(crate) fn of(listener: TcpListener) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(AT_ONCE)), patience: AT_MOST }
    }
}

impl Listener for ConnectionLimit {
    type Io = Short;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Short, SocketAddr) {
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Short { stream, end: Box::pin(sleep(self.patience)), _room: room }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl Short {
    /// What a read or write comes to that cannot go on now.
    fn waiting<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        self.end.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Short {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Pending => self.waiting(cx),
            ready => ready,
        }
    }
}

impl AsyncWrite for Short {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, buf) {
            Poll::Pending => self.waiting(cx),
            ready => ready,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn idle_connections_keep_nobody_out_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let few = ConnectionLimit { patience: Duration::from_millis(200), ..ConnectionLimit::of(listener) };
        let room = Arc::clone(&few.room);
        tokio::spawn(async move { axum::serve(few, Router::new().route("/", get(|| async { "ok" }))).await });
        let mut idle = Vec::new();
        for _ in 0..2 * AT_ONCE {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ok"), "{answer}");
        assert!(room.available_permits() <= AT_ONCE);
        drop(idle);
    }
}
