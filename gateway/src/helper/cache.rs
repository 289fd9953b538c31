//! What outlives the process: the last policy that was in force, in the state folder.
//!
//! A helper that starts while the API server or the northbound database is away fills an empty bridge from it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use demux::policy::Policy;

/// The file of the last policy.
#[derive(Clone, Debug)]
pub struct PolicyCache {
    path: PathBuf,
}

impl PolicyCache {
    /// The cache of one bridge in a state folder.
    pub fn new(state_dir: &Path, bridge: &str) -> Self {
        Self { path: state_dir.join(format!("{bridge}.policy.json")) }
    }

    /// The last policy, if there is one that can be read. A broken file is said and not used.
    pub fn load(&self) -> Option<Policy> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("{} cannot be read: {error}", self.path.display());
                return None;
            }
        };
        match serde_json::from_str(&text) {
            Ok(policy) => Some(policy),
            Err(error) => {
                tracing::warn!("{} is not used: {error}", self.path.display());
                None
            }
        }
    }

    /// Writes the policy: whole or not at all, on the disk before it returns.
    pub fn store(&self, policy: &Policy) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder)?;
        let temporary = self.path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(policy)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(folder)?.sync_all()
    }

    /// Forgets the policy.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
