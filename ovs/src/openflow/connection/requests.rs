//! The requests that wait for replies.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::openflow::error::Disconnect;
use crate::openflow::wire::monitor::{self, Update};

/// A range of transaction ids (xids), and the replies to them as they come. Dropped, its replies are discarded.
#[derive(Debug)]
pub(super) struct Request {
    first: u32,
    replies: mpsc::UnboundedReceiver<(usize, Bytes)>,
    requests: Arc<Requests>,
}

/// All requests of one connection, and how the connection ended if it did.
#[derive(Debug)]
pub(super) struct Requests {
    table: Mutex<RequestTable>,
    ended: watch::Sender<Option<Disconnect>>,
}

#[derive(Debug)]
struct RequestTable {
    next_xid: u32,
    pending: BTreeMap<u32, Pending>,
    monitor: Option<FlowMonitor>,
}

/// Counts the changes of flows that others make.
#[derive(Debug)]
struct FlowMonitor {
    ignored_cookies: Vec<u64>,
    changes: watch::Sender<u64>,
}

#[derive(Debug)]
struct Pending {
    count: u32,
    replies: mpsc::UnboundedSender<(usize, Bytes)>,
}

impl Default for Requests {
    fn default() -> Self {
        // Xid 0 is for messages whose reply is not waited for.
        let table = RequestTable { next_xid: 1, pending: BTreeMap::new(), monitor: None };
        Requests { table: Mutex::new(table), ended: watch::Sender::new(None) }
    }
}

impl Requests {
    /// Begins a request of `count` messages, with as many xids in a row.
    pub(super) fn begin(requests: &Arc<Requests>, count: usize) -> Result<Request, Disconnect> {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let (sender, replies) = mpsc::unbounded_channel();
        let mut table = requests.table();
        if let Some(reason) = requests.ended.borrow().clone() {
            return Err(reason);
        }
        // Xids begin again long before they would not fit; the early ones are free by then.
        let first = if table.next_xid.checked_add(count).is_some() { table.next_xid } else { 1 };
        table.next_xid = first.saturating_add(count);
        table.pending.insert(first, Pending { count, replies: sender });
        drop(table);
        Ok(Request { first, replies, requests: Arc::clone(requests) })
    }

    /// Hands a message to the request of this xid; false when there is none.
    pub(super) fn deliver(&self, xid: u32, message: Bytes) -> bool {
        let table = self.table();
        match table.pending.range(..=xid).next_back() {
            Some((first, pending)) if xid - first < pending.count => {
                pending.replies.send(((xid - first) as usize, message)).is_ok()
            }
            _ => false,
        }
    }

    /// Counts what others do to flows, except those with the ignored cookies. A second call replaces the first.
    pub(super) fn monitor(&self, ignored_cookies: Vec<u64>) -> watch::Receiver<u64> {
        let (changes, receiver) = watch::channel(0);
        let mut table = self.table();
        // After the end, the channel is closed at once.
        if self.ended.borrow().is_none() {
            table.monitor = Some(FlowMonitor { ignored_cookies, changes });
        }
        receiver
    }

    /// Counts the changes in a flow monitor's update.
    pub(super) fn flow_update(&self, message: &[u8]) {
        let table = self.table();
        let Some(monitor) = &table.monitor else { return };
        let mut changes = 0;
        let read = monitor::read_updates(message, |update| match update {
            Update::Flow { cookie } if monitor.ignored_cookies.contains(&cookie) => {}
            Update::Flow { .. } | Update::Missed => changes += 1,
        });
        // An update that cannot be read may be a change.
        changes += u64::from(read.is_err());
        if changes > 0 {
            monitor.changes.send_modify(|sum| *sum += changes);
        }
    }

    /// Ends every request; the first reason given stays.
    pub(super) fn end(&self, reason: Disconnect) {
        let mut table = self.table();
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(reason);
            first
        });
        table.pending.clear();
        table.monitor = None;
    }

    /// Resolves when the connection has ended.
    pub(super) async fn closed(&self) -> Disconnect {
        let mut ended = self.ended.subscribe();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        reason.unwrap_or(Disconnect::Dropped)
    }

    fn table(&self) -> MutexGuard<'_, RequestTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Request {
    /// The xid of the message at this place in the request.
    pub(super) fn xid(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32)
    }

    /// The next reply, and the place in the request of the message it is for; none when the connection has ended.
    pub(super) async fn next(&mut self) -> Option<(usize, Bytes)> {
        self.replies.recv().await
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.requests.table().pending.remove(&self.first);
    }
}
