//! Speaking to Open vSwitch and OVN: OVSDB, OpenFlow, and the habits of that family of daemons.
//!
//! Knows nothing of gateways.
pub mod daemon;
pub mod openflow;
pub mod ovsdb;
pub mod paths;
pub mod pidfile;
pub mod rows;
pub mod tls;
pub mod unixctl;
pub mod vlog;
