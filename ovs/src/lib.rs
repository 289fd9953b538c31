//! Clients of Open vSwitch and OVN: OVSDB, OpenFlow, and the conventions of that family of daemons.
//!
//! * [`ovsdb`]: a database that is followed (snapshot, changes, transactions, locks) over unix, tcp or ssl, through
//!   restarts and leader changes; [`rows`] reads the rows this product uses.
//! * [`openflow`]: flows as values, their text and wire form, a held OpenFlow 1.4 connection with atomic bundles, and
//!   the comparison of what a bridge holds with what it should hold.
//! * [`vlog`], [`daemon`], [`pidfile`], [`unixctl`], [`paths`]: logging, detaching and the control socket as
//!   ovs-appctl and operators know them.
//!
//! What it never does: it knows nothing of gateways, Kubernetes or policies, runs no tool of OVS, and changes nothing
//! that the caller does not name.
pub mod daemon;
#[doc(hidden)]
pub mod fuzzing;
pub mod openflow;
pub mod ovsdb;
pub mod paths;
pub mod pidfile;
pub mod rows;
pub mod tls;
pub mod unixctl;
pub mod vlog;
