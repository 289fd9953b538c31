//! Commands of the handles to the session.

use tokio::sync::oneshot;

use super::Error;
use super::operation::{OpResult, Operation};

/// A command of a handle to the session.
#[derive(Debug)]
pub(super) enum Command {
    Transact { operations: Vec<Operation>, reply: oneshot::Sender<Result<Vec<OpResult>, Error>> },
}
