//! The helper under fire: a switch that flaps, helpers that come and go, an operator who changes things in between. In the
//! end everything is on the bridge, the node is reachable, and nothing moves any more.

use std::{thread, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::takeover::{
    Load, Meter, Site, State,
    meter::Kind,
    nic::{BRIDGE, NIC},
    state::{MOVED, Subject},
    switch::Daemon,
};
use nix::sys::signal::Signal;

use crate::commands_during_failover::is_on_the_nic;
use crate::fixture::{ATTACH, is_on_the_bridge};
use crate::survival::{Survival, helper_log};

/// How often management has gone to the NIC.
fn failovers(site: &Site) -> Result<u64> {
    let page = site.helper_page("/metrics")?;
    let lines = page.lines().filter(|line| line.contains("failovers_total{"));
    let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    Ok(counts.sum::<f64>() as u64)
}

/// TCP goes on over a deed; after it everything is on the bridge, and stays there.
fn under_fire(deed: impl FnOnce(&mut Survival) -> Result<()>) -> Result<()> {
    let mut survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    let meter = Meter::start(&survival.site, &Load::of(Kind::Tcp).slowed(2))?;
    deed(&mut survival).with_context(|| helper_log(&survival.site))?;
    let site = &survival.site;
    let log = || helper_log(site);
    site.wait_until_reachable().with_context(log)?;
    comes_to_rest(&survival).with_context(log)?;
    meter.wait_until_all_move().with_context(log)?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// On the bridge, and still there a while later. A machine that is busy elsewhere may hear nothing for a quarter of a second
/// once; one that oscillates never comes to rest.
fn comes_to_rest(survival: &Survival) -> Result<()> {
    let site = &survival.site;
    for _ in 0..8 {
        is_on_the_bridge(site, &survival.before)?;
        let before = failovers(site)?;
        pause(2500);
        if failovers(site)? == before {
            return is_on_the_bridge(site, &survival.before).context("after a while");
        }
    }
    bail!("it leaves the bridge again and again")
}

fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}

#[test]
fn the_switch_flaps() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        for _ in 0..10 {
            site.kill(Daemon::Switch)?;
            site.restart_daemons()?;
            pause(200);
        }
        ensure!(failovers(site)? >= 1);
        Ok(())
    })
}

#[test]
fn the_switch_is_stopped_again_and_again() -> Result<()> {
    under_fire(|survival| {
        for round in 0..20 {
            survival.site.switch().signal(Daemon::Switch, Signal::SIGSTOP)?;
            pause(10 + 13 * (round % 7));
            survival.site.switch().signal(Daemon::Switch, Signal::SIGCONT)?;
            pause(5 + 29 * (round % 5));
        }
        Ok(())
    })
}

/// One helper after the other, whatever the switch does at that time.
#[test]
fn helpers_come_and_go() -> Result<()> {
    under_fire(|survival| {
        for round in 0..12 {
            if let Some(helper) = survival.helper.take() {
                if round % 2 == 0 { helper.kill()? } else { helper.terminate()? }
            }
            let site = &survival.site;
            match round % 4 {
                0 => site.kill(Daemon::Switch)?,
                2 => site.restart_daemons()?,
                _ => {}
            }
            survival.helper = Some(site.launch_helper(&["-vuplink:file:dbg"], "")?);
            pause(40 + 90 * (round % 5));
        }
        survival.site.restart_daemons()?;
        survival.site.wait_until_ready()
    })
}

#[test]
fn the_database_is_stopped_while_the_switch_dies() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.switch().signal(Daemon::Database, Signal::SIGSTOP)?;
        site.kill(Daemon::Switch)?;
        site.wait_until_reachable().context("with the database stopped")?;
        pause(500);
        site.switch().signal(Daemon::Database, Signal::SIGCONT)?;
        site.restart_daemons()
    })
}

#[test]
fn the_database_comes_last() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.kill(Daemon::Database)?;
        site.kill(Daemon::Switch)?;
        site.wait_until_reachable().context("with both dead")?;
        site.switch().launch(Daemon::Switch, site.node())?;
        pause(1500);
        site.wait_until_reachable().context("with a switch that has no database")?;
        site.restart_daemons()
    })
}

/// What is added on one device in a failover is on the bridge in the end, once.
fn added(lines: &str, subject: Subject, words: &[&str]) -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.kill(Daemon::Switch)?;
        site.wait_until_reachable()?;
        site.ip(lines)?;
        pause(300);
        site.wait_until_reachable().context("after the operator's deed")?;
        site.restart_daemons()?;
        netns_tests::lab::process::wait_until("the bridge to have what was added", || {
            let now = State::of(site)?;
            ensure!(now.about(BRIDGE, MOVED).says(subject, words), "{:?}", now.lines(words[0]));
            ensure!(!now.about(NIC, MOVED).says(subject, words), "{:?}", now.lines(words[0]));
            Ok(true)
        })?;
        // The rest is as ever without it.
        ensure!(failovers(site)? == 1, "{} failovers", failovers(site)?);
        site.ip(&lines.replace("add ", "del ").replace(" eth0", " breth0").replace(" nodad", ""))
    })
}

#[test]
fn an_address_is_added_on_the_nic() -> Result<()> {
    added("addr add 172.18.0.77/24 dev eth0\n", Subject::Address, &["172.18.0.77"])
}

#[test]
fn an_address_is_added_on_the_bridge() -> Result<()> {
    added("addr add 172.18.0.77/24 dev breth0\n", Subject::Address, &["172.18.0.77"])
}

