//! A device's settings beside its rows: sysctls, receive offloads, the root qdisc.

use std::collections::BTreeMap;

use host::rtnl::qdisc::Qdisc;
use host::rtnl::{Device, DeviceMapping, Family, Kind, Request, Row, Socket};
use host::{ethtool, interface_sysctls};

use super::device_config::DeviceRows;
use super::error::Result;
use super::options::Datapath;

/// The sysctl that marks a bridge's device as taken over in this boot.
pub(crate) const MARK: (&str, &str) = ("ipv6/conf/addr_gen_mode", "1");

/// What the bridge needs whatever the NIC has: no link-local address of its own making, and neighbours that outlive
/// ovs-vswitchd (its device loses its carrier with it).
const OF_A_BRIDGE: [(&str, &str); 3] =
    [MARK, ("ipv4/conf/arp_evict_nocarrier", "0"), ("ipv6/conf/ndisc_evict_nocarrier", "0")];

/// Reads a device's settings into its rows.
pub(crate) fn observe(socket: &Socket, rows: &mut DeviceRows) -> Result<()> {
    rows.sysctls = interface_sysctls::read(&rows.device.name)?;
    rows.qdisc = root_qdisc(socket, &rows.device)?;
    // What has no such settings (or no driver that tells) merges nothing.
    let features = ethtool::features(&rows.device.name).unwrap_or_default();
    rows.merging = ethtool::aggregating(&features).into_iter().map(|feature| feature.name.clone()).collect();
    Ok(())
}

/// The root qdisc that was set on a device.
fn root_qdisc(socket: &Socket, device: &Device) -> Result<Option<Row>> {
    let all = socket.dump(Kind::Qdisc, Family::V4)?;
    let mut own = all.iter().filter_map(Qdisc::of).filter(|qdisc| qdisc.device() == device.index);
    Ok(own.find(|qdisc| qdisc.is_root() && !qdisc.is_default()).map(|qdisc| qdisc.row().clone()))
}

/// The sysctls to write on a bridge, in order, so that it behaves as the NIC did: those that differ.
#[must_use]
pub(crate) fn for_bridge(
    nic: &BTreeMap<String, String>,
    bridge: &BTreeMap<String, String>,
    datapath: Datapath,
) -> Vec<(String, String)> {
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    let mut values: Vec<(String, String)> =
        interface_sysctls::carried(nic, bridge).into_iter().map(owned).collect();
    let mut own = OF_A_BRIDGE.to_vec();
    if datapath == Datapath::System {
        // Between port and routes frames come in by the bridge while the routes still name the NIC; the larger of
        // `all` and the device's counts.
        own.push(("ipv4/conf/rp_filter", "2"));
    }
    values.retain(|(key, _)| own.iter().all(|(name, _)| name != key));
    own.retain(|(key, value)| bridge.get(*key).is_some_and(|present| present != value));
    values.extend(own.into_iter().map(owned));
    values
}

/// Writes sysctls; gives what the kernel refused.
pub(crate) fn write(device: &str, values: &[(String, String)]) -> Vec<String> {
    let values = values.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    interface_sysctls::write_all(device, values).iter().map(ToString::to_string).collect()
}

/// Turns the offloads off that put received frames together: longer than any frame on the wire, they are refused by the
/// next device a userspace bridge sends them on. Gives what stays on.
pub(crate) fn stop_merging(nic: &DeviceRows) -> Vec<String> {
    set_merging(&nic.device.name, &nic.merging, false)
}

fn set_merging(device: &str, names: &[String], on: bool) -> Vec<String> {
    if names.is_empty() {
        return Vec::new();
    }
    let wanted: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), on)).collect();
    let word = if on { "on again" } else { "off" };
    match ethtool::set_features(device, &wanted) {
        Ok(left) => {
            left.iter().map(|name| format!("offload {name} of {device} cannot be turned {word}")).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

/// Restores a NIC's settings where they differ. Gives what failed.
pub(crate) fn restore(socket: &Socket, nic: &Device, was: &DeviceRows) -> Vec<String> {
    let mut troubles = Vec::new();
    match interface_sysctls::read(&nic.name) {
        Ok(now) => {
            let refused =
                interface_sysctls::write_all(&nic.name, interface_sysctls::restored(&was.sysctls, &now));
            troubles.extend(refused.iter().map(ToString::to_string));
        }
        Err(error) => troubles.push(error.to_string()),
    }
    let features = ethtool::features(&nic.name).unwrap_or_default();
    let off = |name: &&String| features.iter().any(|feature| feature.name == **name && !feature.on);
    let names: Vec<String> = was.merging.iter().filter(off).cloned().collect();
    troubles.extend(set_merging(&nic.name, &names, true));
    if let Err(error) = restore_qdisc(socket, nic, was) {
        troubles.push(error.to_string());
    }
    troubles
}

fn restore_qdisc(socket: &Socket, nic: &Device, was: &DeviceRows) -> Result<()> {
    let Some(row) = was.qdisc.as_ref() else { return Ok(()) };
    let now = root_qdisc(socket, nic)?;
    let same = |row: &Row| Qdisc::of(row).map(|qdisc| qdisc.identity());
    if now.as_ref().and_then(same) != same(row) {
        // The NIC may have gone and come back under another number.
        let onto = DeviceMapping { from: was.device.clone(), to: nic.clone() };
        let row = Qdisc::of(row).map_or_else(|| row.clone(), |qdisc| qdisc.for_device(&onto));
        socket.apply(&Request::replace(row))?;
    }
    Ok(())
}
