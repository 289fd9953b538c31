//! What a takeover would do, and what stands against it: a pure function of what was found and what was asked for.
//!
//! [`attach`] is for `nics-to-bridge`, [`detach`] for `bridge-to-nics`. A [`Plan`] is what `--dry-run` prints, what
//! `doctor` predicts from, and what the run itself asks for leave ([`Plan::verdict`]). Everything that hangs on a NIC is
//! in one of three places: among the steps (it is carried over), among the warnings (it changes, and somebody has to
//! know), or among the refusals, each with a name that stays and a remedy. `--force` overrules those that are only
//! dangerous.

use serde::Serialize;

use super::error::{Error, Result};
use super::managers::{self, Handover};
use super::observe::{NicSnapshot, Observed};
use super::options::{Datapath, Direction, Options};

mod carried;
mod device;
mod firewall;
mod leases;
mod print;
mod steps;
mod switch;

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The NICs and their bridges.
    pub uplinks: Vec<UplinkPlan>,
    /// What is done, in order, in words.
    pub steps: Vec<String>,
    /// What changes without being carried over.
    pub warnings: Vec<Notice>,
    /// What stands against it.
    pub refusals: Vec<Refusal>,
    /// Network managers and DHCP clients that are handed over.
    pub handovers: Vec<Handover>,
}

/// A NIC and its bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UplinkPlan {
    /// The NIC.
    pub nic: String,
    /// The bridge.
    pub bridge: String,
    /// Which way.
    pub direction: Direction,
    /// What carries the bridge's frames.
    pub datapath: Datapath,
    /// The NIC is a port of the bridge already (there), or no port of it any more (back): a run that was cut short, or
    /// one that is run again.
    pub half_way: bool,
}

/// Something to know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Notice {
    /// Name, which stays from version to version.
    pub name: &'static str,
    /// The device it is about.
    pub about: String,
    /// What is so, and why it matters.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// Something that stands against it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// Name, which stays from version to version.
    pub name: &'static str,
    /// The device it is about.
    pub about: String,
    /// What is so, and why it matters.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// It is only dangerous: `--force` goes on.
    pub forceable: bool,
}

impl Plan {
    /// Whether it may be done: refusals that `force` overrules do not count.
    pub fn verdict(&self, force: bool) -> Result<()> {
        let mut against = self.refusals.iter().filter(|refusal| !(force && refusal.forceable));
        let Some(first) = against.next() else { return Ok(()) };
        let more = match against.count() {
            0 => String::new(),
            more => format!(" [and {more} more: --dry-run lists all]"),
        };
        let forced = if first.forceable { ", or --force" } else { "" };
        Err(Error::refused(
            format!("{}: {} [{}]{more}", first.about, first.what, first.name),
            format!("{}{forced}", first.remedy),
        ))
    }

