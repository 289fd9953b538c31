//! What takeovers left: journals, records, guards, files.

use std::fs;

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Site, product::outcome, switch::Daemon};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{Said, comes_to_find, doctor, finds};
use crate::fixture::{ATTACH, DETACH};

/// The guard of a bridge that is not there.
fn stray_guard(site: &Site, bridge: &str) -> Result<()> {
    site.node().nft(format!(
        "table netdev ovn_k8s_{bridge} {{\n\
           comment \"the host hears a NIC or its bridge, not both (ovn-k8s)\"\n\
           chain at_nic {{ type filter hook ingress device \"eth0\" priority -500; policy accept;\n\
             counter drop\n }}\n}}\n"
    ))
}

#[test]
fn guards() -> Result<()> {
    let site = Site::usual()?;
    stray_guard(&site, "breth7")?;
    finds(&site, "error", "guard-left")?;
    site.node().nft("delete table netdev ovn_k8s_breth7\n")?;
    doctor(&site, "")?.expect_well(&[])?;
    site.run(ATTACH)?.expect_ok()?;
    stray_guard(&site, "breth7")?;
    doctor(&site, "")?.expect("error", "guard-twice").map(drop)
}

#[test]
fn the_bridge_is_deleted() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    site.vsctl("del-br breth0")?;
    let said = comes_to_find(&site, "error", "bridge-missing")?;
    ensure!(
        said.findings.iter().any(|it| it.about == "breth0" && it.remedy.contains("recover")),
        "{said:#?}"
    );
    Ok(())
}

/// Under way, then with nobody left at work.
#[test]
fn journals() -> Result<()> {
    let site = Site::usual()?;
    let halted = site.run_until_held(ATTACH, "routes", "")?;
    doctor(&site, "eth0")?.expect("note", "journal-open")?;
    for id in site.processes("uplink-watchdog")? {
        kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGKILL)?;
    }
    halted.kill()?;
    doctor(&site, "eth0")?.expect("error", "journal-open")?;
    site.run("recover")?.expect_ok()?;
    doctor(&site, "eth0")?.expect_well(&[])?;

    // Detach without a database, and what is left to do.
    site.run(ATTACH)?.expect_ok()?;
    for daemon in [Daemon::Switch, Daemon::Database] {
        site.kill(daemon)?;
    }
    site.run(DETACH)?.expect_ok()?;
    doctor(&site, "eth0")?.expect("warning", "journal-pending")?;
    site.restart_daemons()?;
    comes_to_find(&site, "warning", "journal-pending")?;
    site.run("recover")?.expect_ok()?;
    doctor(&site, "eth0")?.expect_well(&[])?;

    fs::write(site.journal_path(), "{\"version\":1,")?;
    doctor(&site, "eth0")?.expect("error", "journal-broken").map(drop)
}

#[test]
fn records_and_files() -> Result<()> {
    let site = Site::usual()?;
    // A folder of its own below /run: the machine's is not to be written to.
    let mark = "# Written by ovn-k8s-util (uplink takeover); removed by: ovn-k8s-util bridge-to-nics";
    let line = format!(
        "mount -t tmpfs lab /run && mkdir -p /run/systemd/network && \
         printf '{mark}\\n[Match]\\nName=eth0\\n\\n[Link]\\nUnmanaged=yes\\n' \
         > /run/systemd/network/00-ovn-k8s-eth0.network && \
         exec {} --db=unix:{} --state-dir={} -ojson",
        site.called("ovn-k8s-doctor")?.display(),
        site.switch().socket().display(),
        site.state_dir().display()
    );
    let run = || -> Result<Said> {
        let outcome = outcome(site.program("unshare").args(["-m", "sh", "-c", &line]))?;
        Ok(Said::read(&outcome.json().with_context(|| outcome.said.clone())?))
    };
    run()?.expect("warning", "handover-left")?;
    site.run(ATTACH)?.expect_ok()?;
    ensure!(run()?.of("warning", "handover-left").is_none(), "a file that is in use");
    let record = site.state_dir().join("uplink/taken-breth0.json");
    let text = fs::read_to_string(&record)?;
    fs::write(&record, text.get(..text.len() / 2).unwrap_or_default())?;
    doctor(&site, "")?.expect("warning", "record-broken").map(drop)
}
