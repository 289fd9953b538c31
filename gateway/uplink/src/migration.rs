//! The kernel requests that carry what is on one device over to another: pure.
//!
//! From the rows of device A ([`DeviceRows`]) come the requests that put them on B and those that take them off A. One
//! set of functions serves the takeover, its undo, the way back and the failover:
//!
//! ```text
//! addresses, neighbours, rules   on B, while A still carries the traffic
//! connected                      A's networks, explicitly: an address that is already on B does not bring its route
//! routes                         all routes and objects, and A's connected routes away: one sendmsg
//! strip                          A's addresses away
//! missing                        what B lacks after that
//! ```
//!
//! Only what is not there yet is asked for, so that every list can be sent again.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use host::rtnl::address::Address;
use host::rtnl::neighbour::Neighbour;
use host::rtnl::nexthop::Nexthop;
use host::rtnl::route::{Key, Route};
use host::rtnl::rule::Rule;
use host::rtnl::{Device, DeviceMapping, Family, Request, Row};

use super::device_config::{DeviceRows, Network};

// linux/if_addr.h
const IFA_FLAGS: u16 = 8;
const NODAD: u32 = 0x02;

/// What goes from one device onto another. The requests of each part follow from it and from the kernel's tables as they
/// are then; a plan and the run that executes it use the same functions.
#[derive(Clone, Debug)]
pub(crate) struct Transfer {
    /// From which device, onto which.
    pub ends: DeviceMapping,
    /// What the target carries in the end besides, as its own rows.
    pub wanted: DeviceRows,
    /// What of the source's is its own and stays.
    pub own: DeviceRows,
}

impl Transfer {
    /// Everything that `from` carries goes onto `to`.
    #[must_use]
    pub(crate) fn new(from: &Device, to: &Device) -> Self {
        let ends = DeviceMapping { from: from.clone(), to: to.clone() };
        Self { ends, wanted: DeviceRows::none(to), own: DeviceRows::none(from) }
    }

    /// What goes.
    #[must_use]
    pub(crate) fn source(&self, network: &Network) -> DeviceRows {
        beyond(&network.of(&self.ends.from), &self.own)
    }

    /// What the target carries in the end.
    #[must_use]
    pub(crate) fn target(&self, network: &Network) -> DeviceRows {
        union(&moved(&self.source(network), &self.ends), &self.wanted)
    }

    /// The addresses that the target lacks.
    #[must_use]
    pub(crate) fn addresses(&self, network: &Network) -> Vec<Request> {
        addresses(&self.target(network), &network.of(&self.ends.to), &self.on_target())
    }

    /// The connected routes that the target still lacks, once it has its addresses.
    #[must_use]
    pub(crate) fn connected(&self, target: &DeviceRows, on: &DeviceRows) -> Vec<Request> {
        connected(target, on, &self.on_target())
    }

    /// The neighbours and the twins of policy rules that the target lacks.
    #[must_use]
    pub(crate) fn neighbours(&self, network: &Network) -> Vec<Request> {
        let (target, on) = (self.target(network), network.of(&self.ends.to));
        let mut requests = neighbours(&target, &on, &self.on_target());
        requests.extend(rules(&target, &on, &self.on_target()));
        requests
    }

    /// All routes and nexthop objects onto the target: sent as one message.
    #[must_use]
    pub(crate) fn routes(&self, network: &Network) -> Vec<Request> {
        routes(&self.source(network), network, &self.ends)
    }

    /// The source's addresses away.
    #[must_use]
    pub(crate) fn removal(&self, network: &Network) -> Vec<Request> {
        strip(&self.source(network))
    }

    /// The twins of policy rules away that were made on the source.
    #[must_use]
    pub(crate) fn rule_twins(&self, network: &Network) -> Vec<Request> {
        untwin(&self.source(network), &network.of(&self.ends.to), &self.ends)
    }

