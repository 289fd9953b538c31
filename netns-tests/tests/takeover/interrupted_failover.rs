//! The helper killed during a switchover of its own, after each part of it; its successor goes on from what it finds.

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Load, Meter, meter::Kind, switch::Daemon};

use crate::commands_during_failover::is_on_the_nic;
use crate::fixture::is_on_the_bridge;
use crate::survival::{Survival, helper_log};

/// The parts of a switchover.
const PARTS: [&str; 4] = ["prepare", "routes", "ingress-filter", "old-off"];

/// Whether the switch runs when the successor starts.
#[derive(Debug, Clone, Copy)]
enum Found {
    Dead,
    Alive,
}

/// Killed after a part of the switchover to the NIC, or back; the successor completes it, and no connection dies.
fn killed_after(way: &str, part: &str, found: Found) -> Result<()> {
    let mut survival = Survival::set_up(&[])?;
    if let Some(helper) = survival.helper.take() {
        helper.terminate()?;
    }
    let site = &survival.site;
    let meter = Meter::start(site, &Load::of(Kind::Tcp).slowed(2))?;
    let helper = site.launch_helper(&[], &format!("{way}-{part}:kill"))?;
    site.wait_until_ready()?;
    site.kill(Daemon::Switch)?;
    if way == "to-bridge" {
        site.wait_until_reachable()?;
        site.restart_daemons()?;
    }
    helper.wait_until_ended()?;
    match found {
        Found::Dead if site.switch().is_up(Daemon::Switch)? => site.kill(Daemon::Switch)?,
        Found::Dead => {}
        Found::Alive => site.restart_daemons()?,
    }
    let more = ["-vuplink:file:dbg"];
    let successor = site.launch_helper(&more, "")?;
    let log = || helper_log(site);
    if matches!(found, Found::Dead) {
        site.wait_until_reachable().context("with the switch dead").with_context(log)?;
        is_on_the_nic(site, &survival.before).context("with the switch dead").with_context(log)?;
        meter.wait_until_all_move().context("with the switch dead").with_context(log)?;
        site.restart_daemons()?;
    }
    is_on_the_bridge(site, &survival.before).with_context(log)?;
    site.wait_until_reachable().with_context(log)?;
    site.wait_until_ready()?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    survival.helper = Some(successor);
    survival.ends_well()
}

fn every_part(way: &str, found: Found) -> Result<()> {
    for part in PARTS {
        killed_after(way, part, found).with_context(|| format!("killed after {way}-{part}, {found:?}"))?;
    }
    Ok(())
}

#[test]
fn to_the_nic_and_the_switch_stays_dead() -> Result<()> {
    every_part("to-nic", Found::Dead)
}

#[test]
fn to_the_nic_and_the_switch_comes_back() -> Result<()> {
    every_part("to-nic", Found::Alive)
}

#[test]
fn to_the_bridge_and_the_switch_lives() -> Result<()> {
    every_part("to-bridge", Found::Alive)
}

#[test]
fn to_the_bridge_and_the_switch_dies_again() -> Result<()> {
    every_part("to-bridge", Found::Dead)
}
