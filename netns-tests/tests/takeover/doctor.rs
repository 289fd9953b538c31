//! `ovn-k8s doctor` on a real node: well, after a takeover, and with one part of it broken after the other.

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::wait_until;
use netns_tests::takeover::{Site, State, product::outcome, switch::Daemon};
use serde_json::Value;

use crate::fixture::{ATTACH, DETACH};

mod dead_daemons;
mod flows;
mod leftovers;
mod ovn;
mod uplink;

/// What it said, once.
#[derive(Debug)]
struct Said {
    worst: String,
    findings: Vec<Finding>,
}

#[derive(Debug)]
struct Finding {
    severity: String,
    name: String,
    about: String,
    what: String,
    remedy: String,
}

impl Said {
    fn read(report: &Value) -> Self {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let findings = findings.iter().map(|finding| Finding {
            severity: text(finding, "severity"),
            name: text(finding, "name"),
            about: text(finding, "about"),
            what: text(finding, "what"),
            remedy: text(finding, "remedy"),
        });
        Self { worst: text(report, "worst"), findings: findings.collect() }
    }

    fn of(&self, severity: &str, name: &str) -> Option<&Finding> {
        self.findings.iter().find(|it| it.severity == severity && it.name == name)
    }

    fn expect(&self, severity: &str, name: &str) -> Result<&Finding> {
        self.of(severity, name).with_context(|| format!("no {severity} {name} in {self:#?}"))
    }

    /// Nothing above a note, but for these.
    fn expect_well(&self, but_for: &[&str]) -> Result<()> {
        let mut bad = self.findings.iter().filter(|it| ["warning", "error"].contains(&it.severity.as_str()));
        ensure!(bad.all(|it| but_for.contains(&it.name.as_str())), "it is well, and said: {self:#?}");
        Ok(())
    }
}

/// One run. Whatever is wrong has a remedy, and the exit code is by what is worst.
fn doctor(site: &Site, devices: &str) -> Result<Said> {
    let database = format!("--db=unix:{}", site.switch().socket().display());
    let program = site.program(site.called("ovn-k8s-doctor")?);
    let state = format!("--state-dir={}", site.state_dir().display());
    let outcome = outcome(program.args([database, state, "-ojson".to_owned()]).line(devices))?;
    let report = outcome.json().with_context(|| outcome.said.clone())?;
    let said = Said::read(&report);
    ensure!(outcome.ok == ["ok", "note"].contains(&said.worst.as_str()), "{} and {}", said.worst, outcome.ok);
    ensure!(
        said.findings.iter().all(|it| it.severity == "ok" || !it.remedy.is_empty()),
        "a finding without a remedy: {report}"
    );
    Ok(said)
}

/// It finds this, and nothing worse.
fn finds(site: &Site, worst: &str, name: &str) -> Result<()> {
    let said = doctor(site, "")?;
    said.expect(worst, name)?;
    ensure!(said.worst == worst, "not only {name}: {said:#?}");
    Ok(())
}

/// It finds this in the end: daemons take their time.
fn comes_to_find(site: &Site, severity: &str, name: &str) -> Result<Said> {
    let mut last = None;
    wait_until(&format!("the doctor to find {name}"), || {
        let said = doctor(site, "")?;
        said.expect(severity, name)?;
        last = Some(said);
        Ok(true)
    })?;
    last.context("nothing was said")
}

/// It has nothing to say in the end, but for these.
fn comes_to_be_well(site: &Site, but_for: &[&str]) -> Result<()> {
    wait_until("the doctor to find nothing", || doctor(site, "")?.expect_well(but_for).map(|()| true))
}

#[test]
fn a_node_before_and_after() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    doctor(&site, "eth0")?.expect_well(&[])?;
    State::of(&site)?.expect(&before).context("the doctor changed something")?;

    site.run(ATTACH)?.expect_ok()?;
    // Nothing runs here that would take management to the NIC.
    let said = doctor(&site, "")?;
    said.expect("warning", "helper-away")?;
    said.expect("note", "ovn")?;
    said.expect("ok", "flows")?;
    said.expect_well(&["helper-away"])?;

    let address = site.address().v4;
    site.ip(&format!("addr add {address}/24 dev eth0\n"))?;
    finds(&site, "warning", "address-twice")?;
    site.ip(&format!("addr del {address}/24 dev eth0\n"))?;

    site.kill(Daemon::Switch)?;
    finds(&site, "error", "switch-away")?;
    site.kill(Daemon::Database)?;
    finds(&site, "error", "switch-away")?;
    site.restart_daemons()?;

    site.node().nft("delete table netdev ovn_k8s_breth0\n")?;
    finds(&site, "error", "guard-missing")?;
    site.run("recover")?.expect_ok()?;
    doctor(&site, "breth0")?.expect_well(&["helper-away"])?;
    site.run(DETACH)?.expect_ok()?;
    doctor(&site, "eth0")?.expect_well(&[]).context("back")
}
