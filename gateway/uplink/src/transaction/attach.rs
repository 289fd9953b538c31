//! nics-to-bridge.

use std::time::Instant;

use host::Mac;
use host::ingress_filter::Accepting;
use host::rtnl::link;

use super::*;
use crate::managers::Handover;
use crate::plan::{self, Plan};
use crate::steps::{Step, forwards};
use crate::switch_db::{Owner, PendingChange};
use crate::switchover::Migration;
use crate::{migration, verify};

/// One uplink under way.
struct Live {
    /// Which of the journal's it is.
    place: usize,
    wanted: BridgeSpec,
    mac: Mac,
    nic: Device,
    /// Its number is 0 until it is there.
    bridge: Device,
    /// The bridge is there already, and was made by a takeover.
    ours: bool,
    /// None on the kernel datapath.
    ears: Option<IngressFilter>,
    /// What the bridge has to carry in the end.
    expected: DeviceRows,
    /// Routers that answered a ping before.
    answering: Vec<std::net::IpAddr>,
}

/// Makes a bridge of each NIC and moves what the NIC carries onto it.
pub fn nics_to_bridge(planned: &Plan, options: &Options) -> Result<TakeoverReport> {
    let started = Instant::now();
    let (mut run, seen, network) = Run::new(options, Direction::Attach, started)?;
    seen.usable()?;
    let mut live = Vec::new();
    for uplink in &planned.uplinks {
        if let Some(one) = look(&mut run, &seen, &network, &uplink.nic, &planned.handovers)? {
            live.push(one);
        }
    }
    let Some(datapath) = live.first().map(|one| one.wanted.datapath) else { return Ok(run.report) };
    if live.iter().any(|one| one.wanted.datapath != datapath) {
        return Err(Error::refused(
            "the bridges are of different datapaths",
            "take the NICs over one by one, or name one by --datapath-type",
        ));
    }
    let mut written = None;
    for &step in forwards(datapath) {
        if let Err(error) = act(&mut run, step, &mut live, &mut written).and_then(|()| run.done(step.name()))
        {
            return Err(if step == Step::Journal { run.given_up(error) } else { run.undo(error) });
        }
    }
    let took = run.started.elapsed().as_millis();
    for one in &live {
        let (nic, bridge) = (&one.nic.name, &one.bridge.name);
        let line =
            format!("{nic} is a port of {bridge}, and {bridge} has its addresses and routes ({took} ms)");
        run.report.lines.push(line);
    }
    Ok(run.report)
}

