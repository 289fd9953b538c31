//! The control socket of a daemon: `ovs-appctl -t PROGRAM COMMAND [ARG...]`.
//!
//! JSON-RPC 1.0 without any delimiter on `<rundir>/<program>.<pid>.ctl` (ovs-appctl(8)): `method` is the command, `params`
//! are its arguments, all text; the answer is `result` or `error`, text too. [`Server`] holds the commands of a
//! daemon, [`Client`] asks another process.
//!
//! A client that can open the socket (its owner alone: mode 0700) is still not trusted with the daemon's health: messages
//! are bounded, a connection that stalls is closed, and of too many connections the oldest are.

use std::path::{Path, PathBuf};

mod address;
mod client;
mod server;

pub use client::Client;
pub use server::{ExitRequest, Server};

/// What goes wrong with a control socket.
#[derive(Debug, thiserror::Error)]
pub enum UnixctlError {
    /// The socket cannot be opened for others.
    #[error(
        "cannot open the control socket {path}: {error} (is the directory there and writable? OVS_RUNDIR names another)"
    )]
    Bind {
        /// The socket.
        path: PathBuf,
        /// What came back.
        error: std::io::Error,
    },
    /// No daemon answers to this name.
    #[error("{target} is not running here: {error} (OVS_RUNDIR names another directory to look in)")]
    NotRunning {
        /// The program or socket.
        target: String,
        /// What came back.
        error: std::io::Error,
    },
    /// The daemon took the command and refused it.
    #[error("{0}")]
    Refused(String),
    /// The daemon did not answer as it should.
    #[error("{path}: {what}")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What went wrong.
        what: String,
    },
}

impl UnixctlError {
    fn broken(path: &Path, what: impl ToString) -> Self {
        UnixctlError::Broken { path: path.to_owned(), what: what.to_string() }
    }
}

#[cfg(test)]
mod tests;
