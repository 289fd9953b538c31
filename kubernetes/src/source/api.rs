//! The objects of an API server: one reflector for each kind, and one client for all of them.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::Watch;
use super::clients::{Clients, Timing};
use super::kind::Kind;
use super::reflector::Reflector;
use super::store::Event;
use crate::config::ClientConfig;

/// Start the tasks that follow the API server.
pub(super) fn start(
    settings: &watch::Receiver<Arc<ClientConfig>>,
    watch: &Watch,
    events: &mpsc::Sender<Event>,
    timing: Timing,
) -> JoinSet<()> {
    let clients = Arc::new(Clients::default());
    let mut tasks = JoinSet::new();
    for kind in watch.kinds() {
        let fields =
            watch.node.as_ref().filter(|_| kind == Kind::Node).map(|node| format!("metadata.name={node}"));
        let reflector =
            Reflector::new(kind, fields, settings.clone(), clients.clone(), events.clone(), timing);
        tasks.spawn(reflector.run());
    }
    tasks
}
