//! From Kubernetes objects to what this gateway does for them: the policy's service ports, the host's rows, and the
//! answers to `healthCheckNodePort`.
//!
//! Pure. [`plan`](plan::plan) says what one service asks for, [`claims`] who gets what is asked for twice, and
//! [`Catalogue`] keeps both for all services, so that one changed Service costs what that Service costs.

pub mod catalogue;
pub mod claims;
pub mod host_rows;
pub mod plan;

pub use catalogue::{Catalogue, Changes, Granted, HealthChecks};
pub use host_rows::{HostEndpoint, NodePort, Reach, ServiceHostRows, Translation};
pub use plan::{HealthCheck, NodeView};
