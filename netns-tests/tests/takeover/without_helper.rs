//! A node that is cut off after a takeover, with nobody who keeps its management: what its own commands do about it.

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Site, State, nic::BRIDGE, switch::Daemon};

use crate::fixture::{ATTACH, DETACH, Fixture, is_on_the_bridge};

/// `recover` turns management to the NIC while the switch is dead, and onto the bridge when it is back.
#[test]
fn settle_without_a_switch() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    site.run(ATTACH)?.expect_ok()?;
    for daemon in [Daemon::Switch, Daemon::Database] {
        site.kill(daemon)?;
    }
    ensure!(site.reach_once()? == [false; 4], "the way to the node is not cut");
    let said = site.run("recover")?.expect_ok()?;
    ensure!(said.printed.contains("ovs-vswitchd"), "{said:?}");
    site.wait_until_reachable()?;
    site.restart_daemons()?;
    site.wait_until_reachable()?;
    site.run("recover")?.expect_ok()?;
    fixture.is_on_the_bridge()?;
    site.run(DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// Detach needs no switch; what its database holds goes when it is there again.
#[test]
fn back_without_a_switch() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    site.run(ATTACH)?.expect_ok()?;
    for daemon in [Daemon::Switch, Daemon::Database] {
        site.kill(daemon)?;
    }
    site.run(DETACH)?.expect_ok()?;
    site.wait_until_reachable()?;
    site.restart_daemons()?;
    site.wait_until_reachable()?;
    site.run("recover")?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// Somebody deletes the bridge, and with its device everything that the node was reached by.
#[test]
fn the_bridge_is_deleted() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    site.run(ATTACH)?.expect_ok()?;
    site.vsctl(&format!("del-br {BRIDGE}"))?;
    ensure!(site.reach_once()? == [false; 4], "the way to the node is not cut");
    site.run("recover")?.expect_ok()?;
    site.wait_until_reachable()?;
    site.run(ATTACH)?.expect_ok()?;
    site.run(DETACH)?.expect_ok()?;
    site.wait_until_reachable()?;
    site.wait_for_state(&before)
}

/// Detach can wait for the operator's confirmation, too.
#[test]
fn back_unless_nobody_confirms() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    site.run(ATTACH)?.expect_ok()?;
    let silent = site.run("bridge-to-nics --confirm=1 breth0")?;
    ensure!(!silent.ok && silent.said.contains("not confirmed within"), "{silent:?}");
    fixture.is_on_the_bridge()?;
    site.run(DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// Management is on the NIC because the switch is dead, and goes with it: the new one gets what the old one had.
#[test]
fn the_nic_is_made_anew_without_a_switch() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    site.run(ATTACH)?.expect_ok()?;
    // A takeover of what is beside does not become all that is known of the NIC.
    site.ip("addr add 172.18.0.11/24 brd + dev eth0\n")?;
    site.run("recover")?.expect_ok()?;
    site.kill(Daemon::Switch)?;
    site.run("recover")?.expect_ok()?;
    site.wait_until_reachable()?;
    site.unplug()?;
    site.plug()?;
    let said = site.run("recover")?.expect_ok()?;
    site.wait_until_reachable().with_context(|| format!("on the new one: {said:?}"))?;
    site.run("recover")?;
    site.wait_until_reachable()?;
    site.restart_daemons()?;
    let said = site.run("recover")?.expect_ok()?;
    site.wait_until_reachable()?;
    is_on_the_bridge(&site, &before).with_context(|| format!("{said:?}"))
}
