//! nics-to-bridge.

use std::time::Instant;

use host::ears::Listening;
use host::rtnl::link;

use super::*;
use crate::uplink::moves;
use crate::uplink::steps::{Step, forwards};
use crate::uplink::switch::Written;
use crate::uplink::turn::Way;
use crate::uplink::verify;

/// One uplink under way.
struct Live {
    wanted: Wanted,
    mac: [u8; 6],
    nic: Device,
    /// Its number is 0 until it is there.
    bridge: Device,
    /// None on the kernel datapath.
    ears: Option<Ears>,
    /// What the bridge has to carry in the end.
    expected: DeviceRows,
    /// Routers that answered a ping before.
    answering: Vec<std::net::IpAddr>,
}

/// Makes a bridge of each NIC and moves what the NIC carries onto it.
pub fn nics_to_bridge(nics: &[String], options: &Options) -> Result<Report> {
    let started = Instant::now();
    let (mut run, seen, network) = Run::new(options, started)?;
    seen.usable()?;
    let mut live = Vec::new();
    for nic in nics {
        if let Some(one) = look(&mut run, &seen, &network, nic)? {
            live.push(one);
        }
    }
    if live.is_empty() {
        return Ok(run.report);
    }
    let datapath = live.first().map_or(Datapath::Netdev, |one| one.wanted.datapath);
    if live.iter().any(|one| one.wanted.datapath != datapath) {
        return Err(Error::refused(
            "the bridges are of different datapaths",
            "take the NICs over one by one, or name one by --datapath-type",
        ));
    }
    let mut written = None;
    for &step in forwards(datapath) {
        let outcome = act(&mut run, step, &mut live, &mut written).and_then(|()| run.done(step.name()));
        if let Err(error) = outcome {
            // Nothing was written before the journal was.
            return Err(
                if step == Step::Journal && run.lock.folder().journal()?.as_ref() != Some(&run.journal) {
                    error
                } else {
                    run.undo(error)
                },
            );
        }
    }
    let took = run.started.elapsed().as_millis();
    for one in &live {
        let (nic, bridge) = (&one.nic.name, &one.bridge.name);
        run.report.lines.push(format!(
            "{nic} is a port of {bridge}, and {bridge} has its addresses and routes ({took} ms)"
        ));
    }
    Ok(run.report)
}

/// What is found of a NIC, into the journal; `None` when there is nothing to do.
fn look(run: &mut Run<'_>, seen: &Seen, network: &Network, nic: &str) -> Result<Option<Live>> {
    let bridge = bridge_of(nic);
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
    let is_there = seen.bridge_of(nic).is_some();
    if is_there
        && rows.addresses.is_empty()
        && bridge_rows.as_ref().is_some_and(|rows| !rows.addresses.is_empty())
    {
        run.report.lines.push(format!(
            "{nic} is a port of {bridge} already, and {bridge} has the addresses: nothing to do"
        ));
        return Ok(None);
    }
    let wanted =
        Wanted { bridge: bridge.clone(), nic: nic.to_owned(), mac: mac_text(mac), mtu: link.mtu(), datapath };
    let guard = Ears::table(&bridge);
    let ears = (datapath == Datapath::Netdev).then(|| Ears::new(nic, &bridge));
    run.journal.uplinks.push(Uplink {
        nic: Nic { index: link.index(), name: nic.to_owned(), mac: mac_text(mac), driver: None },
        bridge: bridge.clone(),
        datapath,
        rows: rows.clone(),
        bridge_rows,
        held: seen.held(&bridge, nic),
        guard,
        managers: Vec::new(),
    });
    let bridge = Device { index: 0, name: bridge };
    let expected = DeviceRows::none(&bridge);
    let nic = link.device();
    Ok(Some(Live { wanted, mac, nic, bridge, ears, expected, answering: Vec::new() }))
}

