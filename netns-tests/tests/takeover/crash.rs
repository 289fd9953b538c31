//! Killed after every step, forwards and in undo; with the switch dead; with switch and database dead.
//!
//! Whatever was killed when: the node is reachable and reaches out in both families, its state is what it was, TCP
//! connections of before go on.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Site, State, nic::BRIDGE, switch::Daemon};

use crate::fixture::{ATTACH, DETACH, Fixture};

/// The steps forwards, in their order.
const STEPS: [&str; 15] = [
    "journal",
    "bridge-tx",
    "bridge",
    "guard-b",
    "link-up",
    "addresses",
    "neighbours",
    "port-tx",
    "ofport",
    "proven",
    "ears",
    "routes",
    "old-off",
    "verify",
    "commit",
];

/// The steps of undo.
const UNDO: [&str; 7] = ["u-addr", "u-routes", "u-ears", "u-old-off", "u-down", "u-ovsdb", "u-guard"];

/// Who else dies with the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AlsoDead {
    Nobody,
    Switch,
    SwitchAndDatabase,
}

impl AlsoDead {
    fn strike(self, site: &Site) -> Result<()> {
        if self != Self::Nobody {
            site.kill(Daemon::Switch)?;
        }
        if self == Self::SwitchAndDatabase {
            site.kill(Daemon::Database)?;
        }
        Ok(())
    }
}

/// Runs a case and says how it went, so that a failure far down the table is found by its line.
fn told(what: &str, case: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let outcome = case();
    println!("{:6} {:6.1?} {what}", if outcome.is_ok() { "ok" } else { "FAILED" }, start.elapsed());
    outcome.with_context(|| what.to_owned())
}

fn every_step(also: AlsoDead) -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    for step in STEPS {
        told(&format!("killed after {step}, also dead: {also:?}"), || forward(&fixture, step, also))
            .with_context(|| fixture.site.diagnosis())?;
    }
    fixture.finish()
}

/// One line of the table: killed after a step while attaching.
fn forward(fixture: &Fixture, step: &str, also: AlsoDead) -> Result<()> {
    let site = &fixture.site;
    let halted = site.run_until_held(ATTACH, step, "")?;
    if also == AlsoDead::Nobody {
        // Every state between two steps works.
        site.wait_until_reachable().context("while it was held")?;
    }
    also.strike(site)?;
    halted.kill()?;
    if step == "commit" {
        // Nothing to undo any more: management is where it was wanted, and works as soon as the switch does.
        site.restart_daemons()?;
        fixture.is_on_the_bridge()?;
        site.run(DETACH)?.expect_ok()?;
        return fixture.is_unchanged();
    }
    site.wait_until_reachable().context("after undo")?;
    site.wait_until_closed()?;
    if also != AlsoDead::Nobody {
        let settled = fixture.before.without(BRIDGE);
        netns_tests::lab::process::wait_until("the state of before, but for a dead bridge", || {
            State::of(site)?.without(BRIDGE).expect(&settled).map(|()| true)
        })?;
        site.wait_until_disarmed()?;
        site.restart_daemons()?;
        site.run("recover")?.expect_ok()?;
    }
    fixture.is_unchanged()
}

#[test]
fn killed_after_every_step() -> Result<()> {
    every_step(AlsoDead::Nobody)
}

#[test]
fn killed_after_every_step_with_the_switch_dead() -> Result<()> {
    every_step(AlsoDead::Switch)
}

#[test]
fn killed_after_every_step_with_both_daemons_dead() -> Result<()> {
    every_step(AlsoDead::SwitchAndDatabase)
}

/// A program for a fault point that kills the run, and others before it. The rollback watchdog goes the same way as the
/// one at work, under the same environment: it is let go by.
fn killer(site: &Site, also: AlsoDead) -> Result<std::path::PathBuf> {
    let path = site.dir().join("killer");
    let mut others = String::new();
    if also != AlsoDead::Nobody {
        others = format!("kill -9 {}", site.switch().id(Daemon::Switch)?);
    }
    std::fs::write(
        &path,
        format!("#!/bin/sh\ngrep -q watchdog /proc/$PPID/cmdline && exit\n{others}\nkill -9 $PPID\n"),
    )?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    Ok(path)
}

