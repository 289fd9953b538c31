//! A run that waits for the operator's confirmation, beside a helper that keeps management alive: only the run moves management.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{RunningProgram, wait_until};
use netns_tests::takeover::{Load, Meter, Site, State, meter::Kind, product::outcome, switch::Daemon};

use nix::sys::signal::Signal;

use crate::commands_during_failover::{is_on_the_nic, stays_on_the_nic};
use crate::fixture::{ATTACH, Fixture, is_on_the_bridge, stays_on_the_bridge};
use crate::recovery::bridge_in_the_database;
use crate::survival::{Survival, helper_log};

/// Starts a run and returns when it waits for confirmation.
fn waits(site: &Site, line: &str) -> Result<RunningProgram> {
    let log = site.dir().join("confirm.out");
    let held = site.util(line)?.hold(&log, &site.register())?;
    wait_until("the run to wait", || {
        Ok(fs::read_to_string(&log)?.contains("verified; run `ovn-k8s-util confirm`"))
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(held)
}

fn ends(mut held: RunningProgram) -> Result<()> {
    wait_until("the run to end", || Ok(!held.is_alive()?))
}

/// What the helper says of management.
fn management(site: &Site) -> Result<String> {
    let text = site
        .program("ovs-appctl")
        .args(["-t", &format!("{}/ovn-k8s-gateway-helper.{}.ctl", site.dir().display(), helper_id(site)?)])
        .arg("status")
        .run()?;
    let line = text.lines().find(|line| line.trim_start().starts_with("management")).unwrap_or_default();
    Ok(line.to_owned())
}

fn helper_id(site: &Site) -> Result<u32> {
    let text = fs::read_to_string(site.dir().join("ovn-k8s-gateway-helper.pid"))?;
    Ok(text.trim().parse()?)
}

/// While attaching the switch dies: the run gives up at once, and the helper keeps its hands off before and after.
#[test]
fn the_switch_dies_on_the_way_there() -> Result<()> {
    let site = Site::usual()?;
    bridge_in_the_database(&site, true)?;
    let before = State::of(&site)?;
    let helper = site.start_helper(&["-vuplink:file:dbg"])?;
    let log = || helper_log(&site);
    let meter = Meter::start(&site, &Load::of(Kind::Tcp).slowed(2))?;
    let held = waits(&site, "nics-to-bridge --confirm=3600 eth0")?;
    is_on_the_bridge(&site, &before)?;
    stays_on_the_bridge(&site, &before, Duration::from_millis(1200)).context("while it waits")?;
    site.kill(Daemon::Switch)?;
    site.wait_until_reachable().context("with the switch dead").with_context(log)?;
    ends(held)?;
    is_on_the_nic(&site, &before).with_context(log)?;
    ensure!(site.journal_state()? != "open");
    let said = fs::read_to_string(site.dir().join("ovn-k8s-gateway-helper.log"))?;
    ensure!(!said.contains("management is on the NIC"), "the helper turned it: {said}");
    site.restart_daemons()?;
    stays_on_the_nic(&site, &before, Duration::from_millis(1500))
        .context("with the switch back")
        .with_context(log)?;
    let says = management(&site)?;
    ensure!(says.contains("failover inactive"), "{says}");
    site.wait_until_reachable()?;
    meter.wait_until_all_move()?;
    // And once more, with confirmation.
    let held = waits(&site, "nics-to-bridge --confirm=3600 eth0")?;
    wait_until("`confirm` to be taken", || Ok(outcome(site.util("confirm")?)?.ok))?;
    ends(held)?;
    is_on_the_bridge(&site, &before).with_context(log)?;
    wait_until("failover to be active", || Ok(management(&site)?.contains("on breth0")))?;
    site.kill(Daemon::Switch)?;
    site.wait_until_reachable().context("kept").with_context(log)?;
    site.restart_daemons()?;
    is_on_the_bridge(&site, &before).with_context(log)?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    helper.terminate()
}

/// The switch is stopped while a run waits for confirmation: it holds its device, and carries nothing.
#[test]
fn the_switch_is_stopped_on_the_way_there() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let held = waits(site, "nics-to-bridge --confirm=3600 eth0")?;
    stays_on_the_bridge(site, &fixture.before, Duration::from_millis(2500))?;
    site.switch().signal(Daemon::Switch, Signal::SIGSTOP)?;
    let outcome = site.wait_until_reachable().and_then(|()| ends(held));
    site.switch().signal(Daemon::Switch, Signal::SIGCONT)?;
    outcome.context("with the switch stopped")?;
    site.run("recover")?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// While detaching management waits on the NIC, and the helper does not take it onto the bridge; nobody confirms, and the
/// switch has died meanwhile: it stays on the NIC, and the helper brings it back when there is a switch.
#[test]
fn the_switch_dies_on_the_way_back() -> Result<()> {
    let survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    let site = &survival.site;
    let log = || helper_log(site);
    let meter = Meter::start(site, &Load::of(Kind::Tcp).slowed(2))?;
    let held = waits(site, "bridge-to-nics --force --confirm=4 breth0")?;
    stays_on_the_nic(site, &survival.before, Duration::from_millis(1000))
        .context("while it waits")
        .with_context(log)?;
    site.kill(Daemon::Switch)?;
    ends(held)?;
    is_on_the_nic(site, &survival.before).context("nobody said yes").with_context(log)?;
    site.wait_until_reachable().with_context(log)?;
    site.restart_daemons()?;
    is_on_the_bridge(site, &survival.before).with_context(log)?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// The same with the switch alive: nobody confirms, and the run itself puts it back.
#[test]
fn nobody_says_yes_on_the_way_back() -> Result<()> {
    let survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    let site = &survival.site;
    let log = || helper_log(site);
    let held = waits(site, "bridge-to-nics --force --confirm=2 breth0")?;
    ends(held)?;
    is_on_the_bridge(site, &survival.before).with_context(log)?;
    site.run(ATTACH)?.expect_ok()?;
    survival.ends_well()
}
