//! Whose frame is it: the policy, the parser, and the one classifier.
//!
//! Pure: knows nothing of Kubernetes, OVSDB, OpenFlow or tokio, and does no I/O.
pub mod capture;
pub mod connections;
pub mod decide;
pub mod delta;
pub mod error;
pub mod frame;
#[cfg(any(test, feature = "generate"))]
pub mod generate;
mod index;
pub mod mac;
mod parse;
pub mod policy;
mod policy_text;
pub mod rule;
mod transport;
mod verdict;
