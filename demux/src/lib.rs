//! Classifies frames: which of an uplink's two owners gets a frame, and which rule says so.
//!
//! A gateway node's only NIC has two owners, the host and OVN's gateway router, which share one MAC and one address:
//!
//! ```text
//!   bytes --Frame::parse--> Frame --+
//!                                   +--> decide --> Decision { verdict, rule, service }
//!   Policy, Ingress, Option<Owner> -+
//! ```
//!
//! * [`policy`]: what the split must do. Services are set one by one and looked up in constant time; [`delta`] is what
//!   changed between two policies, so that a renderer need not start over. Policies are read and written as JSON.
//! * [`frame`]: the headers of a frame, read from any bytes as Open vSwitch reads them.
//! * [`decide`]: the classifier, pure and without allocation. [`rule`] names every kind of row and documents the whole
//!   table; the numbers are flow cookies, counters and metric labels.
//! * [`connections`]: the owner of a connection or a datagram, as traits for packet paths, and a plain table.
//! * [`capture`]: frames out of pcap files.
//! * `generate` (a feature): policies and frames generated from a seed, to compare every renderer with [`decide`].
//!
//! # For the renderers beside this crate
//!
//! The OpenFlow rendering is the crate `flows`. Renderers into eBPF maps and into userspace packet paths stand on these
//! items, and need neither Kubernetes nor Open vSwitch:
//!
//! * [`policy::Policy`]: [`services`](policy::Policy::services) and [`claim`](policy::Policy::claim) to read it,
//!   [`diff`](policy::Policy::diff) and [`delta::Delta`] to follow it
//! * [`frame::Frame::parse`], [`frame::Frame::tuple`], [`frame::Frame::datagram`]: what a packet path must see in a frame
//! * [`decide::decide`], and [`connections::classify`], which looks the owner up in a path's own
//!   [`connections::Connections`] and [`connections::Fragments`] only where the verdict depends on it
//! * [`rule::RuleId`]: [`number`](rule::RuleId::number) indexes a table of [`BOUND`](rule::RuleId::BOUND) counters;
//!   [`commits`](rule::RuleId::commits) says for which [`decide::Owner`] to remember the connection
//! * [`capture::read_frames`]: a path that replays a file
//!
//! Every renderer must give the verdict and the rule of [`decide::decide`].
//!
//! This crate does no input or output, reads no clock, and knows no port number of a switch, no conntrack zone, no
//! Kubernetes, OVSDB or OpenFlow. A frame that no rule knows belongs to the host.

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
mod service;
mod transport;
mod verdict;
