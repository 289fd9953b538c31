//! The operations of a transaction (RFC 7047, section 5.2), as values that are built, printed and compared.

use std::collections::BTreeMap;
use std::fmt;

use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::value::{Datum, Uuid};

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub struct Operation {
    kind: Kind,
    table: String,
    conditions: Vec<Condition>,
    row: BTreeMap<String, Datum>,
    mutations: Vec<Mutation>,
    columns: Vec<String>,
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Insert,
    Update,
    Mutate,
    Delete,
    WaitEqual,
    WaitDifferent,
    Select,
    Comment,
    Abort,
    Assert,
}

/// A test on a column (RFC 7047, section 5.1): all of an operation's conditions must hold.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Condition(String, &'static str, Datum);

/// A change of a column relative to what it holds.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Mutation(String, &'static str, Datum);

impl Operation {
    /// Adds a row; give it columns with [`set`](Self::set).
    pub fn insert(table: &str) -> Self {
        Self::new(Kind::Insert, table)
    }

    /// Overwrites columns of the rows selected.
    pub fn update(table: &str) -> Self {
        Self::new(Kind::Update, table)
    }

    /// Changes columns of the rows selected relative to what they hold.
    pub fn mutate(table: &str) -> Self {
        Self::new(Kind::Mutate, table)
    }

    /// Removes the rows selected.
    pub fn delete(table: &str) -> Self {
        Self::new(Kind::Delete, table)
    }

    /// Reads the rows selected.
    pub fn select(table: &str) -> Self {
        Self::new(Kind::Select, table)
    }

    /// Aborts the transaction unless the rows selected are exactly one with the columns
    /// [`set`](Self::set) here. It does not wait: the timeout is zero.
    pub fn wait_equal(table: &str) -> Self {
        Self::new(Kind::WaitEqual, table)
    }

    /// Aborts the transaction if the rows selected are exactly one with the columns
    /// [`set`](Self::set) here.
    pub fn wait_different(table: &str) -> Self {
        Self::new(Kind::WaitDifferent, table)
    }

    /// Aborts the transaction if any row meets the conditions: may-exist guards.
    pub fn wait_absent(table: &str) -> Self {
        Self { columns: vec!["_uuid".to_owned()], ..Self::new(Kind::WaitEqual, table) }
    }

    /// Writes a comment to the database's log.
    pub fn comment(text: &str) -> Self {
        Self { name: Some(text.to_owned()), ..Self::new(Kind::Comment, "") }
    }

    /// Undoes the whole transaction: to see what it would have done.
    pub fn abort() -> Self {
        Self::new(Kind::Abort, "")
    }

    /// Lets the transaction go on only if this connection holds the lock.
    pub fn assert_lock(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::new(Kind::Assert, "") }
    }

    /// Names the row inserted for the other operations of the same transaction ([`Atom::named`](super::Atom::named)).
    pub fn named(self, name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..self }
    }

    /// Content of a column, for `insert`, `update` and the two waits.
    pub fn set(mut self, column: &str, datum: impl Into<Datum>) -> Self {
        self.row.insert(column.to_owned(), datum.into());
        self
    }

    /// Selects only rows for which this holds; several must all hold.
    pub fn filter(mut self, condition: Condition) -> Self {
        self.conditions.push(condition);
        self
    }

    /// Selects the one row of this name.
    pub fn row(self, uuid: Uuid) -> Self {
        self.filter(Condition::uuid(uuid))
    }

    /// The columns a `select` gives; all if never called.
    pub fn columns(mut self, columns: &[&str]) -> Self {
        self.columns = columns.iter().map(|column| (*column).to_owned()).collect();
        self
    }

    /// `mutate`: puts elements into a set, or pairs into a map whose keys are not there yet.
    pub fn put(self, column: &str, datum: impl Into<Datum>) -> Self {
        self.mutation(column, "insert", datum.into())
    }

    /// `mutate`: takes elements out of a set, or pairs out of a map: the keys of a set given, or the exact
    /// pairs of a map given.
    pub fn take(self, column: &str, datum: impl Into<Datum>) -> Self {
        self.mutation(column, "delete", datum.into())
    }

    /// `mutate`: sets a key of a map, whatever it was before.
    pub fn put_key(self, column: &str, key: &str, value: &str) -> Self {
        self.take(column, Datum::set([key])).put(column, Datum::map([(key, value)]))
    }

    /// `mutate`: adds to a number.
    pub fn add(self, column: &str, amount: i64) -> Self {
        self.mutation(column, "+=", amount.into())
    }

    fn new(kind: Kind, table: &str) -> Self {
        Self {
            kind,
            table: table.to_owned(),
            conditions: Vec::new(),
            row: BTreeMap::new(),
            mutations: Vec::new(),
            columns: Vec::new(),
            name: None,
        }
    }

    fn mutation(mut self, column: &str, mutator: &'static str, datum: Datum) -> Self {
        self.mutations.push(Mutation(column.to_owned(), mutator, datum));
        self
    }
}

