//! Whose frame is it: the policy, the parser, and the one classifier.
//!
//! Pure: knows nothing of Kubernetes, OVSDB, OpenFlow or tokio, and does no I/O.
pub mod connections;
pub mod decide;
pub mod delta;
pub mod frame;
#[cfg(any(test, feature = "generate"))]
pub mod generate;
mod index;
pub mod mac;
mod parse;
pub mod policy;
pub mod rule;
mod transport;
mod verdict;
