//! The rules of the split: one for each kind of row of the flow table.
//!
//! A rule's number is the low part of the OpenFlow cookie of the flows that carry it, the index of an eBPF counter
//! and the label of a metric; its name is what `explain` prints. Both are stable: a number is never given to
//! another rule, a name never changes.
//!
//! # The table
//!
//! The rows that the rules name, as the classifier sees them (letters: `P` uplink, `Q` overlay, `M` the shared MAC,
//! `A` a shared address, `S` a further SNAT address, `E` an external address; `OUT` the uplink, or the bridge's own
//! learning when it has further ports). Within a stage the first row that matches wins.
//!
//! ```text
//! from the wire (and from other ports, when the bridge has any)
//!   tagged-wire             VLAN tag                                -> management   (other ports: to M only)
//!   tagged-switched         VLAN tag, not to M, other ports         -> switch
//!   wire-fragment           to M, IP, a fragment                    -> look up the owner, then services (no ports)
//!   wire-tunnel             to M, UDP to a tunnel port              -> management
//!   arp-for-shared          ARP request for A                       -> management
//!   arp                     any other ARP                           -> both         (other ports: switched too)
//!   nd-for-shared           neighbour solicitation for A            -> management
//!   nd                      any other solicitation, advertisement   -> both         (other ports: switched too)
//!   router-discovery        ICMPv6 133, 134, 137                    -> management   (other ports: switched too)
//!   wire-ip                 to M, IP                                -> services
//!   shared-mac-rest         to M                                    -> management
//!   catch-all               anything, no other ports                -> management
//!   switch-rest             anything, other ports                   -> switch
//! services on external addresses
//!   external-icmp-error     ICMP error to E (one that OVN serves)   -> both
//!   external, external-host, external-no-endpoint, external-sources-check    address, protocol, port
//!   shared-address          to A                                    -> NodePorts
//!   snat-address            to S, not A                             -> reply rule
//!   other-address           any other                               -> management
//! external sources
//!   external-source, external-host-source, external-source-denied
//! NodePorts (only reached for A)
//!   node-port, node-port-host, node-port-no-endpoint, node-port-sources-check    protocol, port
//!   not-a-node-port         any other                               -> reply rule
//! NodePort sources
//!   node-port-source, node-port-host-source, node-port-source-denied
//! reply rule
//!   tracked-fragment        a fragment, looked up already           -> owner
//!   icmp-error              ICMP 3, 4, 11, 12; ICMPv6 1 to 4        -> both
//!   sctp-lookup             SCTP                                    -> SCTP owner
//!   partition               partitioned: TCP, UDP to a SNAT port    -> north-south
//!   echo-reply              partitioned: ICMP 0, ICMPv6 129         -> both
//!   owner-lookup            tracked or draining                     -> owner
//!   outside-partition       partitioned                             -> management
//! owner
//!   owner-pods              the pods'                               -> north-south
//!   owner-host              the host's                              -> management
//!   owner-unknown           not known                               -> management
//! SCTP owner
//!   sctp-learned            the pods' (sctp-owned: by conntrack)    -> north-south
//!   sctp-unknown            any other                               -> management
//! out of the overlay
//!   tagged-overlay          VLAN tag                                -> drop
//!   service-range-leak      from M, IP to the service range         -> drop
//!   overlay-arp             from M, ARP                             -> OUT
//!   overlay-nd              from M, ICMPv6 135, 136                 -> OUT
//!   overlay-ip              from M, IP                              -> the rows below
//!   overlay-not-ip          from M                                  -> drop
//!   foreign-source-mac      any other                               -> drop
//!   node-port-answer        from A and a NodePort that OVN serves   -> OUT
//!   external-answer         from E and its port that OVN serves     -> OUT
//!   overlay-tracked         a fragment                              -> OUT, the pods' from now on
//!   overlay-sctp            SCTP                                    -> OUT, the pods' from now on
//!   overlay-untracked       partitioned and not draining: TCP       -> OUT
//!   overlay-tracked         any other                               -> OUT, the pods' from now on
//! from the host
//!   tagged-host             VLAN tag                                -> OUT
//!   host-tunnel             UDP to a tunnel port                    -> OUT
//!   host-tracked            tracked or draining: a fragment         -> OUT, the host's from now on
//!   host-syn                tracked or draining: TCP, SYN, no ACK   -> OUT, the host's from now on
//!   host-echo               tracked or draining: ICMP 8, ICMPv6 128 -> OUT, the host's from now on
//!   host-untracked          tracked or draining: TCP, SCTP, ICMP    -> OUT
//!   host-tracked            tracked or draining: other IP           -> OUT, the host's from now on
//!   host-out                any other                               -> OUT
//! ```

use std::fmt;
use std::str::FromStr;

use crate::error::Error;
use crate::verdict::Owner;

