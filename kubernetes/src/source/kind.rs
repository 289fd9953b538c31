//! The kinds of objects that are kept.

/// A kind that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Service,
    Slice,
    ServiceCidr,
    Node,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Service, Self::Slice, Self::ServiceCidr, Self::Node];
    /// Without these no Service is known. The others are optional.
    pub(super) const REQUIRED: [Self; 2] = [Self::Service, Self::Slice];

    pub(super) fn is_required(self) -> bool {
        Self::REQUIRED.contains(&self)
    }

    /// The name of the kind in the API.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Slice => "EndpointSlice",
            Self::ServiceCidr => "ServiceCIDR",
            Self::Node => "Node",
        }
    }
}
