//! Addresses, routes, rules and settings of one device, as the kernel's rows: kept in the journal, moved and compared.
//!
//! [`Network`] is a snapshot of all tables; [`DeviceRows`] is the part of it that names one device. A route with next hops
//! on several devices belongs to each of them. The local table is left out: the kernel derives it from the addresses.
//! Rows that cannot be parsed (a journal may have been edited) are left out, too.

use std::collections::{BTreeMap, HashMap};

use host::rtnl::address::Address;
use host::rtnl::link::Link;
use host::rtnl::neighbour::Neighbour;
use host::rtnl::nexthop::Nexthop;
use host::rtnl::route::{Key, Route};
use host::rtnl::rule::Rule;
use host::rtnl::{Device, Family, Kind, Row, Socket};
use serde::{Deserialize, Serialize};

use super::error::Result;

/// A snapshot of everything that a takeover may have to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// Links.
    pub links: Vec<Link>,
    /// Addresses.
    pub addresses: Vec<Address>,
    /// Routes of all tables except the local one.
    pub routes: Vec<Route>,
    /// Neighbour entries worth keeping, and proxy entries.
    pub neighbours: Vec<Neighbour>,
    /// Policy rules.
    pub rules: Vec<Rule>,
    /// Nexthop objects.
    pub nexthops: Vec<Nexthop>,
}

/// The rows that name one device, and its settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRows {
    /// The device.
    pub device: Device,
    /// The link itself.
    pub link: Option<Row>,
    /// Addresses, in the kernel's order: a primary comes before its secondaries.
    pub addresses: Vec<Row>,
    /// Routes of all tables except the local one, connected routes included.
    pub routes: Vec<Row>,
    /// Neighbour entries worth keeping, and proxy entries.
    pub neighbours: Vec<Row>,
    /// Policy rules that name the device.
    pub rules: Vec<Row>,
    /// Nexthop objects.
    pub nexthops: Vec<Row>,
    /// Its root qdisc, if it is not the default.
    #[serde(default)]
    pub qdisc: Option<Row>,
    /// Sysctls below `net/{ipv4,ipv6}/{conf,neigh}/DEVICE/`.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// Its active offloads that merge received frames (GRO, LRO): a userspace port does not work with them.
    #[serde(default)]
    pub merging: Vec<String>,
}

impl Network {
    /// Reads all tables.
    pub(crate) fn observe(socket: &Socket) -> Result<Self> {
        let mut network = Self::moving(socket)?;
        network.links = socket.dump(Kind::Link, Family::V4)?.iter().filter_map(Link::of).collect();
        Ok(network)
    }

    /// Reads everything except the links.
    pub(crate) fn moving(socket: &Socket) -> Result<Self> {
        let (routing, local) = (Self::routing(socket)?, Self::local(socket)?);
        Ok(Self { neighbours: local.neighbours, rules: local.rules, ..routing })
    }

    /// Reads addresses, routes and nexthop objects only: the fewest dumps, for the switchover.
    pub(crate) fn routing(socket: &Socket) -> Result<Self> {
        let routes = socket.dump_all(Kind::Route)?;
        Ok(Self {
            addresses: socket.dump_all(Kind::Address)?.iter().filter_map(Address::of).collect(),
            routes: routes.iter().filter_map(Route::of).filter(|route| !route.is_local()).collect(),
            nexthops: socket.dump(Kind::Nexthop, Family::V4)?.iter().filter_map(Nexthop::of).collect(),
            ..Self::default()
        })
    }

    /// Reads neighbours and rules only.
    pub(crate) fn local(socket: &Socket) -> Result<Self> {
        let mut neighbours = socket.dump_all(Kind::Neighbour)?;
        for family in Family::ALL {
            neighbours.extend(socket.proxies(family)?);
        }
        let neighbours = neighbours.iter().filter_map(Neighbour::of).filter(Neighbour::is_worth_keeping);
        Ok(Self {
            neighbours: neighbours.collect(),
            rules: socket.dump_all(Kind::Rule)?.iter().filter_map(Rule::of).collect(),
            ..Self::default()
        })
    }

