//! Kubernetes objects: the client from the node's settings, and the sources of objects.
//!
//! It keeps the Services of a cluster, their EndpointSlices, the ServiceCIDRs and one Node in memory, as slim values of
//! its own, and reports which Services changed. Two kinds of [`Source`] give the same objects to
//! the same code: an API server, and a folder of YAML manifests.
//!
//! ```text
//! node settings -> ClientConfig --+
//!                                 v
//! API server --list, watch--> reflectors --+
//!                                          +--> wire -> object --> store --> Batch: the Services that changed
//! folder ------inotify------> manifests ---+               (validate)
//! ```
//!
//! Data flows one way. The reflectors and the folder reader run as tasks, and hand converted objects to the
//! [`Source`], which applies them when its owner asks for the next [`Batch`]; so what the owner reads between two
//! calls of [`Source::next`] never changes under it. Nothing is derived from an event itself: an event changes the
//! store, and the difference is what is reported.
//!
//! It writes nothing to the cluster and nothing to the folder. It sends no bearer token over plain http to another host
//! than loopback, unless the settings allow it, and logs none. It keeps its objects while their source is away. It knows nothing of OVS, of packets or of gateways.

mod config;
mod error;
#[doc(hidden)]
pub mod fuzzing;
pub mod object;
mod source;
mod validate;

pub use config::{ClientConfig, NodeSettings};
pub use error::Error;
pub use object::{EndpointSlice, ObjectKey, Service};
pub use source::{Batch, Health, Problem, ServiceView, Source, Watch};
