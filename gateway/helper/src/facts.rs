//! What is known of the node: what a pass read, and what of earlier passes stays known while a source does not answer.
//! Pure.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use demux::policy::{PortRange, Split};
use ipnet::IpNet;

use crate::bridge::BridgeView;
use crate::northbound::GatewayRouter;
use crate::settings::{ReplySetting, Settings};

/// Everything that is known, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// The bridge in the local database.
    pub(crate) bridge: BridgeView,
    /// The gateway router in the northbound database, if it can be found.
    pub(crate) router: Option<GatewayRouter>,
    /// The one that was found last, by this process or the one before it.
    pub(crate) router_before: Option<GatewayRouter>,
    /// Why it cannot be found, if it cannot.
    pub(crate) router_missing: Option<String>,
    /// Service ranges that the cluster's ServiceCIDR objects name.
    pub(crate) service_cidrs: Vec<IpNet>,
    /// The host's devices with their addresses.
    pub(crate) addresses: Vec<(String, IpNet)>,
    /// Servers that the node itself has to reach: the API server, OVN's databases.
    pub(crate) reaches: BTreeSet<SocketAddr>,
    /// Sockets of the host with a local port in the pods' range, each a line for a person.
    pub(crate) sockets_in_range: Vec<String>,
    /// The split in force before, by this process or the one before it.
    pub(crate) last: Option<Split>,
    /// Connections under the tracked rule are still in the conntrack table.
    pub(crate) draining: bool,
}

/// What one pass read.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// The bridge in the local database.
    pub(crate) bridge: BridgeView,
    /// The gateway router, or why it cannot be found.
    pub(crate) router: Result<GatewayRouter, String>,
    /// Service ranges that the cluster's ServiceCIDR objects name.
    pub(crate) service_cidrs: Vec<IpNet>,
    /// The host's devices with their addresses; `None`: they cannot be read now.
    pub(crate) addresses: Option<Vec<(String, IpNet)>>,
    /// Servers that the node itself has to reach.
    pub(crate) reaches: BTreeSet<SocketAddr>,
    /// The split that the flows are rendered from.
    pub(crate) rendered: Option<Split>,
}

impl Facts {
    /// What is known when a process starts: what the one before it left in the state folder.
    pub(crate) fn at_start(last: Option<Split>, router_before: Option<GatewayRouter>) -> Self {
        Self {
            draining: last.as_ref().is_some_and(|last| last.partition().is_some() && last.tracks()),
            last,
            router_before,
            ..Self::default()
        }
    }

    /// Takes in what a pass read. What cannot be read now stays what it was.
    pub(crate) fn update(&mut self, reading: Reading) {
        let Reading { bridge, router, service_cidrs, addresses, reaches, rendered } = reading;
        self.bridge = bridge;
        (self.router, self.router_missing) = match router {
            Ok(router) => (Some(router), None),
            Err(missing) => (None, Some(missing)),
        };
        if self.router.is_some() {
            self.router_before.clone_from(&self.router);
        }
        self.service_cidrs = service_cidrs;
        self.reaches = reaches;
        if let Some(addresses) = addresses {
            self.addresses = addresses;
        }
        if rendered.is_some() {
            self.last = rendered;
        }
    }

    /// The gateway router, or the last one known: an absent database takes nothing away.
    pub(crate) fn known_router(&self) -> Option<&GatewayRouter> {
        self.router.as_ref().or(self.router_before.as_ref())
    }

    /// The source ports of OVN's SNAT, as far as the router or a flag gives them.
    pub(crate) fn pods_range(&self, settings: &Settings) -> Option<PortRange> {
        self.known_router().and_then(|router| router.ports).or(settings.policy.snat_ports)
    }

    /// The range whose sockets of the host keep the partitioned rule from coming into force. `None`: it is in force
    /// already, or not chosen.
    pub(crate) fn range_to_free(&self, settings: &Settings) -> Option<PortRange> {
        let in_force = self.last.as_ref().and_then(Split::partition).is_some();
        self.pods_range(settings).filter(|_| !in_force && settings.policy.reply != ReplySetting::Tracked)
    }

    /// Addresses that host and router share, or may share: before the router is known, all of the bridge and the NIC.
    pub(crate) fn addresses_that_may_be_shared(&self, settings: &Settings) -> BTreeSet<IpAddr> {
        let here = |device: &String| *device == settings.bridge || *device == settings.interface;
        let own = self.addresses.iter().filter(|(device, _)| here(device)).map(|(_, net)| net.addr());
        let router = self.router.iter().flat_map(|router| router.addresses.iter().copied());
        let last = self.last.iter().flat_map(|last| last.shared.iter().copied());
        own.chain(router).chain(last).collect()
    }

