//! bridge-to-nics.

use std::time::Instant;

use super::*;
use crate::uplink::steps::{CLEAR, Homeward, TO_NIC};
use crate::uplink::undo::Home;

/// Moves what each bridge carries back to its NIC, and removes the bridge.
pub fn bridge_to_nics(bridges: &[String], options: &Options) -> Result<Report> {
    let started = Instant::now();
    let (mut run, seen, network) = Run::new(options, started)?;
    run.journal.direction = Direction::Back;
    for bridge in bridges {
        let uplink = look(&run, &seen, &network, bridge)?;
        run.journal.uplinks.push(uplink);
    }
    run.arm()?;
    if let Err(error) = run.done("journal") {
        return Err(run.undo(error));
    }
    let mut troubles = Vec::new();
    let journal = run.journal.clone();
    let mut home = Home::of(&journal)?;
    home.all(&TO_NIC, &mut troubles);
    home.all(&CLEAR, &mut troubles);
    run.report.warnings.append(&mut troubles);
    let pending = home.pending;
    for step in TO_NIC.iter().chain(&CLEAR) {
        let _: &Homeward = step;
    }
    if pending {
        run.close(State::UndoneOvsdbPending)?;
    } else {
        for uplink in &journal.uplinks {
            run.lock.forget(&uplink.bridge)?;
        }
        run.close(State::Committed)?;
    }
    run.done("commit")?;
    let took = run.started.elapsed().as_millis();
    for uplink in &journal.uplinks {
        let (nic, bridge) = (&uplink.nic.name, &uplink.bridge);
        run.report
            .lines
            .push(format!("{nic} has its addresses and routes again, {bridge} is gone ({took} ms)"));
    }
    Ok(run.report)
}

fn look(run: &Run<'_>, seen: &Seen, network: &Network, bridge: &str) -> Result<Uplink> {
    let taken = run.lock.folder().taken(bridge)?;
    let found = seen.bridge(bridge);
    let Some(nic) = taken
        .as_ref()
        .map(|taken| taken.uplink.nic.name.clone())
        .or_else(|| bridge.strip_prefix("br").map(str::to_owned))
        .filter(|nic| network.link(nic).is_some())
    else {
        return Err(Error::refused(
            format!("{bridge} is no bridge that a NIC of this node was taken onto"),
            "`ovs-vsctl list-br` lists the bridges; that of eth0 is breth0",
        ));
    };
    if found.is_none() {
        return Err(Error::refused(
            format!("there is no bridge {bridge}"),
            "`ovs-vsctl list-br` lists the bridges",
        ));
    }
    let Some(link) = network.link(&nic) else {
        return Err(Error::refused(format!("there is no interface {nic}"), "`ip -br link` lists them"));
    };
    let mut rows = network.of(&link.device());
    settings::observe(&run.socket, &mut rows)?;
    let mut held = Held::default();
    if let Some(taken) = taken {
        let was = taken.uplink.rows;
        rows = DeviceRows { qdisc: was.qdisc, sysctls: was.sysctls, gro: was.gro, lro: was.lro, ..rows };
        held = taken.uplink.held;
    }
    let bridge_rows = network.link(bridge).map(|link| network.of(&link.device()));
    Ok(Uplink {
        nic: Nic {
            index: link.index(),
            name: nic.clone(),
            mac: link.mac().map(mac_text).unwrap_or_default(),
            driver: None,
        },
        bridge: bridge.to_owned(),
        datapath: seen.datapath(bridge, None)?,
        rows,
        bridge_rows,
        held,
        guard: Ears::table(bridge),
        managers: Vec::new(),
    })
}
