//! Sysctls below /proc/sys/net, and a record of what we added, so that only that is taken back.
//!
//! They belong to the network namespace of the calling thread. Two have their own rules:
//! `ip_local_reserved_ports` is a list that several programs write: ours are added, the others' stay;
//! `ip_local_port_range` is one value: put back only if it is still what we wrote (ip-sysctl.rst of the kernel; both
//! hold for IPv6 as well), as is any other single value ([`Sysctls::set`]).

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::ports::{PortSet, PortSpan};
use crate::{Error, Result};

mod record;

use record::Record;
pub use record::Replaced;

/// Ports that the kernel does not choose for a socket without a port.
pub const RESERVED_PORTS: Key = Key::fixed("net/ipv4/ip_local_reserved_ports");

/// The range from which the kernel chooses the port of a socket without one.
pub const LOCAL_PORT_RANGE: Key = Key::fixed("net/ipv4/ip_local_port_range");

/// The name of a sysctl, with slashes as `sysctl(8)` takes them as well: device names hold dots.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(std::borrow::Cow<'static, str>);

impl Key {
    const fn fixed(name: &'static str) -> Self {
        Self(std::borrow::Cow::Borrowed(name))
    }

    /// From its parts below /proc/sys/net (`["ipv4", "conf", "eth0.100", "rp_filter"]`). `None` when a part is no file
    /// name.
    #[must_use]
    pub fn below_net(parts: &[&str]) -> Option<Self> {
        let plain =
            |part: &&str| !part.is_empty() && *part != "." && *part != ".." && !part.contains(['/', '\0']);
        parts.iter().all(plain).then(|| Self(format!("net/{}", parts.join("/")).into()))
    }

    /// `arp_announce` of a device: 2 takes the sender of an ARP request from the subnet of its target (ip-sysctl.rst).
    #[must_use]
    pub fn arp_announce(device: &str) -> Option<Self> {
        Self::below_net(&["ipv4", "conf", device, "arp_announce"])
    }

