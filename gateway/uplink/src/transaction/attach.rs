//! `nics-to-bridge`.

use std::time::Instant;

use host::Mac;
use host::ingress_filter::{Accepting, IngressFilter};
use host::rtnl::{Device, link};

use super::*;
use crate::device_config::DeviceRows;
use crate::plan::UplinkPlan;
use crate::steps::{PlannedStep, Step};
use crate::switch_db::{BridgeSpec, OvsDb, PendingChange};
use crate::switchover::Migration;
use crate::{migration, settings};

/// How long the switch's database may take to be reached.
const CONNECT: Duration = Duration::from_secs(8);
/// How often a device is looked up that is to come up.
const POLL: Duration = Duration::from_millis(1);

/// One uplink of the run.
struct Live {
    /// Which of the journal's it is.
    number: usize,
    spec: BridgeSpec,
    mac: Mac,
    nic: Device,
    /// Its number is 0 until it exists.
    bridge: Device,
    /// The bridge exists already, and was made by a takeover.
    ours: bool,
    /// None on the kernel datapath.
    filter: Option<IngressFilter>,
    /// What the bridge has to carry in the end.
    expected: DeviceRows,
    /// Routers that answered a ping before.
    answering: Vec<std::net::IpAddr>,
}

impl Live {
    fn of(number: usize, uplink: &Uplink, mtu: u32, ours: bool) -> Result<Self> {
        let (nic, bridge, datapath) = (&uplink.nic, &uplink.bridge, uplink.datapath);
        let mac = uplink.rows.link.as_ref().and_then(link::Link::of).and_then(|link| link.mac()).ok_or_else(
            || {
                Error::refused(
                    format!("{} has no MAC address", nic.name),
                    "name a NIC: `ip -br link` lists them",
                )
            },
        )?;
        let device = Device { index: 0, name: bridge.clone() };
        Ok(Self {
            number,
            spec: BridgeSpec {
                bridge: bridge.clone(),
                nic: nic.name.clone(),
                mac: nic.mac.clone(),
                mtu,
                datapath,
            },
            mac,
            nic: uplink.rows.device.clone(),
            ours,
            filter: (datapath == Datapath::Netdev).then(|| IngressFilter::new(&nic.name, bridge)),
            expected: DeviceRows::none(&device),
            answering: Vec::new(),
            bridge: device,
        })
    }
}

/// Makes a bridge of each NIC and moves what the NIC carries onto it.
pub(crate) fn nics_to_bridge(planned: &Plan, options: &Options) -> Result<TakeoverReport> {
    let nics: Vec<String> = planned.uplinks.iter().map(|uplink| uplink.nic.clone()).collect();
    let (mut run, plan) = Run::begin(options, Direction::Attach, planned, || plan_attach(&nics, options))?;
    for uplink in plan.uplinks.iter().filter(|uplink| uplink.complete) {
        let line = check_filter(uplink)?;
        run.report.lines.push(line);
    }
    let open: Vec<&UplinkPlan> = plan.uplinks.iter().filter(|uplink| !uplink.complete).collect();
    if open.is_empty() {
        return Ok(run.report);
    }
    let live = run
        .journal
        .uplinks
        .iter()
        .zip(&open)
        .enumerate()
        .map(|(number, (uplink, planned))| Live::of(number, uplink, planned.mtu, planned.ours));
    let live = live.collect::<Result<Vec<_>>>()?;
    let switch = OvsDb::connect(&options.db, CONNECT)?;
    let mut progress = Progress { live, switch, written: None };
    for step in plan.steps {
        let PlannedStep::Attach(step) = step else { continue };
        if let Err(error) = execute(&mut run, step, &mut progress).and_then(|()| run.done(step.name())) {
            return Err(if step == Step::Journal { run.given_up(error) } else { run.undo(error) });
        }
    }
    let took = run.started.elapsed().as_millis();
    for one in &progress.live {
        let (nic, bridge) = (&one.nic.name, &one.bridge.name);
        let line =
            format!("{nic} is a port of {bridge}, and {bridge} has its addresses and routes ({took} ms)");
        run.report.lines.push(line);
    }
    Ok(run.report)
}

/// The ingress filter of a bridge that has everything already.
fn check_filter(uplink: &UplinkPlan) -> Result<String> {
    let UplinkPlan { nic, bridge, .. } = uplink;
    let mut line = format!("{nic} is a port of {bridge} already, which has its addresses");
    let filter = IngressFilter::new(nic, bridge);
    if uplink.datapath == Datapath::Netdev && !filter.is_accepting(Accepting::Bridge)? {
        filter.set(Accepting::Bridge)?;
        line += "; its ingress filter was made again";
    }
    Ok(line)
}

/// What the steps of one run pass on to each other.
struct Progress {
    live: Vec<Live>,
    switch: OvsDb,
    written: Option<PendingChange>,
}

