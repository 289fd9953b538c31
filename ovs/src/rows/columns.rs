//! How columns are read, and the macro that defines a row by its columns.

use std::collections::BTreeMap;

use crate::openflow::flow::OfPort;
use crate::ovsdb::{Error, Row, Uuid};

/// Defines a row as a struct and as a [`TypedRow`](super::TypedRow): the table's name, then for each field its type,
/// the function that reads it, and its column.
macro_rules! row {
    (
        $(#[$meta:meta])*
        $name:ident in $table:literal {
            $($(#[$field_meta:meta])* $field:ident: $type:ty = $read:ident($column:literal),)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the fields are the columns of the schema")]
        pub struct $name {
            pub uuid: Uuid,
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl TypedRow for $name {
            const TABLE: &'static str = $table;
            const COLUMNS: &'static [&'static str] = &[$($column),*];

            fn from_row(row: &Row) -> Result<Self, Error> {
                Ok(Self { uuid: row.uuid(), $($field: $read(row, $column)?,)* })
            }
        }
    };
}
pub(super) use row;

/// A text that must be there.
pub(super) fn text(row: &Row, column: &str) -> Result<String, Error> {
    row.string(column).map(str::to_owned)
}

/// A text, empty when unset.
pub(super) fn text_or_empty(row: &Row, column: &str) -> Result<String, Error> {
    optional(row, column).map(Option::unwrap_or_default)
}

/// The type of a bridge or interface: `system` when unset or empty.
pub(super) fn type_or_system(row: &Row, column: &str) -> Result<String, Error> {
    optional(row, column).map(|text| text.unwrap_or_else(|| "system".to_owned()))
}

/// A text, `None` when unset or empty.
pub(super) fn optional(row: &Row, column: &str) -> Result<Option<String>, Error> {
    Ok(row.optional_string(column).filter(|text| !text.is_empty()).map(str::to_owned))
}

/// A set of texts.
pub(super) fn texts(row: &Row, column: &str) -> Result<Vec<String>, Error> {
    Ok(row.strings(column).map(str::to_owned).collect())
}

/// A map from text to text.
pub(super) fn pairs(row: &Row, column: &str) -> Result<BTreeMap<String, String>, Error> {
    Ok(row.string_pairs(column).map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// A set of references to other rows.
pub(super) fn references(row: &Row, column: &str) -> Result<Vec<Uuid>, Error> {
    Ok(row.references(column).collect())
}

/// An integer, if set.
pub(super) fn integer(row: &Row, column: &str) -> Result<Option<i64>, Error> {
    Ok(row.get(column).and_then(|datum| datum.as_integer()))
}

/// A counter, 0 when unset.
pub(super) fn counter(row: &Row, column: &str) -> Result<i64, Error> {
    integer(row, column).map(Option::unwrap_or_default)
}

/// A boolean that is true when unset.
pub(super) fn true_if_unset(row: &Row, column: &str) -> Result<bool, Error> {
    Ok(row.get(column).and_then(|datum| datum.as_bool()).unwrap_or(true))
}

/// A boolean that is false when unset.
pub(super) fn false_if_unset(row: &Row, column: &str) -> Result<bool, Error> {
    Ok(row.get(column).and_then(|datum| datum.as_bool()).unwrap_or(false))
}

/// Whether a state is `up`, if it is set.
pub(super) fn up(row: &Row, column: &str) -> Result<Option<bool>, Error> {
    optional(row, column).map(|state| state.map(|state| state == "up"))
}

/// A port number; vswitchd writes -1 when it could not make the interface.
pub(super) fn ofport(row: &Row, column: &str) -> Result<Option<OfPort>, Error> {
    integer(row, column).map(|port| port.and_then(|port| u32::try_from(port).ok()).map(OfPort))
}

/// A MAC address that must be there.
pub(super) fn mac(row: &Row, column: &str) -> Result<[u8; 6], Error> {
    parse_mac(row.string(column)?).ok_or_else(|| row.problem(column, "not a MAC address"))
}

/// A MAC address, if set.
pub(super) fn optional_mac(row: &Row, column: &str) -> Result<Option<[u8; 6]>, Error> {
    optional(row, column)?.map(|_| mac(row, column)).transpose()
}

/// Six octets in hexadecimal with colons between.
pub(super) fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut parts = text.split(':');
    for octet in &mut octets {
        let part =
            parts.next().filter(|part| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *octet = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(octets)
}
