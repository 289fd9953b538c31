//! What a takeover does, and what prevents it: a pure function of a snapshot of the node and of the options.
//!
//! [`attach`] is for `nics-to-bridge`, `detach` for `bridge-to-nics`. A run executes the [steps](Plan::steps) of a
//! [`Plan`] with its [device configurations](UplinkPlan::config), `--dry-run` prints it, `doctor` predicts from it. A run
//! plans again under the lock and is refused if the plan is different (`Plan::difference`).
//!
//! Everything that depends on a NIC is in a step (it is moved), a warning (it changes, and the operator has to know) or a
//! refusal; warnings and refusals have a stable name and a remedy. `--force` overrules those that are marked forceable.

use serde::Serialize;

use host::ingress_filter::IngressFilter;
use host::rtnl::{Device, Request};

use super::device_config::DeviceRows;
use super::error::{Error, Result};
use super::journal::{NicIdentity, Uplink};
use super::managers::{self, Handover, Invocation};
use super::migration::Transfer;
use super::names::bridge_of;
use super::observe::{NicSnapshot, Observed};
use super::options::{Datapath, Direction, Options};
use super::steps::{self, PlannedStep};

mod carried;
mod compare;
mod detach;
mod device;
mod firewall;
mod leases;
mod print;
mod switch;

pub(crate) use detach::detach;
pub(crate) use switch::datapath;

/// What a run does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The NICs and their bridges.
    pub uplinks: Vec<UplinkPlan>,
    /// The steps in order; empty when there is nothing to do.
    pub steps: Vec<PlannedStep>,
    /// What changes and is not moved.
    pub warnings: Vec<Notice>,
    /// What prevents the run.
    pub refusals: Vec<Refusal>,
    /// Handovers of network managers and DHCP clients.
    pub handovers: Vec<Handover>,
}

/// A NIC and its bridge.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct UplinkPlan {
    /// The NIC.
    pub nic: String,
    /// The bridge.
    pub bridge: String,
    /// Attach or detach.
    pub direction: Direction,
    /// The bridge's datapath.
    pub datapath: Datapath,
    /// The NIC is a port of the bridge already (attach), or no longer one (detach): an interrupted run, or a repeated one.
    pub half_way: bool,
    /// The bridge has all addresses already (attach): only its ingress filter is checked.
    pub complete: bool,
    /// The bridge exists already, and was made by a takeover.
    #[serde(skip)]
    pub ours: bool,
    /// The next hops are probed (attach): `--no-probe` is absent.
    #[serde(skip)]
    pub probe: bool,
    /// The MTU of the NIC, and of the bridge from now on.
    pub mtu: u32,
    /// The configuration of devices and database before the run, as the journal keeps it; `None` when there is nothing to
    /// do or it cannot be read.
    #[serde(skip)]
    pub config: Option<Uplink>,
    /// The kernel requests of the steps, from the snapshot: a bridge that does not exist yet has index 0.
    #[serde(skip)]
    pub requests: Vec<(PlannedStep, Request)>,
}

/// A warning.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Notice {
    /// Stable name.
    pub name: &'static str,
    /// The device it is about.
    pub about: String,
    /// The problem, and why it matters.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

/// A reason not to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Refusal {
    /// Stable name.
    pub name: &'static str,
    /// The device it is about.
    pub about: String,
    /// The problem, and why it matters.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// `--force` proceeds despite it.
    pub forceable: bool,
}

impl Plan {
    /// Whether the run may begin: refusals that `force` overrules do not count.
    pub fn verdict(&self, force: bool) -> Result<()> {
        let mut binding = self.refusals.iter().filter(|refusal| !(force && refusal.forceable));
        let Some(first) = binding.next() else { return Ok(()) };
        let more = match binding.count() {
            0 => String::new(),
            more => format!(" [and {more} more: --dry-run lists all]"),
        };
        let forced = if first.forceable { ", or --force" } else { "" };
        Err(Error::refused(
            format!("{}: {} [{}]{more}", first.about, first.what, first.name),
            format!("{}{forced}", first.remedy),
        ))
    }

    /// What the journal keeps of the uplinks that are changed.
    pub(crate) fn configs(&self) -> Result<Vec<Uplink>> {
        let open = self.uplinks.iter().filter(|uplink| !uplink.complete);
        open.map(|uplink| {
            uplink.config.clone().ok_or_else(|| {
                Error::refused(
                    format!("the settings of {} cannot be read", uplink.nic),
                    "--dry-run says why, under \"not-known\"",
                )
            })
        })
        .collect()
    }

    fn refuse(
        &mut self,
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (about, what, remedy) = (about.to_owned(), what.into(), remedy.into());
        self.add_refusal(Refusal { name, about, what, remedy, forceable: false });
    }

    /// Refuses what `--force` overrules.
    fn refuse_unless_forced(
        &mut self,
        name: &'static str,
        about: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (about, what, remedy) = (about.to_owned(), what.into(), remedy.into());
        self.add_refusal(Refusal { name, about, what, remedy, forceable: true });
    }

