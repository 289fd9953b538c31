//! The undo journal: what has to be restored, on the disk before anything is changed.
//!
//! One file, `<state-dir>/uplink/journal.json`, is written whole before the first change of any kind; afterwards only its
//! state changes. Undo observes the node and needs no record of single steps. A writer holds the folder's lock:
//!
//! ```text
//!   lock --> begin (open) --> ... the takeover ... --> committed
//!                    |                                     \--> taken-<bridge>.json, written before: what the way
//!                    +--> undo --> undone                        back, the next boot and a failover need
//!                            \---> undone-ovsdb-pending: the network is whole, the bridge's row is still there
//! ```
//!
//! Every write is to a new file, synced, renamed over the old one, and the folder synced: a reader sees the old journal
//! or the new one. Room for the last change of state is reserved at the beginning, so that a disk that fills up on the
//! way cannot keep a takeover from being closed.
//!
//! It never interprets what it keeps. A journal that is truncated, of another version or of another boot is recognised ([`JournalBroken`], [`JournalVersion`], `Journal::is_of_this_boot`) and never replayed blindly.
//!
//! [`JournalBroken`]: super::error::Error::JournalBroken
//! [`JournalVersion`]: super::error::Error::JournalVersion

use std::path::{Path, PathBuf};

use host::rtnl::DeviceMapping;
use serde::{Deserialize, Serialize};

use super::device_config::DeviceRows;
use super::error::{Error, Result};
use super::migration;
use super::observe::LinkSnapshot;
use super::options::{Datapath, Direction};
use super::switch_db::PriorOvsConfig;

mod files;
pub(crate) mod fuzz;
mod lock;
#[cfg(test)]
mod tests;
mod validate;

pub use lock::Lock;
pub(crate) use lock::watching;

/// The journal's format. Another one is not read.
pub(crate) const VERSION: u32 = 1;

/// What has to be restored when a takeover, or a way back, does not come to its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Journal {
    /// `VERSION`.
    pub version: u32,
    /// The boot it was written in: interface numbers and routes mean nothing in another.
    pub boot_id: String,
    /// Tells one run from another.
    pub run: String,
    /// How far it has come. The only field that changes.
    pub state: JournalState,
    /// Which command it is of.
    pub direction: Direction,
    /// The switch's database, as a remote.
    pub db: String,
    /// The NICs, all or none.
    pub uplinks: Vec<Uplink>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalState {
    /// Running, or died while running: to be undone.
    Open,
    /// Done, verified, confirmed where that was asked for.
    Committed,
    /// Restored.
    Undone,
    /// The network is restored; what the switch's database holds is still to be removed.
    UndoneOvsdbPending,
}

/// One NIC and its bridge, as they were before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Uplink {
    /// The NIC.
    pub nic: NicIdentity,
    /// The bridge.
    pub bridge: String,
    /// What carries the bridge's frames.
    pub datapath: Datapath,
    /// Everything that the kernel has of the NIC.
    pub rows: DeviceRows,
    /// The same of the bridge, where it was there before.
    pub bridge_rows: Option<DeviceRows>,
    /// What the switch's database held.
    pub held: PriorOvsConfig,
    /// The nftables table of the ingress filter.
    pub guard: String,
    /// The network managers and DHCP clients that were handed over, as their module describes them.
    pub managers: Vec<serde_json::Value>,
}

/// A NIC, so that another one of the same name or number is not taken for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicIdentity {
    /// Its number in this boot.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its address, with colons.
    pub mac: String,
    /// Its driver, where that is known.
    pub driver: Option<String>,
}

/// What is kept of a takeover after its commit, one file per bridge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TakeoverRecord {
    /// `VERSION`.
    pub version: u32,
    /// The boot it was written in.
    pub boot_id: String,
    /// NIC and bridge, as they were before the takeover.
    pub uplink: Uplink,
}

impl NicIdentity {
    /// Of a link.
    #[must_use]
    pub(crate) fn of(link: &LinkSnapshot) -> Self {
        Self { index: link.index, name: link.name.clone(), mac: link.mac.clone(), driver: None }
    }
}

impl Journal {
    /// An open journal of this boot.
    pub fn begin(direction: Direction, db: &ovs::ovsdb::Remote, uplinks: Vec<Uplink>) -> Result<Self> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Ok(Self {
            version: VERSION,
            boot_id: host::boot::id()?,
            run: format!("{}-{}", std::process::id(), since.as_nanos()),
            state: JournalState::Open,
            direction,
            db: db.to_string(),
            uplinks,
        })
    }

    /// Whether rows and numbers in it still mean something.
    pub(crate) fn is_of_this_boot(&self) -> Result<bool> {
        Ok(self.boot_id == host::boot::id()?)
    }

    /// The records to keep after its commit.
    pub(crate) fn taken(&self) -> impl Iterator<Item = TakeoverRecord> {
        let of = |uplink: &Uplink| TakeoverRecord {
            version: VERSION,
            boot_id: self.boot_id.clone(),
            uplink: uplink.clone(),
        };
        self.uplinks.iter().map(of)
    }
}