    /// The part that names one device.
    #[must_use]
    pub(crate) fn of(&self, device: &Device) -> DeviceRows {
        let index = device.index;
        DeviceRows {
            link: self.links.iter().find(|link| link.index() == index).map(|link| link.row().clone()),
            addresses: rows(&self.addresses, |address| address.device() == index, Address::row),
            routes: rows(&self.routes, |route| route.names(index), Route::row),
            neighbours: rows(&self.neighbours, |neighbour| neighbour.device() == index, Neighbour::row),
            rules: rows(&self.rules, |rule| rule.names(&device.name), Rule::row),
            nexthops: rows(&self.nexthops, |nexthop| nexthop.device() == Some(index), Nexthop::row),
            ..DeviceRows::none(device)
        }
    }

    /// How many routes of all devices have each key: a route with a key of its own can be replaced.
    #[must_use]
    pub(crate) fn places(&self) -> HashMap<Key, usize> {
        let mut places = HashMap::with_capacity(self.routes.len());
        for key in self.routes.iter().filter_map(Route::key) {
            *places.entry(key).or_insert(0) += 1;
        }
        places
    }

    /// A link by its device's name.
    #[must_use]
    pub(crate) fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name() == name)
    }
}

impl DeviceRows {
    /// A device without rows.
    #[must_use]
    pub(crate) fn none(device: &Device) -> Self {
        Self {
            device: device.clone(),
            link: None,
            addresses: Vec::new(),
            routes: Vec::new(),
            neighbours: Vec::new(),
            rules: Vec::new(),
            nexthops: Vec::new(),
            qdisc: None,
            sysctls: BTreeMap::new(),
            merging: Vec::new(),
        }
    }

    /// Only the rows that name the device: an edited journal may have others.
    #[must_use]
    pub(crate) fn own(&self) -> Self {
        let Device { index, name } = &self.device;
        let only = |rows: &[Row], is_own: &dyn Fn(&Row) -> bool| {
            rows.iter().filter(|row| is_own(row)).cloned().collect::<Vec<_>>()
        };
        Self {
            addresses: only(&self.addresses, &|row| {
                Address::of(row).is_some_and(|one| one.device() == *index)
            }),
            routes: only(&self.routes, &|row| Route::of(row).is_some_and(|one| one.names(*index))),
            neighbours: only(&self.neighbours, &|row| {
                Neighbour::of(row).is_some_and(|one| one.device() == *index)
            }),
            rules: only(&self.rules, &|row| Rule::of(row).is_some_and(|one| one.names(name))),
            nexthops: only(&self.nexthops, &|row| {
                Nexthop::of(row).is_some_and(|one| one.device() == Some(*index))
            }),
            ..self.clone()
        }
    }

    /// The addresses.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<Address> {
        self.addresses.iter().filter_map(Address::of).collect()
    }

    /// Whether it has an address that is not link-local.
    #[must_use]
    pub(crate) fn has_address(&self) -> bool {
        self.addresses().iter().any(|address| !address.is_link_local())
    }

    /// The routes.
    #[must_use]
    pub fn routes(&self) -> Vec<Route> {
        self.routes.iter().filter_map(Route::of).collect()
    }

    /// The routers of its routes, each once.
    #[must_use]
    pub(crate) fn routers(&self) -> Vec<std::net::IpAddr> {
        let hops = self.routes().into_iter().flat_map(|route| route.hops());
        let mine = hops.filter(|hop| hop.device == Some(self.device.index));
        let found: std::collections::BTreeSet<_> = mine.filter_map(|hop| hop.via).collect();
        found.into_iter().collect()
    }
}

fn rows<T>(all: &[T], names: impl Fn(&T) -> bool, row: impl Fn(&T) -> &Row) -> Vec<Row> {
    all.iter().filter(|one| names(one)).map(|one| row(one).clone()).collect()
}
