//! Daemons that the doctor queries may be dead, stopped, or restarted.

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Site, product::outcome, switch::Daemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Said, comes_to_be_well, comes_to_find, doctor};
use crate::fixture::ATTACH;

fn signal(id: u32, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(id)?), signal).with_context(|| format!("signalling {id}"))
}

/// What it says while these processes are stopped.
fn while_stopped(site: &Site, ids: &[u32]) -> Result<Said> {
    ids.iter().try_for_each(|id| signal(*id, Signal::SIGSTOP))?;
    let said = doctor(site, "");
    ids.iter().try_for_each(|id| signal(*id, Signal::SIGCONT))?;
    said
}

#[test]
fn everybody_is_stopped() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let helper = site.start_helper(&[])?;
    let (database, switch) = (site.switch().id(Daemon::Database)?, site.switch().id(Daemon::Switch)?);

    while_stopped(&site, &[helper.id()])?.expect("warning", "helper-silent")?;
    // The helper ends with the word that it is on the NIC meanwhile, or is about to be.
    let said = while_stopped(&site, &[switch])?;
    let found = said.expect("error", "switch-silent")?;
    ensure!(found.remedy.contains(&format!("kill -CONT {switch}")), "{found:?}");
    let said = while_stopped(&site, &[database])?;
    let found = said.expect("error", "switch-away")?;
    ensure!(found.remedy.contains(&format!("kill -CONT {database}")), "{found:?}");
    let said = while_stopped(&site, &[helper.id(), switch, database])?;
    for (severity, name) in
        [("error", "switch-silent"), ("error", "switch-away"), ("warning", "helper-silent")]
    {
        said.expect(severity, name)?;
    }
    site.kill(Daemon::Switch)?;
    let said = comes_to_find(&site, "warning", "failed-over")?;
    said.expect("error", "switch-away")?;
    // Its pidfile stays, and names nobody.
    helper.kill()?;
    doctor(&site, "")?.expect("error", "helper-away").map(drop)
}

/// The driver was loaded again: a NIC of the same name, another device.
#[test]
fn the_nic_is_made_anew() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    site.unplug()?;
    doctor(&site, "")?.expect("error", "device-missing")?;
    site.plug()?;
    site.ip("link set eth0 up\n")?;
    let said = comes_to_find(&site, "error", "port-dead")?;
    let found = said.expect("error", "port-dead")?;
    ensure!(found.what.contains("interface index") && found.remedy.contains("recover"), "{found:?}");
    site.run("recover")?.expect_ok()?;
    comes_to_be_well(&site, &["helper-away"]).context("settled")
}

/// Without rights it says so, and nothing that it cannot know.
#[test]
fn without_root() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let _helper = site.start_helper(&[])?;
    let words = format!(
        "--reuid=65534 --regid=65534 --clear-groups {} --db=unix:{} --state-dir={} -ojson",
        site.called("ovn-k8s-doctor")?.display(),
        site.switch().socket().display(),
        site.state_dir().display()
    );
    let outcome = outcome(site.program("setpriv").line(&words))?;
    let said = Said::read(&outcome.json().with_context(|| outcome.said.clone())?);
    said.expect("warning", "not-root")?;
    ensure!(!outcome.said.contains("panicked"), "{}", outcome.said);
    Ok(())
}
