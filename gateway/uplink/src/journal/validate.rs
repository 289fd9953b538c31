//! Whether a journal can mean what it says: somebody may have edited it, or it is another program's.

use super::Uplink;

/// What makes no sense in it; `None` when all can be so.
pub(super) fn nonsense(uplinks: &[Uplink]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for uplink in uplinks {
        let (nic, bridge) = (uplink.nic.name.as_str(), uplink.bridge.as_str());
        for name in [nic, bridge] {
            if !is_name(name) {
                return Some(format!("\"{}\" is no NIC and no bridge", name.escape_debug()));
            }
            if names.contains(&name) {
                return Some(format!("{name} is in it twice"));
            }
            names.push(name);
        }
        if uplink.rows.device.name != nic {
            return Some(format!("it has rows of {} for {nic}", uplink.rows.device.name.escape_debug()));
        }
        if let Some(rows) = uplink.bridge_rows.as_ref().filter(|rows| rows.device.name != bridge) {
            return Some(format!("it has rows of {} for {bridge}", rows.device.name.escape_debug()));
        }
    }
    None
}

/// A name that the kernel takes (`dev_valid_name()`), and not the loopback's.
fn is_name(name: &str) -> bool {
    !["", ".", "..", "lo"].contains(&name)
        && name.len() <= 15
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control())
}
