//! A reader of server messages for the fuzz targets.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::config::MonitorTable;
use super::operation::parse_reply;
use super::schema::Schema;
use super::snapshot::Snapshot;
use super::updates::{self, Layout, TableUpdates};
use super::value::Uuid;

const SCHEMA: &str = r#"{"name": "X", "version": "1.0.0", "tables": {
    "Bridge": {"columns": {
        "name": {"type": "string"},
        "ports": {"type": {"key": {"type": "uuid", "refTable": "Port"}, "min": 0, "max": "unlimited"}},
        "external_ids": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}}}},
    "Port": {"columns": {
        "name": {"type": "string"},
        "tag": {"type": {"key": "integer", "min": 0, "max": 1}}}}}}"#;

/// A layout that follows two tables, and their content.
#[derive(Debug)]
pub(crate) struct Reader {
    layout: Layout,
    content: Snapshot,
}

impl Reader {
    /// Without content.
    pub(crate) fn new() -> Self {
        let monitors = [
            MonitorTable::new("Bridge", &["name", "ports", "external_ids"]),
            MonitorTable::new("Port", &["name", "tag"]),
        ];
        let schema = serde_json::from_str::<Schema>(SCHEMA).unwrap_or_default();
        Self { layout: Layout::new(&monitors, &schema).0, content: Snapshot::default() }
    }

    /// Reads one message as everything that it can be.
    pub(crate) fn read(&mut self, message: &str) {
        #[derive(Deserialize)]
        struct Message<'a> {
            #[serde(borrow)]
            params: Option<&'a RawValue>,
            #[serde(borrow)]
            result: Option<&'a RawValue>,
        }
        let Ok(message) = serde_json::from_str::<Message<'_>>(message) else { return };
        if let Some(params) = message.params
            && let Ok((_, _, updates)) = serde_json::from_str::<(&str, Uuid, TableUpdates<'_>)>(params.get())
            && let Ok(Some(after)) = updates::apply(&self.content, updates)
        {
            self.content = after;
        }
        let Some(result) = message.result.map(RawValue::get) else { return };
        let _ = parse_reply(result, 2);
        if let Ok(schema) = serde_json::from_str::<Schema>(result) {
            let _ = Layout::new(&[MonitorTable::new("Bridge", &["name"])], &schema);
        }
        if let Ok((_, _, updates)) = serde_json::from_str::<(bool, Uuid, TableUpdates<'_>)>(result)
            && let Ok(Some(after)) = updates::replace(&self.content, &self.layout, updates)
        {
            self.content = after;
        }
    }
}
