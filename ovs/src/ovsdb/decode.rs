//! Decodes what a database server sends, from bytes alone: entry points for tests and fuzzing. None of them panics,
//! whatever the bytes.

use super::message::{MessageReader, transact_results};
use super::schema::Schema;
use super::updates::{self, Layout, TableUpdates};
use super::{Error, MonitorTable, OpResult, Remote, Snapshot};

/// Cuts a byte stream into messages of at most `limit` bytes and classifies them; gives how many there are.
pub fn messages(stream: &[u8], limit: usize) -> Result<usize, Error> {
    let mut reader = MessageReader::new(&Remote::unix(""), limit);
    reader.buffer().extend_from_slice(stream);
    let mut count = 0;
    while reader.next()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Reads the results in the reply to a transaction of so many operations.
pub fn transaction_reply(reply: &str, operations: usize) -> Result<Vec<OpResult>, Error> {
    transact_results("", operations, reply)
}

/// Reads the content of all tables of a schema, and then changes of it: `<table-updates2>` (ovsdb-server(7), 4.1.14).
/// The error says what is wrong.
pub fn updates(schema: &str, content: &str, changes: &[&str]) -> Result<Snapshot, String> {
    let schema: Schema = serde_json::from_str(schema).map_err(|error| error.to_string())?;
    let monitors: Vec<MonitorTable> = schema
        .tables
        .iter()
        .map(|(name, table)| MonitorTable {
            table: name.clone(),
            columns: table.columns.keys().cloned().collect(),
            conditions: Vec::new(),
        })
        .collect();
    let (layout, _) = Layout::new(&monitors, &schema);
    let content: TableUpdates<'_> = serde_json::from_str(content).map_err(|error| error.to_string())?;
    let mut snapshot = updates::replace(&Snapshot::default(), &layout, content)?.unwrap_or_default();
    for change in changes {
        let change: TableUpdates<'_> = serde_json::from_str(change).map_err(|error| error.to_string())?;
        if let Some(next) = updates::apply(&snapshot, change)? {
            snapshot = next;
        }
    }
    Ok(snapshot)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str = r#"{"name":"D","version":"1.0.0","tables":{"T":{"columns":{
        "n":{"type":"integer"},
        "s":{"type":{"key":"string","min":0,"max":"unlimited"}},
        "m":{"type":{"key":"string","value":"string","min":0,"max":"unlimited"}}}}}}"#;
    const ROW: &str = "00000000-0000-0000-0000-000000000001";

    #[test]
    fn content_and_changes_are_read() {
        let content = format!(r#"{{"T":{{"{ROW}":{{"initial":{{"n":1,"s":"a"}}}}}}}}"#);
        let change = format!(r#"{{"T":{{"{ROW}":{{"modify":{{"n":2,"s":["set",["a","b"]]}}}}}}}}"#);
        let snapshot = updates(SCHEMA, &content, &[&change]).unwrap();
        let row = snapshot.rows("T").next().unwrap();
        assert_eq!(row.get("n").unwrap().as_integer(), Some(2));
        assert_eq!(row.strings("s").collect::<Vec<_>>(), ["b"]);
        assert!(updates(SCHEMA, r#"{"U":{}}"#, &[]).is_err());
        assert!(updates("[]", "{}", &[]).is_err());
    }

    #[test]
    fn streams_and_replies_are_read() {
        assert_eq!(messages(br#"{"id":0,"result":[]} {"method":"echo","id":1}{"#, 100).unwrap(), 2);
        assert!(messages(b"SSH-2.0", 100).is_err());
        assert_eq!(transaction_reply(r#"[{"count":3}]"#, 1).unwrap(), [OpResult::Count(3)]);
        assert!(transaction_reply("[]", 1).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_them_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
            values in "[\\[\\]{}\",:0-9a-z\\\\ -]{0,40}",
        ) {
            let _ = messages(&bytes, 64);
            let _ = messages(values.as_bytes(), 64);
            let _ = transaction_reply(&values, 1);
            let _ = updates(&values, &values, &[]);
            let row = format!(r#"{{"T":{{"{ROW}":{{"initial":{{"n":{values},"s":{values}}}}}}}}}"#);
            let _ = updates(SCHEMA, &row, &[&row.replace("initial", "modify"), &values]);
        }
    }
}