/// Executes a step for all uplinks.
fn execute(run: &mut Run<'_>, step: Step, progress: &mut Progress) -> Result<()> {
    let Progress { live, switch, written } = progress;
    let deadline = run.deadline;
    let wanted: Vec<BridgeSpec> = live.iter().map(|one| one.spec.clone()).collect();
    match step {
        Step::Journal => {
            run.arm()?;
            run.each_manager(|hands, all| hands.prepare(all));
            Ok(())
        }
        Step::BridgeTx => {
            *written = Some(switch.make_bridges(&wanted, deadline)?);
            Ok(())
        }
        Step::Bridge => {
            if let Some(written) = written {
                switch.wait_for_devices(&wanted, written, deadline)?;
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
            *written = Some(switch.add_ports(&wanted, deadline)?);
            Ok(())
        }
        Step::Ofport => match written {
            Some(written) => switch.wait_for_ports(written, deadline),
            None => Ok(()),
        },
        Step::Verify => verify(run, live),
        Step::Commit => {
            run.each_manager(|hands, all| hands.complete(all));
            if run.journal.uplinks.iter().any(|uplink| !uplink.managers.is_empty()) {
                // A client that renewed its lease just before it was ended has put the address back on the NIC.
                live.iter_mut().try_for_each(|one| execute_one(run, Step::OldOff, one))?;
            }
            run.confirmed()?;
            commit(run, live)
        }
        _ => live.iter_mut().try_for_each(|one| execute_one(run, step, one)),
    }
}

/// The part of a step that is each uplink's own.
fn execute_one(run: &mut Run<'_>, step: Step, one: &mut Live) -> Result<()> {
    if step == Step::IngressFilter || (step == Step::Routes && one.filter.is_none()) {
        run.before = host::sockets::connections().unwrap_or_default();
    }
    let accept = |to| one.filter.as_ref().map_or(Ok(()), |filter| filter.set(to));
    let migration = Migration::new(&run.socket, &one.nic, &one.bridge);
    match step {
        Step::GuardB => accept(Accepting::Nic)?,
        Step::LinkUp => {
            let mut rows = DeviceRows::none(&one.bridge);
            settings::observe(&run.socket, &mut rows)?;
            let nic = run
                .journal
                .uplinks
                .get(one.number)
                .map(|uplink| uplink.rows.sysctls.clone())
                .unwrap_or_default();
            let values = settings::for_bridge(&nic, &rows.sysctls, one.spec.datapath);
            run.report.warnings.extend(settings::write(&one.bridge.name, &values));
            run.socket.apply(&link::set_up(one.bridge.index))?;
        }
        Step::Addresses => run.report.warnings.extend(migration.addresses()?),
        Step::Neighbours => {
            if let Some(uplink) = run.journal.uplinks.get(one.number) {
                one.answering = verify::replying_routers(&uplink.rows);
            }
            run.report.warnings.extend(migration.neighbours()?);
        }
        Step::Proven if run.options.probe => {
            let mut rows = run.journal.uplinks.get(one.number).map(|uplink| uplink.rows.clone());
            if rows.as_ref().is_none_or(|rows| rows.routers().is_empty()) {
                // In an interrupted takeover the bridge may have the routes.
                rows = Some(Network::moving(&run.socket)?.of(&one.bridge));
            }
            let rows = rows.unwrap_or_else(|| DeviceRows::none(&one.nic));
            verify::prove(&rows, &one.bridge, one.mac, run.deadline)?;
        }
        Step::IngressFilter => accept(Accepting::Bridge)?,
        Step::Routes => {
            let (refused, carried) = migration.move_routes_of()?;
            one.expected = carried;
            run.report.warnings.extend(refused);
        }
        Step::OldOff => {
            let (refused, late) = migration.remove_old_of()?;
            one.expected = migration::union(&one.expected, &late);
            run.report.warnings.extend(refused);
        }
        _ => {}
    }
    Ok(())
}

/// Writes the records of the takeover, then closes the journal.
fn commit(run: &mut Run<'_>, live: &[Live]) -> Result<()> {
    let folder = run.lock.folder();
    let kept = run.journal.taken().enumerate().map(|(number, taken)| {
        let earlier = folder.taken(&taken.uplink.bridge).ok().flatten();
        taken.again(earlier, live.iter().any(|one| one.number == number && one.ours))
    });
    let kept: Vec<_> = kept.collect();
    run.lock.commit(&mut run.journal, &kept)?;
    run.disarm();
    Ok(())
}

/// Waits until a device exists and has the MAC address.
fn device_with_mac(socket: &Socket, name: &str, mac: Mac, deadline: Instant) -> Result<Device> {
    loop {
        match link::named(socket, name)? {
            Some(link) if link.mac() == Some(mac) => return Ok(link.device()),
            _ if Instant::now() < deadline => std::thread::sleep(POLL),
            _ => {
                return Err(Error::failed(
                    format!("get {name} from ovs-vswitchd"),
                    "its device has not come up with the NIC's MAC address",
                    "the log of ovs-vswitchd says why",
                ));
            }
        }
    }
}

/// The bridges have what the NICs had, and work.
fn verify(run: &Run<'_>, live: &[Live]) -> Result<()> {
    let sampled = verify::Connections::before(&run.first, &run.before, live.iter().map(|one| &one.expected))?;
    for one in live {
        verify::carries(&run.socket, &one.expected)?;
        if run.options.probe {
            // All that the bridge carries: it may have had addresses and routes before.
            let rows = Network::moving(&run.socket)?.of(&one.bridge);
            verify::prove(&rows, &one.bridge, one.mac, run.deadline)?;
        }
        verify::still_reply(&one.answering, &one.bridge, run.deadline)?;
    }
    sampled.progress(run.deadline)?;
    match &run.options.verify_cmd {
        Some(line) => verify::run_command(line, run.deadline),
        None => Ok(()),
    }
}
