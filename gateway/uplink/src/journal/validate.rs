//! Whether a journal is consistent: it may have been edited, or be another program's.

use super::Uplink;

/// What is inconsistent in it; `None` when nothing is.
pub(super) fn inconsistency(uplinks: &[Uplink]) -> Option<String> {
    let mut names: Vec<&str> = Vec::new();
    for uplink in uplinks {
        let (nic, bridge) = (uplink.nic.name.as_str(), uplink.bridge.as_str());
        for name in [nic, bridge] {
            if !is_name(name) {
                return Some(format!("\"{}\" is not a name of a network device", name.escape_debug()));
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
