//! The rtnetlink socket for asynchronous callers, and a watch for changes.
//!
//! A list runs on a thread of the runtime's blocking pool, since a full routing table takes the kernel seconds. A change
//! is one route, with our own protocol number ([`OUR_PROTOCOL`]) only.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::address::Address;
use super::events::KernelEvents;
use super::link::Link;
use super::route::{OUR_PROTOCOL, Route};
use super::{Family, Kind, Request, Socket};
use crate::{Error, Result};

/// An rtnetlink socket, of the network namespace of the thread that opened it.
#[derive(Clone, Debug)]
pub struct AsyncSocket {
    socket: Arc<Mutex<Socket>>,
}

impl AsyncSocket {
    /// Opens one, in the network namespace of the calling thread.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Arc::new(Mutex::new(Socket::open()?)) })
    }

    /// All devices.
    pub async fn links(&self) -> Result<Vec<Link>> {
        let rows = self.run(|socket| socket.dump_all(Kind::Link)).await?;
        Ok(rows.iter().filter_map(Link::of).collect())
    }

    /// All addresses of both families.
    pub async fn addresses(&self) -> Result<Vec<Address>> {
        let rows = self.run(|socket| socket.dump_all(Kind::Address)).await?;
        Ok(rows.iter().filter_map(Address::of).collect())
    }

    /// The unicast routes of both families, in all tables but `local`, that the closure accepts.
    pub async fn routes_where(
        &self,
        accepts: impl Fn(&Route) -> bool + Send + 'static,
    ) -> Result<Vec<Route>> {
        let list = move |socket: &Socket| {
            let mut routes = Vec::new();
            for family in Family::ALL {
                let rows = socket.dump_where(Kind::Route, family, |row| {
                    Route::of(row).is_some_and(|route| route.is_unicast() && accepts(&route))
                })?;
                routes.extend(rows.iter().filter_map(Route::of));
            }
            Ok(routes)
        };
        self.run(list).await
    }

    /// Adds a route with our protocol number, whatever number the value has. A route with the same key is not replaced:
    /// that is an error ([`Error::already_exists`]).
    pub async fn add_route(&self, route: &Route) -> Result<()> {
        let request = Request::create(route.with_protocol(OUR_PROTOCOL).into_row());
        self.run(move |socket| socket.apply(&request)).await
    }

    /// Deletes a route of ours; succeeds when there is none. The kernel compares the protocol number, so a route of
    /// another program is never deleted.
    pub async fn delete_route(&self, route: &Route) -> Result<()> {
        let request = Request::delete(route.with_protocol(OUR_PROTOCOL).delete_request());
        match self.run(move |socket| socket.apply(&request)).await {
            Err(error) if error.is_missing() => Ok(()),
            outcome => outcome,
        }
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Socket) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let socket = Arc::clone(&self.socket);
        let done =
            tokio::task::spawn_blocking(move || work(&socket.lock().unwrap_or_else(PoisonError::into_inner)));
        done.await.unwrap_or_else(|error| {
            let attempted = "finish a netlink request".to_owned();
            Err(Error::Kernel { attempted, source: io::Error::other(error) })
        })
    }
}

/// Watches links, addresses and routes, in the network namespace of the calling thread. Must be called inside a tokio
/// runtime.
///
/// The number grows with every change, and is 1 at the start so that the first observation is not forgotten; changes
/// that come while the receiver is busy are one. An overflow of the kernel's buffer counts as a change. The channel
/// closes when the socket fails.
pub fn watch() -> Result<watch::Receiver<u64>> {
    let events = KernelEvents::open()?;
    #[allow(unsafe_code, reason = "tokio leaves the descriptor's validity to the caller")]
    // SAFETY: a KernelEvents owns its descriptor, which stays open and the same for as long as the value lives.
    let registered = unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) };
    let mut events = registered.map_err(|error| Error::NetlinkSocket { source: error.into() })?;
    let (sender, receiver) = watch::channel(1);
    tokio::spawn(async move {
        loop {
            let ready = tokio::select! {
                ready = events.readable_mut() => ready,
                () = sender.closed() => break,
            };
            let Ok(mut ready) = ready else { break };
            match ready.get_inner().drain() {
                Ok(true) => {
                    // More may be left: the socket stays ready until nothing is found.
                    drop(ready);
                    sender.send_modify(|count| *count += 1);
                    tokio::task::yield_now().await;
                }
                Ok(false) => ready.clear_ready(),
                Err(_) => break,
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
mod tests;