    fn on_target(&self) -> DeviceMapping {
        DeviceMapping { from: self.ends.to.clone(), to: self.ends.to.clone() }
    }
}

/// Addresses that B lacks, in A's order: the first one of a network is its primary (inet_insert_ifa()). Temporary
/// (privacy) addresses are not moved: the kernel makes new ones.
pub(super) fn addresses(from: &DeviceRows, on: &DeviceRows, mapping: &DeviceMapping) -> Vec<Request> {
    let existing: HashSet<_> = on.addresses().iter().map(Address::key).collect();
    let lacking =
        from.addresses().into_iter().filter(|one| !one.is_temporary() && !existing.contains(&one.key()));
    lacking.flat_map(|address| added(&address, mapping)).collect()
}

/// An address on the other device, at once usable; then once more, to ask for duplicates at a later time as it did on
/// its own (inet6_addr_modify() changes the flag without asking now).
fn added(address: &Address, mapping: &DeviceMapping) -> Vec<Request> {
    let row = address.for_device(mapping);
    let mut requests = vec![Request::replace(row.clone())];
    if address.family() == Family::V6 && address.flags() & NODAD == 0 {
        let mut asking = row;
        let flags = asking.attribute(IFA_FLAGS).and_then(|value| value.first_chunk().copied());
        let flags = flags.map_or(0, u32::from_ne_bytes) & !NODAD;
        for attribute in asking.attributes.iter_mut().filter(|found| found.number() == IFA_FLAGS) {
            attribute.value = flags.to_ne_bytes().to_vec();
        }
        if let Some(byte) = asking.header.get_mut(2) {
            *byte = (flags & 0xff) as u8;
        }
        requests.push(Request::replace(asking));
    }
    requests
}

/// Neighbours that B does not know, and entries that answer for others.
fn neighbours(from: &DeviceRows, on: &DeviceRows, mapping: &DeviceMapping) -> Vec<Request> {
    let key = |row: &Neighbour| (row.is_proxy(), row.address());
    let existing: HashSet<_> = on.neighbours.iter().filter_map(Neighbour::of).map(|row| key(&row)).collect();
    let lacking =
        from.neighbours.iter().filter_map(Neighbour::of).filter(|row| !existing.contains(&key(row)));
    lacking.map(|neighbour| Request::replace(neighbour.for_device(mapping))).collect()
}

/// Twins of the rules that name A, for B. A's own stay: they match nothing while A carries nothing.
fn rules(from: &DeviceRows, on: &DeviceRows, mapping: &DeviceMapping) -> Vec<Request> {
    let existing: HashSet<_> = on.rules.iter().filter_map(Rule::of).map(|rule| rule.identity()).collect();
    let twins = from.rules.iter().filter_map(Rule::of).map(|rule| rule.for_device(mapping));
    twins.filter(|twin| !existing.contains(&identity(twin))).map(Request::create).collect()
}

/// The twins away again: rules of A that B has as well.
fn untwin(from: &DeviceRows, on: &DeviceRows, mapping: &DeviceMapping) -> Vec<Request> {
    let existing: HashSet<_> = on.rules.iter().filter_map(Rule::of).map(|rule| rule.identity()).collect();
    let twins = from
        .rules
        .iter()
        .filter_map(Rule::of)
        .filter(|rule| existing.contains(&identity(&rule.for_device(mapping))));
    twins.map(|rule| Request::delete(rule.delete_request())).collect()
}

/// A's connected routes on B, behind what is there. (With `CREATE|EXCL` IPv6 refuses the network when any other device
/// has it with the same metric.)
fn connected(from: &DeviceRows, on: &DeviceRows, mapping: &DeviceMapping) -> Vec<Request> {
    let connected =
        |rows: &DeviceRows| rows.routes.iter().filter_map(Route::of).filter(Route::is_connected).collect();
    let (source, target): (Vec<Route>, Vec<Route>) = (connected(from), connected(on));
    let existing: HashSet<_> = target.iter().map(Route::identity).collect();
    let moved = source.into_iter().map(|route| route.for_device(mapping));
    moved.filter(|row| !existing.contains(&identity(row))).map(Request::append).collect()
}

