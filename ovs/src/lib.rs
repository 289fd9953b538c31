//! Speaking to Open vSwitch and OVN: OVSDB, OpenFlow, and the habits of that family of daemons.
//!
//! Knows nothing of gateways.
pub mod openflow;
pub mod ovsdb;
pub mod rows;