/// Declares the rules once: number, name and description of each.
macro_rules! rules {
    ($($variant:ident = $number:literal, $name:literal, $about:literal;)*) => {
        /// The kind of row that a frame met. See the [module page](self) for the whole table.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum RuleId {
            $(#[doc = $about] $variant = $number,)*
        }

        impl RuleId {
            /// Every rule, by number.
            pub const ALL: &'static [RuleId] = &[$(RuleId::$variant,)*];

            /// The stable name, in kebab-case.
            pub const fn name(self) -> &'static str {
                match self { $(RuleId::$variant => $name,)* }
            }

            /// One sentence on what the rule matches and where it goes.
            pub const fn about(self) -> &'static str {
                match self { $(RuleId::$variant => $about,)* }
            }

            /// The rule of a number, the reverse of [`RuleId::number`].
            pub const fn from_u16(number: u16) -> Option<RuleId> {
                match number { $($number => Some(RuleId::$variant),)* _ => None }
            }
        }
    };
}

rules! {
    CatchAll = 1, "catch-all", "Nothing else matched: multicast, broadcast, foreign unicast. The host's.";
    SwitchRest = 2, "switch-rest", "Nothing else matched on a bridge with further ports: switched by its own learning.";
    SharedMacRest = 3, "shared-mac-rest", "To the shared MAC, neither IP nor ARP. The host's.";
    TaggedWire = 4, "tagged-wire", "A VLAN-tagged frame from outside. The host's, never a service or a reply.";
    TaggedSwitched = 5, "tagged-switched", "A VLAN-tagged frame of a bridge with further ports, not to the shared MAC: switched.";
    TaggedHost = 6, "tagged-host", "A VLAN-tagged frame of the host: out.";
    TaggedOverlay = 7, "tagged-overlay", "A VLAN-tagged frame of the overlay: dropped, OVN sends none.";

    WireFragment = 10, "wire-fragment", "A step: a fragment's owner is looked up first, so that all pieces of a datagram get one verdict.";
    WireTunnel = 11, "wire-tunnel", "The node's own tunnels (Geneve, VXLAN): the host's, never tracked.";
    ArpForShared = 12, "arp-for-shared", "An ARP request for a shared address: the host alone answers.";
    Arp = 13, "arp", "ARP replies, announcements and requests for other addresses: both owners.";
    NdForShared = 14, "nd-for-shared", "A neighbour solicitation for a shared address: the host alone answers.";
    Nd = 15, "nd", "Other neighbour solicitations and advertisements: both owners.";
    RouterDiscovery = 16, "router-discovery", "Router solicitation, router advertisement, redirect: the host's.";
    WireIp = 17, "wire-ip", "A step: IP to the shared MAC goes to the service rows.";

    External = 20, "external", "A service on an external address: OVN's load balancers.";
    ExternalSourcesCheck = 21, "external-sources-check", "A step: a service on an external address that serves some sources only.";
    ExternalSource = 22, "external-source", "A service on an external address, from a source it serves: OVN's load balancers.";
    ExternalSourceDenied = 23, "external-source-denied", "A service on an external address, from a source it does not serve: dropped.";
    ExternalHost = 24, "external-host", "A service on an external address that the host translates itself.";
    ExternalHostSource = 25, "external-host-source", "A service on an external address that the host translates itself, from a source it serves.";
    ExternalNoEndpoint = 26, "external-no-endpoint", "A service on an external address without a usable endpoint here: dropped.";
    ExternalIcmpError = 27, "external-icmp-error", "An ICMP error to an external address: both owners, each knows its own by the quoted header.";
    SharedAddress = 28, "shared-address", "A step: to a shared address, goes to the NodePort rows.";
    SnatAddress = 29, "snat-address", "A step: to a further SNAT address, goes to the reply rule.";
    OtherAddress = 30, "other-address", "To an address that the host holds alone. The host's.";

    NodePort = 31, "node-port", "A NodePort on a shared address: OVN's load balancers.";
    NodePortSourcesCheck = 32, "node-port-sources-check", "A step: a NodePort that serves some sources only.";
    NodePortSource = 33, "node-port-source", "A NodePort, from a source it serves: OVN's load balancers.";
    NodePortSourceDenied = 34, "node-port-source-denied", "A NodePort, from a source it does not serve: dropped.";
    NodePortHost = 35, "node-port-host", "A NodePort that the host translates itself (host-network endpoints only).";
    NodePortHostSource = 36, "node-port-host-source", "A NodePort that the host translates itself, from a source it serves.";
    NodePortNoEndpoint = 37, "node-port-no-endpoint", "A NodePort without a usable endpoint here: dropped, no host process answers for it.";
    NotANodePort = 38, "not-a-node-port", "A step: to a shared address and no NodePort, goes to the reply rule.";

    TrackedFragment = 40, "tracked-fragment", "A step: a fragment belongs to the owner of its connection.";
    IcmpError = 41, "icmp-error", "An ICMP error: both owners, each knows its own by the quoted header.";
    SctpLookup = 42, "sctp-lookup", "A step: SCTP is looked up among the learned associations.";
    SctpLearned = 43, "sctp-learned", "An SCTP association that a pod opened (a learned flow): north-south.";
    SctpOwned = 44, "sctp-owned", "An SCTP association that a pod opened, known by conntrack (kernel datapath): north-south.";
    SctpUnknown = 45, "sctp-unknown", "An SCTP association that no pod opened. The host's.";
    Partition = 46, "partition", "TCP or UDP to a port of OVN's SNAT range: north-south.";
    EchoReply = 47, "echo-reply", "An echo reply under the partitioned rule: both owners.";
    OwnerLookup = 48, "owner-lookup", "A step: the connection's owner is looked up.";
    OutsidePartition = 49, "outside-partition", "To no port of OVN's SNAT range. The host's.";
    OwnerPods = 50, "owner-pods", "A reply on a connection that a pod opened: north-south.";
    OwnerHost = 51, "owner-host", "A frame of a connection that is known to be the host's.";
    OwnerUnknown = 52, "owner-unknown", "A frame of no known connection. The host's.";

    OverlayArp = 60, "overlay-arp", "ARP of the gateway router: out.";
    OverlayNd = 61, "overlay-nd", "Neighbour discovery of the gateway router: out.";
    ServiceRangeLeak = 62, "service-range-leak", "A frame of the overlay to a cluster address: dropped, these never leave the node.";
    OverlayIp = 63, "overlay-ip", "A step: IP of the gateway router goes to its own rows.";
    OverlayNotIp = 64, "overlay-not-ip", "A frame of the gateway router that is neither IP nor ARP: dropped.";
    ForeignSourceMac = 65, "foreign-source-mac", "A frame of the overlay from another MAC than the gateway router's: dropped.";
    NodePortAnswer = 66, "node-port-answer", "An answer of a NodePort: out, untracked.";
    ExternalAnswer = 67, "external-answer", "An answer of a service on an external address: out, untracked.";
    OverlaySctp = 68, "overlay-sctp", "SCTP of a pod: out, and the association is the pods' from now on.";
    OverlayUntracked = 69, "overlay-untracked", "TCP of a pod under the partitioned rule: out, its port is its mark.";
    OverlayTracked = 70, "overlay-tracked", "Traffic of a pod: out, and the connection is the pods' from now on.";

    HostTunnel = 80, "host-tunnel", "The node's own tunnels: out, never tracked.";
    HostSyn = 81, "host-syn", "A TCP connection that the host opens: out, and it is the host's from now on.";
    HostEcho = 82, "host-echo", "An echo request of the host: out, and its answers are the host's.";
    HostUntracked = 83, "host-untracked", "Further TCP, SCTP and ICMP of the host: out.";
    HostTracked = 84, "host-tracked", "UDP and other IP of the host: out, and its answers are the host's.";
    HostOut = 85, "host-out", "Anything else of the host: out.";
}

