//! Requests to change an object, and refusals.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Row;
use super::row::{DELETE, NEW};
use crate::Error;
use crate::netlink_format::{
    self, Answer, NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
};
use crate::netlink_socket::message_of;

/// A request to change one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Request {
    /// What the request does.
    pub verb: Verb,
    /// The object.
    pub row: Row,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Create it; refused when it exists (`EEXIST`).
    Create,
    /// Create it, or replace the existing one.
    Replace,
    /// Create it behind the existing ones (routes).
    Append,
    /// Change the existing one (links).
    Change,
    /// Delete it.
    Delete,
}

/// The kernel refused a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// The error number.
    pub errno: i32,
    /// The kernel's extended acknowledgement, if there is one, and the text of the error number.
    pub message: String,
}

impl Refused {
    pub(super) fn of(answer: Answer) -> Option<Self> {
        (answer.errno != 0).then(|| Self { errno: answer.errno, message: message_of(&answer) })
    }

    /// The object to create exists already.
    #[must_use]
    pub fn already_exists(&self) -> bool {
        self.errno == libc::EEXIST
    }

    /// The object to delete does not exist, or its device does not.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        matches!(self.errno, libc::ESRCH | libc::ENOENT | libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENXIO)
    }
}

impl Request {
    /// Creates the object; refused when it exists.
    #[must_use]
    pub fn create(row: Row) -> Self {
        Self { verb: Verb::Create, row }
    }

    /// Creates the object, or replaces the existing one.
    #[must_use]
    pub fn replace(row: Row) -> Self {
        Self { verb: Verb::Replace, row }
    }

    /// Creates the object behind the existing ones.
    #[must_use]
    pub fn append(row: Row) -> Self {
        Self { verb: Verb::Append, row }
    }

    /// Changes the object.
    #[must_use]
    pub fn change(row: Row) -> Self {
        Self { verb: Verb::Change, row }
    }

    /// Deletes the object.
    #[must_use]
    pub fn delete(row: Row) -> Self {
        Self { verb: Verb::Delete, row }
    }

    /// A refusal of this request as an error that names the request.
    #[must_use]
    pub fn refused(&self, refused: Refused) -> Error {
        Error::Netlink { attempted: self.to_string(), message: refused.message, errno: refused.errno }
    }

    pub(crate) fn push(&self, bytes: &mut Vec<u8>, sequence: u32) {
        let (offset, flags) = match self.verb {
            Verb::Create => (NEW, NLM_F_CREATE | NLM_F_EXCL),
            Verb::Replace => (NEW, NLM_F_CREATE | NLM_F_REPLACE),
            Verb::Append => (NEW, NLM_F_CREATE | NLM_F_APPEND),
            Verb::Change => (NEW, 0),
            Verb::Delete => (DELETE, 0),
        };
        let kind = self.row.kind.number() + offset;
        netlink_format::push_message(bytes, kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, |body| {
            body.extend(&self.row.header);
            for attribute in &self.row.attributes {
                netlink_format::push_attribute(body, attribute.kind, &attribute.value);
            }
        });
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.verb {
            Verb::Create => "add",
            Verb::Replace => "replace",
            Verb::Append => "append",
            Verb::Change => "change",
            Verb::Delete => "delete",
        };
        write!(f, "{verb} {}", self.row)
    }
}
