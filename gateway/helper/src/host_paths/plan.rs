//! What has to change: the difference between desired and observed, as a value that can be printed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::net::IpAddr;

use host::nft;
use host::ports::{PortSet, PortSpan};
use host::rtnl::Device;
use host::rtnl::route::{OUR_PROTOCOL, Route};
use host::sysctl::{LOCAL_PORT_RANGE, PortSettings, RESERVED_PORTS};

use super::rules::{CHAINS, NftRule};
use super::state::{ARP_ANNOUNCE, DesiredHost, DesiredRoute};
use super::table::{ElementChange, ElementData, ElementKey, Elements, SetName, TABLE, listed};

/// With fewer ports than this left to choose from, the host's range is widened: Linux gives 28,232 by default.
pub(crate) const ENOUGH_LOCAL_PORTS: u32 = 16_384;

/// What the local range is widened to, where the node's own is not wider already. The ends differ in parity, as
/// ip-sysctl.rst recommends.
const WIDE: (u16, u16) = (15_000, 65_535);

/// What the node's kernel holds, as far as it concerns us.
#[derive(Clone, Debug)]
pub(crate) struct HostSnapshot {
    /// Devices.
    pub(crate) devices: Vec<Device>,
    /// Routes of all makers.
    pub(crate) routes: Vec<Route>,
    /// Our nft table.
    pub(crate) table: TableSnapshot,
    /// The port sysctls, and what of them is ours.
    pub(crate) ports: PortSettings,
    /// `arp_announce` of the management port, when the device exists.
    pub(crate) arp_announce: Option<String>,
}

/// Our nft table as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TableSnapshot {
    /// It exists with our sets and chains, and nothing else is in it.
    pub(crate) sound: bool,
    /// The rules' comments by chain, in order.
    pub(crate) rules: BTreeMap<String, Vec<String>>,
    /// The elements.
    pub(crate) elements: BTreeMap<ElementKey, ElementData>,
}

/// What has to change. An empty plan writes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostPlan {
    /// Sysctls, first.
    pub(crate) sysctls: Vec<SysctlChange>,
    /// The nft table.
    pub(crate) nft: NftChange,
    /// Routes, removals first.
    pub(crate) routes: Vec<RouteChange>,
    /// What is left as it is, and why (a foreign route has the place, no device).
    pub(crate) notes: Vec<String>,
}

/// A change of a sysctl.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-explanatory")]
pub(crate) enum SysctlChange {
    /// The reserved ports: `ours` are added by us.
    Reserve { now: PortSet, target: PortSet, ours: PortSet },
    /// The local port range is widened.
    Widen { now: PortSpan, target: PortSpan },
    /// The local port range goes back to what it was before us.
    Restore { now: PortSpan, target: PortSpan },
    /// ARP requests of the management port carry an address of its own subnet.
    Announce { device: String, now: String },
}

/// A change of the nft table, always one transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum NftChange {
    /// Nothing.
    #[default]
    None,
    /// Elements only.
    Elements(Vec<ElementChange>),
    /// All rules again, and elements.
    Rules(Vec<NftRule>, Vec<ElementChange>),
    /// The whole table again.
    Replace(Vec<NftRule>, Vec<ElementChange>),
}

/// A change of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "self-explanatory")]
pub(crate) enum RouteChange {
    Remove(Route),
    Add(Route),
}

/// The difference: a pure function.
#[must_use]
pub(crate) fn diff(desired: &DesiredHost, observed: &HostSnapshot) -> HostPlan {
    HostPlan { nft: nft_change(desired, &observed.table), ..diff_without_table(desired, observed) }
}

/// The same for all but the nft table.
pub(crate) fn diff_without_table(desired: &DesiredHost, observed: &HostSnapshot) -> HostPlan {
    let mut notes = Vec::new();
    let mut sysctls = sysctl_changes(&desired.reserved_ports(), &observed.ports);
    if let (Some(device), Some(now)) = (desired.announcing(), &observed.arp_announce)
        && now != ARP_ANNOUNCE
    {
        sysctls.push(SysctlChange::Announce { device: device.to_owned(), now: now.clone() });
    }
    let routes = route_changes(&desired.routes, observed, &mut notes);
    HostPlan { sysctls, nft: NftChange::None, routes, notes }
}

impl TableSnapshot {
    /// From what nft lists; `None` is no table.
    #[must_use]
    pub(crate) fn read(table: Option<&nft::Table>) -> Self {
        let Some(table) = table else { return Self::default() };
        let mut found = Self { sound: table.others.is_empty() && layout_is_ours(table), ..Self::default() };
        for (name, chain) in &table.chains {
            let comments = chain.rules.iter().map(|rule| rule.comment.clone().unwrap_or_default());
            found.rules.insert(name.clone(), comments.collect());
        }
        for set in SetName::ALL {
            for element in table.sets.get(set.name()).into_iter().flat_map(|listed| &listed.elements) {
                match listed(set, element) {
                    Some((key, data)) => {
                        found.elements.insert(key, data);
                    }
                    None => found.sound = false,
                }
            }
        }
        found
    }
}