    fn add_refusal(&mut self, refusal: Refusal) {
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

/// The plan of `nics-to-bridge` for these NICs.
#[must_use]
pub fn attach(observed: &Observed, nics: &[String], options: &Options) -> Plan {
    let mut plan = Plan::default();
    switch::answers(&mut plan, observed);
    for nic in unique(nics) {
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
        let uplink = attach_one(&mut plan, observed, found, options);
        plan.uplinks.push(uplink);
    }
    let mut open = plan.uplinks.iter().filter(|uplink| !uplink.complete).map(|uplink| uplink.datapath);
    if let Some(datapath) = open.next() {
        if open.any(|other| other != datapath) {
            switch::refuse_mixed_datapaths(
                &mut plan,
                "take the NICs over one by one, or name one datapath with --datapath-type",
            );
        }
        plan.steps = steps::attach(datapath).iter().copied().map(PlannedStep::Attach).collect();
    }
    for what in &observed.unknown {
        plan.warn("not-known", "this node", what.clone(), "check it by hand before you continue");
    }
    plan
}

fn attach_one(plan: &mut Plan, observed: &Observed, found: &NicSnapshot, options: &Options) -> UplinkPlan {
    let nic = &found.link.name;
    let bridge = bridge_of(nic);
    let carries = |device: &NicSnapshot| !device.addresses.is_empty();
    let half_way = observed.switch.bridge_of(nic).is_some_and(|found| found.name == bridge);
    let mut uplink = UplinkPlan {
        nic: nic.clone(),
        direction: Direction::Attach,
        datapath: datapath(&observed.switch, &bridge, options.datapath),
        half_way,
        complete: half_way && !carries(found) && observed.nic(&bridge).is_some_and(carries),
        ours: observed.switch.bridge(&bridge).is_some_and(|found| found.ours),
        probe: options.probe,
        mtu: found.link.mtu,
        config: None,
        requests: Vec::new(),
        bridge,
    };
    device::has_no_master_or_upper(plan, observed, found, uplink.datapath);
    device::bond_or_vlan(plan, observed, found);
    switch::name_is_free(plan, observed, &uplink, options.datapath);
    if uplink.complete {
        return uplink;
    }
    carried::bound_sockets(plan, found, &uplink);
    carried::what_is_not_carried(plan, found, &uplink);
    carried::routes(plan, found);
    carried::can_be_proved(plan, found, &uplink, options);
    firewall::names(plan, observed, &uplink);
    let (handovers, not) = managers::handovers(
        &observed.managers,
        nic,
        &uplink.bridge,
        &leases::expiring(found),
        &Invocation::of(options),
    );
    for reason in not {
        plan.refuse_unless_forced(reason.name, nic, reason.what, reason.remedy);
    }
    leases::are_kept(plan, observed, found, &uplink, &handovers);
    uplink.config = observed.devices.get(nic).map(|rows| config(observed, &uplink, found, rows, &handovers));
    uplink.requests = requests(observed, &uplink, found);
    plan.handovers.extend(handovers);
    uplink
}

/// What the journal keeps of a NIC before it is attached.
fn config(
    observed: &Observed,
    uplink: &UplinkPlan,
    found: &NicSnapshot,
    rows: &DeviceRows,
    handovers: &[Handover],
) -> Uplink {
    let (nic, bridge) = (&uplink.nic, &uplink.bridge);
    Uplink {
        nic: NicIdentity::of(&found.link),
        bridge: bridge.clone(),
        datapath: uplink.datapath,
        rows: rows.clone(),
        bridge_rows: observed.devices.get(bridge).cloned(),
        held: observed.switch.prior_config(bridge, nic),
        guard: IngressFilter::table(bridge),
        managers: handovers.iter().filter_map(|handover| serde_json::to_value(handover).ok()).collect(),
    }
}

/// The kernel requests of the steps, from the tables as they are now.
fn requests(observed: &Observed, uplink: &UplinkPlan, found: &NicSnapshot) -> Vec<(PlannedStep, Request)> {
    use steps::Step::{Addresses, Neighbours, OldOff, Routes};
    let network = &observed.network;
    let index = observed.link(&uplink.bridge).map_or(0, |link| link.index);
    let nic = Device { index: found.link.index, name: uplink.nic.clone() };
    let transfer = Transfer::new(&nic, &Device { index, name: uplink.bridge.clone() });
    let of = |step, requests: Vec<Request>| {
        requests.into_iter().map(move |request| (PlannedStep::Attach(step), request))
    };
    of(Addresses, transfer.addresses(network))
        .chain(of(Neighbours, transfer.neighbours(network)))
        .chain(of(Routes, transfer.routes(network)))
        .chain(of(OldOff, transfer.removal(network)))
        .collect()
}

/// What still uses a NIC by name after the takeover, and no longer works.
#[must_use]
pub fn left_behind(observed: &Observed, nic: &str) -> Plan {
    let (mut plan, bridge) = (Plan::default(), bridge_of(nic));
    let Some(found) = observed.nic(nic) else { return plan };
    let datapath = datapath(&observed.switch, &bridge, None);
    let uplink = UplinkPlan {
        nic: nic.to_owned(),
        bridge,
        direction: Direction::Attach,
        datapath,
        half_way: true,
        complete: true,
        ours: true,
        probe: false,
        mtu: found.link.mtu,
        config: None,
        requests: Vec::new(),
    };
    carried::bound_sockets(&mut plan, found, &uplink);
    carried::what_is_not_carried(&mut plan, found, &uplink);
    firewall::names(&mut plan, observed, &uplink);
    plan
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
