//! Entry point of the fuzz target (crate `fuzz`) for manifests.

pub use crate::source::fuzz::manifest;