impl HostPlan {
    /// Nothing to do?
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.sysctls.is_empty() && self.nft == NftChange::None && self.routes.is_empty()
    }
}

impl NftChange {
    /// As a script for nft, `None` when there is nothing to do.
    #[must_use]
    pub(crate) fn script(&self) -> Option<String> {
        let mut script = String::new();
        match self {
            Self::None => return None,
            Self::Elements(changes) => elements_script(&mut script, changes),
            Self::Rules(rules, changes) => {
                for chain in CHAINS {
                    let _ = writeln!(script, "flush chain inet {TABLE} {}", chain.name);
                }
                rules_script(&mut script, rules);
                elements_script(&mut script, changes);
            }
            Self::Replace(rules, changes) => {
                // `add` makes `delete` succeed whether the table exists or not.
                let _ = writeln!(
                    script,
                    "add table inet {TABLE}\ndelete table inet {TABLE}\nadd table inet {TABLE}"
                );
                layout_script(&mut script);
                rules_script(&mut script, rules);
                elements_script(&mut script, changes);
            }
        }
        Some(script)
    }
}

impl fmt::Display for HostPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.sysctls {
            match change {
                SysctlChange::Reserve { now, target, .. } => {
                    writeln!(f, "sysctl {RESERVED_PORTS}: \"{now}\" -> \"{target}\"")?;
                }
                SysctlChange::Widen { now, target } | SysctlChange::Restore { now, target } => {
                    writeln!(f, "sysctl {LOCAL_PORT_RANGE}: {now} -> {target}")?;
                }
                SysctlChange::Announce { device, now } => {
                    writeln!(f, "sysctl net/ipv4/conf/{device}/arp_announce: {now} -> {ARP_ANNOUNCE}")?;
                }
            }
        }
        let (what, rules, changes): (_, &[NftRule], &[ElementChange]) = match &self.nft {
            NftChange::None => ("", &[], &[]),
            NftChange::Elements(changes) => ("", &[], changes),
            NftChange::Rules(rules, changes) => ("write the rules of", rules, changes),
            NftChange::Replace(rules, changes) => ("make", rules, changes),
        };
        if !what.is_empty() {
            writeln!(f, "nft {what} table inet {TABLE}")?;
        }
        for rule in rules {
            writeln!(f, "nft rule {}: {}", rule.chain, rule.text)?;
        }
        for change in changes {
            writeln!(f, "nft {change}")?;
        }
        for change in &self.routes {
            match change {
                RouteChange::Remove(route) => writeln!(f, "route delete {route}")?,
                RouteChange::Add(route) => writeln!(f, "route add {route}")?,
            }
        }
        for note in &self.notes {
            writeln!(f, "left alone: {note}")?;
        }
        Ok(())
    }
}

fn sysctl_changes(ours: &PortSet, now: &PortSettings) -> Vec<SysctlChange> {
    let mut changes = Vec::new();
    let target = now.reserved_for(ours);
    if target != now.reserved {
        changes.push(SysctlChange::Reserve {
            now: now.reserved.clone(),
            target: target.clone(),
            ours: ours.clone(),
        });
    }
    let without_us = now.local_without_us();
    let free = |span: PortSpan| PortSet::from(span).minus(&target).len();
    let wide =
        PortSpan::new(without_us.low().min(WIDE.0), without_us.high().max(WIDE.1)).unwrap_or(without_us);
    if free(without_us) < ENOUGH_LOCAL_PORTS {
        if now.local != wide {
            changes.push(SysctlChange::Widen { now: now.local, target: wide });
        }
    } else if now.local != without_us {
        changes.push(SysctlChange::Restore { now: now.local, target: without_us });
    }
    changes
}

fn nft_change(desired: &DesiredHost, found: &TableSnapshot) -> NftChange {
    if !found.sound {
        return NftChange::Replace(
            desired.rules.clone(),
            element_changes(&BTreeMap::new(), &desired.elements),
        );
    }
    let mut comments_by_chain: BTreeMap<&str, Vec<String>> =
        CHAINS.iter().map(|chain| (chain.name, Vec::new())).collect();
    for rule in &desired.rules {
        comments_by_chain.entry(rule.chain).or_default().push(rule.comment());
    }
    let changes = element_changes(&found.elements, &desired.elements);
    let same = comments_by_chain.iter().all(|(chain, comments)| found.rules.get(*chain) == Some(comments));
    match (same, changes.is_empty()) {
        (false, _) => NftChange::Rules(desired.rules.clone(), changes),
        (true, false) => NftChange::Elements(changes),
        (true, true) => NftChange::None,
    }
}

