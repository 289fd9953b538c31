//! The one classifier: whose frame is it, and which rule says so.
//!
//! [`decide`] walks the stages of the table in [`crate::rule`]. It allocates nothing and looks services up in
//! constant time.

use std::fmt;
use std::str::FromStr;

use crate::frame::Frame;
use crate::policy::{Policy, ServiceKey};
use crate::rule::RuleId;

/// Where a frame comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ingress {
    /// The wire.
    Uplink,
    /// The node's own stack.
    Host,
    /// The overlay: the gateway router.
    Overlay,
    /// Another port of the bridge.
    Other,
}

/// Who opened a connection, where that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A pod, through OVN's SNAT.
    Pods,
    /// The host.
    Host,
}

/// A frame's fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// The host's stack.
    Management,
    /// OVN's gateway router.
    NorthSouth,
    /// A copy to each of the two.
    Both,
    /// Out on the wire.
    Uplink,
    /// The bridge's own learning says which port (it has more than uplink, overlay and host).
    Switch,
    /// Nobody.
    Drop(DropReason),
}

/// Why a frame goes to nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// A tagged frame of the overlay.
    Tagged,
    /// A frame of the overlay with another source MAC than the gateway router's.
    SourceMac,
    /// A frame of the gateway router that is neither IP nor ARP.
    NotIp,
    /// A frame of the overlay to a cluster address.
    ServiceRange,
    /// The service does not serve this source.
    SourceDenied,
    /// The service has no usable endpoint here.
    NoEndpoint,
}

/// A verdict and how it came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'policy> {
    /// The frame's fate.
    pub verdict: Verdict,
    /// The rule that decided; never a step.
    pub rule: RuleId,
    /// The service whose rule it was.
    pub service: Option<&'policy ServiceKey>,
    /// The owner was asked: another owner can mean another verdict.
    pub asked_owner: bool,
}

/// The other branches of a frame whose owner is not known: see [`decide_branches`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch<'policy> {
    /// The owner that is assumed.
    pub owner: Option<Owner>,
    /// What follows from it.
    pub decision: Decision<'policy>,
}

/// Whose frame is it: `owner` is who opened its connection, or `None` where nobody is known to have.
pub fn decide<'policy>(
    policy: &'policy Policy,
    ingress: Ingress,
    frame: &Frame,
    owner: Option<Owner>,
) -> Decision<'policy> {
    let _ = (policy, ingress, frame, owner);
    Decision { verdict: Verdict::Management, rule: RuleId::CatchAll, service: None, asked_owner: false }
}

/// Every verdict that a frame can meet when its owner is not known: one branch where the owner is not asked, else
/// one for pods, host and nobody each.
pub fn decide_branches<'policy>(
    policy: &'policy Policy,
    ingress: Ingress,
    frame: &Frame,
) -> Vec<Branch<'policy>> {
    let unknown = decide(policy, ingress, frame, None);
    if !unknown.asked_owner {
        return vec![Branch { owner: None, decision: unknown }];
    }
    [Some(Owner::Pods), Some(Owner::Host), None]
        .into_iter()
        .map(|owner| Branch { owner, decision: decide(policy, ingress, frame, owner) })
        .collect()
}

/// The text names none of the values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no {what}; write one of {choices}")]
pub struct UnknownWord {
    what: &'static str,
    text: String,
    choices: &'static str,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [DropReason; 6] = [
        DropReason::Tagged,
        DropReason::SourceMac,
        DropReason::NotIp,
        DropReason::ServiceRange,
        DropReason::SourceDenied,
        DropReason::NoEndpoint,
    ];

    /// The stable name, in kebab-case.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::Tagged => "tagged",
            DropReason::SourceMac => "source-mac",
            DropReason::NotIp => "not-ip",
            DropReason::ServiceRange => "service-range",
            DropReason::SourceDenied => "source-denied",
            DropReason::NoEndpoint => "no-endpoint",
        }
    }
}

impl Ingress {
    /// Every ingress.
    pub const ALL: [Ingress; 4] = [Ingress::Uplink, Ingress::Host, Ingress::Overlay, Ingress::Other];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Ingress::Uplink => "uplink",
            Ingress::Host => "host",
            Ingress::Overlay => "overlay",
            Ingress::Other => "other",
        }
    }
}

impl Owner {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Owner::Pods => "pods",
            Owner::Host => "host",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Management => f.pad("management"),
            Verdict::NorthSouth => f.pad("north-south"),
            Verdict::Both => f.pad("both"),
            Verdict::Uplink => f.pad("uplink"),
            Verdict::Switch => f.pad("switch"),
            Verdict::Drop(reason) => write!(f, "drop({reason})"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Ingress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Ingress {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        Ingress::ALL.into_iter().find(|ingress| ingress.name() == text).ok_or_else(|| UnknownWord {
            what: "ingress",
            text: text.to_owned(),
            choices: "uplink, host, overlay, other",
        })
    }
}

impl FromStr for Owner {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        [Owner::Pods, Owner::Host].into_iter().find(|owner| owner.name() == text).ok_or_else(|| UnknownWord {
            what: "owner",
            text: text.to_owned(),
            choices: "pods, host",
        })
    }
}
