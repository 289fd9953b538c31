//! What an operator does while management is on the NIC because the switch is dead: the commands that turn it themselves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{holds_for, wait_until};
use netns_tests::takeover::{
    Load, Meter, Site, State,
    nic::{BRIDGE, NIC},
    state::MOVED,
    switch::Daemon,
};
use nix::sys::signal::Signal;

use crate::fixture::{ATTACH, is_on_the_bridge};
use crate::survival::{Survival, helper_log};

/// Everything the NIC had is on it again, and nothing is on the bridge, if there is one.
pub fn is_on_the_nic(site: &Site, before: &State) -> Result<()> {
    wait_until("everything to be on the NIC", || {
        let now = State::of(site)?;
        now.about(NIC, MOVED).expect(&before.about(NIC, MOVED)).context("what the NIC has")?;
        now.about(BRIDGE, MOVED)
            .expect(&now.about("no such device", MOVED))
            .context("what the bridge has")?;
        Ok(true)
    })
}

/// Everything the NIC had is on it, and stays there for a while.
pub fn stays_on_the_nic(site: &Site, before: &State, time: Duration) -> Result<()> {
    is_on_the_nic(site, before)?;
    let expected = before.about(NIC, MOVED);
    holds_for("management on the NIC", time, || State::of(site)?.about(NIC, MOVED).expect(&expected))?;
    is_on_the_nic(site, before)
}

/// A failover under traffic, a deed in it, the switch back, and what must be so then. No connection dies over it.
fn meanwhile(
    end: fn(&Site) -> Result<()>,
    deed: impl FnOnce(&Survival) -> Result<()>,
    begin: fn(&Site) -> Result<()>,
    then: impl FnOnce(&Survival) -> Result<()>,
) -> Result<()> {
    let survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    let site = &survival.site;
    let log = || helper_log(site);
    let meter = Meter::start(site, &Load::full().slowed(4))?;
    end(site)?;
    site.wait_until_reachable().context("after the switch has gone").with_context(log)?;
    deed(&survival).with_context(log)?;
    site.wait_until_reachable().context("after the deed").with_context(log)?;
    meter.wait_until_all_move().context("after the deed").with_context(log)?;
    begin(site)?;
    then(&survival).with_context(log)?;
    site.wait_until_reachable().with_context(log)?;
    meter.wait_until_all_move().with_context(log)?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    Ok(())
}

fn kill_switch(site: &Site) -> Result<()> {
    site.kill(Daemon::Switch)
}

fn kill_both(site: &Site) -> Result<()> {
    site.kill(Daemon::Switch)?;
    site.kill(Daemon::Database)
}

fn restart(site: &Site) -> Result<()> {
    site.restart_daemons()
}

fn stop_switch(site: &Site) -> Result<()> {
    site.switch().signal(Daemon::Switch, Signal::SIGSTOP)
}

fn go_on(site: &Site) -> Result<()> {
    site.switch().signal(Daemon::Switch, Signal::SIGCONT)
}

/// The NIC leaves the bridge for good during a failover.
fn back(survival: &Survival) -> Result<()> {
    let site = &survival.site;
    site.run("bridge-to-nics --force breth0")?.expect_ok()?;
    is_on_the_nic(site, &survival.before)
}

/// With the switch back, nobody takes it onto the bridge again.
fn remains_detached(survival: &Survival) -> Result<()> {
    let site = &survival.site;
    for pause in [1000, 500] {
        stays_on_the_nic(site, &survival.before, Duration::from_millis(pause))?;
        // Where the database was away, the bridge's row is still there.
        site.run("recover")?.expect_ok()?;
    }
    is_on_the_nic(site, &survival.before)?;
    let tables = site.program("nft").line("list tables").run()?;
    ensure!(!tables.contains("ovn_k8s_breth0"), "{tables}");
    ensure!(!site.state_dir().join("uplink/taken-breth0.json").exists(), "it is still on record");
    Ok(())
}

fn returns(survival: &Survival) -> Result<()> {
    is_on_the_bridge(&survival.site, &survival.before)
}

#[test]
fn back_while_the_switch_is_dead() -> Result<()> {
    meanwhile(kill_switch, back, restart, remains_detached)
}

#[test]
fn back_while_both_are_dead() -> Result<()> {
    meanwhile(kill_both, back, restart, remains_detached)
}

#[test]
fn back_while_the_switch_is_stopped() -> Result<()> {
    meanwhile(stop_switch, back, go_on, remains_detached)
}

/// It is refused in a word, and nothing is changed.
fn there_again(survival: &Survival) -> Result<()> {
    let site = &survival.site;
    let before = State::of(site)?;
    let outcome = site.run(ATTACH)?;
    ensure!(!outcome.ok, "{outcome:?}");
    // One that began and was undone took the ingress filter with it: failover makes it again.
    site.wait_for_state(&before).with_context(|| format!("{outcome:?}"))
}

#[test]
fn there_while_the_switch_is_dead() -> Result<()> {
    meanwhile(kill_switch, there_again, restart, returns)
}

#[test]
fn there_while_both_are_dead() -> Result<()> {
    meanwhile(kill_both, there_again, restart, returns)
}

#[test]
fn there_while_the_switch_is_stopped() -> Result<()> {
    meanwhile(stop_switch, there_again, go_on, returns)
}

fn settled(survival: &Survival) -> Result<()> {
    let site = &survival.site;
    let before = State::of(site)?;
    let outcome = site.run("recover")?;
    site.wait_for_state(&before).with_context(|| format!("{outcome:?}"))
}

#[test]
fn settle_while_the_switch_is_dead() -> Result<()> {
    meanwhile(kill_switch, settled, restart, returns)
}

#[test]
fn settle_while_the_switch_is_stopped() -> Result<()> {
    meanwhile(stop_switch, settled, go_on, returns)
}

/// The commands and failover at once, right when the switch returns: one after the other, in either order.
#[test]
fn there_and_settle_when_the_switch_returns() -> Result<()> {
    for command in [ATTACH, "recover"] {
        meanwhile(
            kill_switch,
            |_| Ok(()),
            restart,
            |survival| {
                for _ in 0..5 {
                    let outcome = survival.site.run(command)?;
                    ensure!(!outcome.said.contains("panicked"), "{outcome:?}");
                }
                returns(survival)?;
                survival.site.run(command)?.expect_ok().map(drop)
            },
        )?;
    }
    Ok(())
}
