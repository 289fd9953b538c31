//! The gateway router as the northbound database describes it: what it shares with the host. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use demux::mac::Mac;
use demux::policy::PortRange;
use ipnet::IpNet;
use ovs::ovsdb::{Condition, MonitorTable, Snapshot};
use ovs::rows::TypedRow;
use ovs::rows::nb::{LogicalRouter, LogicalRouterPort, LogicalSwitch, LogicalSwitchPort, Nat, NatKind};
use serde::{Deserialize, Serialize};

/// A gateway router, as far as the split needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GatewayRouter {
    /// Its name, `GR_<node>`.
    pub(crate) name: String,
    /// The node, as the name has it.
    pub(crate) node: Option<String>,
    /// MAC of its port on the external network: must be the bridge's.
    pub(crate) mac: Mac,
    /// Its addresses on the external network, which the host has too.
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// Addresses its SNAT rows translate to.
    pub(crate) snat: BTreeSet<IpAddr>,
    /// The range of source ports that its SNAT uses, when all its rows have the same one.
    pub(crate) ports: Option<PortRange>,
    /// Its networks towards the cluster router.
    pub(crate) join: BTreeSet<IpNet>,
}

/// What has to be monitored to find the gateway router of a logical port: of the switches' ports, which are as many
/// as the pods, only those that lead to routers and the given one.
pub(crate) fn monitors(iface_id: &str) -> Vec<MonitorTable> {
    let mut ports = LogicalSwitchPort::monitor();
    ports.conditions = vec![Condition::equal("type", "router"), Condition::equal("name", iface_id)];
    let mut nat = Nat::monitor();
    nat.conditions = vec![Condition::equal("type", "snat")];
    vec![LogicalRouter::monitor(), LogicalRouterPort::monitor(), LogicalSwitch::monitor(), ports, nat]
}

/// The gateway router behind the logical port that the patch is bound to.
pub(crate) fn gateway_router(snapshot: &Snapshot, iface_id: &str) -> Option<GatewayRouter> {
    let logical = LogicalSwitchPort::named(snapshot, iface_id)?;
    let external = LogicalSwitch::with_port(snapshot, logical.uuid)?;
    let towards = external
        .ports(snapshot)
        .into_iter()
        .filter(|port| port.kind == "router")
        .find_map(|port| port.options.get("router-port").cloned())?;
    let port = LogicalRouterPort::named(snapshot, &towards)?;
    let router = LogicalRouter::with_port(snapshot, port.uuid)?;
    let join = router
        .ports(snapshot)
        .into_iter()
        .filter(|other| other.uuid != port.uuid)
        .flat_map(|other| networks(&other))
        .map(|network| network.trunc())
        .collect();
    let nats: Vec<_> = router.nats(snapshot).into_iter().filter(|nat| nat.kind == NatKind::Source).collect();
    Some(GatewayRouter {
        node: router.name.strip_prefix("GR_").map(str::to_owned),
        mac: Mac(port.mac),
        addresses: networks(&port).into_iter().map(|network| network.addr()).collect(),
        snat: nats.iter().filter_map(|nat| nat.external_ip.parse().ok()).collect(),
        ports: common_range(&nats),
        join,
        name: router.name,
    })
}

fn networks(port: &LogicalRouterPort) -> Vec<IpNet> {
    port.networks.iter().filter_map(|text| text.parse().ok()).collect()
}

/// A range counts only when every SNAT row keeps to it: one row without a range can use any port.
fn common_range(nats: &[Nat]) -> Option<PortRange> {
    let range = |nat: &Nat| {
        let ports = nat.port_range()?;
        PortRange::new(*ports.start(), *ports.end()).ok()
    };
    let first = range(nats.first()?)?;
    nats.iter().all(|nat| range(nat) == Some(first)).then_some(first)
}
