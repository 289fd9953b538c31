//! Closes sockets on a thread, because close() waits for an RCU grace period (about 10 ms).

use std::ops::Deref;
use std::sync::Arc;
use std::thread;

/// Drops a value on a thread of its own; on the calling thread when none can be started.
pub(crate) fn close_deferred<T: Send + 'static>(value: T) {
    let _ = thread::Builder::new().name("close".into()).spawn(move || drop(value));
}

/// A value that is dropped on a thread of its own.
#[derive(Debug)]
pub(crate) struct DeferredClose<T: Send + Sync + 'static>(Arc<T>);

impl<T: Send + Sync + 'static> DeferredClose<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T: Send + Sync + 'static> Deref for DeferredClose<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + Sync + 'static> Drop for DeferredClose<T> {
    fn drop(&mut self) {
        let mut value = Arc::clone(&self.0);
        let last = move || {
            // The reference of the calling thread ends right after this function.
            while let Err(again) = Arc::try_unwrap(value) {
                value = again;
                thread::yield_now();
            }
        };
        let _ = thread::Builder::new().name("close".into()).spawn(last);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    struct Reported(mpsc::SyncSender<thread::ThreadId>);

    impl Drop for Reported {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn a_value_is_dropped_by_another_thread() {
        let (sender, receiver) = mpsc::sync_channel(9);
        close_deferred(Reported(sender.clone()));
        drop(DeferredClose::new(Reported(sender)));
        for _ in 0..2 {
            assert_ne!(receiver.recv_timeout(Duration::from_secs(30)).unwrap(), thread::current().id());
        }
    }
}