    fn path(&self) -> PathBuf {
        Path::new("/proc/sys").join(&*self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads a sysctl, without the line break.
pub fn read(key: &Key) -> Result<String> {
    // In one read: a second read of a list of ports returns nothing, however short the first was.
    let mut buffer = vec![0; 64 * 1024];
    match fs::File::open(key.path()).and_then(|mut file| file.read(&mut buffer)) {
        Ok(length) => Ok(String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()),
        Err(source) => Err(Error::Sysctl { action: "read", key: key.to_string(), source }),
    }
}

/// Writes a sysctl. Nothing is recorded.
pub fn write(key: &Key, value: &str) -> Result<()> {
    // With a line break: an empty value would be no write at all, and a list would stay.
    fs::write(key.path(), format!("{value}\n")).map_err(|source| Error::Sysctl {
        action: "write",
        key: key.to_string(),
        source,
    })
}

/// The two port sysctls, and what of them is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSettings {
    /// `ip_local_reserved_ports`.
    pub reserved: PortSet,
    /// The part that the record has as ours, as far as the sysctl still holds it.
    pub reserved_by_us: PortSet,
    /// `ip_local_port_range`.
    pub local: PortSpan,
    /// The value that we replaced, if the record has one.
    pub local_replaced: Option<Replaced>,
}

impl PortSettings {
    /// The reserved list for these ports of ours: others' ports stay, ours that are not wanted are removed.
    #[must_use]
    pub fn reserved_for(&self, wanted: &PortSet) -> PortSet {
        list_with(&self.reserved.minus(&self.reserved_by_us), wanted)
    }

    /// The local range without our change.
    #[must_use]
    pub fn local_without_us(&self) -> PortSpan {
        match &self.local_replaced {
            Some(replaced) if span_of(&replaced.ours) == Some(self.local) => {
                span_of(&replaced.before).unwrap_or(self.local)
            }
            _ => self.local,
        }
    }
}

/// The port sysctls of this namespace with the record of what we added, in the state directory.
#[derive(Debug)]
pub struct Sysctls {
    record: PathBuf,
}

impl Sysctls {
    /// The record is a file in the state directory, created when first needed.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { record: state_dir.join("sysctls.json") }
    }

    /// The current values.
    pub fn ports(&self) -> Result<PortSettings> {
        let record = Record::load(&self.record)?;
        let reserved = reserved_now()?;
        let local = read(&LOCAL_PORT_RANGE)?;
        let local = span_of(&local).ok_or_else(|| Error::SysctlValue {
            key: LOCAL_PORT_RANGE.to_string(),
            value: local,
            expected: "two ports",
        })?;
        Ok(PortSettings {
            reserved_by_us: record.reserved_ports.common(&reserved),
            reserved,
            local,
            local_replaced: record.replaced(&LOCAL_PORT_RANGE).cloned(),
        })
    }

    /// Reserves these ports, and releases ours that are not among them. True when the sysctl changed.
    pub fn reserve(&self, wanted: &PortSet) -> Result<bool> {
        let mut record = Record::load(&self.record)?;
        let now = reserved_now()?;
        let others = now.minus(&record.reserved_ports.common(&now));
        let target = list_with(&others, wanted);
        let ours = target.minus(&others);
        if target == now && record.reserved_ports == ours {
            return Ok(false);
        }
        // The record first, of old and new: a crash in between leaves nothing of ours unrecorded, and removing what was
        // never added is no change.
        record.reserved_ports = record.reserved_ports.union(&ours);
        record.store(&self.record)?;
        if target != now {
            write(&RESERVED_PORTS, &target.to_string())?;
        }
        record.reserved_ports = ours;
        record.store(&self.record)?;
        Ok(target != now)
    }

    /// Sets the local port range and records the value before. True when it changed.
    pub fn set_local_range(&self, wanted: PortSpan) -> Result<bool> {
        let now = read(&LOCAL_PORT_RANGE)?;
        if span_of(&now) == Some(wanted) {
            return Ok(false);
        }
        let mut record = Record::load(&self.record)?;
        let ours = format!("{}\t{}", wanted.low(), wanted.high());
        record.replace(&LOCAL_PORT_RANGE, now, ours.clone());
        record.store(&self.record)?;
        write(&LOCAL_PORT_RANGE, &ours)?;
        Ok(true)
    }

    /// Restores the local port range from the record. True when it changed.
    pub fn restore_local_range(&self) -> Result<bool> {
        let mut record = Record::load(&self.record)?;
        let Some(replaced) = record.replaced(&LOCAL_PORT_RANGE).cloned() else { return Ok(false) };
        let still_ours = span_of(&read(&LOCAL_PORT_RANGE)?) == span_of(&replaced.ours);
        if still_ours {
            write(&LOCAL_PORT_RANGE, &replaced.before)?;
        }
        record.forget(&LOCAL_PORT_RANGE);
        record.store(&self.record)?;
        Ok(still_ours)
    }

    /// Sets a single value and records the value before. True when it changed.
    pub fn set(&self, key: &Key, wanted: &str) -> Result<bool> {
        let now = read(key)?;
        if now.trim() == wanted {
            return Ok(false);
        }
        let mut record = Record::load(&self.record)?;
        record.replace(key, now, wanted.to_owned());
        record.store(&self.record)?;
        write(key, wanted)?;
        Ok(true)
    }

    /// Restores everything of ours, and removes the record.
    pub fn take_back(&self) -> Result<()> {
        self.reserve(&PortSet::default())?;
        self.restore_local_range()?;
        for (key, replaced) in Record::load(&self.record)?.all() {
            match read(&key) {
                Ok(now) if now.trim() == replaced.ours => write(&key, &replaced.before)?,
                // Another program has changed it, or its device does not exist.
                _ => {}
            }
        }
        Record::remove(&self.record)
    }
}

/// The kernel reads one page of a list and cuts the rest: gaps are closed until it fits (a span prints as 12 bytes at
/// most).
fn list_with(others: &PortSet, wanted: &PortSet) -> PortSet {
    others.union(wanted).coarsened(4000 / 12)
}

fn reserved_now() -> Result<PortSet> {
    let value = read(&RESERVED_PORTS)?;
    value.parse().map_err(|_| Error::SysctlValue {
        key: RESERVED_PORTS.to_string(),
        value,
        expected: "a list of ports",
    })
}

fn span_of(text: &str) -> Option<PortSpan> {
    let mut ports = text.split_whitespace().map(str::parse);
    let (low, high) = (ports.next()?.ok()?, ports.next()?.ok()?);
    PortSpan::new(low, high)
}

#[cfg(test)]
mod tests;
