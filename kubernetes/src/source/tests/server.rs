//! An HTTP server with scripted answers, right or wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A request.
#[derive(Debug)]
pub(super) struct Query {
    pub path: String,
    query: String,
    headers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    List,
    Watch,
}

/// What is answered.
pub(super) enum Reply {
    /// A whole answer.
    Json(u16, Value),
    /// A chunked one, piece by piece.
    Stream(Vec<String>, Then),
    /// These bytes, and the end of the connection.
    Raw(String),
    /// Nothing at all, for ever.
    Nothing,
}

/// How a chunked answer ends.
pub(super) enum Then {
    /// As it should.
    End,
    /// In the middle of a chunk.
    Cut,
    /// Not at all.
    Hang,
    /// On a signal, with one piece more.
    Signalled(Arc<Notify>, String),
}

pub(super) struct Server {
    address: String,
    asked: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Server {
    pub(super) async fn start(answer: impl Fn(&Query) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = asked.clone();
        let answer = Arc::new(answer);
        let mut task = JoinSet::new();
        task.spawn(async move {
            // Dropped with the server, and every connection with it.
            let mut connections = JoinSet::new();
            loop {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (answer, counter) = (answer.clone(), counter.clone());
                connections.spawn(async move {
                    let _ = serve(stream, &*answer, &counter).await;
                });
            }
        });
        Self { address, asked, _task: task }
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    pub(super) fn requests(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

/// One question for each connection.
async fn serve(
    mut stream: TcpStream,
    answer: &(dyn Fn(&Query) -> Reply + Sync),
    asked: &AtomicUsize,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    asked.fetch_add(1, Ordering::Relaxed);
    match answer(&Query::parse(&String::from_utf8_lossy(&head))) {
        Reply::Json(code, body) => {
            let body = body.to_string();
            let length = body.len();
            let text =
                format!("HTTP/1.1 {code} X\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await?;
        }
        Reply::Stream(pieces, then) => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            for piece in pieces {
                stream.write_all(format!("{:x}\r\n{piece}\r\n", piece.len()).as_bytes()).await?;
            }
            match then {
                Then::End => stream.write_all(b"0\r\n\r\n").await?,
                Then::Cut => stream.write_all(b"ffff\r\nhalf").await?,
                Then::Hang => std::future::pending().await,
                Then::Signalled(when, piece) => {
                    when.notified().await;
                    stream.write_all(format!("{:x}\r\n{piece}\r\n0\r\n\r\n", piece.len()).as_bytes()).await?;
                }
            }
        }
        Reply::Raw(text) => stream.write_all(text.as_bytes()).await?,
        Reply::Nothing => std::future::pending().await,
    }
    stream.shutdown().await
}

impl Query {
    fn parse(head: &str) -> Self {
        let mut lines = head.lines();
        let target = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let headers = lines.filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
        Self { path: path.into(), query: query.into(), headers }
    }

    /// The last part of the path: what kind of objects it is about.
    pub(super) fn kind(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    pub(super) fn verb(&self) -> Verb {
        if self.parameter("watch").is_some() { Verb::Watch } else { Verb::List }
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.replace('+', " "))
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }
}
