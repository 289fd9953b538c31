//! The gateway node: flows, host paths, and the helper daemon.
pub mod flows;
pub mod helper;
pub mod host_paths;
pub mod services;
