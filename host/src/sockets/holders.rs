//! The process that holds a socket, by inode (/proc/PID/fd, proc(5)).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::Holder;

/// Processes by the inodes of the sockets they hold. Processes that have ended or may not be read are left
/// out.
pub(super) fn holders() -> BTreeMap<u32, Holder> {
    let mut holders = BTreeMap::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned();
        for inode in held_by(pid).into_iter().flatten() {
            holders.entry(inode).or_insert_with(|| Holder { pid, name: name.clone() });
        }
    }
    holders
}

/// The inodes of the sockets that a process holds; `None` when that cannot be read.
pub(super) fn held_by(pid: u32) -> Option<BTreeSet<u32>> {
    let inode = |fd: fs::DirEntry| {
        let target = fs::read_link(fd.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    Some(fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().filter_map(inode).collect())
}
