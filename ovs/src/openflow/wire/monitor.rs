//! The flow monitor: being told when flows change (OpenFlow 1.4 section 7.3.5.17).

use super::Malformed;
use super::message::multipart;
use super::stats::read_part;

/// `OFPFMF_ADD | OFPFMF_REMOVED | OFPFMF_MODIFY`. Without `NO_ABBREV`, changes that this connection makes are only
/// hinted at, which tells them from those of others.
pub(super) const ADD_REMOVED_MODIFY: u16 = 0b1110;

const ABBREVIATED: u16 = 4;
const PAUSED: u16 = 5;

/// What happened to the flows, not by our own doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Update {
    /// A flow with this cookie was added, removed or changed.
    Flow {
        /// The cookie it has, or had.
        cookie: u64,
    },
    /// Too much happened; the switch will be silent for a while.
    Missed,
}

/// Reads the news of one message and hands on what others did.
pub(crate) fn read_updates(message: &[u8], mut tell: impl FnMut(Update)) -> Result<(), Malformed> {
    let mut news = read_part(message, multipart::FLOW_MONITOR)?.body;
    while !news.is_empty() {
        let length = usize::from(news.u16()?);
        let Some(rest) = length.checked_sub(2) else {
            return Err(news.malformed("flow update is shorter than its header"));
        };
        let mut update = news.part(rest)?;
        match update.u16()? {
            ABBREVIATED => {}
            0..=3 => {
                // Table, reason, timeouts, priority, padding.
                update.skip(12)?;
                tell(Update::Flow { cookie: update.u64()? });
            }
            PAUSED => tell(Update::Missed),
            _ => {}
        }
    }
    Ok(())
}
