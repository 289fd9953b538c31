//! The monitored part of a database at one moment: an immutable value that is cheap to keep and to follow.
//!
//! Tables share what did not change: a table is cut into shards by the first bits of the row's UUID, and a
//! change copies only the shard it falls into.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Error;
use super::schema::ColumnType;
use super::value::{Datum, Uuid};

const SHARD_BITS: u32 = 6;

/// The monitored tables at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) generation: u64,
    pub(super) tables: BTreeMap<Arc<str>, Table>,
}

/// The monitored rows and columns of a table at one moment.
#[derive(Clone, Debug)]
pub struct Table {
    columns: Arc<Columns>,
    generation: u64,
    len: usize,
    shards: Arc<[Arc<Shard>]>,
}

type Shard = BTreeMap<Uuid, Arc<Row>>;

/// The monitored columns of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    uuid: Uuid,
    columns: Arc<Columns>,
    data: Box<[Datum]>,
}

/// Names and shapes of a table's monitored columns, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) table: Arc<str>,
    pub(super) columns: Vec<(String, ColumnType)>,
}

impl Snapshot {
    /// Counts the changes seen; zero before the first synchronization.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// A monitored table; `None` also when the server's schema does not have it.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(name)
    }

    /// The monitored tables by name.
    pub fn tables(&self) -> impl Iterator<Item = (&str, &Table)> {
        self.tables.iter().map(|(name, table)| (name.as_ref(), table))
    }

    /// The rows of a table in the order of their UUIDs; none if the table is not there.
    pub fn rows<'a>(&'a self, table: &str) -> impl Iterator<Item = &'a Arc<Row>> + use<'a> {
        self.table(table).into_iter().flat_map(Table::rows)
    }

    /// One row of a table.
    pub fn row(&self, table: &str, uuid: Uuid) -> Option<&Arc<Row>> {
        self.table(table)?.row(uuid)
    }
}

impl Table {
    /// The generation of the snapshot that last changed this table: an unchanged number is an unchanged table.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows in the order of their UUIDs.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Row>> {
        self.shards.iter().flat_map(|shard| shard.values())
    }

    /// One row.
    pub fn row(&self, uuid: Uuid) -> Option<&Arc<Row>> {
        self.shards[shard_of(uuid)].get(&uuid)
    }

    /// The first row whose column holds exactly this; compares every row.
    pub fn find(&self, column: &str, datum: &Datum) -> Option<&Arc<Row>> {
        self.rows().find(|row| row.get(column) == Some(datum))
    }

    pub(super) fn new(columns: Arc<Columns>) -> Self {
        let shards = vec![Arc::default(); 1 << SHARD_BITS].into();
        Self { columns, generation: 0, len: 0, shards }
    }

    pub(super) fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    pub(super) fn touch(&mut self, generation: u64) {
        self.generation = generation;
    }

    pub(super) fn insert(&mut self, row: Arc<Row>) {
        let shards = Arc::make_mut(&mut self.shards);
        let before = Arc::make_mut(&mut shards[shard_of(row.uuid)]).insert(row.uuid, row);
        self.len += usize::from(before.is_none());
    }

    pub(super) fn remove(&mut self, uuid: Uuid) {
        let shards = Arc::make_mut(&mut self.shards);
        let before = Arc::make_mut(&mut shards[shard_of(uuid)]).remove(&uuid);
        self.len -= usize::from(before.is_some());
    }
}

impl Row {
    /// The row's name.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// The table it is in.
    pub fn table(&self) -> &str {
        &self.columns.table
    }

    /// A column's content; `None` if the column is not monitored or not known to the server.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        Some(&self.data[self.columns.position(column)?])
    }

    /// The columns by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.columns.columns.iter().map(|(name, _)| name.as_str()).zip(self.data.iter())
    }

    /// The string of a scalar column, or an error that names the column.
    pub fn string(&self, column: &str) -> Result<&str, Error> {
        let datum = self.get(column).ok_or_else(|| self.problem(column, "missing"))?;
        datum.as_str().ok_or_else(|| self.problem(column, "not one string"))
    }

    /// The string of an optional column; `None` if it is unset or not known to the server.
    pub fn optional_string(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    /// The strings of a column, in order.
    pub fn strings(&self, column: &str) -> impl Iterator<Item = &str> {
        self.get(column).map(Datum::atoms).unwrap_or_default().iter().filter_map(|atom| atom.as_str())
    }

    /// The rows a column refers to.
    pub fn references(&self, column: &str) -> impl Iterator<Item = Uuid> + '_ {
        self.get(column).map(Datum::atoms).unwrap_or_default().iter().filter_map(|atom| atom.as_uuid())
    }

    /// The pairs of a map of strings.
    pub fn string_pairs(&self, column: &str) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.get(column).map(Datum::pairs).unwrap_or_default();
        pairs.iter().filter_map(|(key, value)| Some((key.as_str()?, value.as_str()?)))
    }

    /// The value of a key in a map of strings.
    pub fn key<'a>(&'a self, column: &str, key: &str) -> Option<&'a str> {
        self.get(column)?.get(key)
    }

    /// An error about one of this row's columns.
    pub fn problem(&self, column: &str, problem: &'static str) -> Error {
        Error::Column {
            table: self.columns.table.to_string(),
            row: self.uuid,
            column: column.to_owned(),
            problem,
        }
    }

    pub(super) fn new(uuid: Uuid, columns: Arc<Columns>, data: Box<[Datum]>) -> Self {
        Self { uuid, columns, data }
    }

    pub(super) fn data(&self) -> &[Datum] {
        &self.data
    }
}

impl Columns {
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.columns.binary_search_by(|(candidate, _)| candidate.as_str().cmp(name)).ok()
    }
}

fn shard_of(uuid: Uuid) -> usize {
    (uuid.0 >> (128 - SHARD_BITS)) as usize
}