impl TakeoverRecord {
    /// The record of a repeated takeover (after an interruption or a reboot): it keeps the configuration from before the
    /// first one. `ours`: the bridge has the mark of a takeover, so it did not exist before, with or without a record.
    #[must_use]
    pub(crate) fn again(mut self, earlier: Option<Self>, ours: bool) -> Self {
        if let Some(earlier) = earlier.filter(|_| self.uplink.held.bridge) {
            let (was, uplink) = (earlier.uplink, &mut self.uplink);
            let same_boot = earlier.boot_id == self.boot_id;
            if same_boot {
                if uplink.bridge_rows.as_ref().is_some_and(DeviceRows::has_address) {
                    // The NIC had only rows that were added since.
                    let mapping =
                        DeviceMapping { from: was.rows.device.clone(), to: uplink.rows.device.clone() };
                    let all = migration::union(&migration::moved(&was.rows, &mapping), &uplink.rows);
                    uplink.rows = DeviceRows { link: uplink.rows.link.clone(), ..all };
                }
                let rows = &mut uplink.rows;
                (rows.sysctls, rows.qdisc, rows.merging) =
                    (was.rows.sysctls, was.rows.qdisc, was.rows.merging);
            }
            uplink.held = was.held;
            // A client that was handed over before is not found on the NIC again, and still has to go back one day.
            let found = uplink.managers.clone();
            let known =
                |one: &serde_json::Value| found.iter().any(|new| new.get("manager") == one.get("manager"));
            if same_boot || found.is_empty() {
                uplink.managers.extend(was.managers.into_iter().filter(|one| !known(one)));
            }
        }
        if ours {
            self.uplink.held = PriorOvsConfig::default();
        }
        self
    }

    /// Whether rows and numbers in it still mean something.
    pub fn is_of_this_boot(&self) -> Result<bool> {
        Ok(self.boot_id == host::boot::id()?)
    }
}

impl JournalState {
    /// Whether something still has to be restored.
    pub fn is_unfinished(self) -> bool {
        matches!(self, JournalState::Open | JournalState::UndoneOvsdbPending)
    }
}

/// The folder of journal and lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(PathBuf);

impl Folder {
    /// Below the product's state folder.
    pub fn below(state_dir: &Path) -> Self {
        Self(state_dir.join("uplink"))
    }

    /// A folder by its own path.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The journal, of whatever boot; `None` when there is none.
    pub fn journal(&self) -> Result<Option<Journal>> {
        let path = self.journal_path();
        checked(&path, files::read(&path)?, |journal: &Journal| validate::inconsistency(&journal.uplinks))
    }

    /// The record of a bridge; `None` when there is none.
    pub(crate) fn taken(&self, bridge: &str) -> Result<Option<TakeoverRecord>> {
        read_taken(&self.taken_path(bridge))
    }

    /// The same of all of them, by name. A broken one is an error of its own, not of the others.
    pub fn all_taken(&self) -> Result<Vec<Result<TakeoverRecord>>> {
        let entries = match std::fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(files::failed("read the folder", &self.0)(error)),
        };
        let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        paths.retain(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("taken-") && name.ends_with(".json")
        });
        paths.sort_unstable();
        // One that goes while we read was not there.
        Ok(paths.iter().filter_map(|path| read_taken(path).transpose()).collect())
    }

    fn journal_path(&self) -> PathBuf {
        self.0.join("journal.json")
    }

    fn taken_path(&self, bridge: &str) -> PathBuf {
        self.0.join(format!("taken-{bridge}.json"))
    }

    fn lock_path(&self) -> PathBuf {
        self.0.join("lock")
    }
}

/// A record under another bridge's name is an error.
fn read_taken(path: &Path) -> Result<Option<TakeoverRecord>> {
    let inconsistency = |taken: &TakeoverRecord| {
        let name = format!("taken-{}.json", taken.uplink.bridge);
        let other = path.file_name().is_none_or(|own| own != name.as_str());
        validate::inconsistency(std::slice::from_ref(&taken.uplink))
            .or_else(|| other.then(|| format!("it is of {}", taken.uplink.bridge)))
    };
    checked(path, files::read(path)?, inconsistency)
}

fn checked<T>(
    path: &Path,
    found: Option<T>,
    inconsistency: impl Fn(&T) -> Option<String>,
) -> Result<Option<T>> {
    match found.as_ref().and_then(inconsistency) {
        Some(what) => Err(Error::JournalBroken { path: path.to_owned(), what }),
        None => Ok(found),
    }
}
