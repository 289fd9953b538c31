//! The gateway node: flows, host paths, and the helper daemon.
pub mod ask;
pub mod explain;
pub mod flows;
pub mod helper;
pub mod host_paths;
pub mod services;

pub use ovs::tls;