    /// Whether the shared addresses are known from the router, now or before.
    pub(crate) fn knows_addresses(&self) -> bool {
        self.router.is_some() || self.last.is_some()
    }

    /// Whether a port range takes the place of another rule that is in force: connections that began before keep their
    /// ports, so the mark look-up stays until the conntrack table has been counted again.
    pub(crate) fn begins_to_drain(&self, next: &Split, flows_in_force: bool) -> bool {
        let before = self.last.as_ref().and_then(Split::partition);
        flows_in_force && next.partition().is_some() && next.partition() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::HelperArgs;
    use demux::policy::ReplyRule;

    fn router(ports: Option<&str>) -> GatewayRouter {
        let ports = ports.and_then(|text| text.parse().ok());
        GatewayRouter { name: "GR_node1".into(), ports, ..GatewayRouter::default() }
    }

    fn reading() -> Reading {
        Reading {
            bridge: BridgeView::default(),
            router: Err("not asked".into()),
            service_cidrs: Vec::new(),
            addresses: None,
            reaches: BTreeSet::new(),
            rendered: None,
        }
    }

    fn partitioned(range: &str) -> Split {
        let reply = ReplyRule::Partitioned { ports: range.parse().unwrap(), drain: false };
        Split { reply, ..Split::default() }
    }

    #[test]
    fn what_a_silent_source_said_last_stays_known() {
        let mut facts = Facts::at_start(None, None);
        let addresses = vec![("breth0".to_owned(), "192.0.2.1/24".parse().unwrap())];
        let all = Reading {
            router: Ok(router(None)),
            addresses: Some(addresses.clone()),
            rendered: Some(partitioned("40000-59999")),
            ..reading()
        };
        facts.update(all);
        facts.update(Reading { router: Err("no answer yet".into()), ..reading() });
        assert_eq!((facts.router.clone(), facts.router_missing.as_deref()), (None, Some("no answer yet")));
        assert_eq!(facts.known_router(), Some(&router(None)));
        assert_eq!(facts.addresses, addresses);
        assert_eq!(facts.last, Some(partitioned("40000-59999")));
        facts.update(Reading { router: Ok(router(Some("40000-59999"))), ..reading() });
        assert_eq!(
            (facts.known_router(), facts.router_missing.clone()),
            (Some(&router(Some("40000-59999"))), None)
        );
    }

    #[test]
    fn sockets_are_in_the_way_only_before_the_range_is_in_force() {
        let range: PortRange = "40000-59999".parse().unwrap();
        for (flags, ports, last, expected) in [
            ("", Some("40000-59999"), None, Some(range)),
            ("", None, None, None),
            ("--snat-ports=40000-59999", None, None, Some(range)),
            ("--reply-rule=tracked", Some("40000-59999"), None, None),
            ("", Some("40000-59999"), Some(partitioned("40000-59999")), None),
            ("", Some("40000-59999"), Some(Split::default()), Some(range)),
        ] {
            let facts = Facts { router: Some(router(ports)), last, ..Facts::default() };
            assert_eq!(facts.range_to_free(&HelperArgs::for_tests(flags)), expected, "{flags} {ports:?}");
        }
    }

    #[test]
    fn a_range_that_replaces_a_rule_in_force_begins_to_drain() {
        let facts = Facts { last: Some(Split::default()), ..Facts::default() };
        let next = partitioned("40000-59999");
        assert!(facts.begins_to_drain(&next, true));
        assert!(
            !facts.begins_to_drain(&next, false),
            "no flows are in force: no connection began under them"
        );
        assert!(!facts.begins_to_drain(&Split::default(), true));
        let same = Facts { last: Some(next.clone()), ..Facts::default() };
        assert!(!same.begins_to_drain(&next, true));
        let moved = Facts { last: Some(partitioned("10000-19999")), ..Facts::default() };
        assert!(moved.begins_to_drain(&next, true));
    }

    #[test]
    fn a_successor_goes_on_draining() {
        let draining = Split {
            reply: ReplyRule::Partitioned { ports: "40000-59999".parse().unwrap(), drain: true },
            ..Split::default()
        };
        assert!(Facts::at_start(Some(draining), None).draining);
        assert!(!Facts::at_start(Some(partitioned("40000-59999")), None).draining);
        assert!(!Facts::at_start(Some(Split::default()), None).draining);
    }
}
