//! From one snapshot to the next: pure functions of what the server sent (`update2` and `update3`,
//! ovsdb-server(7), section 4.1.14).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::config::MonitorTable;
use super::schema::Schema;
use super::snapshot::{Columns, Row, Snapshot, Table};
use super::value::{Datum, Uuid};

#[cfg(test)]
mod tests;

/// The tables and columns to hold: what is monitored and in the server's schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout(BTreeMap<Arc<str>, Arc<Columns>>);

impl Layout {
    /// Also gives what is not in the schema, as `Table` or `Table.column`.
    pub(super) fn new(monitors: &[MonitorTable], schema: &Schema) -> (Self, BTreeSet<String>) {
        let mut unknown = BTreeSet::new();
        let mut wanted: BTreeMap<&str, BTreeMap<&str, _>> = BTreeMap::new();
        for monitor in monitors {
            let name = monitor.table.as_str();
            if !schema.tables.contains_key(name) {
                unknown.insert(name.to_owned());
                continue;
            }
            let columns = wanted.entry(name).or_default();
            for column in &monitor.columns {
                match schema.column(name, column) {
                    Some(shape) => _ = columns.insert(column.as_str(), shape),
                    None => _ = unknown.insert(format!("{name}.{column}")),
                }
            }
        }
        let tables = wanted.into_iter().map(|(name, columns)| {
            let table: Arc<str> = name.into();
            let columns = columns.into_iter().map(|(column, shape)| (column.to_owned(), shape)).collect();
            (table.clone(), Arc::new(Columns { table, columns }))
        });
        (Self(tables.collect()), unknown)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The `<monitor-cond-requests>` for this layout.
    pub(super) fn requests(&self, monitors: &[MonitorTable]) -> Value {
        let request = |columns: &Columns| {
            let names: Vec<&String> = columns.columns.iter().map(|(name, _)| name).collect();
            let mut request = json!({ "columns": names });
            let wanted: Vec<&MonitorTable> =
                monitors.iter().filter(|monitor| *monitor.table == *columns.table).collect();
            if wanted.iter().all(|monitor| !monitor.conditions.is_empty()) {
                let conditions: Vec<_> = wanted.iter().flat_map(|monitor| &monitor.conditions).collect();
                request["where"] = json!(conditions);
            }
            json!([request])
        };
        Value::Object(self.0.iter().map(|(name, columns)| (name.to_string(), request(columns))).collect())
    }
}

/// Changes as the server sends them: `<table-updates2>`.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct TableUpdates<'a>(#[serde(borrow)] BTreeMap<Cow<'a, str>, RowUpdates<'a>>);

#[derive(Debug)]
struct RowUpdates<'a>(Vec<(Uuid, RowUpdate<'a>)>);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RowUpdate<'a> {
    #[serde(borrow)]
    Initial(RawRow<'a>),
    #[serde(borrow)]
    Insert(RawRow<'a>),
    #[serde(borrow)]
    Modify(RawRow<'a>),
    Delete(()),
}

#[derive(Debug)]
struct RawRow<'a>(Vec<(Cow<'a, str>, Datum)>);

/// The next snapshot; `None` if no monitored content has changed.
pub(super) fn apply(before: &Snapshot, updates: TableUpdates<'_>) -> Result<Option<Snapshot>, String> {
    let mut after = before.clone();
    after.generation += 1;
    let mut changed = false;
    for (name, rows) in updates.0 {
        let table =
            after.tables.get_mut(name.as_ref()).ok_or_else(|| format!("a table {name} not asked for"))?;
        let mut touched = false;
        for (uuid, update) in rows.0 {
            touched |= apply_row(table, uuid, update)?;
        }
        if touched {
            table.touch(after.generation);
        }
        changed |= touched;
    }
    Ok(changed.then_some(after))
}

