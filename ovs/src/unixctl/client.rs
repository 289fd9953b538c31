//! Commands to a running daemon.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::UnixctlError;
use super::address::Address;
use crate::ovsdb::framing::JsonFramer;
use crate::paths::Paths;
use crate::pidfile;

/// The longest answer accepted: the status of a very large node.
const LONGEST_ANSWER: usize = 256 << 20;

/// How long a command may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to a daemon's control socket.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: UnixStream,
    buffer: BytesMut,
    next_id: u64,
    limit: Duration,
}

/// What a daemon answers.
#[derive(Deserialize)]
struct Answer {
    id: serde_json::Value,
    #[serde(default)]
    result: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

impl Client {
    /// The control socket of `target`, found as ovs-appctl finds it: a name with a slash is the socket itself,
    /// else the pidfile `<rundir>/<target>.pid` leads to it.
    pub fn find(target: &str, paths: &Paths) -> Result<PathBuf, UnixctlError> {
        if target.contains('/') {
            return Ok(target.into());
        }
        let pidfile = paths.pidfile(target, "");
        let pid = pidfile::read_pid(&pidfile).map_err(|error| {
            let error = std::io::Error::new(error.kind(), format!("{}: {error}", pidfile.display()));
            UnixctlError::NotRunning { target: target.to_owned(), error }
        })?;
        Ok(paths.ctl(target, pid))
    }

    /// Connects to a control socket.
    pub async fn connect(path: &Path) -> Result<Self, UnixctlError> {
        let failed = |error| UnixctlError::NotRunning { target: path.display().to_string(), error };
        let address = Address::of(path).map_err(failed)?;
        let stream = UnixStream::connect(address.name()).await.map_err(failed)?;
        Ok(Self { path: path.to_owned(), stream, buffer: BytesMut::new(), next_id: 0, limit: TIMEOUT })
    }

    /// Sets how long a command may take, instead of 30 seconds.
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs a command and gives its answer. A refusal is [`UnixctlError::Refused`].
    pub async fn call(&mut self, command: &str, args: &[&str]) -> Result<String, UnixctlError> {
        let limit = self.limit;
        match timeout(limit, self.exchange(command, args)).await {
            Ok(answer) => answer,
            Err(_) => Err(UnixctlError::broken(&self.path, format!("no answer in {} s", limit.as_secs()))),
        }
    }

    async fn exchange(&mut self, command: &str, args: &[&str]) -> Result<String, UnixctlError> {
        let broken = |what: String| UnixctlError::broken(&self.path, what);
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({"id": id, "method": command, "params": args}).to_string();
        self.stream.write_all(request.as_bytes()).await.map_err(|error| broken(error.to_string()))?;
        let mut framer = JsonFramer::new(LONGEST_ANSWER);
        loop {
            let message = framer.next(&mut self.buffer).map_err(|error| broken(error.to_string()))?;
            if let Some(message) = message {
                let answer: Answer = serde_json::from_str(message.get())
                    .map_err(|error| broken(format!("not an answer: {error}")))?;
                if answer.id != json!(id) {
                    // The answer to a call that was given up.
                    continue;
                }
                return match answer.error {
                    Some(error) => Err(UnixctlError::Refused(error.trim_end().to_owned())),
                    None => Ok(answer.result.unwrap_or_default()),
                };
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            match read.map_err(|error| broken(error.to_string()))? {
                0 => return Err(broken("the daemon closed the connection without an answer".to_owned())),
                _ => continue,
            }
        }
    }
}
