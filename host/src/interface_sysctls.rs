//! The sysctls of one device: everything below `net/{ipv4,ipv6}/{conf,neigh}/DEVICE`.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::sysctl::{self, Key};
use crate::{Error, Result};

/// A device's sysctls, by their name without the device (`ipv4/conf/rp_filter`).
pub type Settings = BTreeMap<String, String>;

const FOLDERS: [[&str; 2]; 4] = [["ipv4", "conf"], ["ipv4", "neigh"], ["ipv6", "conf"], ["ipv6", "neigh"]];

/// Those that are not copied to another device: the MTU that a router announced (an own one must fit the device), how
/// link-local addresses are generated and from which secret (set otherwise), and what only a routing daemon's socket
/// sets.
const OWN: [&str; 5] = [
    "ipv6/conf/mtu",
    "ipv6/conf/stable_secret",
    "ipv6/conf/addr_gen_mode",
    "ipv4/conf/mc_forwarding",
    "ipv6/conf/mc_forwarding",
];

/// The device's sysctls that can be both read and written; of those that exist in two units only the finer one. Empty
/// when there is no such device.
pub fn read(device: &str) -> Result<Settings> {
    let mut settings = Settings::new();
    for [family, kind] in FOLDERS {
        let Some(folder) = Key::below_net(&[family, kind, device]) else { continue };
        let entries = match fs::read_dir(format!("/proc/sys/{folder}")) {
            Ok(entries) => entries,
            // No such device, or a kernel without IPv6.
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::Sysctl { action: "list", key: folder.to_string(), source }),
        };
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let writable = entry.metadata().is_ok_and(|data| data.permissions().mode() & 0o200 != 0);
            let coarse = kind == "neigh" && ["retrans_time", "base_reachable_time"].contains(&file.as_str());
            if !writable || coarse {
                continue;
            }
            let Some(key) = Key::below_net(&[family, kind, device, &file]) else { continue };
            // Some cannot be read before they are set (stable_secret), or go with the device meanwhile.
            if let Ok(value) = sysctl::read(&key) {
                settings.insert(format!("{family}/{kind}/{file}"), value.trim().to_owned());
            }
        }
    }
    Ok(settings)
}

/// Sets one.
pub fn write(device: &str, name: &str, value: &str) -> Result<()> {
    let key = key(device, name).ok_or_else(|| Error::Sysctl {
        action: "write",
        key: name.to_owned(),
        source: std::io::ErrorKind::InvalidInput.into(),
    })?;
    sysctl::write(&key, value)
}

/// Sets several and continues when one is refused; returns the refusals.
pub fn write_all<'a>(device: &str, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Error> {
    settings.into_iter().filter_map(|(name, value)| write(device, name, value).err()).collect()
}

/// The values to set on a device that has `current` to make it behave as one that has `wanted`, in this order.
#[must_use]
pub fn carried<'a>(wanted: &'a Settings, current: &Settings) -> Vec<(&'a str, &'a str)> {
    let mut differing: Vec<_> = wanted
        .iter()
        .filter(|(name, value)| {
            !OWN.contains(&name.as_str()) && current.get(*name).is_some_and(|now| now != *value)
        })
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    // disable_ipv6 first; forwarding changes others with it (send_redirects, the meaning of accept_ra).
    differing.sort_by_key(|(name, _)| match *name {
        "ipv6/conf/disable_ipv6" => 0,
        "ipv4/conf/forwarding" | "ipv6/conf/forwarding" => 1,
        _ => 2,
    });
    differing
}

/// The values to set on a device that has `current` to restore what it had `before`.
#[must_use]
pub fn restored<'a>(before: &'a Settings, current: &Settings) -> Vec<(&'a str, &'a str)> {
    before
        .iter()
        .filter(|(name, value)| current.get(*name).is_some_and(|now| now != *value))
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn key(device: &str, name: &str) -> Option<Key> {
    let mut parts = name.split('/');
    let (family, kind, file) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !FOLDERS.contains(&[family, kind]) {
        return None;
    }
    Key::below_net(&[family, kind, device, file])
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::netns::Namespace;

    fn ip(arguments: &str) {
        assert!(Command::new("ip").args(arguments.split_whitespace()).status().unwrap().success());
    }

    #[test]
    fn a_device_is_made_to_behave_as_another() {
        let work = || {
            ip("link add eth0.7 type veth peer name breth0");
            let default = read("breth0").unwrap();
            assert!(default.len() > 100, "{default:?}");
            assert!(!default.contains_key("ipv4/neigh/retrans_time"));
            for (name, value) in [
                ("ipv4/conf/rp_filter", "2"),
                ("ipv4/conf/arp_ignore", "1"),
                ("ipv4/conf/forwarding", "1"),
                ("ipv6/conf/accept_ra", "2"),
                ("ipv6/conf/addr_gen_mode", "1"),
                ("ipv6/neigh/retrans_time_ms", "777"),
                ("ipv4/neigh/base_reachable_time_ms", "33333"),
            ] {
                write("eth0.7", name, value).unwrap();
            }
            let wanted = read("eth0.7").unwrap();
            assert_eq!(wanted["ipv4/conf/rp_filter"], "2");
            let changes = carried(&wanted, &default);
            assert_eq!(changes.len(), 6, "{changes:?}");
            assert_eq!(changes[0].0, "ipv4/conf/forwarding");
            assert_eq!(write_all("breth0", changes).len(), 0);
            let now = read("breth0").unwrap();
            assert_eq!(carried(&wanted, &now), []);
            assert_eq!(now["ipv6/conf/addr_gen_mode"], default["ipv6/conf/addr_gen_mode"]);
            assert_eq!(write_all("breth0", restored(&default, &now)).len(), 0);
            assert_eq!(read("breth0").unwrap(), default);
        };
        Namespace::create().unwrap().run(work).unwrap();
    }

    #[test]
    fn what_is_not_there_is_said() {
        assert_eq!(read("no-such-device").unwrap(), Settings::new());
        assert_eq!(read("../all").unwrap(), Settings::new());
        for name in ["ipv4/conf", "ipv4/conf/../all", "kernel/x/y", "ipv4/conf/rp_filter/x"] {
            assert!(write("lo", name, "0").is_err());
        }
        let refused = write_all("no-such-device", [("ipv4/conf/rp_filter", "2")]);
        assert!(refused[0].to_string().contains("net/ipv4/conf/no-such-device/rp_filter"), "{refused:?}");
    }
}
