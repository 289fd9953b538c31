//! Errors of text and files that are read.

/// Why a text or a file is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Text that is no value of its kind.
    #[error("'{text}' is not {what}; write {remedy}")]
    Word {
        /// What was given.
        text: String,
        /// What it was read as.
        what: &'static str,
        /// What to write instead.
        remedy: &'static str,
    },
    /// A capture file that is none, or broken at some packet.
    #[error(
        "cannot read the capture at packet {packet}: {reason}; give a pcap or pcapng file of Ethernet frames"
    )]
    Capture {
        /// The packet, counted from 1.
        packet: usize,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// Text that is no value of its kind.
    pub(crate) fn word(text: &str, what: &'static str, remedy: &'static str) -> Error {
        Error::Word { text: text.to_owned(), what, remedy }
    }
}