    fn refuse(
        &mut self,
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let refusal = Refusal {
            name,
            about: about.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
            forceable: false,
        };
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    /// Refuses what is only dangerous.
    fn warn_off(
        &mut self,
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let refusal = Refusal {
            name,
            about: about.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
            forceable: true,
        };
        if !self.refusals.contains(&refusal) {
            self.refusals.push(refusal);
        }
    }

    fn warn(&mut self, name: &'static str, about: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let notice = Notice { name, about: about.to_owned(), what: what.into(), remedy: remedy.into() };
        if !self.warnings.contains(&notice) {
            self.warnings.push(notice);
        }
    }
}

/// The bridge of a NIC: `breth0` for `eth0`.
#[must_use]
pub fn bridge_of(nic: &str) -> String {
    format!("br{nic}")
}

/// The NIC of a bridge, by its name alone.
#[must_use]
pub fn nic_of(bridge: &str) -> Option<&str> {
    bridge.strip_prefix("br").filter(|nic| !nic.is_empty())
}

/// The datapath of a new bridge: what was asked for, else what the switch is set to, else the kernel's.
#[must_use]
pub fn datapath(observed: &Observed, bridge: &str, options: &Options) -> Datapath {
    let there = || observed.switch.bridge(bridge).and_then(|found| Datapath::of(&found.datapath_type));
    let set = || Datapath::of(&observed.switch.datapath_type);
    options.datapath.or_else(there).or_else(set).unwrap_or(Datapath::System)
}

/// What `nics-to-bridge` would do with these NICs.
#[must_use]
pub fn attach(observed: &Observed, nics: &[String], options: &Options) -> Plan {
    let mut plan = Plan::default();
    switch::answers(&mut plan, observed);
    for nic in unique(nics) {
        let bridge = bridge_of(nic);
        let datapath = datapath(observed, &bridge, options);
        let half_way = observed.switch.bridge_of(nic).is_some_and(|found| found.name == bridge);
        let uplink = UplinkPlan {
            nic: nic.clone(),
            bridge: bridge.clone(),
            direction: Direction::Attach,
            datapath,
            half_way,
        };
        let Some(found) = observed.nic(nic) else {
            plan.refuse(
                "not-found",
                nic,
                "there is no such network device",
                "`ip -br link` lists the devices of this node",
            );
            continue;
        };
        if device::is_no_nic(&mut plan, found) {
            continue;
        }
        device::stands_alone(&mut plan, observed, found, datapath);
        device::bond_or_vlan(&mut plan, observed, found);
        switch::name_is_free(&mut plan, observed, &uplink);
        if half_way
            && carries_nothing(found)
            && observed.nic(&bridge).is_some_and(|own| !carries_nothing(own))
        {
            plan.steps.push(format!("{bridge}: has the addresses of {nic} already; see to the guard"));
        } else {
            moves(&mut plan, observed, found, &uplink, options);
        }
        plan.uplinks.push(uplink);
    }
    for what in &observed.unknown {
        plan.warn("not-known", "this node", what.clone(), "look yourself before you go on");
    }
    plan
}

/// What `bridge-to-nics` would do with these bridges. `taken` are the handovers of the way there.
#[must_use]
pub fn detach(observed: &Observed, bridges: &[String], taken: &[Handover], options: &Options) -> Plan {
    let mut plan = Plan::default();
    for bridge in unique(bridges) {
        let Some(nic) = switch::may_go(&mut plan, observed, bridge) else { continue };
        let uplink = UplinkPlan {
            half_way: observed.switch.bridge_of(&nic).is_none(),
            nic,
            bridge: bridge.clone(),
            direction: Direction::Detach,
            datapath: datapath(observed, bridge, options),
        };
        if let Some(found) = observed.nic(bridge) {
            let against = plan.refusals.len();
            carried::bound_sockets(&mut plan, found, &uplink);
            carried::what_is_not_carried(&mut plan, found, &uplink);
            firewall::names(&mut plan, observed, &uplink);
            steps::detach(&mut plan, found, &uplink);
            // The way back is the safe one: what would be refused on the way there is only said.
            for refusal in plan.refusals.split_off(against) {
                plan.warn(refusal.name, &refusal.about, refusal.what, refusal.remedy);
            }
        }
        plan.handovers.extend(taken.iter().filter(|handover| handover.bridge == *bridge).cloned());
        plan.uplinks.push(uplink);
    }
    for handover in plan.handovers.clone() {
        plan.steps.extend(handover.take_back.iter().map(|act| format!("{}: {act}", handover.manager)));
    }
    plan
}

/// What is still on a NIC that is in use, or names it, and does not work there any more.
#[must_use]
pub fn left_behind(observed: &Observed, nic: &str) -> Plan {
    let (mut plan, bridge) = (Plan::default(), bridge_of(nic));
    let Some(found) = observed.nic(nic) else { return plan };
    let datapath = observed.switch.bridge(&bridge).and_then(|it| Datapath::of(&it.datapath_type));
    let uplink = UplinkPlan {
        nic: nic.to_owned(),
        bridge,
        direction: Direction::Attach,
        datapath: datapath.unwrap_or(Datapath::System),
        half_way: true,
    };
    carried::bound_sockets(&mut plan, found, &uplink);
    carried::what_is_not_carried(&mut plan, found, &uplink);
    firewall::names(&mut plan, observed, &uplink);
    plan
}

fn carries_nothing(device: &NicSnapshot) -> bool {
    device.addresses.iter().all(|address| address.link_local)
}

fn moves(plan: &mut Plan, observed: &Observed, found: &NicSnapshot, uplink: &UplinkPlan, options: &Options) {
    carried::bound_sockets(plan, found, uplink);
    carried::what_is_not_carried(plan, found, uplink);
    carried::routes(plan, found);
    carried::can_be_proved(plan, found, uplink, options);
    firewall::names(plan, observed, uplink);
    let (handovers, not) = managers::handovers(
        &observed.managers,
        &uplink.nic,
        &uplink.bridge,
        found,
        &managers::Invocation::of(options),
    );
    for reason in not {
        plan.warn_off(reason.name, &uplink.nic, reason.what, reason.remedy);
    }
    leases::are_kept(plan, observed, found, uplink, &handovers);
    steps::attach(plan, found, uplink, &handovers);
    plan.handovers.extend(handovers);
}

fn unique(names: &[String]) -> Vec<&String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests;
