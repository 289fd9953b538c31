//! `ovn-k8s doctor` on a real node: well, after a takeover, and with one part of it broken after the other.

use anyhow::{Context, Result, ensure};
use netns_tests::takeover::{Site, State, product::outcome, switch::Daemon};
use serde_json::Value;

use crate::bench::THERE;

/// The worst severity, and the names of the findings that bad.
fn doctor(site: &Site, devices: &str) -> Result<(String, Vec<String>)> {
    let database = format!("--db=unix:{}", site.switch().socket().display());
    let program = site.program(site.called("ovn-k8s-doctor")?);
    let state = format!("--state-dir={}", site.state_dir().display());
    let outcome = outcome(program.args([database, state, "-ojson".to_owned()]).line(devices))?;
    let report = outcome.json().with_context(|| outcome.said.clone())?;
    let worst = report["worst"].as_str().unwrap_or_default().to_owned();
    ensure!(outcome.ok == ["ok", "note"].contains(&worst.as_str()), "{worst} and {}", outcome.ok);
    let findings = report["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let bad = findings.iter().filter(|finding| text(finding, "severity") == worst);
    ensure!(
        worst == "ok" || bad.clone().all(|finding| !text(finding, "remedy").is_empty()),
        "a finding without a remedy: {report}"
    );
    let names = bad.map(|finding| text(finding, "name")).collect();
    Ok((worst, names))
}

fn finds(site: &Site, worst: &str, name: &str) -> Result<()> {
    let (found, names) = doctor(site, "")?;
    ensure!(found == worst && names.iter().any(|it| it == name), "{found}: {names:?}, not {worst}: {name}");
    Ok(())
}

#[test]
fn a_node_before_and_after() -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    let (worst, names) = doctor(&site, "eth0")?;
    ensure!(["ok", "note"].contains(&worst.as_str()), "a node that is well is not: {worst}: {names:?}");
    State::of(&site)?.expect(&before).context("the doctor changed something")?;

    site.run(THERE)?.expect_ok()?;
    // Nothing runs here that would take management to the NIC.
    let (worst, names) = doctor(&site, "")?;
    ensure!(
        (worst.as_str(), names.as_slice()) == ("warning", &["helper-away".to_owned()][..]),
        "{worst}: {names:?}"
    );

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
    site.run("settle")?.expect_ok()?;
    let (worst, names) = doctor(&site, "breth0")?;
    ensure!(worst != "error", "settled, and still: {names:?}");
    site.run("bridge-to-nics breth0")?.expect_ok()?;
    let (worst, names) = doctor(&site, "eth0")?;
    ensure!(["ok", "note"].contains(&worst.as_str()), "back, and not well: {worst}: {names:?}");
    Ok(())
}