/// What is found of a NIC, into the journal; `None` when there is nothing to do.
fn look(
    run: &mut Run<'_>,
    seen: &OvsSnapshot,
    network: &Network,
    nic: &str,
    handovers: &[Handover],
) -> Result<Option<Live>> {
    let bridge = plan::bridge_of(nic);
    let Some(link) = network.link(nic) else {
        return Err(Error::refused(format!("there is no interface {nic}"), "`ip -br link` lists them"));
    };
    if link.is_loopback() || !link.is_ethernet() {
        return Err(Error::refused(
            format!("{nic} is no Ethernet device"),
            "name a NIC: `ip -br link` lists them",
        ));
    }
    let Some(mac) = link.mac() else {
        return Err(Error::refused(
            format!("{nic} has no MAC address"),
            "name a NIC: `ip -br link` lists them",
        ));
    };
    let datapath = seen.datapath(&bridge, run.options.datapath)?;
    if let Some(other) = seen.bridge_of(nic)
        && other.name != bridge
    {
        return Err(Error::refused(
            format!("{nic} is a port of {} already", other.name),
            format!("ovs-vsctl del-port {} {nic}", other.name),
        ));
    }
    let mut rows = network.of(&link.device());
    settings::observe(&run.socket, &mut rows)?;
    let mut bridge_rows = network.link(&bridge).map(|link| network.of(&link.device()));
    if let Some(rows) = &mut bridge_rows {
        settings::observe(&run.socket, rows)?;
    }
    let ears = (datapath == Datapath::Netdev).then(|| IngressFilter::new(nic, &bridge));
    let carried = bridge_rows.as_ref().is_some_and(|rows| !rows.addresses.is_empty());
    if seen.bridge_of(nic).is_some() && rows.addresses.is_empty() && carried {
        let mended = ears.as_ref().map_or(Ok(false), guard)?;
        let more = if mended { "; the guard against hearing twice was made again" } else { "" };
        run.report.lines.push(format!("{nic} is a port of {bridge} already, which has its addresses{more}"));
        return Ok(None);
    }
    let wanted = BridgeSpec {
        bridge: bridge.clone(),
        nic: nic.to_owned(),
        mac: mac.to_string(),
        mtu: link.mtu(),
        datapath,
    };
    let managers = handovers.iter().filter(|handover| handover.nic == nic);
    run.journal.uplinks.push(Uplink {
        nic: NicIdentity { index: link.index(), name: nic.to_owned(), mac: mac.to_string(), driver: None },
        bridge: bridge.clone(),
        datapath,
        rows,
        bridge_rows,
        held: seen.held(&bridge, nic),
        guard: IngressFilter::table(&bridge),
        managers: managers.filter_map(|handover| serde_json::to_value(handover).ok()).collect(),
    });
    let ours = seen.bridge(&bridge).is_some_and(|row| row.owner == Owner::Uplink);
    let bridge = Device { index: 0, name: bridge };
    let expected = DeviceRows::none(&bridge);
    let (nic, place) = (link.device(), run.journal.uplinks.len() - 1);
    Ok(Some(Live { place, wanted, mac, nic, bridge, ours, ears, expected, answering: Vec::new() }))
}

fn act(run: &mut Run<'_>, step: Step, live: &mut [Live], written: &mut Option<PendingChange>) -> Result<()> {
    let wanted: Vec<BridgeSpec> = live.iter().map(|one| one.wanted.clone()).collect();
    match step {
        Step::Journal => {
            run.arm()?;
            run.each_manager(|rim, all| rim.prepare(all));
            Ok(())
        }
        Step::BridgeTx => {
            let deadline = run.deadline;
            *written = Some(run.switch()?.make_bridges(&wanted, deadline)?);
            Ok(())
        }
        Step::Bridge => {
            if let Some(written) = written {
                let deadline = run.deadline;
                run.switch()?.wait_for_devices(&wanted, written, deadline)?;
            }
            for one in live.iter_mut() {
                one.bridge = device_with_mac(&run.socket, &one.bridge.name, one.mac, run.deadline)?;
            }
            Ok(())
        }
        Step::PortTx => {
            for uplink in run.journal.uplinks.iter().filter(|uplink| uplink.datapath == Datapath::Netdev) {
                run.report.warnings.extend(settings::stop_merging(&uplink.rows));
            }
            let deadline = run.deadline;
            *written = Some(run.switch()?.add_ports(&wanted, deadline)?);
            Ok(())
        }
        Step::Ofport => match written {
            Some(written) => {
                let deadline = run.deadline;
                run.switch()?.wait_for_ports(written, deadline)
            }
            None => Ok(()),
        },
        Step::Verify => verify(run, live),
        Step::Commit => {
            run.each_manager(|rim, all| rim.complete(all));
            if run.journal.uplinks.iter().any(|uplink| !uplink.managers.is_empty()) {
                // A client that renewed its lease just before it was ended has put the address back on the NIC.
                live.iter_mut().try_for_each(|one| act_on(run, Step::OldOff, one))?;
            }
            run.confirmed()?;
            commit(run, live)
        }
        _ => live.iter_mut().try_for_each(|one| act_on(run, step, one)),
    }
}

