//! The policy as OpenFlow: one bridge, nine tables, every row marked with the rule it stands for.
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
//! more recirculation on the userspace datapath. What no row knows belongs to the host. The bridge's own
//! priority-0 `NORMAL` flow is not ours and stays, so that taking our flows away leaves a node that is reachable.
//!
//! [`Rendering`] holds the whole table of one policy and follows a change of one service in time that depends on
//! that service alone. Nothing here speaks to a switch: [`ovs::openflow`] compares and installs.
//!
//! A bridge with further ports ([`demux::policy::Split::other_ports`]) uses `NORMAL` as its exit. Two settings that
//! are not flows belong to that: the overlay's port gets `no-flood` (`ovs-ofctl mod-port`; OpenFlow above 1.0 has no
//! word for it), and the shared MAC is pinned to the bridge's own device (`fdb/add BRIDGE BRIDGE 0 MAC`), or learning
//! moves it to the overlay's port with every frame of OVN's.

pub mod cookie;
mod matches;
mod rendering;
mod service;
mod split;

pub use cookie::rule_of;
pub use rendering::{Rendering, render};
pub use split::{MARK_HOST, MARK_PODS, table};

use ovs::openflow::flow::OfPort;

/// The conntrack zone that is used unless another is asked for.
pub const DEFAULT_ZONE: u16 = 64000;

/// What a policy has to be rendered for: the things of one bridge that no policy knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datapath {
    /// Port of the uplink, if it is there. Without it, no flow sends to it, and what the overlay sends is dropped.
    pub uplink: Option<OfPort>,
    /// Port of the patch to the integration bridge, if it is there. Without it, what is the overlay's goes to the host.
    pub overlay: Option<OfPort>,
    /// Conntrack zone of the reply rule.
    pub zone: u16,
    /// How SCTP replies are recognised.
    pub sctp: SctpRule,
}

/// How a reply to a pod's own SCTP association is recognised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SctpRule {
    /// By a flow learned from what the pod sent: the userspace datapath's conntrack knows no SCTP ports.
    #[default]
    Learned,
    /// By conntrack, as everything else: the kernel datapath.
    Tracked,
}

impl Datapath {
    /// A bridge that has neither port yet.
    pub fn empty() -> Self {
        Datapath { uplink: None, overlay: None, zone: DEFAULT_ZONE, sctp: SctpRule::default() }
    }
}

#[cfg(test)]
mod tests;