impl Condition {
    /// The column holds exactly this.
    pub fn equal(column: &str, datum: impl Into<Datum>) -> Self {
        Self(column.to_owned(), "==", datum.into())
    }

    /// The column holds something else.
    pub fn different(column: &str, datum: impl Into<Datum>) -> Self {
        Self(column.to_owned(), "!=", datum.into())
    }

    /// The column holds all of these elements or pairs.
    pub fn includes(column: &str, datum: impl Into<Datum>) -> Self {
        Self(column.to_owned(), "includes", datum.into())
    }

    /// The column holds none of these elements or pairs.
    pub fn excludes(column: &str, datum: impl Into<Datum>) -> Self {
        Self(column.to_owned(), "excludes", datum.into())
    }

    /// The row is this one.
    pub fn uuid(uuid: Uuid) -> Self {
        Self::equal("_uuid", uuid)
    }
}

impl Serialize for Operation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("op", self.kind.word())?;
        match self.kind {
            Kind::Comment => map.serialize_entry("comment", &self.name)?,
            Kind::Assert => map.serialize_entry("lock", &self.name)?,
            Kind::Abort => {}
            _ => map.serialize_entry("table", &self.table)?,
        }
        if matches!(
            self.kind,
            Kind::Update | Kind::Mutate | Kind::Delete | Kind::Select | Kind::WaitEqual | Kind::WaitDifferent
        ) {
            map.serialize_entry("where", &self.conditions)?;
        }
        match self.kind {
            Kind::Insert => {
                map.serialize_entry("row", &self.row)?;
                if let Some(name) = &self.name {
                    map.serialize_entry("uuid-name", name)?;
                }
            }
            Kind::Update => map.serialize_entry("row", &self.row)?,
            Kind::Mutate => map.serialize_entry("mutations", &self.mutations)?,
            Kind::Select if !self.columns.is_empty() => map.serialize_entry("columns", &self.columns)?,
            Kind::WaitEqual | Kind::WaitDifferent => {
                let columns: Vec<&String> = self.row.keys().chain(&self.columns).collect();
                let rows = if self.row.is_empty() { vec![] } else { vec![&self.row] };
                map.serialize_entry("columns", &columns)?;
                map.serialize_entry("rows", &rows)?;
                map.serialize_entry("until", if self.kind == Kind::WaitEqual { "==" } else { "!=" })?;
                map.serialize_entry("timeout", &0)?;
            }
            _ => {}
        }
        map.end()
    }
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Insert => "insert",
            Kind::Update => "update",
            Kind::Mutate => "mutate",
            Kind::Delete => "delete",
            Kind::WaitEqual | Kind::WaitDifferent => "wait",
            Kind::Select => "select",
            Kind::Comment => "comment",
            Kind::Abort => "abort",
            Kind::Assert => "assert",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What an operation gave back.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// Done, without a result (`wait`, `comment`, `assert`).
    Done,
    /// The name of the row inserted.
    Inserted(Uuid),
    /// How many rows were selected by `update`, `mutate` or `delete`.
    Count(u64),
    /// The rows of a `select`.
    Rows(Vec<BTreeMap<String, Datum>>),
}

impl OpResult {
    /// The row inserted.
    pub fn inserted(&self) -> Option<Uuid> {
        match self {
            OpResult::Inserted(uuid) => Some(*uuid),
            _ => None,
        }
    }

    /// How many rows were changed.
    pub fn count(&self) -> Option<u64> {
        match self {
            OpResult::Count(count) => Some(*count),
            _ => None,
        }
    }

    /// The rows of a `select`; none for anything else.
    pub fn rows(&self) -> &[BTreeMap<String, Datum>] {
        match self {
            OpResult::Rows(rows) => rows,
            _ => &[],
        }
    }
}

/// Why a transaction failed: in which slot, and the server's error.
#[derive(Debug, PartialEq)]
pub(super) enum ReplyError {
    /// An error in a slot; `None` is the slot after the last operation, or an operation that aborted.
    Slot { operation: Option<usize>, error: String, details: String },
    /// Not a reply to that many operations.
    Shape(String),
}

