//! The reader of journals and takeover records for the fuzz target.

use std::path::Path;

use host::rtnl::{Device, DeviceMapping};

use super::{Journal, TakeoverRecord, Uplink, files, validate};
use crate::migration;

/// A file as a journal and as a takeover record. What passes the validation is printed, and its rows are converted for
/// another device, as undo and recovery do.
pub fn journal(input: &[u8]) {
    let path = Path::new("fuzz.json");
    if let Ok(journal) = files::parse::<Journal>(path, input) {
        convert(&journal.uplinks);
    }
    if let Ok(record) = files::parse::<TakeoverRecord>(path, input) {
        convert(std::slice::from_ref(&record.uplink));
        let _ = record.clone().again(Some(record), false);
    }
}

fn convert(uplinks: &[Uplink]) {
    if validate::inconsistency(uplinks).is_some() {
        return;
    }
    for uplink in uplinks {
        let to = Device { index: u32::MAX, name: uplink.bridge.clone() };
        let rows = migration::moved(&uplink.rows, &DeviceMapping { from: uplink.rows.device.clone(), to });
        let _ = format!("{rows:?}");
        let addresses = rows.addresses.iter().chain(&rows.neighbours);
        for row in addresses.chain(&rows.routes).chain(&rows.rules).chain(&rows.nexthops) {
            let _ = row.to_string();
        }
    }
}
