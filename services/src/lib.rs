//! From Kubernetes objects to what this gateway does for them: the policy's service ports, the host's rows, and the
//! answers on `healthCheckNodePort`.
//!
//! Pure. [`plan`](plan::plan) is what one service claims, [`claims`] decides which service gets what several claim, and
//! [`Catalogue`] keeps both for all services, so that one changed Service costs what that Service costs.

pub mod catalogue;
pub mod claims;
pub mod host_rows;
pub mod plan;

pub use catalogue::{Catalogue, Changes, Granted, HealthChecks};
pub use host_rows::{HostEndpoint, NodePort, Reach, ServiceHostRows, Translation};
pub use plan::{HealthCheck, NodeView};
