//! What takeovers left on the node: records, ingress filters, files for network managers.

use std::path::Path;

use host::ingress_filter::IngressFilter;

use super::super::snapshot::{HandoverFile, LeftoversSnapshot};
use uplink::journal::{Folder, TakeoverRecord};
use uplink::managers::MARK;

/// Folders of files for network managers, and the parts of their names before and after the device's.
const FOLDERS: [(&str, &str, &str); 3] = [
    ("run/systemd/network", "00-ovn-k8s-", ".network"),
    ("run/NetworkManager/conf.d", "90-ovn-k8s-", ".conf"),
    ("etc/network/if-up.d", "ovn-k8s-uplink-", ""),
];

/// Settings that make a network manager ignore a device.
const UNMANAGE: [&str; 2] = ["Unmanaged=yes", "unmanaged-devices"];

/// The takeover records, and the errors of those that cannot be read.
pub(super) fn records(folder: &Folder) -> (Vec<TakeoverRecord>, Vec<String>) {
    let all = folder.all_taken().unwrap_or_else(|error| vec![Err(error)]);
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(taken) => good.push(taken),
            Err(error) => bad.push(error.to_string()),
        }
    }
    (good, bad)
}

/// What else takeovers left; files are below `root`.
pub(super) fn find(
    root: &Path,
    records: &[TakeoverRecord],
    unreadable_records: Vec<String>,
    unknown: &mut Vec<String>,
) -> LeftoversSnapshot {
    let ingress_filters = IngressFilter::list().unwrap_or_else(|error| {
        unknown.push(format!("the ingress filters: {error}"));
        Vec::new()
    });
    let recorded_bridges = records.iter().map(|taken| taken.uplink.bridge.clone()).collect();
    LeftoversSnapshot { recorded_bridges, unreadable_records, ingress_filters, files: files(root) }
}

fn files(root: &Path) -> Vec<HandoverFile> {
    let mut found = Vec::new();
    for (folder, before, after) in FOLDERS {
        let entries = std::fs::read_dir(root.join(folder)).into_iter().flatten().flatten();
        found.extend(entries.filter_map(|entry| file(&entry.path(), before, after)));
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn file(path: &Path, before: &str, after: &str) -> Option<HandoverFile> {
    let device = path.file_name()?.to_str()?.strip_prefix(before)?.strip_suffix(after)?.to_owned();
    let content = host::regular_file::read_text(path).ok()?;
    if !content.lines().take(3).any(|line| line.contains(MARK)) {
        return None;
    }
    let unmanages = UNMANAGE.iter().any(|words| content.contains(words));
    Some(HandoverFile { path: path.to_owned(), device, unmanages })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_by_their_mark() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let marked = |more: &str| format!("# {MARK}\n{more}");
        write("run/systemd/network/00-ovn-k8s-eth0.network", &marked("[Link]\nUnmanaged=yes\n"));
        write("run/systemd/network/00-ovn-k8s-eth1.network", "of another program");
        write("run/systemd/network/10-eth0.network", &marked(""));
        write("etc/network/if-up.d/ovn-k8s-uplink-eth0_7", &format!("#!/bin/sh\n# {MARK}\n"));
        let found = files(root.path());
        let short: Vec<_> = found.iter().map(|file| (file.device.as_str(), file.unmanages)).collect();
        assert_eq!(short, [("eth0_7", false), ("eth0", true)]);
    }
}
