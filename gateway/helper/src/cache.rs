//! What outlives the process: the last policy that was in force and the gateway router it was made for, in the state
//! folder.
//!
//! A helper that starts while the API server or the northbound database does not answer fills an empty bridge from the
//! policy; from the router it keeps node name, routes and ports of the host.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use demux::policy::{Policy, Split};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::northbound::GatewayRouter;

/// The files of the last policy and the last router.
#[derive(Clone, Debug)]
pub(crate) struct PolicyCache {
    path: PathBuf,
    router: PathBuf,
}

impl PolicyCache {
    /// The cache of one bridge in a state folder.
    pub(crate) fn new(state_dir: &Path, bridge: &str) -> Self {
        Self {
            path: state_dir.join(format!("{bridge}.policy.json")),
            router: state_dir.join(format!("{bridge}.router.json")),
        }
    }

    /// The last policy, if there is one that can be read. A broken file is logged and not used.
    pub(crate) fn load(&self) -> Option<Policy> {
        read(&self.path)
    }

    /// The split of the last policy, in the same way. Its Services are not read, which saves most of the time.
    pub(crate) fn load_split(&self) -> Option<Split> {
        #[derive(Deserialize)]
        struct WithoutServices {
            split: Split,
        }
        read::<WithoutServices>(&self.path).map(|policy| policy.split)
    }

    /// The last router, in the same way.
    pub(crate) fn load_router(&self) -> Option<GatewayRouter> {
        read(&self.router)
    }

    /// Writes the policy, and the router if there is one: each as a whole or not at all, and on the disk when this returns.
    pub(crate) fn store(&self, policy: &Policy, router: Option<&GatewayRouter>) -> io::Result<()> {
        router.map_or(Ok(()), |router| write(&self.router, router))?;
        write(&self.path, policy)
    }

    /// The same in the background; a failure is logged.
    pub(crate) fn store_in_background(&self, policy: Policy, router: Option<GatewayRouter>) {
        let cache = self.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cache.store(&policy, router.as_ref()) {
                tracing::warn!("the policy cannot be kept in the state folder: {error}");
            }
            drop(policy);
            // After a change: the memory that comparing and storing took is not needed until the next one.
            host::memory::give_back();
        });
    }

    /// Removes both files.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for path in [&self.path, &self.router] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("{} cannot be read: {error}", path.display());
            return None;
        }
    };
    match serde_json::from_str(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!("{} is not used: {error}", path.display());
            None
        }
    }
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_comes_back_and_a_broken_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = PolicyCache::new(folder.path(), "breth0");
        assert_eq!((cache.load(), cache.load_split(), cache.load_router()), (None, None, None));
        let router = GatewayRouter {
            name: "GR_node1".into(),
            node: Some("node1".into()),
            ports: "40000-59999".parse().ok(),
            join: ["100.64.0.0/16".parse().unwrap()].into(),
            ..GatewayRouter::default()
        };
        cache.store(&Policy::default(), Some(&router)).unwrap();
        cache.store(&Policy::default(), None).unwrap();
        assert_eq!((cache.load(), cache.load_router()), (Some(Policy::default()), Some(router)));
        assert_eq!(cache.load_split(), Some(Split::default()));
        assert_eq!(PolicyCache::new(folder.path(), "breth1").load_router(), None);
        fs::write(folder.path().join("breth0.router.json"), "{").unwrap();
        assert_eq!(cache.load_router(), None);
        cache.remove().unwrap();
        cache.remove().unwrap();
        assert_eq!(cache.load(), None);
    }
}