fn element_changes(found: &BTreeMap<ElementKey, ElementData>, desired: &Elements) -> Vec<ElementChange> {
    let gone = found.iter().filter(|(key, _)| desired.get(key).is_none());
    let gone = gone.map(|(key, data)| ElementChange { key: *key, before: Some(*data), after: None });
    let come = desired.iter().filter(|(key, data)| found.get(key) != Some(data));
    let come =
        come.map(|(key, data)| ElementChange { key, before: found.get(&key).copied(), after: Some(data) });
    gone.chain(come).collect()
}

fn route_changes(
    desired: &BTreeSet<DesiredRoute>,
    observed: &HostSnapshot,
    notes: &mut Vec<String>,
) -> Vec<RouteChange> {
    let mut keep: BTreeSet<&Route> = BTreeSet::new();
    let mut add = Vec::new();
    for next in desired {
        let Some(device) = observed.devices.iter().find(|device| device.name == next.device) else {
            notes.push(format!("route to {}: there is no device {}", next.destination, next.device));
            continue;
        };
        let (via, source) = (Some(next.via), Some(next.source));
        let route = Route::unicast(next.destination, device.index, via, source, OUR_PROTOCOL);
        let (ours, others): (Vec<&Route>, Vec<&Route>) = observed
            .routes
            .iter()
            .filter(|other| other.key() == route.key())
            .partition(|other| other.is_ours());
        let same_path = |other: &Route| first_hop(other) == first_hop(&route);
        // A foreign route with the same path is as good as ours; without a source the kernel takes the device's.
        let as_good =
            |other: &Route| same_path(other) && other.source().is_none_or(|found| Some(found) == source);
        if let Some(same) = ours.iter().find(|other| same_path(other) && other.source() == source) {
            keep.insert(same);
        } else if let Some(foreign) = others.first().filter(|_| !others.iter().any(|other| as_good(other))) {
            notes
                .push(format!("route {foreign}: it has the place of {route}; delete it if it is not needed"));
        } else if others.is_empty() {
            add.push(RouteChange::Add(route));
        }
    }
    let stale = observed.routes.iter().filter(|route| route.is_ours() && !keep.contains(route));
    stale.cloned().map(RouteChange::Remove).chain(add).collect()
}

/// Device and router of a route's first next hop.
fn first_hop(route: &Route) -> Option<(Option<u32>, Option<IpAddr>)> {
    route.hops().first().map(|hop| (hop.device, hop.via))
}

fn layout_is_ours(table: &nft::Table) -> bool {
    let sets = SetName::ALL.iter().all(|set| {
        table
            .sets
            .get(set.name())
            .is_some_and(|found| found.key == set.key_types() && found.data == set.data_types())
    });
    let chains = CHAINS.iter().all(|chain| {
        table.chains.get(chain.name).is_some_and(|found| match (&found.hook, chain.hook) {
            (None, None) => true,
            (Some(found), Some((kind, hook, priority))) => {
                (found.kind.as_str(), found.hook.as_str(), found.priority) == (kind, hook, priority)
                    && found.policy == "accept"
            }
            _ => false,
        })
    });
    sets && chains && table.sets.len() == SetName::ALL.len() && table.chains.len() == CHAINS.len()
}

fn layout_script(script: &mut String) {
    for set in SetName::ALL {
        let (kind, data) = match set.data_types() {
            [] => ("set", String::new()),
            types => ("map", format!(" : {}", types.join(" . "))),
        };
        let key = set.key_types().join(" . ");
        let _ = writeln!(script, "add {kind} inet {TABLE} {} {{ type {key}{data}; }}", set.name());
    }
    for chain in CHAINS {
        let hook = chain.hook.map_or(String::new(), |(kind, hook, priority)| {
            format!(" {{ type {kind} hook {hook} priority {priority}; policy accept; }}")
        });
        let _ = writeln!(script, "add chain inet {TABLE} {}{hook}", chain.name);
    }
}

fn rules_script(script: &mut String, rules: &[NftRule]) {
    for rule in rules {
        let _ = writeln!(
            script,
            "add rule inet {TABLE} {} {} comment \"{}\"",
            rule.chain,
            rule.text,
            rule.comment()
        );
    }
}

/// Removals before additions: an element that changes its data is both.
fn elements_script(script: &mut String, changes: &[ElementChange]) {
    for set in SetName::ALL {
        let of_set = || changes.iter().filter(|change| change.key.set == set);
        let gone: Vec<String> =
            of_set().filter(|change| change.before.is_some()).map(|change| change.key.nft()).collect();
        let come: Vec<String> = of_set()
            .filter_map(|change| {
                let after = change.after?;
                Some(after.nft().map_or(change.key.nft(), |data| format!("{} : {data}", change.key.nft())))
            })
            .collect();
        for (verb, elements) in [("delete", gone), ("add", come)] {
            if !elements.is_empty() {
                let _ = writeln!(
                    script,
                    "{verb} element inet {TABLE} {} {{ {} }}",
                    set.name(),
                    elements.join(", ")
                );
            }
        }
    }
}