#[test]
fn an_address_of_the_other_family_is_added_on_the_bridge() -> Result<()> {
    added("addr add fd00:18::77/64 dev breth0 nodad\n", Subject::Address, &["fd00:18::77"])
}

#[test]
fn a_route_is_added_on_the_bridge() -> Result<()> {
    added("route add 198.51.101.0/24 dev breth0\n", Subject::Route, &["198.51.101.0/24"])
}

#[test]
fn a_route_is_added_on_the_nic() -> Result<()> {
    added("route add 198.51.102.0/24 via 172.18.0.3 dev eth0\n", Subject::Route, &["198.51.102.0/24"])
}

/// The operator sets the NIC down while the switch is dead, and up again: its routes must not have been put there.
#[test]
fn the_nic_is_down_when_the_switch_dies() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.ip("link set eth0 down\n")?;
        site.kill(Daemon::Switch)?;
        pause(500);
        site.ip("link set eth0 up\n")?;
        site.wait_until_reachable().context("with the switch dead")?;
        site.restart_daemons()
    })
}

/// Whatever may befall a node, one thing after the other, by chance; then all is started that does not run.
#[test]
fn anything_goes() -> Result<()> {
    let seeds = std::env::var("LAB_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = seeds.map_or_else(|| vec![1, 2, 3], |seed| vec![seed]);
    for seed in seeds {
        chaos(seed, 25).with_context(|| format!("LAB_SEED={seed}"))?;
    }
    Ok(())
}

fn chaos(seed: u64, events: u32) -> Result<()> {
    under_fire(|survival| {
        let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        // Xorshift: the same events again for the same seed.
        let mut chance = |below: u64| {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            number % below
        };
        let (mut stopped, mut told) = (false, Vec::new());
        for _ in 0..events {
            let event = chance(12);
            told.push(event);
            befall(survival, event, &mut stopped).with_context(|| format!("after {told:?}"))?;
            pause(chance(250));
        }
        println!("seed {seed}: {told:?}");
        recover(survival, stopped).with_context(|| format!("after {told:?}"))
    })
}

fn befall(survival: &mut Survival, event: u64, stopped: &mut bool) -> Result<()> {
    let helper = ["-vuplink:file:dbg"];
    let site = &survival.site;
    let up = site.switch().is_up(Daemon::Switch)?;
    match event {
        0 if up => {
            *stopped = false;
            site.kill(Daemon::Switch)
        }
        1 if !up && site.switch().is_up(Daemon::Database)? => {
            site.switch().launch(Daemon::Switch, site.node())
        }
        2 if up => {
            *stopped = true;
            site.switch().signal(Daemon::Switch, Signal::SIGSTOP)
        }
        3 if up => {
            *stopped = false;
            site.switch().signal(Daemon::Switch, Signal::SIGCONT)
        }
        4 => match survival.helper.take() {
            Some(helper) => helper.kill(),
            None => {
                survival.helper = Some(site.launch_helper(&helper, "")?);
                Ok(())
            }
        },
        5 => site.node().nft("flush ruleset\n"),
        6 => {
            site.unplug()?;
            site.plug()
        }
        7 => site.program("ip").line("addr add 172.18.0.11/24 brd + dev eth0").outcome().map(drop),
        8 => site.run("recover").map(drop),
        9 => site.run(ATTACH).map(drop),
        10 if site.switch().is_up(Daemon::Database)? => site.kill(Daemon::Database),
        11 if !site.switch().is_up(Daemon::Database)? => site.switch().launch(Daemon::Database, site.node()),
        _ => Ok(()),
    }
}

/// Everything runs again, and is left alone.
fn recover(survival: &mut Survival, stopped: bool) -> Result<()> {
    let site = &survival.site;
    if stopped && site.switch().is_up(Daemon::Switch)? {
        site.switch().signal(Daemon::Switch, Signal::SIGCONT)?;
    }
    site.restart_daemons()?;
    if let Some(helper) = survival.helper.take() {
        helper.kill()?;
    }
    survival.helper = Some(site.start_helper(&["-vuplink:file:dbg"])?);
    Ok(())
}

/// Somebody takes the NIC off the bridge: its port is as good as a dead switch.
#[test]
fn the_port_is_deleted() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.vsctl("del-port breth0 eth0")?;
        site.wait_until_reachable().context("without the port")?;
        is_on_the_nic(site, &survival.before)?;
        pause(1500);
        is_on_the_nic(site, &survival.before)?;
        site.vsctl("add-port breth0 eth0")?;
        Ok(())
    })
}

/// The same, and `recover` adds it.
#[test]
fn the_port_is_deleted_and_settled() -> Result<()> {
    under_fire(|survival| {
        let site = &survival.site;
        site.vsctl("del-port breth0 eth0")?;
        site.wait_until_reachable().context("without the port")?;
        site.run("recover")?.expect_ok().map(drop)
    })
}

/// All three die, and the helper that is started again finds no database: it ends, but not before the node is reachable.
#[test]
fn a_helper_without_a_database() -> Result<()> {
    under_fire(|survival| {
        if let Some(helper) = survival.helper.take() {
            helper.kill()?;
        }
        let site = &survival.site;
        site.kill(Daemon::Switch)?;
        site.kill(Daemon::Database)?;
        ensure!(site.reach_once()? == [false; 4], "the way to the node is not cut");
        site.launch_helper(&[], "")?.wait_until_ended()?;
        site.wait_until_reachable().context("after a helper without a database")?;
        site.restart_daemons()?;
        survival.helper = Some(site.start_helper(&["-vuplink:file:dbg"])?);
        Ok(())
    })
}
