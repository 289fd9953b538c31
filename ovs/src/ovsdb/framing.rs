//! Un-delimited JSON over a byte stream, as OVSDB and unixctl use it.
//!
//! JSON-RPC in the OVS family has no length prefix and no separator: a message ends where its outermost
//! bracket closes (RFC 7047, section 4; `lib/jsonrpc.c`). [`JsonFramer`] finds that place in bytes that come
//! in any portions and scans no byte twice.

use bytes::{Buf, BytesMut};
use memchr::memchr2;
use serde_json::value::RawValue;

#[cfg(test)]
mod tests;

/// The largest message accepted by default: a full snapshot of a very large northbound database.
pub const DEFAULT_LIMIT: usize = 1 << 30;

/// From here on the memory of a message counts.
const LARGE: usize = 64 * 1024;

/// Why a byte stream could not be cut into JSON messages. None of them can be recovered on the same stream.
#[derive(Debug, thiserror::Error)]
pub enum FramingError {
    /// A message did not begin with `{` or `[`.
    #[error("the peer does not speak JSON-RPC: a message begins with byte {0:#04x}")]
    NotJson(u8),
    /// A message grew beyond the limit.
    #[error("the peer sent a message of more than {0} bytes")]
    TooLarge(usize),
    /// The brackets close, but what is between them is not JSON.
    #[error("the peer sent broken JSON: {0}")]
    Invalid(serde_json::Error),
    /// What is between the brackets is not text.
    #[error("the peer sent JSON that is not UTF-8")]
    NotUtf8,
    /// The stream ended inside a message.
    #[error("the stream ended in the middle of a message, after {0} bytes of it")]
    Truncated(usize),
    /// The stream itself failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Finds the end of the next JSON object or array in bytes that come in portions.
///
/// The state is kept between calls: each byte is scanned once, however small the portions are.
#[derive(Debug)]
pub struct JsonFramer {
    limit: usize,
    scanned: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl JsonFramer {
    /// A framer that refuses messages longer than `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, scanned: 0, depth: 0, in_string: false, escaped: false }
    }

    /// Takes the next whole message out of `buffer`; `None` when more bytes are needed.
    ///
    /// `buffer` must be what it was after the previous call, with new bytes only at its end.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Box<RawValue>>, FramingError> {
        if self.depth == 0 && !self.skip_blanks(buffer)? {
            return Ok(None);
        }
        let end = self.scan(buffer);
        if end.unwrap_or(self.scanned) > self.limit {
            return Err(FramingError::TooLarge(self.limit));
        }
        let Some(end) = end else { return Ok(None) };
        self.scanned = 0;
        // A large message that fills the buffer takes its memory over: it is not copied, and not kept twice.
        let takes_over = end == buffer.len() && end >= LARGE;
        let message = if takes_over { std::mem::take(buffer) } else { buffer.split_to(end) };
        let text = String::from_utf8(message.into()).map_err(|_| FramingError::NotUtf8)?;
        let value = RawValue::from_string(text).map_err(FramingError::Invalid)?;
        Ok(Some(value))
    }

    /// How many bytes of an unfinished message have been seen; zero between messages.
    pub fn pending(&self) -> usize {
        self.scanned
    }

    /// What the end of the stream means: an error in the middle of a message.
    pub fn end(&self) -> Result<(), FramingError> {
        match self.scanned {
            0 => Ok(()),
            pending => Err(FramingError::Truncated(pending)),
        }
    }

    /// Drops white space before a message and checks its first byte; false when nothing is left.
    fn skip_blanks(&mut self, buffer: &mut BytesMut) -> Result<bool, FramingError> {
        let blanks = buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        buffer.advance(blanks);
        match buffer.first() {
            None => Ok(false),
            Some(b'{' | b'[') => Ok(true),
            Some(&other) => Err(FramingError::NotJson(other)),
        }
    }

    /// Goes on from where the last call stopped; the length of the message when its last bracket is found.
    fn scan(&mut self, buffer: &[u8]) -> Option<usize> {
        let mut at = self.scanned;
        while at < buffer.len() {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                let Some(found) = memchr2(b'"', b'\\', &buffer[at..]) else {
                    at = buffer.len();
                    break;
                };
                at += found;
                match buffer[at] {
                    b'"' => self.in_string = false,
                    _ => self.escaped = true,
                }
                at += 1;
            } else {
                match buffer[at] {
                    b'"' => self.in_string = true,
                    b'{' | b'[' => self.depth += 1,
                    b'}' | b']' => self.depth -= 1,
                    _ => {}
                }
                at += 1;
                if self.depth == 0 {
                    return Some(at);
                }
            }
        }
        self.scanned = at;
        None
    }
}

impl Default for JsonFramer {
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT)
    }
}
