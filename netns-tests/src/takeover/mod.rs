//! A light lab for the uplink takeover: one node with one NIC, no OVN, and everything measured from outside.
//!
//! ```text
//! administrator 192.0.2.10 -- router 172.18.0.1, .3 (a Linux bridge) -- eth0 172.18.0.11 node (ovsdb-server, ovs-vswitchd)
//! ```
//!
//! A [`Site`] is up in a third of a second and private like every lab, so many run side by side. Its NIC is configured
//! as richly as a node's may be ([`nic`]): what a takeover has to carry over. [`State`] compares before and after,
//! [`meter`] counts what traffic of every kind lost, saw twice and waited for, [`original`] is the sequence of old for
//! comparison, [`product`] runs the built binary with faults on the way.

pub mod helper;
pub mod meter;
pub mod nic;
pub mod original;
pub mod product;
pub mod reachability;
mod site;
pub mod state;
pub mod switch;

pub use meter::{Load, Meter};
pub use site::{Site, SiteOptions};
pub use state::State;
