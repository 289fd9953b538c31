//! What the other side offers in its first message.

use super::bytes::Reader;
use super::errors::read_error;
use super::message::{HEADER, kind};
use super::{Malformed, VERSION};

const VERSION_BITMAP: u16 = 1;

/// Whether a first message allows OpenFlow 1.4; if not, what it offers instead, as text.
pub(crate) fn check(message: &[u8]) -> Result<(), String> {
    match offer(message) {
        Err(malformed) => Err(format!("its hello is malformed: {malformed}")),
        Ok(Offer::Error(text)) => Err(text),
        Ok(Offer::Versions(bitmap)) if bitmap & 1 << VERSION != 0 => Ok(()),
        Ok(Offer::Versions(bitmap)) => {
            let versions: Vec<_> = (0..32).filter(|bit| bitmap & 1 << bit != 0).map(name).collect();
            Err(format!("it offers {}", versions.join(", ")))
        }
        Ok(Offer::Highest(version)) if version >= VERSION => Ok(()),
        Ok(Offer::Highest(version)) => Err(format!("it offers {}", name(version.into()))),
        Ok(Offer::Other(kind)) => Err(format!("it began with a message of type {kind}")),
    }
}

enum Offer {
    /// One bit for each version.
    Versions(u32),
    /// No bitmap: this version and, for all that is known, those before it.
    Highest(u8),
    Error(String),
    Other(u8),
}

fn offer(message: &[u8]) -> Result<Offer, Malformed> {
    let mut body = Reader::new(message);
    let (version, what) = (body.u8()?, body.u8()?);
    body.skip(HEADER - 2)?;
    match what {
        kind::HELLO => {}
        kind::ERROR => return Ok(Offer::Error(read_error(message)?.to_string())),
        other => return Ok(Offer::Other(other)),
    }
    while body.remaining() >= 4 {
        let element = body.u16()?;
        let length = usize::from(body.u16()?);
        let Some(payload) = length.checked_sub(4) else {
            return Err(body.malformed("hello element is shorter than its header"));
        };
        let mut payload = body.part(payload)?;
        if element == VERSION_BITMAP {
            return payload.u32().map(Offer::Versions);
        }
        body.skip((length.next_multiple_of(8) - length).min(body.remaining()))?;
    }
    Ok(Offer::Highest(version))
}

fn name(version: u32) -> String {
    match version {
        1..=6 => format!("OpenFlow 1.{}", version - 1),
        other => format!("version {other}"),
    }
}
