//! A single echo request.

use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{MsgFlags, send};

use super::sockets;
use crate::lab::address::{Dual, Family};

/// The flow number that single requests have.
const FLOW: usize = 0xfe;

/// Sends one, by a socket that will get the answer. Called inside the asking namespace.
pub(crate) fn request(family: Family, to: Dual) -> Result<OwnedFd> {
    let socket = sockets::ping_socket(family, to)?;
    send(socket.as_raw_fd(), &sockets::echo_request(family, FLOW, 1), MsgFlags::MSG_DONTWAIT)
        .context("sending an echo request")?;
    Ok(socket)
}

/// Whether the answer has come.
pub(crate) fn answered(socket: &OwnedFd, family: Family) -> bool {
    while let Some((bytes, _)) = sockets::stamped(socket) {
        if sockets::echo_reply(family, FLOW, &bytes).is_some() {
            return true;
        }
    }
    false
}
