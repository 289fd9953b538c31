//! The part of a database schema (RFC 7047, section 3.2) a client needs: which columns there are, and of what
//! shape.
//!
//! The server leaves columns with default content out of its updates and describes changes of larger columns
//! by difference; both are understood only with the schema in hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::value::{Atom, Datum, Real, Uuid};

/// A database's tables.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Schema {
    /// The database's name.
    pub name: String,
    /// The schema's version, `x.y.z`.
    #[serde(default)]
    pub version: String,
    /// Tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

/// A table's columns.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct TableSchema {
    /// Columns by name.
    pub columns: BTreeMap<String, ColumnSchema>,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ColumnSchema {
    /// What it can hold.
    #[serde(rename = "type")]
    pub shape: ColumnType,
}

/// What a column can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawType")]
pub struct ColumnType {
    /// Type of the elements, or of a map's keys.
    pub key: AtomType,
    /// Type of a map's values; `None` for atoms and sets.
    pub value: Option<AtomType>,
    /// Least number of elements: 0 or 1.
    pub min: u32,
    /// Greatest number of elements; `None` has no bound.
    pub max: Option<u32>,
}

/// The types of atoms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are those of RFC 7047")]
pub enum AtomType {
    Integer,
    Real,
    Boolean,
    String,
    Uuid,
}

impl Schema {
    /// The shape of a column, if this schema has it.
    pub fn column(&self, table: &str, column: &str) -> Option<ColumnType> {
        Some(self.tables.get(table)?.columns.get(column)?.shape)
    }
}

impl ColumnType {
    /// What a row holds when the column was never set (RFC 7047, section 5.2.1).
    pub fn default_datum(self) -> Datum {
        match (self.value, self.min) {
            (Some(_), _) => Datum::empty_map(),
            (None, 0) => Datum::empty_set(),
            (None, _) => self.key.default_atom().into(),
        }
    }

    /// Whether a `modify` carries a difference for this column, not the new content.
    pub fn changes_by_difference(self) -> bool {
        self.max != Some(1)
    }

    /// The datum if it can be this column's content, with numbers of the column's kind.
    pub fn accept(self, datum: Datum) -> Option<Datum> {
        if self.value.is_none() && self.key == AtomType::Real {
            return datum.atoms().iter().map(real).collect::<Option<Vec<_>>>().map(Datum::set);
        }
        let fits = match self.value {
            None => !datum.is_map() && datum.atoms().iter().all(|atom| self.key.holds(atom)),
            Some(value) => {
                datum.is_map() && datum.pairs().iter().all(|(k, v)| self.key.holds(k) && value.holds(v))
            }
        };
        fits.then_some(datum)
    }
}

impl AtomType {
    fn default_atom(self) -> Atom {
        match self {
            AtomType::Integer => Atom::Integer(0),
            AtomType::Real => Atom::Real(Real(0.0)),
            AtomType::Boolean => Atom::Boolean(false),
            AtomType::String => Atom::String(Arc::from("")),
            AtomType::Uuid => Atom::Uuid(Uuid::default()),
        }
    }

    fn holds(self, atom: &Atom) -> bool {
        match atom {
            Atom::Integer(_) => matches!(self, AtomType::Integer | AtomType::Real),
            Atom::Real(_) => self == AtomType::Real,
            Atom::Boolean(_) => self == AtomType::Boolean,
            Atom::String(_) => self == AtomType::String,
            Atom::Uuid(_) => self == AtomType::Uuid,
            Atom::NamedUuid(_) => false,
        }
    }
}

/// JSON does not distinguish 1 from 1.0, a real column does.
#[allow(clippy::cast_precision_loss, reason = "the server itself holds a double")]
fn real(atom: &Atom) -> Option<Atom> {
    match atom {
        Atom::Integer(number) => Some(Atom::Real(Real(*number as f64))),
        Atom::Real(_) => Some(atom.clone()),
        _ => None,
    }
}

/// The notation of the schema: a bare type, or an object.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawType {
    Atomic(AtomType),
    Full { key: RawBase, value: Option<RawBase>, min: Option<u32>, max: Option<RawMax> },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawBase {
    Atomic(AtomType),
    Full {
        #[serde(rename = "type")]
        kind: AtomType,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawMax {
    Count(u32),
    Word(String),
}

impl TryFrom<RawType> for ColumnType {
    type Error = String;

    fn try_from(raw: RawType) -> Result<Self, String> {
        let base = |base| match base {
            RawBase::Atomic(kind) | RawBase::Full { kind } => kind,
        };
        match raw {
            RawType::Atomic(key) => Ok(Self { key, value: None, min: 1, max: Some(1) }),
            RawType::Full { key, value, min, max } => {
                let max = match max {
                    None => Some(1),
                    Some(RawMax::Count(count)) => Some(count),
                    Some(RawMax::Word(word)) if word == "unlimited" => None,
                    Some(RawMax::Word(word)) => {
                        return Err(format!("a column of at most \"{word}\" elements"));
                    }
                };
                Ok(Self { key: base(key), value: value.map(base), min: min.unwrap_or(1), max })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(text: &str) -> ColumnType {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_notation_of_a_type_is_read() {
        assert_eq!(shape("\"string\"").default_datum(), Datum::from(""));
        assert_eq!(shape(r#"{"key":"boolean"}"#).default_datum(), Datum::from(false));
        assert_eq!(
            shape(r#"{"key":{"type":"integer","minInteger":1},"min":0}"#).default_datum(),
            Datum::empty_set()
        );
        let map = shape(r#"{"key":"string","value":"string","min":0,"max":"unlimited"}"#);
        assert_eq!(map.default_datum(), Datum::empty_map());
        assert!(map.changes_by_difference());
        assert!(shape(r#"{"key":"integer","min":0,"max":4096}"#).changes_by_difference());
        assert!(!shape(r#"{"key":"integer","min":0,"max":1}"#).changes_by_difference());
        assert!(serde_json::from_str::<ColumnType>(r#"{"key":"integer","max":"many"}"#).is_err());
    }

    #[test]
    fn content_of_another_kind_is_not_accepted() {
        assert_eq!(shape("\"string\"").accept(Datum::from(1)), None);
        assert_eq!(shape("\"integer\"").accept(Datum::empty_map()), None);
        assert_eq!(shape(r#"{"key":"string","value":"string"}"#).accept(Datum::from("a")), None);
        let one = Datum::from(Atom::Real(Real(1.0)));
        assert_eq!(shape("\"real\"").accept(Datum::from(1)), Some(one));
    }

    #[test]
    fn the_installed_schemas_are_understood() {
        for path in ["/usr/share/openvswitch/vswitch.ovsschema", "/usr/share/ovn/ovn-nb.ovsschema"] {
            let text = std::fs::read_to_string(path).unwrap();
            let schema: Schema = serde_json::from_str(&text).unwrap();
            assert!(schema.tables.len() > 5);
        }
    }
}
