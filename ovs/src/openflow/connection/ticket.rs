//! Who waits for which answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::openflow::error::Disconnect;
use crate::openflow::wire::monitor::{self, Update};

/// A range of transaction numbers, and the answers to them as they come. Dropping it forgets the question.
#[derive(Debug)]
pub(super) struct Ticket {
    first: u32,
    answers: mpsc::UnboundedReceiver<(usize, Bytes)>,
    desk: Arc<Desk>,
}

/// Every ticket that is out, and how the connection ended if it did.
#[derive(Debug)]
pub(super) struct Desk {
    state: Mutex<State>,
    ended: watch::Sender<Option<Disconnect>>,
}

#[derive(Debug)]
struct State {
    next: u32,
    out: BTreeMap<u32, Waiting>,
    watcher: Option<Watcher>,
}

/// Who wants to know what others do to the flows.
#[derive(Debug)]
struct Watcher {
    ignored: Vec<u64>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Waiting {
    count: u32,
    answers: mpsc::UnboundedSender<(usize, Bytes)>,
}

impl Default for Desk {
    fn default() -> Self {
        // Number 0 belongs to what nobody waits for.
        Desk {
            state: Mutex::new(State { next: 1, out: BTreeMap::new(), watcher: None }),
            ended: watch::Sender::new(None),
        }
    }
}

impl Desk {
    /// Takes `count` numbers in a row.
    pub(super) fn ticket(desk: &Arc<Desk>, count: usize) -> Result<Ticket, Disconnect> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (sender, answers) = mpsc::unbounded_channel();
        let mut state = desk.lock();
        if let Some(reason) = desk.ended.borrow().clone() {
            return Err(reason);
        }
        // Numbers begin again long before they would not fit; the early ones have been given back by then.
        let first = if state.next.checked_add(count).is_some() { state.next } else { 1 };
        state.next = first.saturating_add(count);
        state.out.insert(first, Waiting { count, answers: sender });
        drop(state);
        Ok(Ticket { first, answers, desk: Arc::clone(desk) })
    }

    /// Gives a message to whoever waits for it; false when nobody does.
    pub(super) fn deliver(&self, xid: u32, message: Bytes) -> bool {
        let state = self.lock();
        match state.out.range(..=xid).next_back() {
            Some((first, waiting)) if xid - first < waiting.count => {
                waiting.answers.send(((xid - first) as usize, message)).is_ok()
            }
            _ => false,
        }
    }

    /// Counts what others do to flows, save those with the ignored cookies. A second watcher replaces the first.
    pub(super) fn watch(&self, ignored: Vec<u64>) -> watch::Receiver<u64> {
        let (changes, receiver) = watch::channel(0);
        let mut state = self.lock();
        // After the end, the channel is closed at once.
        if self.ended.borrow().is_none() {
            state.watcher = Some(Watcher { ignored, changes });
        }
        receiver
    }

    /// Reads news that came unasked.
    pub(super) fn news(&self, message: &[u8]) {
        let state = self.lock();
        let Some(watcher) = &state.watcher else { return };
        let mut changes = 0;
        let read = monitor::read_updates(message, |update| match update {
            Update::Flow { cookie } if watcher.ignored.contains(&cookie) => {}
            Update::Flow { .. } | Update::Missed => changes += 1,
        });
        // What cannot be read is a reason to look as well.
        changes += u64::from(read.is_err());
        if changes > 0 {
            watcher.changes.send_modify(|sum| *sum += changes);
        }
    }

    /// Ends every wait, the first reason given stays.
    pub(super) fn end(&self, reason: Disconnect) {
        let mut state = self.lock();
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(reason);
            first
        });
        state.out.clear();
        state.watcher = None;
    }

    /// Resolves when the connection has ended.
    pub(super) async fn closed(&self) -> Disconnect {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or(Disconnect::Dropped)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The transaction number at a place in the range.
    pub(super) fn xid(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32)
    }

    /// The next answer and its place in the range; none when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<(usize, Bytes)> {
        self.answers.recv().await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.desk.lock().out.remove(&self.first);
    }
}
