//! The policy as OpenFlow: one bridge, nine tables, every flow marked with the rule it stands for.
//!
//! ```text
//!  table 0  from where            wire, host, overlay; tunnels, ARP and ND, tagged frames
//!  table 1  to which address      external addresses' ports, then: is it an address of ours at all
//!  table 2  to which NodePort     then the reply rule (addresses that are only translated to: table 7)
//!  table 3  whose connection      by the mark in our conntrack zone
//!  table 4  out of the overlay    services' answers untracked, the rest committed with the pods' mark
//!  table 5  from which source     external addresses' services that serve some ranges only
//!  table 6  SCTP associations     learned from what pods send (where conntrack does not know SCTP's ports)
//!  table 7  the reply rule again  for addresses that have no NodePorts
//!  table 8  from which source     NodePorts that serve some ranges only
//! ```
//!
//! Services come first and untracked, in both directions: in front of OVN's load balancer there is no room for one
//! more recirculation on the userspace datapath. What no flow matches belongs to the host. The bridge's own
//! priority-0 `NORMAL` flow is not ours and stays, so that taking our flows away leaves a node that is reachable.
//!
//! [`Rendering`] holds the whole table of one policy and follows a change of one service in time that depends on
//! that service alone. Nothing here does I/O: [`ovs::openflow`] compares and installs.
//!
//! A bridge with further ports ([`demux::policy::Split::other_ports`]) uses `NORMAL` as its exit. Two settings that
//! are not flows belong to that: the overlay's port gets `no-flood` (`ovs-ofctl mod-port`; later OpenFlow versions
//! cannot set it), and the shared MAC is pinned to the bridge's own device (`fdb/add BRIDGE BRIDGE 0 MAC`), or learning
//! moves it to the overlay's port with every frame of OVN's.

mod builder;
mod context;
pub mod cookie;
mod matches;
mod rendering;
mod service;
mod split;
pub mod table;

pub use context::{DEFAULT_ZONE, FlowContext, SctpRule};
pub use cookie::rule_of;
pub use rendering::{Rendering, render};
pub use split::{MARK_HOST, MARK_PODS};

#[cfg(test)]
mod tests;
