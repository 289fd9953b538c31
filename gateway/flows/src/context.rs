//! The bridge that flows are rendered for.

use ovs::openflow::flow::OfPort;

/// The default conntrack zone.
pub const DEFAULT_ZONE: u16 = 64000;

/// The bridge that a policy is rendered for: what the policy itself does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowContext {
    /// Port of the uplink, if it is there. Without it, no flow sends to it, and what the overlay sends is dropped.
    pub uplink: Option<OfPort>,
    /// Port of the patch to the integration bridge, if it is there. Without it, the overlay's frames go to the host.
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

impl FlowContext {
    /// A bridge that has neither port yet.
    pub fn empty() -> Self {
        FlowContext { uplink: None, overlay: None, zone: DEFAULT_ZONE, sctp: SctpRule::default() }
    }
}