/// The switch of the routes: nexthop objects, routes to networks, routes over gateways (which need those), and last A's
/// connected routes away, which stood before B's.
///
/// A route with a key of its own is replaced. Where other routes have the same key (of another device, or appended),
/// replacing would hit the first of them: B's route is appended and A's removed.
fn routes(from: &DeviceRows, network: &Network, mapping: &DeviceMapping) -> Vec<Request> {
    let objects = from.nexthops.iter().filter_map(Nexthop::of);
    let mut requests: Vec<Request> =
        objects.map(|object| Request::replace(object.for_device(mapping))).collect();
    let places = network.places();
    // Needed only where several routes have one key.
    let existing = std::cell::OnceCell::new();
    let look = || network.of(&mapping.to).routes().iter().map(Route::identity).collect::<HashSet<_>>();
    let (connected, mut own): (Vec<Route>, Vec<Route>) =
        from.routes().into_iter().partition(Route::is_connected);
    own.retain(|route| route.nexthop().is_none());
    own.sort_by_key(is_over_gateway);
    for route in own {
        let moved = route.for_device(mapping);
        if is_alone(&route, &places) {
            requests.push(Request::replace(moved));
            continue;
        }
        if !existing.get_or_init(look).contains(&identity(&moved)) {
            requests.push(Request::append(moved));
        }
        requests.push(Request::delete(route.delete_request()));
    }
    requests.extend(connected.iter().map(|route| Request::delete(route.delete_request())));
    requests
}

/// A's addresses away: secondaries first, or the kernel takes them along with their primary.
fn strip(from: &DeviceRows) -> Vec<Request> {
    let (behind, first): (Vec<Address>, Vec<Address>) =
        from.addresses().into_iter().partition(Address::is_secondary);
    let all = behind.into_iter().rev().chain(first);
    all.map(|address| Request::delete(address.delete_request())).collect()
}

/// What a device should carry and does not; `wanted` are rows as they should be on it.
#[must_use]
pub(crate) fn missing(wanted: &DeviceRows, network: &Network) -> Vec<Request> {
    let on = network.of(&wanted.device);
    let in_place = DeviceMapping { from: wanted.device.clone(), to: wanted.device.clone() };
    let mut requests = addresses(wanted, &on, &in_place);
    let objects: HashSet<_> = network.nexthops.iter().map(Nexthop::id).collect();
    let lacking = wanted.nexthops.iter().filter_map(Nexthop::of).filter(|one| !objects.contains(&one.id()));
    requests.extend(lacking.map(|object| Request::replace(object.for_device(&in_place))));
    requests.extend(connected(wanted, &on, &in_place));
    // Most rows are unchanged since the dump; only the others are parsed.
    let raw: HashSet<&Row> = on.routes.iter().collect();
    let differ: Vec<Route> =
        wanted.routes.iter().filter(|row| !raw.contains(row)).filter_map(Route::of).collect();
    if differ.iter().all(Route::is_connected) {
        return requests;
    }
    let existing: HashSet<_> = on.routes().iter().map(Route::identity).collect();
    let places = network.places();
    let mut lacking: Vec<Route> = differ;
    lacking.retain(|route| !route.is_connected() && !existing.contains(&route.identity()));
    lacking.sort_by_key(is_over_gateway);
    for route in lacking {
        let row = route.for_device(&in_place);
        // With several routes of one key the first may be another device's, which an appended route leaves alone.
        let alone = is_alone(&route, &places);
        requests.push(if alone { Request::replace(row) } else { Request::append(row) });
    }
    requests
}

/// The request for a route with flag `onlink`: for a route whose next hop no network reaches any more. The kernel keeps
/// such a route, but refuses to make it without the flag.
#[must_use]
pub(crate) fn onlink(request: &Request) -> Option<Request> {
    let route = Route::of(&request.row)?;
    let again = route.onlink().into_row();
    (again != request.row).then_some(Request { verb: request.verb, row: again })
}

