//! Whether a server can be used, by its state in table `Database` of `_Server` (ovsdb-server(5)).

use super::config::MonitorTable;
use super::snapshot::{Row, Snapshot};
use super::updates::{self, Layout, TableUpdates};
use super::value::{Datum, Uuid};

/// What is known of the servers of one database.
#[derive(Debug)]
pub(super) struct Members {
    database: String,
    leader_only: bool,
    current: Snapshot,
    /// The newest data seen: a cluster, and the index in its log.
    newest: Option<(Uuid, i64)>,
}

impl Members {
    pub(super) fn new(database: &str, leader_only: bool) -> Self {
        Self { database: database.to_owned(), leader_only, current: Snapshot::default(), newest: None }
    }

    pub(super) fn monitors() -> [MonitorTable; 1] {
        [MonitorTable::new("Database", &["name", "model", "connected", "leader", "cid", "index"])]
    }

    /// Another server and its whole state; the error says why it cannot be used.
    pub(super) fn replace(&mut self, layout: &Layout, content: TableUpdates<'_>) -> Result<(), &'static str> {
        self.current =
            updates::replace(&Snapshot::default(), layout, content).ok().flatten().unwrap_or_default();
        self.check()
    }

    /// A change of the server's state.
    pub(super) fn update(&mut self, changes: TableUpdates<'_>) -> Result<(), &'static str> {
        if let Ok(Some(next)) = updates::apply(&self.current, changes) {
            self.current = next;
        }
        self.check()
    }

    fn check(&mut self) -> Result<(), &'static str> {
        let Some(table) = self.current.table("Database") else { return Ok(()) };
        let name = Datum::from(self.database.as_str());
        let row = table.find("name", &name).ok_or("it does not have this database")?;
        let is = |column| row.get(column).and_then(Datum::as_bool) == Some(true);
        match row.optional_string("model") {
            Some("clustered") => {}
            Some("relay") if !is("connected") => return Err("it is a relay without a source"),
            _ => return Ok(()),
        }
        if !is("connected") {
            return Err("it is not connected to its cluster");
        }
        if self.leader_only && !is("leader") {
            return Err("it is not the leader of its cluster");
        }
        self.newest = Some(newer(row, self.newest)?);
        Ok(())
    }
}

/// Refuses a member whose data is older than another's: the cache must not go back in time.
fn newer(row: &Row, newest: Option<(Uuid, i64)>) -> Result<(Uuid, i64), &'static str> {
    let cluster = row.get("cid").and_then(Datum::as_uuid).unwrap_or_default();
    let index = row.get("index").and_then(Datum::as_integer).unwrap_or_default();
    match newest {
        Some((known, seen)) if known == cluster && index < seen => {
            Err("its data is older than what was seen")
        }
        _ => Ok((cluster, index)),
    }
}
