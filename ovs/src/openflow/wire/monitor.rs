//! The flow monitor: the switch reports when flows change (OpenFlow 1.4 section 7.3.5.17).

use super::Malformed;
use super::message::multipart;
use super::stats::read_part;

const ABBREVIATED: u16 = 4;
const PAUSED: u16 = 5;

/// A change of the flows by another program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// A flow with this cookie was added, removed or changed.
    Flow {
        /// The cookie it has, or had.
        cookie: u64,
    },
    /// Too many changes; the switch pauses its reports.
    Missed,
}

/// Reads the changes in one message, and calls `report` for those of others.
pub(crate) fn read_updates(message: &[u8], mut report: impl FnMut(Update)) -> Result<(), Malformed> {
    let mut updates = read_part(message, multipart::FLOW_MONITOR)?.body;
    while !updates.is_empty() {
        let length = usize::from(updates.u16()?);
        let Some(rest) = length.checked_sub(2) else {
            return Err(updates.malformed("flow update is shorter than its header"));
        };
        let mut update = updates.part(rest)?;
        match update.u16()? {
            ABBREVIATED => {}
            0..=3 => {
                // Table, reason, timeouts, priority, padding.
                update.skip(12)?;
                report(Update::Flow { cookie: update.u64()? });
            }
            PAUSED => report(Update::Missed),
            _ => {}
        }
    }
    Ok(())
}
