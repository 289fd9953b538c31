//! Errors of the OVSDB clients, and what a person can do about them.

use std::path::PathBuf;

use super::framing::FramingError;
use super::remote::Remote;

/// A failure of the OVSDB client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A text that names no database.
    #[error(
        "\"{text}\" names no OVSDB server: {reason}; write unix:PATH, tcp:HOST:PORT or ssl:HOST:PORT, several with commas between"
    )]
    BadRemote {
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No connection could be made.
    #[error("cannot connect to the database at {remote}: {source}; is ovsdb-server running there?")]
    Connect {
        /// Where to.
        remote: Remote,
        /// Why not.
        source: std::io::Error,
    },
    /// A key or certificate file that cannot be used.
    #[error("cannot use {}: {reason}; give a readable PEM file", path.display())]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An `ssl:` remote without key, certificate and CA.
    #[error("{remote} needs a private key, a certificate and a CA certificate; name the three files")]
    TlsFilesMissing {
        /// Where to.
        remote: Remote,
    },
    /// TLS could not be agreed on.
    #[error(
        "no TLS with the database at {remote}: {source}; check that each side's certificate is signed by the other's CA"
    )]
    Tls {
        /// Where to.
        remote: Remote,
        /// Why not.
        source: std::io::Error,
    },
    /// The bytes that came are no OVSDB messages.
    #[error("lost the database at {remote}: {source}")]
    Framing {
        /// From where.
        remote: Remote,
        /// What came.
        source: FramingError,
    },
    /// A message that is JSON, but not what the protocol has in this place.
    #[error("the database at {remote} sent {what}: {reason}; is it an ovsdb-server?")]
    Protocol {
        /// From where.
        remote: Remote,
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server refused a request of ours.
    #[error(
        "the database at {remote} refused \"{method}\": {reason}; check the database's name, and that the server is OVS 2.12 or newer"
    )]
    Refused {
        /// The server.
        remote: Remote,
        /// The request.
        method: &'static str,
        /// The server's error.
        reason: String,
    },
    /// The peer closed the connection.
    #[error("the database at {remote} closed the connection")]
    Closed {
        /// The server.
        remote: Remote,
    },
    /// The peer did not answer probes.
    #[error("the database at {remote} has been silent for {seconds} s")]
    Silent {
        /// The server.
        remote: Remote,
        /// For how long.
        seconds: u64,
    },
    /// This member of a cluster cannot be used.
    #[error("the database at {remote} cannot be used: {reason}; trying another member if there is one")]
    WrongMember {
        /// The server.
        remote: Remote,
        /// Why.
        reason: &'static str,
    },
    /// The transaction was not sent.
    #[error("not connected to database {database}; the transaction was not sent, try again later")]
    NotConnected {
        /// Which database.
        database: String,
    },
    /// The connection ended between a transaction and its reply.
    #[error(
        "the connection to database {database} ended before the reply; the transaction may or may not have been done; read the rows again"
    )]
    OutcomeUnknown {
        /// Which database.
        database: String,
    },
    /// The server refused a transaction; nothing of it was done.
    #[error("database {database} refused {}: {error}{}", place(*operation), in_brackets(details))]
    Transaction {
        /// Which database.
        database: String,
        /// Index of the operation; `None` if the whole failed when it was to be committed.
        operation: Option<usize>,
        /// The short error, such as `constraint violation` or `timed out` (a `wait` that does not hold).
        error: String,
        /// The server's explanation.
        details: String,
    },
    /// A transaction's reply does not fit its operations.
    #[error("database {database} answered a transaction with {reason}")]
    BadReply {
        /// Which database.
        database: String,
        /// What came.
        reason: String,
    },
    /// A row does not hold what its type needs.
    #[error("column {column} of row {row} of table {table} is {problem}")]
    Column {
        /// The table.
        table: String,
        /// The row.
        row: super::value::Uuid,
        /// The column.
        column: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A server that is there did not do its part by a deadline.
    #[error(
        "the database at {remote} did not {what} in time; is ovsdb-server stopped, or very busy? (its log says so)"
    )]
    TooLate {
        /// The server.
        remote: Remote,
        /// What it was to do.
        what: &'static str,
    },
}

impl Error {
    /// Whether a `wait` of the transaction did not hold: the rows are no longer what they were when the
    /// transaction was made.
    pub fn is_wait_failed(&self) -> bool {
        matches!(self, Error::Transaction { error, .. } if error == "timed out")
    }
}

fn place(operation: Option<usize>) -> String {
    match operation {
        Some(index) => format!("operation {index} of a transaction"),
        None => "to commit a transaction".to_owned(),
    }
}

fn in_brackets(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!(" ({details})") }
}
