//! The objects of a folder of manifests.

use std::path::Path;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::store::Event;
use crate::error::Error;

/// Start the task that follows the folder.
pub(super) fn start(dir: &Path, events: mpsc::Sender<Event>) -> Result<JoinSet<()>, Error> {
    let _ = (dir, events);
    Ok(JoinSet::new())
}
