//! The gateway node: flows, host paths, and the helper daemon.
