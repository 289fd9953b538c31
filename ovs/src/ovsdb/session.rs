//! Keeps one database followed, whatever happens to its servers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::db::{Command, Config, Shared};

pub(super) async fn run(_config: Config, shared: Arc<Shared>, mut inbox: mpsc::Receiver<Command>) {
    while let Some(Command::Transact { reply, .. }) = inbox.recv().await {
        let _ = reply.send(Err(shared.not_connected()));
    }
}
