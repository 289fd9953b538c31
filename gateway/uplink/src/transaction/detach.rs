//! bridge-to-nics.
//!
//! IngressFilter and mouth are turned to the NIC while the bridge still stands. When that does not come out, and the bridge still
//! carries, management goes back onto it; a run that is killed is finished towards the NIC.

use std::net::IpAddr;
use std::time::Instant;

use super::*;
use crate::journal::TakeoverRecord;
use crate::migration;
use crate::plan::Plan;
use crate::steps::{clear, to_nic};
use crate::switch_db::Owner;
use crate::switchover;
use crate::undo::Rollback;
use crate::verify;

/// Moves what each bridge carries back to its NIC, and removes the bridge.
pub fn bridge_to_nics(planned: &Plan, options: &Options) -> Result<TakeoverReport> {
    let started = Instant::now();
    let (mut run, seen, network) = Run::new(options, Direction::Detach, started)?;
    for uplink in &planned.uplinks {
        let known = run.lock.folder().taken(&uplink.bridge)?;
        let uplink = look(&run, &seen, &network, &uplink.bridge, &uplink.nic, known.as_ref())?;
        run.journal.uplinks.push(uplink);
    }
    if run.journal.uplinks.is_empty() {
        return Ok(run.report);
    }
    let datapath = run.journal.uplinks.first().map(|uplink| uplink.datapath);
    if run.journal.uplinks.iter().any(|uplink| Some(uplink.datapath) != datapath) {
        return Err(Error::refused(
            "the bridges are of different datapaths",
            "give the NICs back one by one",
        ));
    }
    let answering: Vec<Vec<IpAddr>> = run.journal.uplinks.iter().map(answering).collect();
    if let Err(error) = run.arm().and_then(|()| run.done("journal")) {
        return Err(run.given_up(error));
    }
    let journal = run.journal.clone();
    let mut home = Rollback::of(&journal)?;
    let mut troubles = Vec::new();
    let datapath = home.datapath();
    home.all(to_nic(datapath), &mut troubles);
    if let Err(error) =
        verified(&run, &answering).and_then(|()| run.done("verify")).and_then(|()| run.confirmed())
    {
        for trouble in &troubles {
            cli::note(trouble);
        }
        return Err(turned_back(run, error));
    }
    home.all(clear(datapath), &mut troubles);
    run.report.warnings.append(&mut troubles);
    let took = |run: &Run<'_>| run.started.elapsed().as_millis();
    if home.pending {
        run.close(JournalState::UndoneOvsdbPending)?;
        let line = format!(
            "the NIC has its addresses and routes again; the bridge is still in the switch's database: `ovn-k8s-util \
             recover` when that answers ({} ms)",
            took(&run)
        );
        run.report.lines.push(line);
        return Ok(run.report);
    }
    for uplink in &journal.uplinks {
        run.lock.forget(&uplink.bridge)?;
    }
    run.close(JournalState::Committed)?;
    run.done("commit")?;
    let took = took(&run);
    for uplink in &journal.uplinks {
        let (nic, bridge) = (&uplink.nic.name, &uplink.bridge);
        run.report
            .lines
            .push(format!("{nic} has its addresses and routes again, {bridge} is gone ({took} ms)"));
    }
    Ok(run.report)
}

