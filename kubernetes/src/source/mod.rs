//! Where the objects come from, and the interface of a source.
//!
//! ```no_run
//! # async fn example(config: kubernetes::ClientConfig) -> Result<(), kubernetes::Error> {
//! use kubernetes::{Source, Watch};
//!
//! let mut source = Source::api(config, Watch { node: Some("gw1".into()) });
//! loop {
//!     let batch = source.next().await;
//!     if !source.synced() {
//!         continue; // what is missing may only not have come yet: nothing may be taken away
//!     }
//!     for key in &batch.changed {
//!         let _now = source.view(key); // None: the Service is gone
//!     }
//! }
//! # }
//! ```

mod api;
mod clients;
mod file;
pub(crate) mod fuzz;
mod health;
mod kind;
mod manifests;
mod reflector;
mod store;
mod wire;

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use ipnet::IpNet;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::ClientConfig;
use crate::error::Error;
use crate::object::{EndpointSlice, Node, ObjectKey, Service};
use clients::Timing;
use kind::Kind;
use store::{Event, Store};

/// How many objects may be on their way from the tasks to the owner before the tasks wait.
const QUEUE: usize = 4096;

/// The objects of a cluster, kept up to date. Dropping it ends its tasks.
///
/// The values change only inside [`Source::next`].
#[derive(Debug)]
pub struct Source {
    store: Store,
    events: mpsc::Receiver<Event>,
    /// New settings for the tasks. `None` for a folder.
    config: Option<watch::Sender<Arc<ClientConfig>>>,
    /// What was seen and not yet reported.
    pending: Batch,
    ended: bool,
    _tasks: JoinSet<()>,
}

/// What to watch on an API server beside Services, EndpointSlices and ServiceCIDRs.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// The Node to keep, by name.
    pub node: Option<String>,
}

/// What changed since the last batch. It names the things that changed, not their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Services that are new, gone, or differ in themselves or in their slices. A key may name a Service that does
    /// not exist (only its slices do).
    pub changed: BTreeSet<ObjectKey>,
    /// [`Source::service_cidrs`] gives another answer.
    pub cidrs_changed: bool,
    /// [`Source::node`] gives another answer.
    pub node_changed: bool,
    /// [`Source::problems`] gives another answer.
    pub problems_changed: bool,
    /// [`Source::health`] or [`Source::synced`] gives another answer.
    pub health_changed: bool,
}

/// A Service with what stands behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceView {
    /// The Service.
    pub service: Arc<Service>,
    /// Its slices, ordered by name.
    pub slices: Vec<Arc<EndpointSlice>>,
}

/// The health of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The server's URL or the folder.
    pub origin: String,
    /// Whether changes arrive. Objects are kept while they do not.
    pub connected: bool,
    /// Since when `connected` is what it is.
    pub since: SystemTime,
    /// The last error. `None` while connected.
    pub last_error: Option<String>,
    /// Failures in a row.
    pub failures: u32,
}

/// Something in the source that was left out, and why. The rest works.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where it stands: a file with the document in it (`web.yaml, document 2`), or the API server.
    pub place: String,
    /// The object, when it got far enough to have a name: `Service default/web`.
    pub object: Option<String>,
    /// What is wrong, and what applies instead.
    pub reason: String,
}

impl Source {
    /// The objects of an API server. Returns at once; the objects come with [`Source::next`], and [`Source::health`]
    /// reports an API server that does not answer.
    ///
    /// Must be called inside a tokio runtime.
    ///
    #[must_use]
    pub fn api(config: ClientConfig, watch: Watch) -> Self {
        Self::api_timed(config, &watch, Timing::default())
    }

    fn api_timed(config: ClientConfig, watch: &Watch, timing: Timing) -> Self {
        let (sender, events) = mpsc::channel(QUEUE);
        let store = Store::new(config.server().to_owned(), watch.kinds());
        let (config, settings) = watch::channel(Arc::new(config));
        let tasks = api::start(&settings, watch, &sender, timing);
        Self { store, events, config: Some(config), pending: Batch::default(), ended: false, _tasks: tasks }
    }

    /// The objects of a folder of manifests: `*.yaml`, `*.yml` and `*.json` in it, not in folders below.
    ///
    /// Must be called inside a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read.
    pub fn manifests(dir: &Path) -> Result<Self, Error> {
        let (sender, events) = mpsc::channel(QUEUE);
        let tasks = manifests::start(dir, sender)?;
        let store = Store::new(dir.display().to_string(), Kind::ALL);
        Ok(Self { store, events, config: None, pending: Batch::default(), ended: false, _tasks: tasks })
    }

    /// Waits until something changes, and returns what. Everything that has arrived by then comes as one batch;
    /// before the source is synced only its health and its problems are worth a batch, and the objects gather.
    ///
    /// Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Batch {
        loop {
            while let Ok(event) = self.events.try_recv() {
                self.store.apply(event, &mut self.pending);
            }
            if self.pending.is_due(self.store.synced()) {
                return self.take_pending();
            }
            match self.events.recv().await {
                Some(event) => self.store.apply(event, &mut self.pending),
                None if self.ended => std::future::pending().await,
                None => {
                    self.ended = true;
                    self.store.end(&mut self.pending);
                }
            }
        }
    }

    /// Replaces the settings for the API server, for example its address or its token. The objects stay, and what
    /// differs on the other server is reported as changed. Without effect on a folder.
    pub fn reconfigure(&self, config: ClientConfig) {
        if let Some(sender) = &self.config {
            sender.send_replace(Arc::new(config));
        }
    }

    /// Whether everything has been seen once: then a Service that is not here does not exist, and the ranges and the
    /// node are known, or known not to be had. Stays true while the server is away.
    #[must_use]
    pub fn synced(&self) -> bool {
        self.store.synced()
    }

    /// A Service with its slices, or `None` when there is no such Service.
    #[must_use]
    pub fn view(&self, key: &ObjectKey) -> Option<ServiceView> {
        self.store.view(key)
    }

    /// All Services, ordered by namespace and name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.store.services()
    }

    /// The slices of a Service, ordered by name; also of one that does not exist (yet).
    #[must_use]
    pub fn slices(&self, key: &ObjectKey) -> &[Arc<EndpointSlice>] {
        self.store.slices(key)
    }

    /// The ranges of cluster addresses, from ServiceCIDR objects. Empty when the server has none (before 1.33) or
    /// does not let us read them.
    #[must_use]
    pub fn service_cidrs(&self) -> Vec<IpNet> {
        self.store.service_cidrs()
    }

    /// The node of [`Watch::node`], when the source has it.
    #[must_use]
    pub fn node(&self) -> Option<&Arc<Node>> {
        self.store.node()
    }

    /// What was left out, ordered by place.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.store.problems()
    }

    /// The health of the source.
    #[must_use]
    pub fn health(&self) -> &Health {
        self.store.health()
    }

    fn take_pending(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.pending);
        if !self.store.synced() {
            self.pending.changed = std::mem::take(&mut batch.changed);
        }
        batch
    }
}

impl Watch {
    fn kinds(&self) -> Vec<Kind> {
        let without_node = self.node.is_none();
        Kind::ALL.into_iter().filter(|kind| *kind != Kind::Node || !without_node).collect()
    }
}

impl Batch {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn is_due(&self, synced: bool) -> bool {
        if synced { !self.is_empty() } else { self.problems_changed || self.health_changed }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Some(object) => write!(f, "{}: {object}: {}", self.place, self.reason),
            None => write!(f, "{}: {}", self.place, self.reason),
        }
    }
}

#[cfg(test)]
mod tests;
