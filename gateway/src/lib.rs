//! The gateway node: flows, host paths, and the helper daemon.
pub mod host_paths;
pub mod services;
