//! The names of a NIC's bridge and of the programs.

/// The takeover's command line.
pub(crate) const PROGRAM: &str = "ovn-k8s-util";

/// The bridge of a NIC: `breth0` for `eth0`.
#[must_use]
pub fn bridge_of(nic: &str) -> String {
    format!("br{nic}")
}

/// The NIC of a bridge, by its name alone.
#[must_use]
pub fn nic_of(bridge: &str) -> Option<&str> {
    bridge.strip_prefix("br").filter(|nic| !nic.is_empty())
}
