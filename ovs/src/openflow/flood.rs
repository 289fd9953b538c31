//! The one setting that OpenFlow 1.4 lacks: a port is left out of floods (`ovs-ofctl mod-port BRIDGE PORT
//! no-flood`). OpenFlow 1.0 has it; this uses just enough of that, on a connection of its own.
//!
//! The switch forgets the setting when it restarts.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::error::Error;
use super::socket::Socket;
use super::wire::Malformed;
use super::wire::bytes::Reader;
use super::wire::errors::{SwitchError, read_error};
use super::wire::message::{HEADER, kind};

const VERSION_1_0: u8 = 1;
const FEATURES_REQUEST: u8 = 5;
const FEATURES_REPLY: u8 = 6;
const PORT_MOD: u8 = 15;
const BARRIER_REQUEST: u8 = 18;
const BARRIER_REPLY: u8 = 19;
/// `OFPPC_NO_FLOOD` of OpenFlow 1.0.
const NO_FLOOD: u32 = 1 << 4;
const WHAT: &str = "to leave a port out of floods";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Leaves a port, given by name, out of floods or puts it back; true if that was a change, none without such a port.
///
/// The address is that of [`super::Connection::connect`].
pub async fn set_no_flood(address: &str, port: &str, wanted: bool) -> Result<Option<bool>, Error> {
    let failed = |source| Error::Connect { address: address.to_owned(), source };
    match timeout(TIMEOUT, set(address, port, wanted)).await {
        Ok(Err(Failure::Io(source))) => Err(failed(source)),
        Ok(Err(Failure::Other(error))) => Err(error),
        Ok(Ok(changed)) => Ok(changed),
        Err(_) => Err(failed(io::Error::new(io::ErrorKind::TimedOut, "no answer"))),
    }
}

async fn set(address: &str, port: &str, wanted: bool) -> Result<Option<bool>, Failure> {
    let mut switch = Switch { socket: Socket::connect(address).await??, received: BytesMut::new() };
    switch.send(kind::HELLO, 0, &[]).await?;
    switch.send(FEATURES_REQUEST, 1, &[]).await?;
    let features = switch.answer(FEATURES_REPLY).await?;
    let Some(found) = find(&features, port)? else { return Ok(None) };
    if (found.config & NO_FLOOD != 0) == wanted {
        return Ok(Some(false));
    }
    let config = if wanted { NO_FLOOD } else { 0 };
    let mut body = found.identity.to_vec();
    body.extend([config.to_be_bytes(), NO_FLOOD.to_be_bytes(), [0; 4], [0; 4]].concat());
    switch.send(PORT_MOD, 2, &body).await?;
    switch.send(BARRIER_REQUEST, 3, &[]).await?;
    switch.answer(BARRIER_REPLY).await?;
    Ok(Some(true))
}

enum Failure {
    Io(io::Error),
    Other(Error),
}

struct Switch {
    socket: Socket,
    received: BytesMut,
}

impl Switch {
    async fn send(&mut self, kind: u8, xid: u32, body: &[u8]) -> io::Result<()> {
        let mut message = vec![VERSION_1_0, kind, 0, (HEADER + body.len()) as u8];
        message.extend(xid.to_be_bytes());
        message.extend(body);
        self.socket.write_all(&message).await
    }

    /// The next message of a kind; anything but a refusal is passed over, the switch's hello among it.
    async fn answer(&mut self, wanted: u8) -> Result<Bytes, Failure> {
        loop {
            let (header, message) = self.socket.message(&mut self.received).await?;
            match header.kind {
                kind if kind == wanted => return Ok(message),
                kind::ERROR => return Err(read_error(&message)?.into()),
                _ => {}
            }
        }
    }
}

struct Found {
    /// Number and MAC, by which a change names the port.
    identity: [u8; 8],
    config: u32,
}

/// Looks a port up in a features reply of OpenFlow 1.0.
fn find(features: &[u8], port: &str) -> Result<Option<Found>, Malformed> {
    let mut body = Reader::new(features);
    // Datapath id, buffers, tables, capabilities, actions.
    body.skip(HEADER + 24)?;
    while !body.is_empty() {
        let mut entry = body.part(48)?;
        let mut identity = [0; 8];
        identity.copy_from_slice(entry.take(8)?);
        let name = entry.take(16)?;
        let config = entry.u32()?;
        if name.split(|byte| *byte == 0).next() == Some(port.as_bytes()) {
            return Ok(Some(Found { identity, config }));
        }
    }
    Ok(None)
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Io(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Other(error)
    }
}

impl From<Malformed> for Failure {
    fn from(source: Malformed) -> Self {
        Failure::Other(Error::Answer { what: WHAT, source })
    }
}

impl From<SwitchError> for Failure {
    fn from(error: SwitchError) -> Self {
        Failure::Other(Error::Switch { what: WHAT, error })
    }
}