fn act(run: &mut Run<'_>, step: Step, live: &mut [Live], written: &mut Option<Written>) -> Result<()> {
    let wanted: Vec<Wanted> = live.iter().map(|one| one.wanted.clone()).collect();
    match step {
        Step::Journal => run.arm(),
        Step::BridgeTx => {
            *written = Some(run.switch.make_bridges(&wanted, run.deadline)?);
            Ok(())
        }
        Step::Bridge => {
            if let Some(written) = written {
                run.switch.wait_for_devices(&wanted, written, run.deadline)?;
            }
            for one in live {
                one.bridge = device_with_mac(&run.socket, &one.bridge.name, one.mac, run.deadline)?;
            }
            Ok(())
        }
        Step::PortTx => {
            *written = Some(run.switch.add_ports(&wanted, run.deadline)?);
            Ok(())
        }
        Step::Ofport => match written {
            Some(written) => run.switch.wait_for_ports(written, run.deadline),
            None => Ok(()),
        },
        Step::Commit => {
            run.confirmed()?;
            run.close(State::Committed)
        }
        Step::Verify => verify(run, live),
        _ => live.iter_mut().try_for_each(|one| act_on(run, step, one)),
    }
}

/// The part of a step that is each uplink's own.
fn act_on(run: &mut Run<'_>, step: Step, one: &mut Live) -> Result<()> {
    let listen = |to| one.ears.as_ref().map_or(Ok(()), |ears| ears.set(to));
    let way = Way::new(&run.socket, &one.nic, &one.bridge);
    match step {
        Step::GuardB => listen(Listening::Nic)?,
        Step::LinkUp => {
            let mut rows = DeviceRows::none(&one.bridge);
            settings::observe(&run.socket, &mut rows)?;
            let was = run.journal.uplinks.iter().find(|uplink| uplink.bridge == one.bridge.name);
            let nic = was.map(|uplink| uplink.rows.sysctls.clone()).unwrap_or_default();
            let values = settings::for_bridge(&nic, &rows.sysctls, one.wanted.datapath);
            run.report.warnings.extend(settings::write(&one.bridge.name, &values));
            run.socket.apply(&link::set_up(one.bridge.index))?;
        }
        Step::Addresses => run.report.warnings.extend(way.addresses()?),
        Step::Neighbours => {
            if let Some(was) = run.journal.uplinks.iter().find(|uplink| uplink.bridge == one.bridge.name) {
                one.answering = verify::answering(&was.rows);
            }
            run.report.warnings.extend(way.neighbours()?);
        }
        Step::Proven if run.options.probe => {
            let nic = run.journal.uplinks.iter().find(|uplink| uplink.bridge == one.bridge.name);
            if let Some(uplink) = nic {
                verify::prove(&uplink.rows, &one.bridge, one.mac, run.deadline)?;
            }
        }
        Step::Ears => listen(Listening::Bridge)?,
        Step::Routes => {
            one.expected = expected(&run.socket, one)?;
            run.report.warnings.extend(way.mouth()?);
        }
        Step::OldOff => {
            let more = expected(&run.socket, one)?;
            one.expected = moves::union(&one.expected, &more);
            run.report.warnings.extend(way.old_off()?);
        }
        _ => {}
    }
    Ok(())
}

/// All is as it was, on the bridges, and works.
fn verify(run: &Run<'_>, live: &[Live]) -> Result<()> {
    for one in live {
        verify::carries(&run.socket, &one.expected)?;
        if run.options.probe {
            verify::prove(&one.expected, &one.bridge, one.mac, run.deadline)?;
        }
        verify::still_answer(&one.answering, &one.bridge, run.deadline)?;
    }
    match &run.options.verify_cmd {
        Some(line) => verify::run_command(line, run.deadline),
        None => Ok(()),
    }
}

/// What the NIC carries at this moment, as the bridge's rows.
fn expected(socket: &Socket, one: &Live) -> Result<DeviceRows> {
    let rows = Network::moving(socket)?.of(&one.nic);
    let way = host::rtnl::Move { from: one.nic.clone(), to: one.bridge.clone() };
    Ok(moves::moved(&rows, &way))
}
