//! The rollback watchdog, from outside: whatever happens to the run, the takeover is undone.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::wait_until,
    takeover::{Site, product::outcome, switch::Daemon},
};
use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::Pid,
};

use crate::fixture::{ATTACH, DETACH, Fixture, stays_on_the_bridge};

/// A step at which everything has been turned and nothing is committed.
const TURNED: &str = "old-off";

fn pid(id: u32) -> Result<Pid> {
    Ok(Pid::from_raw(i32::try_from(id)?))
}

#[test]
fn the_whole_process_group_is_killed() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let halted = fixture.site.run_until_held(ATTACH, TURNED, "")?;
    killpg(pid(halted.id())?, Signal::SIGKILL)?;
    halted.kill()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

#[test]
fn the_terminal_is_closed() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let halted = fixture.site.run_until_held(ATTACH, "routes", "")?;
    // What a closed terminal sends to everybody in it.
    killpg(pid(halted.id())?, Signal::SIGHUP)?;
    fixture.is_unchanged()?;
    drop(halted);
    fixture.finish()
}

#[test]
fn the_one_at_work_is_stopped() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let ran =
        fixture.site.run_with_fault("nics-to-bridge --verify-timeout=2 eth0", &format!("{TURNED}:stop"))?;
    ensure!(!ran.ok, "a stopped one succeeded: {ran:?}");
    fixture.is_unchanged()?;
    fixture.finish()
}

#[test]
fn its_control_group_is_killed() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let group = Path::new("/sys/fs/cgroup").join(format!("lab-{}", std::process::id()));
    let made = site.node().enter(|| std::fs::create_dir(&group))?;
    if made.is_err() {
        println!("skipped: control groups cannot be made here");
        return Ok(());
    }
    let folder = group.display();
    let line = format!(
        "echo $$ > {folder}/cgroup.procs && exec {} nics-to-bridge --db=unix:{} --state-dir={} eth0",
        site.called("ovn-k8s-util")?.display(),
        site.switch().socket().display(),
        site.state_dir().display()
    );
    let log = site.dir().join("group.out");
    let held = site
        .program("sh")
        .env("OVN_K8S_FAULT", format!("{TURNED}:hold"))
        .args(["-c", &line])
        .hold(&log, &site.register())?;
    wait_until("it to be held", || {
        Ok(std::fs::read_to_string(&log).unwrap_or_default().contains(&format!("held {TURNED}")))
    })
    .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    site.node().enter(|| std::fs::write(group.join("cgroup.kill"), "1"))??;
    fixture.is_unchanged()?;
    drop(held);
    wait_until("the control group to be empty", || {
        Ok(site.node().enter(|| std::fs::remove_dir(&group))?.is_ok())
    })?;
    fixture.finish()
}

#[test]
fn after_commit_nobody_undoes() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    site.run("nics-to-bridge --verify-timeout=6 eth0")?.expect_ok()?;
    fixture.is_on_the_bridge()?;
    stays_on_the_bridge(site, &fixture.before, Duration::from_millis(6500))?;
    fixture.is_on_the_bridge()?;
    site.run(DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// A child of the run has inherited what it could, and lives on.
#[test]
fn a_child_holds_on_to_everything() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let mark = site.dir().join("verifying");
    let command = format!("touch {}; sleep 20", mark.display());
    let log = site.dir().join("child.out");
    let held = site.util(ATTACH)?.arg(format!("--verify-cmd={command}")).hold(&log, &site.register())?;
    wait_until("the check to run", || Ok(mark.exists()))
        .with_context(|| std::fs::read_to_string(&log).unwrap_or_default())?;
    held.kill()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// The rollback watchdog dies first: the run must not go on without.
#[test]
fn the_dead_man_dies() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let script = site.dir().join("kill-watchdog");
    let ids = site.dir().join("watchdog.ids");
    // The fault point's program replaces the run; the rollback watchdog's process id is found from outside.
    std::fs::write(
        &script,
        format!("#!/bin/sh\ntouch {0}.wanted\nwhile [ ! -e {0} ]; do sleep 0.01; done\n", ids.display()),
    )?;
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let outcome = std::thread::scope(|scope| {
        let run = scope.spawn(|| site.run_with_fault(ATTACH, &format!("addresses:run={}", script.display())));
        let done = (|| -> Result<()> {
            wait_until("the fault point", || Ok(Path::new(&format!("{}.wanted", ids.display())).exists()))?;
            let deadmen = site.processes("uplink-watchdog")?;
            ensure!(!deadmen.is_empty(), "no rollback watchdog was armed");
            for id in deadmen {
                kill(pid(id)?, Signal::SIGKILL)?;
            }
            Ok(())
        })();
        std::fs::write(&ids, "")?;
        let outcome = run.join().map_err(|_| anyhow::anyhow!("the run broke"))??;
        done.map(|()| outcome)
    })?;
    ensure!(!outcome.ok, "it went on without a rollback watchdog: {outcome:?}");
    fixture.is_unchanged()?;
    fixture.finish()
}

/// The operator's word is waited for, and its absence undoes.
#[test]
fn confirmation() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let silent = site.run("nics-to-bridge --confirm=1 eth0")?;
    ensure!(!silent.ok, "nobody said yes, and it was done: {silent:?}");
    fixture.is_unchanged()?;
    let log = site.dir().join("confirm.out");
    let mut held = site.util("nics-to-bridge --confirm=60 eth0")?.hold(&log, &site.register())?;
    wait_until("`confirm` to be taken", || {
        let said = outcome(site.util("confirm")?)?;
        Ok(said.ok)
    })?;
    wait_until("the run to end", || Ok(!held.is_alive()?))?;
    fixture.is_on_the_bridge()?;
    site.run(DETACH)?.expect_ok()?;
    fixture.is_unchanged()?;
    fixture.finish()
}

/// Nobody but the run itself may turn management while it waits: it does not wait on for a switch that has died.
#[test]
fn the_switch_dies_while_a_word_is_waited_for() -> Result<()> {
    let fixture = Fixture::set_up(Site::usual()?)?;
    let site = &fixture.site;
    let log = site.dir().join("confirm.out");
    let mut held = site.util("nics-to-bridge --confirm=3600 eth0")?.hold(&log, &site.register())?;
    wait_until("the run to wait", || {
        Ok(std::fs::read_to_string(&log)?.contains("verified; run `ovn-k8s-util confirm`"))
    })?;
    site.kill(Daemon::Switch)?;
    wait_until("the run to end", || Ok(!held.is_alive()?))?;
    site.restart_daemons()?;
    fixture.is_unchanged()?;
    fixture.finish()
}
