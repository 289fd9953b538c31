//! systemd-networkd: its configuration of the NIC becomes the bridge's (systemd.network(5)).
//!
//! All files are below /run, and so for this boot only: a node that starts anew has its addresses on the NIC, whether
//! the switch comes up or not, and the takeover is done again. Their names sort before all others, because the first
//! file that matches counts: the bridge has the NIC's MAC, and files that match by MAC would take it for the NIC.

use std::path::PathBuf;

use super::{Act, Asked, Handover, MARK, Manager, words, write};

const FOLDER: &str = "/run/systemd/network";

/// Sections that make no sense on the bridge: how the device is found, and how it is set.
const DROPPED: [&str; 2] = ["[match]", "[link]"];

/// Keys of `[Network]` that make the device a part of another, or put another one on it.
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

pub(super) fn handover(asked: &Asked<'_>, content: &str, client_id: Option<&str>) -> Handover {
    let (nic, bridge) = (file(asked.nic), file(asked.bridge));
    let reload = || Act::Reload { command: words("networkctl reload") };
    let with_lease = uses_dhcp(content);
    let back = if with_lease {
        // Without this it would drop the lease's address from the NIC, and ask for it again.
        vec![
            write(&nic, configuration(asked.nic, content, client_id)),
            Act::Remove { path: bridge.clone() },
            reload(),
        ]
    } else {
        vec![Act::Remove { path: nic.clone() }, Act::Remove { path: bridge.clone() }, reload()]
    };
    Handover {
        prepare: vec![write(&bridge, unmanaged(asked.bridge)), reload()],
        complete: vec![
            write(&bridge, configuration(asked.bridge, content, client_id)),
            write(&nic, unmanaged(asked.nic)),
            reload(),
        ],
        take_back: back,
        ..asked.with(Manager::Networkd)
    }
}

fn file(device: &str) -> PathBuf {
    PathBuf::from(FOLDER).join(format!("00-ovn-k8s-{device}.network"))
}

fn unmanaged(device: &str) -> String {
    format!("# {MARK}\n[Match]\nName={device}\n\n[Link]\nUnmanaged=yes\n")
}

/// The NIC's configuration for another device. What is on the device stays, whoever put it there, and when vswitchd
/// dies (the device loses its carrier then) as well.
fn configuration(device: &str, content: &str, client_id: Option<&str>) -> String {
    let mut text = format!("# {MARK}\n[Match]\nName={device}\n\n");
    text += "[Network]\nKeepConfiguration=yes\nConfigureWithoutCarrier=yes\nIgnoreCarrierLoss=yes\n\n";
    // The lease goes by the association's number, which would follow the device's name.
    if let Some(number) = client_id.and_then(association) {
        text += &format!("[DHCPv4]\nIAID={number}\n\n");
    }
    let mut dropped = false;
    for line in content.lines() {
        let low = line.trim().to_ascii_lowercase();
        if low.starts_with('[') {
            dropped = DROPPED.contains(&low.as_str());
        }
        let key = low.split('=').next().unwrap_or_default().trim();
        if !dropped && !DROPPED_KEYS.contains(&key) {
            text += line;
            text.push('\n');
        }
    }
    text
}

/// The number in a client identifier of RFC 4361: ff, four bytes, a DUID.
fn association(client_id: &str) -> Option<u32> {
    u32::from_str_radix(client_id.strip_prefix("ff")?.get(..8)?, 16).ok()
}

pub(super) fn uses_dhcp(content: &str) -> bool {
    content.lines().filter_map(|line| line.split_once('=')).any(|(key, value)| {
        let value = value.trim().to_ascii_lowercase();
        key.trim().eq_ignore_ascii_case("dhcp")
            && !["no", "false", "0", "none", "off"].contains(&value.as_str())
    })
}