/// The next snapshot when the server sends all there is: rows that are the same stay the same, so that only
/// what really differs is seen as changed.
pub(super) fn replace(
    before: &Snapshot,
    layout: &Layout,
    mut updates: TableUpdates<'_>,
) -> Result<Option<Snapshot>, String> {
    let mut after = Snapshot { generation: before.generation + 1, tables: BTreeMap::new() };
    let mut changed = before.generation == 0 || before.tables.len() != layout.0.len();
    for (name, columns) in &layout.0 {
        let known = before.tables.get(name).filter(|table| table.columns() == columns);
        let mut touched = known.is_none();
        let mut table = known.cloned().unwrap_or_else(|| Table::new(columns.clone()));
        let rows = updates.0.remove(name.as_ref()).map(|rows| rows.0).unwrap_or_default();
        let mut present = HashSet::with_capacity(rows.len());
        for (uuid, update) in rows {
            present.insert(uuid);
            touched |= apply_row(&mut table, uuid, update)?;
        }
        let absent: Vec<Uuid> =
            table.rows().map(|row| row.uuid()).filter(|uuid| !present.contains(uuid)).collect();
        touched |= !absent.is_empty();
        absent.into_iter().for_each(|uuid| table.remove(uuid));
        if touched {
            table.touch(after.generation);
        }
        changed |= touched;
        after.tables.insert(name.clone(), table);
    }
    match updates.0.into_keys().next() {
        Some(name) => Err(format!("a table {name} not asked for")),
        None => Ok(changed.then_some(after)),
    }
}

/// Whether the row is another now.
fn apply_row(table: &mut Table, uuid: Uuid, update: RowUpdate<'_>) -> Result<bool, String> {
    let columns = table.columns().clone();
    let before = table.row(uuid);
    let data: Box<[Datum]> = match update {
        RowUpdate::Delete(()) => {
            let was_there = before.is_some();
            table.remove(uuid);
            return Ok(was_there);
        }
        RowUpdate::Initial(raw) | RowUpdate::Insert(raw) => {
            let mut data: Box<[Datum]> =
                columns.columns.iter().map(|(_, shape)| shape.default_datum()).collect();
            for (at, datum) in raw.checked(&columns) {
                data[at] = datum?;
            }
            data
        }
        RowUpdate::Modify(raw) => {
            let before =
                before.ok_or_else(|| format!("a change of row {uuid} of {}, not known", columns.table))?;
            let mut data: Box<[Datum]> = before.data().into();
            for (at, datum) in raw.checked(&columns) {
                data[at] = match columns.columns[at].1.changes_by_difference() {
                    true => data[at].apply_difference(&datum?),
                    false => datum?,
                };
            }
            data
        }
    };
    if before.is_some_and(|row| *row.data() == *data) {
        return Ok(false);
    }
    table.insert(Arc::new(Row::new(uuid, columns, data)));
    Ok(true)
}

impl RawRow<'_> {
    /// Position and content of each column, content that cannot be this column's as an error.
    fn checked(self, columns: &Columns) -> impl Iterator<Item = (usize, Result<Datum, String>)> {
        self.0.into_iter().filter_map(|(name, datum)| {
            // `_version` and the like, should a server send them unasked.
            let at = columns.position(&name)?;
            let shape = columns.columns[at].1;
            let datum = shape.accept(datum).ok_or_else(|| {
                format!("content of column {name} of {} that does not fit its type", columns.table)
            });
            Some((at, datum))
        })
    }
}

/// A key of a JSON object, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for RawRow<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Columns;
        impl<'de> Visitor<'de> for Columns {
            type Value = RawRow<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a row")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut columns = Vec::new();
                while let Some((Key(name), datum)) = map.next_entry()? {
                    columns.push((name, datum));
                }
                Ok(RawRow(columns))
            }
        }
        deserializer.deserialize_map(Columns)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RowUpdates<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl<'de> Visitor<'de> for Rows {
            type Value = RowUpdates<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("row updates")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut rows = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    rows.push(entry);
                }
                Ok(RowUpdates(rows))
            }
        }
        deserializer.deserialize_map(Rows)
    }
}