/// Reads the reply to a transaction of `operations` operations.
///
/// The array has a slot per operation, `null` for those after a failed one, and one more slot if the whole
/// failed to commit (RFC 7047, section 4.1.3).
pub(super) fn parse_reply(reply: &str, operations: usize) -> Result<Vec<OpResult>, ReplyError> {
    #[derive(Deserialize)]
    struct Slot {
        error: Option<String>,
        details: Option<String>,
        uuid: Option<Datum>,
        count: Option<u64>,
        rows: Option<Vec<BTreeMap<String, Datum>>>,
    }
    let slots: Vec<Option<Slot>> =
        serde_json::from_str(reply).map_err(|error| ReplyError::Shape(error.to_string()))?;
    let found = slots.len();
    let mut results = Vec::with_capacity(operations);
    for (index, slot) in slots.into_iter().enumerate() {
        let slot = slot.ok_or_else(|| ReplyError::Shape(format!("an empty slot {index}")))?;
        if let Some(error) = slot.error {
            let operation = (index < operations).then_some(index);
            return Err(ReplyError::Slot { operation, error, details: slot.details.unwrap_or_default() });
        }
        results.push(match (slot.uuid.and_then(|uuid| uuid.as_uuid()), slot.count, slot.rows) {
            (Some(uuid), ..) => OpResult::Inserted(uuid),
            (None, Some(count), _) => OpResult::Count(count),
            (None, None, Some(rows)) => OpResult::Rows(rows),
            (None, None, None) => OpResult::Done,
        });
    }
    if found != operations {
        return Err(ReplyError::Shape(format!("{found} results for {operations} operations")));
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::super::value::Atom;
    use super::*;

    #[test]
    fn operations_are_written_as_rfc_7047_has_them() {
        let uuid = Uuid(1);
        let cases = [
            (
                Operation::insert("Bridge").named("b").set("name", "breth0").set("ports", Atom::named("p")),
                r#"{"op":"insert","table":"Bridge","row":{"name":"breth0","ports":["named-uuid","p"]},"uuid-name":"b"}"#,
            ),
            (
                Operation::mutate("Port").row(uuid).put_key("external_ids", "a", "1").add("tag", 2),
                r#"{"op":"mutate","table":"Port","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]],"mutations":[["external_ids","delete","a"],["external_ids","insert",["map",[["a","1"]]]],["tag","+=",2]]}"#,
            ),
            (
                Operation::wait_absent("Port").filter(Condition::equal("name", "p")),
                r#"{"op":"wait","table":"Port","where":[["name","==","p"]],"columns":["_uuid"],"rows":[],"until":"==","timeout":0}"#,
            ),
            (
                Operation::wait_equal("Port").row(uuid).set("tag", Datum::empty_set()),
                r#"{"op":"wait","table":"Port","where":[["_uuid","==",["uuid","00000000-0000-0000-0000-000000000001"]]],"columns":["tag"],"rows":[{"tag":["set",[]]}],"until":"==","timeout":0}"#,
            ),
            (Operation::comment("why"), r#"{"op":"comment","comment":"why"}"#),
            (Operation::assert_lock("l"), r#"{"op":"assert","lock":"l"}"#),
            (Operation::abort(), r#"{"op":"abort"}"#),
            (
                Operation::select("Port").columns(&["name"]),
                r#"{"op":"select","table":"Port","where":[],"columns":["name"]}"#,
            ),
            (Operation::delete("Port"), r#"{"op":"delete","table":"Port","where":[]}"#),
        ];
        for (operation, text) in cases {
            assert_eq!(operation.to_string(), text);
        }
    }

    #[test]
    fn errors_are_found_in_any_slot() {
        let slot = |operation, error: &str, details: &str| {
            Err(ReplyError::Slot { operation, error: error.into(), details: details.into() })
        };
        assert_eq!(parse_reply(r#"[{"error":"e","details":"d"},null]"#, 2), slot(Some(0), "e", "d"));
        assert_eq!(parse_reply(r#"[{"count":1},{},{"error":"e"}]"#, 2), slot(None, "e", ""));
        assert_eq!(
            parse_reply(r#"[{"count":1},{"rows":[]}]"#, 2),
            Ok(vec![OpResult::Count(1), OpResult::Rows(vec![])])
        );
        for broken in ["{}", "[]", "[null]", "[{},{}]", "[1]"] {
            assert!(matches!(parse_reply(broken, 1), Err(ReplyError::Shape(_))), "{broken}");
        }
    }
}
