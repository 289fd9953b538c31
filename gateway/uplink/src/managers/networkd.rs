//! systemd-networkd: its configuration of the NIC becomes the bridge's (systemd.network(5)).
//!
//! All files are below /run, so for this boot only: after a reboot the addresses are on the NIC, whether the switch starts
//! or not, and the takeover is repeated. Their names sort before all others, because the first file that matches counts:
//! the bridge has the NIC's MAC, and files that match by MAC would match the bridge.

use std::path::PathBuf;

use super::{Act, Handover, HandoverRequest, MARK, Manager, words, write};

const FOLDER: &str = "/run/systemd/network";

/// Sections that do not apply to the bridge: how the device is matched, and its link settings.
const DROPPED: [&str; 2] = ["[match]", "[link]"];

/// Keys of `[Network]` that make the device a part of another, or make another on top of it.
const DROPPED_KEYS: [&str; 12] = [
    "bridge",
    "bond",
    "vrf",
    "vlan",
    "macvlan",
    "macvtap",
    "ipvlan",
    "ipvtap",
    "vxlan",
    "tunnel",
    "xfrm",
    "batmanadvanced",
];

pub(super) fn handover(request: &HandoverRequest<'_>, content: &str, client_id: Option<&str>) -> Handover {
    let (nic, bridge) = (file(request.nic), file(request.bridge));
    let reload = || Act::Reload { command: words("networkctl reload") };
    let with_lease = uses_dhcp(content);
    let back = if with_lease {
        // Otherwise it would remove the lease's address from the NIC, and request it again.
        vec![
            write(&nic, configuration(request.nic, content, client_id)),
            Act::Remove { path: bridge.clone() },
            reload(),
        ]
    } else {
        vec![Act::Remove { path: nic.clone() }, Act::Remove { path: bridge.clone() }, reload()]
    };
    Handover {
        prepare: vec![write(&bridge, unmanaged(request.bridge)), reload()],
        complete: vec![
            write(&bridge, configuration(request.bridge, content, client_id)),
            write(&nic, unmanaged(request.nic)),
            reload(),
        ],
        take_back: back,
        ..request.with(Manager::Networkd)
    }
}

fn file(device: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("00-ovn-k8s-{device}.network"))
}

fn unmanaged(device: &str) -> String {
    format!("# {MARK}\n[Match]\nName={device}\n\n[Link]\nUnmanaged=yes\n")
}

/// The NIC's configuration for another device. Existing addresses and routes stay, also when vswitchd dies (the device
/// loses its carrier then).
fn configuration(device: &str, content: &str, client_id: Option<&str>) -> String {
    let mut text = format!("# {MARK}\n[Match]\nName={device}\n\n");
    text += "[Network]\nKeepConfiguration=yes\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n\n";
    // The lease depends on the IAID, whose default depends on the device's name.
    if let Some(number) = client_id.and_then(iaid) {
        text += &format!("[DHCPv4]\nIAID={number}\n\n");
    }
    let mut dropped = false;
    for line in content.lines() {
        let lower = line.trim().to_ascii_lowercase();
        if lower.starts_with('[') {
            dropped = DROPPED.contains(&lower.as_str());
        }
        let key = lower.split('=').next().unwrap_or_default().trim();
        if !dropped && !DROPPED_KEYS.contains(&key) {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// The IAID in a client identifier of RFC 4361: ff, IAID, DUID.
fn iaid(client_id: &str) -> Option<u32> {
    u32::from_str_radix(client_id.strip_prefix("ff")?.get(..8)?, 16).ok()
}

pub(super) fn uses_dhcp(content: &str) -> bool {
    content.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        let value = value.trim().to_ascii_lowercase();
        key.trim().eq_ignore_ascii_case("dhcp")
            && !["no", "false", "0", "none", "off"].contains(&value.as_str())
    })
}
