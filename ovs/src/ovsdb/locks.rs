//! Advisory locks of the server (RFC 7047, sections 4.1.8 to 4.1.11), kept over reconnections.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc, watch};

use super::command::Command;

/// A requested lock. Released when this is dropped.
#[derive(Debug)]
pub struct Lock {
    name: String,
    held: watch::Receiver<bool>,
    locks: Arc<Locks>,
    /// Keeps the session alive.
    _commands: mpsc::Sender<Command>,
}

impl Lock {
    /// The lock's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this connection holds the lock, as the server last reported. A guard in each transaction
    /// ([`Operation::assert_lock`](super::Operation::assert_lock)) is the only proof.
    pub fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Follows whether the lock is held.
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.held.clone()
    }

    /// Waits until the lock is held.
    pub async fn wait_held(&self) {
        let _ = self.watch().wait_for(|held| *held).await;
    }

    /// Takes the lock from the client that holds it, which is notified. Without a connection this does nothing, also later.
    pub fn steal(&self) {
        self.locks.steal(&self.name);
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.locks.release(&self.name);
    }
}

/// What the session has to request from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Lock(String),
    Steal(String),
    Unlock(String),
}

/// The requested locks, shared by handles and session.
#[derive(Debug, Default)]
pub(super) struct Locks {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<String, Entry>,
    requests: Vec<Request>,
}

#[derive(Debug)]
struct Entry {
    handles: usize,
    held: watch::Sender<bool>,
}

impl Locks {
    pub(super) fn register(locks: &Arc<Locks>, name: &str, commands: &mpsc::Sender<Command>) -> Lock {
        let mut inner = locks.inner();
        let known = inner.entries.contains_key(name);
        let entry = inner
            .entries
            .entry(name.to_owned())
            .or_insert_with(|| Entry { handles: 0, held: watch::Sender::new(false) });
        entry.handles += 1;
        let held = entry.held.subscribe();
        if !known {
            locks.push(&mut inner, Request::Lock(name.to_owned()));
        }
        drop(inner);
        Lock { name: name.to_owned(), held, locks: locks.clone(), _commands: commands.clone() }
    }

    pub(super) fn steal(&self, name: &str) {
        self.push(&mut self.inner(), Request::Steal(name.to_owned()));
    }

    /// Waits until there are requests, and takes them. Safe to drop: requests not taken stay.
    pub(super) async fn requests(&self) -> Vec<Request> {
        loop {
            let requests = std::mem::take(&mut self.inner().requests);
            if !requests.is_empty() {
                return requests;
            }
            self.changed.notified().await;
        }
    }

    /// A new connection: every lock must be requested, and earlier requests are void.
    pub(super) fn restart(&self) -> Vec<Request> {
        let mut inner = self.inner();
        inner.requests.clear();
        inner.entries.keys().cloned().map(Request::Lock).collect()
    }

    /// The server reports whether this connection holds a lock.
    pub(super) fn set_held(&self, name: &str, held: bool) {
        if let Some(entry) = self.inner().entries.get(name) {
            entry.held.send_if_modified(|before| std::mem::replace(before, held) != held);
        }
    }

    /// The connection is gone, and all locks with it.
    pub(super) fn lost(&self) {
        for entry in self.inner().entries.values() {
            entry.held.send_if_modified(std::mem::take);
        }
    }

    /// The caller keeps the mutex from looking at the entries to this: requests are in the order of the facts.
    fn push(&self, inner: &mut Inner, request: Request) {
        inner.requests.push(request);
        self.changed.notify_one();
    }

    fn release(&self, name: &str) {
        let mut inner = self.inner();
        let Some(entry) = inner.entries.get_mut(name) else { return };
        entry.handles -= 1;
        if entry.handles == 0 {
            inner.entries.remove(name);
            self.push(&mut inner, Request::Unlock(name.to_owned()));
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