/// The rows of A as those of B.
#[must_use]
pub(crate) fn moved(from: &DeviceRows, mapping: &DeviceMapping) -> DeviceRows {
    fn all<T>(rows: &[Row], of: impl Fn(&Row) -> Option<T>, on: impl Fn(T) -> Row) -> Vec<Row> {
        rows.iter().filter_map(of).map(on).collect()
    }
    DeviceRows {
        addresses: all(&from.addresses, Address::of, |one| one.for_device_as_configured(mapping)),
        routes: all(&from.routes, Route::of, |one| one.for_device(mapping)),
        neighbours: all(&from.neighbours, Neighbour::of, |one| one.for_device(mapping)),
        rules: all(&from.rules, Rule::of, |one| one.for_device(mapping)),
        nexthops: all(&from.nexthops, Nexthop::of, |one| one.for_device(mapping)),
        ..DeviceRows::none(&mapping.to)
    }
}

/// `rows` without what is `own`: what a device carries beyond that.
#[must_use]
pub(crate) fn beyond(rows: &DeviceRows, own: &DeviceRows) -> DeviceRows {
    fn less<K: Hash + Eq>(rows: &[Row], own: &[Row], key: impl Fn(&Row) -> K) -> Vec<Row> {
        if rows.is_empty() || own.is_empty() {
            return rows.to_vec();
        }
        let own: HashSet<K> = own.iter().map(&key).collect();
        rows.iter().filter(|row| !own.contains(&key(row))).cloned().collect()
    }
    DeviceRows {
        addresses: less(&rows.addresses, &own.addresses, |row| Address::of(row).map(|one| one.key())),
        routes: less(&rows.routes, &own.routes, identity),
        neighbours: less(&rows.neighbours, &own.neighbours, |row| {
            Neighbour::of(row).map(|one| (one.is_proxy(), one.address()))
        }),
        rules: less(&rows.rules, &own.rules, identity),
        nexthops: less(&rows.nexthops, &own.nexthops, |row| Nexthop::of(row).map(|one| one.id())),
        ..rows.clone()
    }
}

/// Both together, each thing once; `first` decides where both have it.
#[must_use]
pub(crate) fn union(first: &DeviceRows, second: &DeviceRows) -> DeviceRows {
    let more = beyond(second, first);
    let both = |one: &[Row], two: Vec<Row>| one.iter().cloned().chain(two).collect::<Vec<_>>();
    DeviceRows {
        addresses: both(&first.addresses, more.addresses),
        routes: both(&first.routes, more.routes),
        neighbours: both(&first.neighbours, more.neighbours),
        rules: both(&first.rules, more.rules),
        nexthops: both(&first.nexthops, more.nexthops),
        ..first.clone()
    }
}

/// What of a row must be the same for two to be the same thing.
pub(super) fn identity(row: &Row) -> Row {
    use host::rtnl::Kind;
    let found = match row.kind {
        Kind::Address => Address::of(row).map(|one| one.identity()),
        Kind::Route => Route::of(row).map(|one| one.identity()),
        Kind::Rule => Rule::of(row).map(|one| one.identity()),
        Kind::Nexthop => Nexthop::of(row).map(|one| one.identity()),
        _ => None,
    };
    found.unwrap_or_else(|| row.clone())
}

fn is_over_gateway(route: &Route) -> bool {
    route.nexthop().is_some() || route.hops().iter().any(|hop| hop.via.is_some())
}

/// Whether no other route has the route's key. (IPv4 refuses a second one unless it is appended; IPv6 takes one per device.)
fn is_alone(route: &Route, places: &HashMap<Key, usize>) -> bool {
    let others = route.key().and_then(|key| places.get(&key)).copied().unwrap_or_default();
    others <= 1
}

#[cfg(test)]
mod tests;
