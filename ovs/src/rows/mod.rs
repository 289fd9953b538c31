//! Rows of Open vSwitch's and OVN's databases as plain values, with only the columns this product reads.
//!
//! A column that an older or newer schema does not have reads as unset. A value is copied out of the snapshot,
//! so that it can be kept, compared and printed.

mod columns;
pub mod nb;
pub mod vswitch;

use crate::ovsdb::{Error, MonitorTable, Row, Snapshot, Uuid};

#[cfg(test)]
mod tests;

/// A row of a known table.
pub trait TypedRow: Sized {
    /// The table's name.
    const TABLE: &'static str;
    /// The columns [`from_row`](Self::from_row) reads.
    const COLUMNS: &'static [&'static str];

    /// Reads a row; the error names the column that does not hold what it must.
    fn from_row(row: &Row) -> Result<Self, Error>;

    /// What must be monitored to read such rows.
    fn monitor() -> MonitorTable {
        MonitorTable::new(Self::TABLE, Self::COLUMNS)
    }

    /// All rows of the table, in the order of their UUIDs. Rows that cannot be read come as errors.
    fn all(snapshot: &Snapshot) -> impl Iterator<Item = Result<Self, Error>> {
        snapshot.rows(Self::TABLE).map(|row| Self::from_row(row))
    }

    /// The row of this UUID, if it is there and can be read.
    fn one(snapshot: &Snapshot, uuid: Uuid) -> Option<Self> {
        Self::from_row(snapshot.row(Self::TABLE, uuid)?).ok()
    }

    /// The first readable row whose `name` is this.
    fn named(snapshot: &Snapshot, name: &str) -> Option<Self> {
        let row = snapshot.rows(Self::TABLE).find(|row| row.optional_string("name") == Some(name))?;
        Self::from_row(row).ok()
    }
}
