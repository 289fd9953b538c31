//! Compares the plan from before the lock was taken with the one under the lock.

use std::collections::BTreeSet;

use host::rtnl::address::Address;
use host::rtnl::nexthop::Nexthop;
use host::rtnl::route::Route;
use host::rtnl::rule::Rule;
use host::rtnl::{Family, Row};

use super::print::with_device_names;
use super::{Plan, Refusal, UplinkPlan};
use crate::device_config::DeviceRows;
use crate::journal::Uplink;
use crate::options::Direction;

/// Protocols of routes and nexthop objects that an administrator or a DHCP client makes (linux/rtnetlink.h: boot, static,
/// dhcp). Those of router advertisements and routing daemons change at any time; the run moves them as they are at the
/// switchover.
const CONFIGURED: [u8; 3] = [3, 4, 16];

impl Plan {
    /// How `now` differs from this plan; `None` when refusals, devices, configured addresses and routes, policy rules,
    /// nexthop objects, root qdisc, the switch's rows and network managers are the same. On detach only refusals and the
    /// NIC itself count: it is used while daemons of the switch start and stop, so the rest is taken as it is under the
    /// lock.
    #[must_use]
    pub(crate) fn difference(&self, now: &Self) -> Option<String> {
        let known = |refusal: &&Refusal| {
            self.refusals.iter().any(|one| (one.name, &one.about) == (refusal.name, &refusal.about))
        };
        if let Some(refusal) = now.refusals.iter().find(|refusal| !known(refusal)) {
            return Some(format!("{}: {} [{}]", refusal.about, refusal.what, refusal.name));
        }
        for uplink in &self.uplinks {
            let other =
                now.uplinks.iter().find(|other| other.nic == uplink.nic && other.bridge == uplink.bridge);
            let Some(other) = other else { return Some(format!("{} does not exist any more", uplink.nic)) };
            if let Some(what) = of_uplink(uplink, other) {
                return Some(what);
            }
        }
        if self.uplinks.iter().all(|uplink| uplink.direction == Direction::Detach) {
            return None;
        }
        if self.steps != now.steps {
            return Some("the datapath and its steps changed".to_owned());
        }
        let managed = |plan: &Self| plan.handovers.iter().map(|one| one.manager).collect::<BTreeSet<_>>();
        if let Some(manager) = managed(self).symmetric_difference(&managed(now)).next() {
            return Some(format!("{manager} has started or stopped configuring the NIC"));
        }
        let changed = self.handovers.iter().find(|one| !now.handovers.contains(one));
        changed.map(|one| format!("{} of {} was restarted or configured differently", one.manager, one.nic))
    }
}

fn of_uplink(planned: &UplinkPlan, now: &UplinkPlan) -> Option<String> {
    let (nic, bridge) = (&planned.nic, &planned.bridge);
    if planned.direction == Direction::Detach {
        let (planned, now) = (planned.config.as_ref()?, now.config.as_ref()?);
        return of_nic(planned, now);
    }
    if planned.datapath != now.datapath {
        return Some(format!("{bridge} has datapath {} now, not {}", now.datapath, planned.datapath));
    }
    if (planned.half_way, planned.complete) != (now.half_way, now.complete) {
        let becomes = if now.half_way { "is a port of" } else { "is no port of" };
        return Some(format!("{nic} {becomes} {bridge} now"));
    }
    if planned.mtu != now.mtu {
        return Some(format!("{nic} has MTU {} now, not {}", now.mtu, planned.mtu));
    }
    match (&planned.config, &now.config) {
        (Some(planned), Some(now)) => of_config(planned, now),
        (None, None) => None,
        _ => Some(format!("the settings of {nic} could be read only one of two times")),
    }
}

fn of_nic(planned: &Uplink, now: &Uplink) -> Option<String> {
    let is_same = (planned.nic.index, &planned.nic.mac) == (now.nic.index, &now.nic.mac);
    (!is_same).then(|| format!("{} is another device, or has another MAC address", planned.nic.name))
}

fn of_config(planned: &Uplink, now: &Uplink) -> Option<String> {
    if let Some(what) = of_nic(planned, now) {
        return Some(what);
    }
    if planned.held != now.held {
        return Some(format!("the rows of {} in the switch's database changed", planned.bridge));
    }
    let bridge = planned.bridge_rows.as_ref().map(|rows| (rows.device.index, planned.bridge.as_str()));
    let devices: Vec<_> =
        [(planned.nic.index, planned.nic.name.as_str())].into_iter().chain(bridge).collect();
    let of_rows = |planned, now| of_rows(planned, now, &devices);
    of_rows(&planned.rows, &now.rows).or_else(|| match (&planned.bridge_rows, &now.bridge_rows) {
        (Some(planned), Some(now)) => of_rows(planned, now),
        (None, None) => None,
        (Some(_), None) => Some(format!("{} does not exist any more", planned.bridge)),
        (None, Some(_)) => Some(format!("{} exists now", planned.bridge)),
    })
}

fn of_rows(planned: &DeviceRows, now: &DeviceRows, devices: &[(u32, &str)]) -> Option<String> {
    let device = &planned.device.name;
    let addresses = |rows: &DeviceRows| {
        // The kernel makes IPv6 addresses by itself when a link comes up or a router announces a prefix.
        let automatic = |one: &Address| {
            one.family() == Family::V6 && (one.is_temporary() || one.is_link_local() || one.valid().is_some())
        };
        let kept = |one: &Address| (!automatic(one)).then(|| one.identity());
        changes(&rows.addresses, |row| Address::of(row).and_then(|one| kept(&one)))
    };
    let routes = |rows: &DeviceRows| {
        let kept = |one: &Route| CONFIGURED.contains(&one.protocol()).then(|| one.identity());
        changes(&rows.routes, |row| Route::of(row).and_then(|one| kept(&one)))
    };
    let rules = |rows: &DeviceRows| changes(&rows.rules, |row| Rule::of(row).map(|one| one.identity()));
    let objects = |rows: &DeviceRows| {
        let kept = |one: &Nexthop| CONFIGURED.contains(&one.protocol()).then(|| one.identity());
        changes(&rows.nexthops, |row| Nexthop::of(row).and_then(|one| kept(&one)))
    };
    for of in [&addresses as &dyn Fn(&DeviceRows) -> BTreeSet<Row>, &routes, &rules, &objects] {
        let (before, after) = (of(planned), of(now));
        if let Some(row) = after.difference(&before).next() {
            return Some(format!("{device} got {}", text(row, devices)));
        }
        if let Some(row) = before.difference(&after).next() {
            return Some(format!("{device} lost {}", text(row, devices)));
        }
    }
    (planned.qdisc.is_some() != now.qdisc.is_some()).then(|| format!("{device} has another root qdisc"))
}

fn changes(rows: &[Row], identity: impl Fn(&Row) -> Option<Row>) -> BTreeSet<Row> {
    rows.iter().filter_map(identity).collect()
}

/// A row with its devices by name, without the one that its identity leaves out.
fn text(row: &Row, devices: &[(u32, &str)]) -> String {
    with_device_names(&row.to_string().replace(" dev 0", ""), devices)
}
