//! What to follow, from which servers, and with which time limits.

use std::time::Duration;

use super::framing::DEFAULT_LIMIT;
use super::operation::Condition;
use super::remote::{Remote, TlsFiles};

/// What to follow, from which servers, and with which time limits.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server, or the members of a cluster; they are tried in this order.
    pub remotes: Vec<Remote>,
    /// The database's name, such as `Open_vSwitch` or `OVN_Northbound`.
    pub database: String,
    /// Key and certificates for `ssl:` remotes.
    pub tls: Option<TlsFiles>,
    /// Of a cluster, use the leader only: writes are some ten times faster there.
    pub leader_only: bool,
    /// Silence after which the server is probed, and after which again it is disconnected; `None` never.
    pub probe_interval: Option<Duration>,
    /// How long to wait between rounds of attempts.
    pub backoff: Backoff,
    /// The largest message accepted from the server.
    pub message_limit: usize,
    /// What to hold in the cache. Tables and columns the server does not know are left out, and logged once.
    pub monitors: Vec<MonitorTable>,
}

/// A table to hold in the cache.
#[derive(Clone, Debug)]
pub struct MonitorTable {
    /// Its name.
    pub table: String,
    /// The columns wanted.
    pub columns: Vec<String>,
    /// Rows for which *any* of these holds; all rows if there are none.
    pub conditions: Vec<Condition>,
}

/// The wait after a round of failed attempts: doubled each time, within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first round.
    pub first: Duration,
    /// Never more than this.
    pub most: Duration,
}

impl Config {
    /// Follows nothing yet; probes after 5 s and waits from 1 s to 8 s between attempts, as OVS does.
    pub fn new(remotes: Vec<Remote>, database: &str) -> Self {
        Self {
            remotes,
            database: database.to_owned(),
            tls: None,
            leader_only: false,
            probe_interval: Some(Duration::from_secs(5)),
            backoff: Backoff::default(),
            message_limit: DEFAULT_LIMIT,
            monitors: Vec::new(),
        }
    }
}

impl MonitorTable {
    /// All rows of a table, with these columns.
    pub fn new(table: &str, columns: &[&str]) -> Self {
        Self {
            table: table.to_owned(),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            conditions: Vec::new(),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(8) }
    }
}
