//! The objects of an API server.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Watch;
use super::store::Event;
use crate::config::ClientConfig;
use crate::error::Error;

/// Start the tasks that follow the API server.
pub(super) fn start(
    settings: &watch::Receiver<Arc<ClientConfig>>,
    watch: &Watch,
    events: &mpsc::Sender<Event>,
) -> Result<JoinSet<()>, Error> {
    let _ = (settings, watch, events);
    Ok(JoinSet::new())
}
