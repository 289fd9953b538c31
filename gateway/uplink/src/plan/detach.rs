//! The plan of `bridge-to-nics`.

use host::ingress_filter::IngressFilter;
use host::rtnl::{Device, DeviceMapping, Request};

use super::{Plan, UplinkPlan, carried, firewall, switch, unique};
use crate::device_config::DeviceRows;
use crate::journal::{NicIdentity, TakeoverRecord, Uplink};
use crate::managers;
use crate::migration::{self, Transfer};
use crate::observe::{LinkSnapshot, Observed};
use crate::options::{Datapath, Direction};
use crate::steps::{self, DetachStep, PlannedStep};
use crate::switch_db::PriorOvsConfig;

/// The plan of `bridge-to-nics` for these bridges. `records`: those of their takeovers that exist.
#[must_use]
pub(crate) fn detach(observed: &Observed, bridges: &[String], records: &[TakeoverRecord]) -> Plan {
    let mut plan = Plan::default();
    for bridge in unique(bridges) {
        let Some(nic) = switch::may_go(&mut plan, observed, bridge) else { continue };
        let record = records.iter().find(|record| record.uplink.bridge == *bridge);
        let link = observed.link(&nic);
        let mut uplink = UplinkPlan {
            half_way: observed.switch.bridge_of(&nic).is_none(),
            bridge: bridge.clone(),
            direction: Direction::Detach,
            datapath: datapath(observed, bridge, record),
            complete: false,
            ours: observed.switch.bridge(bridge).is_some_and(|found| found.ours),
            probe: false,
            mtu: link.map(|link| link.mtu).unwrap_or_default(),
            config: None,
            requests: Vec::new(),
            nic,
        };
        let Some(link) = link else {
            plan.refuse(
                "not-found",
                bridge,
                format!("its NIC {} does not exist", uplink.nic),
                "check that its driver is loaded (`ip -br link`, `dmesg`)",
            );
            continue;
        };
        if let Some(found) = observed.nic(bridge) {
            let before = plan.refusals.len();
            carried::bound_sockets(&mut plan, found, &uplink);
            carried::what_is_not_carried(&mut plan, found, &uplink);
            firewall::names(&mut plan, observed, &uplink);
            // Detaching restores the original state: what is refused on attach is a warning here.
            for refusal in plan.refusals.split_off(before) {
                plan.warn(refusal.name, &refusal.about, refusal.what, refusal.remedy);
            }
        }
        let config = config(observed, &uplink, link, record);
        uplink.requests = requests(observed, &config);
        plan.handovers.extend(managers::from_journal(&config.managers));
        uplink.config = Some(config);
        plan.uplinks.push(uplink);
    }
    let mut datapaths = plan.uplinks.iter().map(|uplink| uplink.datapath);
    if let Some(datapath) = datapaths.next() {
        if datapaths.any(|other| other != datapath) {
            switch::refuse_mixed_datapaths(&mut plan, "give the NICs back one by one");
        }
        plan.steps = steps::detach(datapath).into_iter().map(PlannedStep::Detach).collect();
    }
    plan
}

/// The bridge's datapath, or that of the record when the switch has no such bridge.
fn datapath(observed: &Observed, bridge: &str, record: Option<&TakeoverRecord>) -> Datapath {
    match record.filter(|_| observed.switch.bridge(bridge).is_none()) {
        Some(record) => record.uplink.datapath,
        None => switch::datapath(&observed.switch, bridge, None),
    }
}

/// What the journal keeps: what the NIC gets, and what the bridge has now.
fn config(
    observed: &Observed,
    uplink: &UplinkPlan,
    link: &LinkSnapshot,
    record: Option<&TakeoverRecord>,
) -> Uplink {
    let (nic, bridge) = (&uplink.nic, &uplink.bridge);
    let device = Device { index: link.index, name: nic.clone() };
    // Settings that cannot be read are no reason to lose addresses and routes.
    let rows_of = |link: &LinkSnapshot| {
        let device = Device { index: link.index, name: link.name.clone() };
        observed.devices.get(&link.name).cloned().unwrap_or_else(|| observed.network.of(&device))
    };
    let mut rows = rows_of(link);
    let bridge_rows = observed.link(bridge).map(rows_of);
    let mut held = PriorOvsConfig::default();
    if let Some(record) = record {
        // A bridge with the mark did not exist before, whatever a repeated takeover recorded.
        if !observed.switch.bridge(bridge).is_some_and(|found| found.ours) {
            held = record.uplink.held.clone();
        }
        let was = &record.uplink.rows;
        if record.boot_id == observed.boot_id {
            rows.sysctls.clone_from(&was.sysctls);
            rows.qdisc.clone_from(&was.qdisc);
            // The bridge's device was removed with its addresses: those of the record are the best known ones.
            if !rows.has_address() && !bridge_rows.as_ref().is_some_and(DeviceRows::has_address) {
                let was = migration::moved(was, &DeviceMapping { from: was.device.clone(), to: device });
                rows = migration::union(&rows, &was);
            }
        }
        rows.merging.clone_from(&was.merging);
    }
    Uplink {
        nic: NicIdentity::of(link),
        bridge: bridge.clone(),
        datapath: uplink.datapath,
        rows,
        bridge_rows,
        held,
        guard: IngressFilter::table(bridge),
        managers: record.map(|record| record.uplink.managers.clone()).unwrap_or_default(),
    }
}

/// The kernel requests of the steps, from the tables as they are now.
fn requests(observed: &Observed, config: &Uplink) -> Vec<(PlannedStep, Request)> {
    let network = &observed.network;
    let nic = Device { index: config.nic.index, name: config.nic.name.clone() };
    let Some(rows) = &config.bridge_rows else { return Vec::new() };
    let onto = |rows: &DeviceRows| {
        migration::moved(rows, &DeviceMapping { from: rows.device.clone(), to: nic.clone() })
    };
    let wanted = migration::union(&onto(&config.rows), &onto(rows));
    let transfer = Transfer { wanted, ..Transfer::new(&rows.device, &nic) };
    let of = |step, requests: Vec<Request>| {
        requests.into_iter().map(move |request| (PlannedStep::Detach(step), request))
    };
    of(DetachStep::Addresses, transfer.addresses(network))
        .chain(of(DetachStep::Addresses, transfer.neighbours(network)))
        .chain(of(DetachStep::Routes, transfer.routes(network)))
        .chain(of(DetachStep::OldOff, transfer.rule_twins(network)))
        .chain(of(DetachStep::OldOff, transfer.removal(network)))
        .collect()
}
