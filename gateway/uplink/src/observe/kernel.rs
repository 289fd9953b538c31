//! Snapshots of the kernel's tables.

use std::collections::BTreeMap;
use std::path::Path;

use host::ingress_filter::IngressFilter;
use host::rtnl::address::Address as AddressRow;
use host::rtnl::link::Link as LinkRow;
use host::rtnl::neighbour::Neighbour;
use host::rtnl::qdisc::Qdisc;
use host::rtnl::route::Route as RouteRow;
use host::rtnl::rule::Rule;
use host::rtnl::{Device, Family, Kind, Socket};

use super::{AddressSnapshot, LinkSnapshot, NicSnapshot, Observed, RouteSnapshot};
use crate::device_config::Network;
use crate::error::Result;
use crate::settings;

/// `IFA_F_MANAGETEMPADDR` (linux/if_addr.h): the kernel made it from a router advertisement.
const MANAGED_FOR_TEMPORARY: u32 = 0x100;

/// The kernel's tables, with snapshots of these devices.
pub(super) fn observe(names: &[String], root: &Path) -> Result<Observed> {
    let socket = Socket::open()?;
    let network = Network::observe(&socket)?;
    let qdiscs: Vec<_> = socket.dump(Kind::Qdisc, Family::V4)?.iter().filter_map(Qdisc::of).collect();
    let links: Vec<_> = network.links.iter().map(|row| link(row, root)).collect();
    let found: Vec<_> =
        names.iter().filter_map(|name| links.iter().find(|link| link.name == *name)).collect();
    let (mut devices, mut unknown) = (BTreeMap::new(), Vec::new());
    for link in &found {
        let device = Device { index: link.index, name: link.name.clone() };
        let mut rows = network.of(&device);
        match settings::observe(&socket, &mut rows) {
            Ok(()) => drop(devices.insert(link.name.clone(), rows)),
            Err(error) => unknown.push(format!("the settings of {}: {error}", link.name)),
        }
    }
    let nics = found.iter().map(|link| nic(link, &network, &qdiscs)).collect();
    Ok(Observed { links, nics, network, devices, unknown, ..Observed::default() })
}

fn link(row: &LinkRow, root: &Path) -> LinkSnapshot {
    let name = row.name();
    let class = root.join("sys/class/net").join(&name);
    LinkSnapshot {
        index: row.index(),
        kind: row.kind().unwrap_or_default(),
        ethernet: row.is_ethernet() && !row.is_loopback(),
        loopback: row.is_loopback(),
        wireless: class.join("phy80211").exists() || class.join("wireless").exists(),
        up: row.is_up(),
        carrier: row.has_carrier(),
        mac: row.mac().map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: row.mtu(),
        master: row.master(),
        lower: row.lower(),
        xdp: row.xdp().map(|xdp| if xdp.native { "native" } else { "generic" }.to_owned()),
        name,
    }
}

fn nic(link: &LinkSnapshot, network: &Network, qdiscs: &[Qdisc]) -> NicSnapshot {
    let index = link.index;
    let routes: Vec<_> = network.routes.iter().filter(|row| row.names(index)).collect();
    let announced = routes.iter().any(|row| row.family() == Family::V6 && row.is_learned());
    let routers = Routers { announced, accepted: accepts_router_advertisements(&link.name) };
    let mine = qdiscs.iter().filter(|qdisc| qdisc.device() == index);
    NicSnapshot {
        link: link.clone(),
        addresses: network
            .addresses
            .iter()
            .filter(|row| row.device() == index)
            .filter_map(|row| address(row, routers))
            .collect(),
        routes: routes.iter().filter_map(|row| route(row, index, network)).collect(),
        rules: network.rules.iter().filter(|rule| rule.names(&link.name)).map(Rule::to_string).collect(),
        nexthops: network
            .nexthops
            .iter()
            .filter(|nexthop| nexthop.device() == Some(index))
            .map(|nexthop| with_device_names(&nexthop.to_string(), index, network))
            .collect(),
        neighbours: network.neighbours.iter().filter(|row: &&Neighbour| row.device() == index).count(),
        qdisc: mine.clone().find(|it| it.is_root() && !it.is_default()).map(Qdisc::to_string),
        clsact: mine.clone().any(Qdisc::is_ingress),
        ..NicSnapshot::default()
    }
}

/// Router advertisements on a link.
#[derive(Clone, Copy)]
struct Routers {
    /// A route comes from one.
    announced: bool,
    /// The kernel accepts them.
    accepted: bool,
}

/// The value 1 has no effect while the device forwards (Documentation/networking/ip-sysctl.rst). A network manager that
/// processes advertisements itself sets 0.
fn accepts_router_advertisements(device: &str) -> bool {
    let settings = host::interface_sysctls::read(device).unwrap_or_default();
    let value = |name: &str| settings.get(name).map(String::as_str);
    match value("ipv6/conf/accept_ra") {
        Some("2") => true,
        Some("1") => value("ipv6/conf/forwarding") != Some("1"),
        _ => false,
    }
}

fn address(row: &AddressRow, routers: Routers) -> Option<AddressSnapshot> {
    let net = ipnet::IpNet::new(row.local()?, row.prefix()).ok()?;
    let dynamic = row.valid();
    Some(AddressSnapshot {
        net,
        text: row.to_string(),
        left: dynamic,
        temporary: row.is_temporary(),
        link_local: row.is_link_local(),
        by_router: routers.accepted
            && row.family() == Family::V6
            && (row.flags() & MANAGED_FOR_TEMPORARY != 0 || (routers.announced && row.prefix() == 64)),
    })
}

fn route(row: &RouteRow, index: u32, network: &Network) -> Option<RouteSnapshot> {
    let hops: Vec<_> = row.hops().into_iter().filter(|hop| hop.device == Some(index)).collect();
    Some(RouteSnapshot {
        to: row.destination()?,
        text: with_device_names(&row.to_string(), index, network),
        table: row.table(),
        via: hops.iter().filter_map(|hop| hop.via).collect(),
        onlink: hops.iter().any(|hop| hop.onlink),
        by_kernel: row.is_connected(),
        by_nexthop: row.nexthop().is_some(),
    })
}

/// The text of a row with devices by name, without its own device.
fn with_device_names(text: &str, own: u32, network: &Network) -> String {
    let mut words = text.split(' ').peekable();
    let mut shown: Vec<String> = Vec::new();
    while let Some(word) = words.next() {
        match words.peek().and_then(|next| next.parse::<u32>().ok()).filter(|_| word == "dev") {
            Some(index) => {
                words.next();
                let name = network.links.iter().find(|link| link.index() == index).map(LinkRow::name);
                if index != own {
                    shown.push(format!("dev {}", name.unwrap_or_else(|| index.to_string())));
                }
            }
            None => shown.push(word.to_owned()),
        }
    }
    shown.join(" ")
}

/// Tables that have the name of an ingress filter but not its mark.
pub(super) fn foreign_filters(pairs: &BTreeMap<String, String>) -> host::Result<Vec<String>> {
    let mut foreign = Vec::new();
    for (nic, bridge) in pairs {
        let filter = IngressFilter::new(nic, bridge);
        if filter.observe()?.is_some_and(|state| !state.marked) {
            foreign.push(filter.table);
        }
    }
    Ok(foreign)
}
