//! Whose frame is it: the policy, the parser, and the one classifier.
//!
//! Pure: knows nothing of Kubernetes, OVSDB, OpenFlow or tokio, and does no I/O.
pub mod mac;
pub mod policy;
