//! The record of which part of the sysctls is ours.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Key;
use crate::ports::PortSet;
use crate::{Error, Result, regular_file};

/// A value we replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// The value before ours.
    pub before: String,
    /// What we wrote.
    pub ours: String,
}

/// The record. It holds for one boot: sysctls do not outlive it.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    boot: String,
    #[serde(default)]
    pub(super) reserved_ports: PortSet,
    #[serde(default)]
    values: BTreeMap<String, Replaced>,
}

impl Record {
    /// Reads it. A missing file and one of an earlier boot are an empty record; a broken one is an error, because
    /// continuing would lose what is ours.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let boot = crate::boot::id().unwrap_or_default();
        let failed = |source| Error::Record { action: "read", path: path.to_owned(), source };
        let record = match regular_file::read(path, regular_file::TEXT) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| failed(io::Error::from(e)))?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(e) => return Err(failed(e)),
        };
        Ok(if record.boot == boot { record } else { Self { boot, ..Self::default() } })
    }

    /// Writes it so that a crash leaves the old one or the new one whole.
    pub(super) fn store(&self, path: &Path) -> Result<()> {
        let failed = |source| Error::Record { action: "write", path: path.to_owned(), source };
        let directory = path.parent().unwrap_or(Path::new("."));
        let write = || -> io::Result<()> {
            fs::create_dir_all(directory)?;
            let draft = path.with_extension("json.new");
            let mut file =
                regular_file::open(File::options().write(true).create(true).truncate(true), &draft)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&draft, path)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed)
    }

    pub(super) fn remove(path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::Record { action: "remove", path: path.to_owned(), source: e })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn replaced(&self, key: &Key) -> Option<&Replaced> {
        self.values.get(&key.to_string())
    }

    /// Records that we write `ours` over `before`. When `before` is our own value, the recorded value before it stays.
    pub(super) fn replace(&mut self, key: &Key, before: String, ours: String) {
        let fields = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let recorded = self.values.get(&key.to_string()).filter(|old| fields(&old.ours) == fields(&before));
        let before = recorded.map_or(before, |old| old.before.clone());
        self.values.insert(key.to_string(), Replaced { before, ours });
    }

    /// Every value we replaced.
    pub(super) fn all(&self) -> impl Iterator<Item = (Key, &Replaced)> {
        self.values.iter().map(|(name, replaced)| (Key(name.clone().into()), replaced))
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.values.remove(&key.to_string());
    }
}
