//! Whose frame is it: the policy, the parser, and the one classifier.
//!
//! A gateway node's only NIC has two owners, the host and OVN's gateway router, and one MAC and address between them.
//! This crate says for any frame who gets it, and why:
//!
//! ```text
//!   bytes --Frame::parse--> Frame --+
//!                                   +--> decide --> Decision { verdict, rule, service }
//!   Policy, Ingress, Option<Owner> -+
//! ```
//!
//! * [`policy`]: what the split must do. Services are set one by one and looked up in constant time; [`delta`] is what
//!   changed between two policies, so that a renderer need not start anew. Policies are read and written as JSON.
//! * [`frame`]: the headers of a frame, read from any bytes as Open vSwitch reads them.
//! * [`decide`]: the classifier, pure and without allocation. [`rule`] names every kind of row and holds the whole
//!   table on its page; the numbers are flow cookies, counters and metric labels.
//! * [`connections`]: who owns a connection or a datagram, as traits for packet paths, and a plain table.
//! * [`capture`]: frames out of pcap files.
//! * `generate` (a feature): policies and frames made up from a seed, to hold every renderer against [`decide`].
//!
//! The OpenFlow rendering lives in the gateway; others (eBPF, userspace) will stand beside it. All of them must give the
//! verdict that [`decide::decide`] gives.
//!
//! What this crate never does: input or output, a clock, a port number of some switch, a conntrack zone, Kubernetes,
//! OVSDB, OpenFlow. Where it knows nothing better, a frame is the host's.

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
mod transport;
mod verdict;