impl RuleId {
    /// Every number lies below this: the size of a table of counters.
    pub const BOUND: u16 = 128;

    /// The stable number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Whether the row only passes a frame on to a later stage: no decision ever ends in it.
    pub const fn is_step(self) -> bool {
        matches!(
            self,
            RuleId::WireFragment
                | RuleId::WireIp
                | RuleId::ExternalSourcesCheck
                | RuleId::SharedAddress
                | RuleId::SnatAddress
                | RuleId::NodePortSourcesCheck
                | RuleId::NotANodePort
                | RuleId::TrackedFragment
                | RuleId::SctpLookup
                | RuleId::OwnerLookup
                | RuleId::OverlayIp
        )
    }

    /// The owner that the frame's connection gets when the frame passes this row.
    pub const fn commits(self) -> Option<Owner> {
        match self {
            RuleId::OverlaySctp | RuleId::OverlayTracked => Some(Owner::Pods),
            RuleId::HostSyn | RuleId::HostEcho | RuleId::HostTracked => Some(Owner::Host),
            _ => None,
        }
    }

    /// Whether a bridge with further ports also switches the frame, besides the verdict.
    pub const fn switches_too(self) -> bool {
        matches!(self, RuleId::Arp | RuleId::Nd | RuleId::RouterDiscovery)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for RuleId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        RuleId::ALL.iter().find(|rule| rule.name() == text).copied().ok_or_else(|| {
            Error::word(
                text,
                "a rule of the split",
                "a name that `explain` or `status` prints, like node-port",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_lead_back_to_the_rule() {
        for (index, rule) in RuleId::ALL.iter().enumerate() {
            assert_eq!(RuleId::from_u16(rule.number()), Some(*rule));
            assert_eq!(rule.name().parse(), Ok(*rule));
            assert!(rule.number() < RuleId::BOUND);
            assert!(index == 0 || RuleId::ALL[index - 1] < *rule, "{rule} stands out of order");
            assert!(
                rule.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'),
                "{rule} is not kebab-case"
            );
        }
        assert_eq!(RuleId::from_u16(0), None);
        assert!("no-such-rule".parse::<RuleId>().is_err());
    }
}
