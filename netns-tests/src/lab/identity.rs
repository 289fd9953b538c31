//! The name and folder of one lab, and the sweep of labs whose owner is gone.

use std::{
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result};

use super::{netns, process::Register};

/// What every name of every lab begins with.
const PREFIX: &str = "k8gw-";

/// How many labs this process has made.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A name no other lab has, and the folder under which everything of the lab lives.
///
/// Dropping it ends the noted processes and removes the folder; fields of a lab are declared so that it goes last.
#[derive(Debug)]
pub struct Identity {
    name: String,
    dir: PathBuf,
}

impl Identity {
    /// The next name of this process. Sweeps what dead processes left, once.
    pub fn next() -> Result<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep();
        }
        let name = format!("{PREFIX}{}-{number}", process::id());
        let dir = base().join(&name);
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(Self { name, dir })
    }

    /// The lab's name; names of namespaces begin with it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The list of the lab's processes.
    pub fn register(&self) -> Register {
        Register::of(&self.dir)
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        self.register().end_all();
        if std::env::var_os("LAB_KEEP").is_none() {
            drop(fs::remove_dir_all(&self.dir));
        }
    }
}

/// Unix socket paths hold 107 bytes, so a long `TMPDIR` is not used.
fn base() -> PathBuf {
    let wanted = std::env::temp_dir();
    if wanted.as_os_str().len() <= 40 { wanted } else { PathBuf::from("/tmp") }
}

/// Ends processes, takes away namespaces and folders of labs whose owner no longer runs.
pub fn sweep() {
    let orphan = |name: &str| {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        owner.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists())
    };
    let folders = fs::read_dir(base()).into_iter().flatten().flatten();
    for folder in folders.filter(|folder| orphan(&folder.file_name().to_string_lossy())) {
        Register::of(&folder.path()).end_all();
        if std::env::var_os("LAB_KEEP").is_none() {
            drop(fs::remove_dir_all(folder.path()));
        }
    }
    for (_, path) in netns::names().into_iter().filter(|(name, _)| orphan(name)) {
        netns::remove(&path);
    }
}