/// Detach, killed after each of its steps: the rollback watchdog finishes it, with the switch alive or dead.
#[test]
fn killed_on_the_way_back() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    for step in UNDO.iter().chain(&["journal", "verify"]) {
        for also in [AlsoDead::Nobody, AlsoDead::Switch] {
            told(&format!("on the way back killed after {step}, also dead: {also:?}"), || {
                site.run(ATTACH)?.expect_ok()?;
                let script = killer(site, also)?;
                let ran = site.run_with_fault(DETACH, &format!("{step}:run={}", script.display()))?;
                ensure!(!ran.ok, "it lived: {ran:?}");
                also.strike(site)?;
                site.wait_until_reachable().context("after the rollback watchdog's work")?;
                site.wait_until_closed()?;
                site.wait_until_disarmed()?;
                if also != AlsoDead::Nobody {
                    site.restart_daemons()?;
                    site.run("recover")?.expect_ok()?;
                }
                fixture.is_unchanged()
            })
            .with_context(|| site.diagnosis())?;
        }
    }
    fixture.finish()
}

/// Undo itself is killed after each of its steps; another undo finishes it.
#[test]
fn undo_is_killed_after_every_step() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    for step in UNDO {
        for from in ["neighbours", "old-off"] {
            told(&format!("killed after {from}, its undo after {step}"), || {
                let outcome = site.run_with_fault(ATTACH, &format!("{from}:kill,{step}:kill"))?;
                ensure!(!outcome.ok, "it lived: {outcome:?}");
                site.wait_until_disarmed()?;
                site.wait_until_reachable().context("between undo and undo")?;
                site.run("recover")?.expect_ok()?;
                fixture.is_unchanged()
            })
            .with_context(|| site.diagnosis())?;
        }
    }
    fixture.finish()
}

/// A step that fails: the run undoes, itself, and says so.
#[test]
fn every_step_fails() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    for step in STEPS.into_iter().filter(|step| *step != "commit") {
        told(&format!("failed after {step}"), || {
            let outcome = fixture.site.run_with_fault(ATTACH, &format!("{step}:fail"))?;
            ensure!(!outcome.ok && !outcome.said.trim().is_empty(), "{outcome:?}");
            fixture.is_unchanged()
        })
        .with_context(|| fixture.site.diagnosis())?;
    }
    fixture.finish()
}

/// Killed at any moment, inside of steps as well; while attaching and detaching.
#[test]
fn killed_at_any_moment() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    // How long it takes here and now.
    let start = Instant::now();
    site.run(ATTACH)?.expect_ok()?;
    let there = start.elapsed();
    let start = Instant::now();
    site.run(DETACH)?.expect_ok()?;
    let back = start.elapsed();
    const ROUNDS: u32 = 16;
    for round in 0..ROUNDS {
        for (line, takes) in [(ATTACH, there), (DETACH, back)] {
            if line == DETACH && !site.has_bridge(BRIDGE)? {
                site.run(ATTACH)?.expect_ok()?;
            }
            // One place after the other, from the start of the program to its end.
            let moment = takes * (2 * round + 1) / (2 * ROUNDS);
            told(&format!("`{line}` killed after {moment:.1?}"), || {
                let held =
                    site.util(line)?.own_group().hold(&site.dir().join("killed.out"), &site.register())?;
                std::thread::sleep(moment);
                held.kill()?;
                site.wait_until_reachable().context("after the rollback watchdog's work")?;
                site.wait_until_disarmed()?;
                if site.journal_state()? == "open" {
                    // Between the journal and the rollback watchdog: nothing is changed yet.
                    site.run("recover")?.expect_ok()?;
                }
                if site.has_bridge(BRIDGE)? {
                    // It had come to its end, or had not begun.
                    return fixture.is_on_the_bridge();
                }
                fixture.is_unchanged()
            })
            .with_context(|| site.diagnosis())?;
        }
    }
    if site.has_bridge(BRIDGE)? {
        site.run(DETACH)?.expect_ok()?;
    }
    fixture.is_unchanged()?;
    fixture.finish()
}