fn look(
    run: &Run<'_>,
    seen: &OvsSnapshot,
    network: &Network,
    bridge: &str,
    nic: &str,
    taken: Option<&TakeoverRecord>,
) -> Result<Uplink> {
    let Some(link) = network.link(nic) else {
        return Err(Error::refused(format!("there is no interface {nic}"), "`ip -br link` lists them"));
    };
    let mut rows = network.of(&link.device());
    settings::observe(&run.socket, &mut rows)?;
    let mut held = PriorOvsConfig::default();
    if let Some(taken) = taken {
        held = taken.uplink.held.clone();
        let was = &taken.uplink.rows;
        if taken.is_of_this_boot()? {
            rows.sysctls.clone_from(&was.sysctls);
            rows.qdisc.clone_from(&was.qdisc);
            // Somebody removed the bridge's device with all it carried: what the NIC had before is the best there is.
            let empty =
                |name: &str| network.link(name).is_none_or(|link| is_bare(&network.of(&link.device())));
            if empty(nic) && empty(bridge) {
                let was = migration::moved(
                    was,
                    &host::rtnl::DeviceMapping { from: was.device.clone(), to: link.device() },
                );
                rows = migration::union(&rows, &was);
            }
        }
        rows.merging.clone_from(&was.merging);
    }
    if seen.bridge(bridge).is_some_and(|row| row.owner == Owner::Uplink) {
        // It was not there before, whatever was found of it when a takeover was done again.
        held = PriorOvsConfig::default();
    }
    Ok(Uplink {
        nic: NicIdentity {
            index: link.index(),
            name: nic.to_owned(),
            mac: link.mac().map(|mac| mac.to_string()).unwrap_or_default(),
            driver: None,
        },
        bridge: bridge.to_owned(),
        // What the switch says now, where it says anything.
        datapath: match taken.filter(|_| seen.bridge(bridge).is_none()) {
            Some(taken) => taken.uplink.datapath,
            None => seen.datapath(bridge, None)?,
        },
        rows,
        bridge_rows: network.link(bridge).map(|link| network.of(&link.device())),
        held,
        guard: IngressFilter::table(bridge),
        managers: taken.map(|taken| taken.uplink.managers.clone()).unwrap_or_default(),
    })
}

/// By which nobody beyond the link reaches the node.
fn is_bare(rows: &DeviceRows) -> bool {
    rows.addresses().iter().all(host::rtnl::address::Address::is_link_local)
}

/// The routers of a bridge that answer a ping now.
fn answering(uplink: &Uplink) -> Vec<IpAddr> {
    uplink.bridge_rows.as_ref().map(verify::answering).unwrap_or_default()
}

/// The NICs carry what the bridges carried, and it works.
fn verified(run: &Run<'_>, answering: &[Vec<IpAddr>]) -> Result<()> {
    let network = Network::observe(&run.socket)?;
    for (uplink, answering) in run.journal.uplinks.iter().zip(answering) {
        let Some(link) = network.link(&uplink.nic.name) else {
            return Err(Error::failed(
                format!("reach anybody by {}", uplink.nic.name),
                "it is gone",
                "is it plugged in?",
            ));
        };
        if let Some(rows) = &uplink.bridge_rows {
            let way = host::rtnl::DeviceMapping { from: rows.device.clone(), to: link.device() };
            verify::carries(&run.socket, &migration::moved(rows, &way))?;
        }
        verify::still_answer(answering, &link.device(), run.deadline)?;
    }
    match &run.options.verify_cmd {
        Some(line) => verify::run_command(line, run.deadline),
        None => Ok(()),
    }
}

/// Onto the bridges again where they still carry; else the NIC is the safe end.
fn turned_back(mut run: Run<'_>, why: Error) -> Error {
    let carried = |run: &Run<'_>, uplink: &Uplink| -> Result<bool> {
        let network = Network::observe(&run.socket)?;
        let (Some(nic), Some(bridge)) = (network.link(&uplink.nic.name), network.link(&uplink.bridge)) else {
            return Ok(false);
        };
        let rows = network.of(&nic.device());
        let soon = Instant::now() + SILENCE;
        let Some(mac) = bridge.mac() else { return Ok(false) };
        if !verify::answered(bridge.index(), mac, &verify::questions(&rows), soon)? {
            return Ok(false);
        }
        let ears = (uplink.datapath == Datapath::Netdev)
            .then(|| IngressFilter::new(&uplink.nic.name, &uplink.bridge));
        let context = switchover::Context {
            socket: &run.socket,
            nic: nic.device(),
            bridge: bridge.device(),
            ears: ears.as_ref(),
        };
        switchover::to_bridge(&context)?;
        Ok(true)
    };
    let all = run
        .journal
        .uplinks
        .iter()
        .try_fold(true, |so_far, uplink| Ok::<_, Error>(carried(&run, uplink)? && so_far));
    let what = match all {
        Ok(true) => "management is on the bridge again, as before",
        _ => "the bridge does not carry either: management stays on the NIC, the bridge is left as it is",
    };
    if let Err(error) = run.close(JournalState::Undone) {
        cli::note(error);
    }
    Error::Undone { why: Box::new(why), what }
}
