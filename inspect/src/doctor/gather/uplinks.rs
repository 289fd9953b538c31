//! Which NICs and bridges to check, and what is known of each pair beside the devices themselves.

use std::collections::BTreeSet;

use host::ingress_filter::IngressFilter;
use host::interface_sysctls;
use host::rtnl::Family;
use host::rtnl::route::Route;
use uplink::journal::TakeoverRecord;
use uplink::names;
use uplink::observe::SwitchSnapshot;

use super::super::snapshot::UplinkSnapshot;

/// NIC and bridge of these devices; without any, of what was taken over, else of the NICs of the default routes.
pub(super) fn pairs(
    devices: &[String],
    switch: &SwitchSnapshot,
    records: &[TakeoverRecord],
    defaults: &[Route],
) -> Vec<(String, String)> {
    let pairs = match devices {
        [] => found(switch, records, defaults),
        devices => devices.iter().map(|device| pair(device)).collect(),
    };
    pairs.into_iter().collect()
}

fn found(
    switch: &SwitchSnapshot,
    records: &[TakeoverRecord],
    defaults: &[Route],
) -> BTreeSet<(String, String)> {
    let recorded = records.iter().map(|it| (it.uplink.nic.name.clone(), it.uplink.bridge.clone()));
    let mut pairs: BTreeSet<_> = recorded.collect();
    for bridge in switch.bridges.iter().filter(|bridge| bridge.ours || bridge.original) {
        let port = bridge.ports.iter().find(|port| port.kind.is_empty());
        let nic =
            port.map(|port| port.name.clone()).or_else(|| names::nic_of(&bridge.name).map(str::to_owned));
        pairs.extend(nic.map(|nic| (nic, bridge.name.clone())));
    }
    if pairs.is_empty() {
        pairs.extend(nics_of(defaults).into_iter().map(|nic| (nic.clone(), names::bridge_of(&nic))));
    }
    pairs
}

fn pair(device: &str) -> (String, String) {
    match names::nic_of(device).filter(|nic| host::devices::exists(nic)) {
        Some(nic) => (nic.to_owned(), device.to_owned()),
        None => (device.to_owned(), names::bridge_of(device)),
    }
}

/// The default routes of the node.
pub(super) fn default_routes() -> Vec<Route> {
    let Ok(socket) = host::rtnl::Socket::open() else { return Vec::new() };
    let rows = socket.dump_all(host::rtnl::Kind::Route).unwrap_or_default();
    rows.iter().filter_map(Route::of).filter(Route::is_default).collect()
}

/// The devices of routes.
fn nics_of(routes: &[Route]) -> Vec<String> {
    let indexes: BTreeSet<_> = routes.iter().flat_map(Route::hops).filter_map(|hop| hop.device).collect();
    indexes.into_iter().filter_map(host::devices::name_of).filter(|name| name != "lo").collect()
}

/// What is known of one pair: its record, its ingress filter, its sysctls.
pub(super) fn snapshot(
    switch: &SwitchSnapshot,
    records: &[TakeoverRecord],
    defaults: &[Route],
    nic: String,
    bridge: String,
) -> UplinkSnapshot {
    let record = records.iter().find(|record| record.uplink.bridge == bridge);
    let in_switch = switch.bridge_of(&nic).is_some_and(|found| found.name == bridge)
        || switch.bridge(&bridge).is_some_and(|found| found.ours);
    let of_this_boot = record.filter(|record| record.is_of_this_boot().unwrap_or(false));
    let filter = IngressFilter::new(&nic, &bridge).observe().ok().flatten();
    let own = [&nic, &bridge].map(|device| host::devices::index_of(device));
    let had_default = |family| record.is_some_and(|record| had_default_route(record, defaults, own, family));
    UplinkSnapshot {
        had_default_v4: had_default(Family::V4),
        had_default_v6: had_default(Family::V6),
        taken_over: record.is_some() || in_switch,
        index_at_takeover: of_this_boot.map(|record| record.uplink.nic.index),
        ingress_filter: filter.filter(|state| state.marked),
        sysctls: interface_sysctls::read(&bridge).unwrap_or_default(),
        rp_filter_all: interface_sysctls::read("all").unwrap_or_default().remove("ipv4/conf/rp_filter"),
        nic,
        bridge,
    }
}

/// Whether the record has a default route of this family that no router announced, and no device but these two has one
/// now. A router's announcements come again by themselves; a default route over another device is enough.
fn had_default_route(
    record: &TakeoverRecord,
    defaults: &[Route],
    own: [Option<u32>; 2],
    family: Family,
) -> bool {
    let elsewhere =
        |route: &Route| route.hops().iter().any(|hop| hop.device.is_some() && !own.contains(&hop.device));
    let recorded = record.uplink.rows.routes();
    recorded.iter().any(|route| route.family() == family && route.is_default() && !route.is_learned())
        && !defaults.iter().filter(|route| route.family() == family).any(elsewhere)
}
