//! Messages of a database server, from bytes to values (RFC 7047, section 4). No I/O: the asynchronous and the
//! blocking client both read with this.

use std::ops::Range;

use bytes::BytesMut;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::framing::JsonFramer;
use super::operation::{OpResult, Operation, ReplyError, parse_reply};
use super::{Error, Remote};

#[cfg(test)]
mod tests;

/// What a server sends.
#[derive(Debug)]
pub(super) enum Message {
    /// Something for the client.
    Event(Event),
    /// A request of the server, with the reply to send: `echo` is answered, every other method refused.
    Request { reply: String },
}

/// What a client acts on.
#[derive(Debug)]
pub(super) enum Event {
    /// The reply to the request with this number: its result, or the server's error as JSON text.
    Reply { id: u64, outcome: Result<Body, String> },
    /// A message that takes no reply, such as an update.
    Notification { method: String, params: Body },
}

/// A part of a message, as JSON text that is not copied.
#[derive(Debug)]
pub(super) struct Body {
    message: Box<RawValue>,
    part: Range<usize>,
}

/// Cuts the bytes of one connection into messages.
#[derive(Debug)]
pub(super) struct MessageReader {
    remote: Remote,
    buffer: BytesMut,
    framer: JsonFramer,
}

impl MessageReader {
    /// Refuses messages longer than `limit` bytes.
    pub(super) fn new(remote: &Remote, limit: usize) -> Self {
        Self { remote: remote.clone(), buffer: BytesMut::new(), framer: JsonFramer::new(limit) }
    }

    /// Where received bytes are appended.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The next whole message; `None` when more bytes are needed.
    pub(super) fn next(&mut self) -> Result<Option<Message>, Error> {
        let framing = |source| Error::Framing { remote: self.remote.clone(), source };
        while let Some(text) = self.framer.next(&mut self.buffer).map_err(framing)? {
            let message = Message::parse(text).map_err(|reason| Error::Protocol {
                remote: self.remote.clone(),
                what: "a malformed message",
                reason,
            })?;
            if message.is_some() {
                return Ok(message);
            }
        }
        Ok(None)
    }

    /// What the end of the stream means: closed between two messages, or in the middle of one.
    pub(super) fn ended(&self) -> Error {
        let remote = self.remote.clone();
        match self.framer.end() {
            Ok(()) => Error::Closed { remote },
            Err(source) => Error::Framing { remote, source },
        }
    }
}

impl Message {
    /// Classifies a message; `None` for a reply to no request of ours (the answer to a probe).
    fn parse(message: Box<RawValue>) -> Result<Option<Self>, String> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            id: Option<&'a RawValue>,
            method: Option<String>,
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
            #[serde(borrow)]
            error: Option<&'a RawValue>,
        }
        let text = message.get();
        // serde would read an array as the fields in their order.
        if !text.starts_with('{') {
            return Err("an array, where JSON-RPC has objects".to_owned());
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Some(method) = fields.method else {
            let Some(id) = fields.id.and_then(|id| id.get().parse().ok()) else { return Ok(None) };
            let outcome = match (fields.error, fields.result) {
                (Some(error), _) => Err(error.get().to_owned()),
                (None, None) => Err("neither result nor error".to_owned()),
                (None, Some(result)) => Ok(part_of(text, result)),
            };
            let outcome = outcome.map(|part| Body { message, part });
            return Ok(Some(Message::Event(Event::Reply { id, outcome })));
        };
        let params = fields.params.map_or("[]", RawValue::get);
        Ok(Some(match fields.id {
            None => {
                let part = fields.params.map(|params| part_of(text, params)).unwrap_or_default();
                Message::Event(Event::Notification { method, params: Body { message, part } })
            }
            Some(id) if method == "echo" => {
                Message::Request { reply: format!(r#"{{"id":{id},"result":{params},"error":null}}"#) }
            }
            Some(id) => {
                Message::Request { reply: format!(r#"{{"id":{id},"result":null,"error":"unknown method"}}"#) }
            }
        }))
    }
}

impl Body {
    /// The JSON text.
    pub(super) fn text(&self) -> &str {
        self.message.get().get(self.part.clone()).unwrap_or_default()
    }
}

/// A request as text. `params` is JSON.
pub(super) fn request(id: u64, method: &str, params: &str) -> String {
    format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#)
}

/// The parameters of `transact`.
pub(super) fn transact_params(database: &str, operations: &[Operation]) -> String {
    let mut params = json!(database).to_string();
    params.insert(0, '[');
    for operation in operations {
        params.push(',');
        params.push_str(&operation.to_string());
    }
    params.push(']');
    params
}

/// The results in the reply to a transaction of so many operations.
pub(super) fn transact_results(
    database: &str,
    operations: usize,
    reply: &str,
) -> Result<Vec<OpResult>, Error> {
    let database = database.to_owned();
    parse_reply(reply, operations).map_err(|error| match error {
        ReplyError::Shape(reason) => Error::BadReply { database, reason },
        ReplyError::Slot { operation, error, details } => {
            Error::Transaction { database, operation, error, details }
        }
    })
}

/// Where a part of a text lies in it.
fn part_of(whole: &str, part: &RawValue) -> Range<usize> {
    let start = part.get().as_ptr().addr() - whole.as_ptr().addr();
    start..start + part.get().len()
}