/// The part of a step that is each uplink's own.
fn act_on(run: &mut Run<'_>, step: Step, one: &mut Live) -> Result<()> {
    if step == Step::IngressFilter || (step == Step::Routes && one.ears.is_none()) {
        run.before = host::sockets::connections().unwrap_or_default();
    }
    let listen = |to| one.ears.as_ref().map_or(Ok(()), |ears| ears.set(to));
    let way = Migration::new(&run.socket, &one.nic, &one.bridge);
    match step {
        Step::GuardB => listen(Accepting::Nic)?,
        Step::LinkUp => {
            let mut rows = DeviceRows::none(&one.bridge);
            settings::observe(&run.socket, &mut rows)?;
            let nic = run
                .journal
                .uplinks
                .get(one.place)
                .map(|uplink| uplink.rows.sysctls.clone())
                .unwrap_or_default();
            let values = settings::for_bridge(&nic, &rows.sysctls, one.wanted.datapath);
            run.report.warnings.extend(settings::write(&one.bridge.name, &values));
            run.socket.apply(&link::set_up(one.bridge.index))?;
        }
        Step::Addresses => run.report.warnings.extend(way.addresses()?),
        Step::Neighbours => {
            if let Some(uplink) = run.journal.uplinks.get(one.place) {
                one.answering = verify::answering(&uplink.rows);
            }
            run.report.warnings.extend(way.neighbours()?);
        }
        Step::Proven if run.options.probe => {
            let mut rows = run.journal.uplinks.get(one.place).map(|uplink| uplink.rows.clone());
            if rows.as_ref().is_none_or(|rows| rows.routers().is_empty()) {
                // In a half state the bridge may carry what is to be asked.
                rows = Some(Network::moving(&run.socket)?.of(&one.bridge));
            }
            let rows = rows.unwrap_or_else(|| DeviceRows::none(&one.nic));
            verify::prove(&rows, &one.bridge, one.mac, run.deadline)?;
        }
        Step::IngressFilter => listen(Accepting::Bridge)?,
        Step::Routes => {
            let (refused, carried) = way.turn_mouth()?;
            one.expected = carried;
            run.report.warnings.extend(refused);
        }
        Step::OldOff => {
            let (refused, late) = way.take_old_off()?;
            one.expected = migration::union(&one.expected, &late);
            run.report.warnings.extend(refused);
        }
        _ => {}
    }
    Ok(())
}

/// What is kept of the bridges, and then the journal says so.
fn commit(run: &mut Run<'_>, live: &[Live]) -> Result<()> {
    let folder = run.lock.folder();
    let kept = run.journal.taken().enumerate().map(|(place, taken)| {
        let earlier = folder.taken(&taken.uplink.bridge).ok().flatten();
        taken.again(earlier, live.iter().any(|one| one.place == place && one.ours))
    });
    let kept: Vec<_> = kept.collect();
    run.lock.commit(&mut run.journal, &kept)?;
    run.disarm();
    Ok(())
}

/// The guard stands as it should behind a takeover; `true` when it did not.
fn guard(ears: &IngressFilter) -> Result<bool> {
    let right = ears.is_accepting(Accepting::Bridge)?;
    if !right {
        ears.set(Accepting::Bridge)?;
    }
    Ok(!right)
}

/// All is as it was, on the bridges, and works.
fn verify(run: &Run<'_>, live: &[Live]) -> Result<()> {
    let sampled = verify::Connections::before(&run.first, &run.before, live.iter().map(|one| &one.expected))?;
    for one in live {
        verify::carries(&run.socket, &one.expected)?;
        if run.options.probe {
            // All that it carries: some of it may have been there before.
            let rows = Network::moving(&run.socket)?.of(&one.bridge);
            verify::prove(&rows, &one.bridge, one.mac, run.deadline)?;
        }
        verify::still_answer(&one.answering, &one.bridge, run.deadline)?;
    }
    sampled.move_on(run.deadline)?;
    match &run.options.verify_cmd {
        Some(line) => verify::run_command(line, run.deadline),
        None => Ok(()),
    }
}
