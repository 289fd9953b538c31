//! Where a frame comes from, which owner its connection has, and where the frame goes.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

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

/// The owner of a connection: the side that opened it.
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
    /// Out of the port that the bridge has learned (it has more than uplink, overlay and host).
    Switch,
    /// Nowhere.
    Drop(DropReason),
}

/// Why a frame is dropped.
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
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Ingress::ALL
            .into_iter()
            .find(|ingress| ingress.name() == text)
            .ok_or_else(|| Error::word(text, "an ingress", "uplink, host, overlay or other"))
    }
}

impl FromStr for Owner {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Owner::Pods, Owner::Host]
            .into_iter()
            .find(|owner| owner.name() == text)
            .ok_or_else(|| Error::word(text, "an owner", "pods or host"))
    }
}
