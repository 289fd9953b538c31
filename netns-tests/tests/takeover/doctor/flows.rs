//! The flows, which the doctor reads itself.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use netns_tests::takeover::Site;

use super::{Said, comes_to_be_well, comes_to_find, doctor};
use crate::fixture::ATTACH;

/// The helper's mark, and a flow with it that it never wrote.
const OURS: &str = "cookie=0x6f766e3800000000/0xffffffff00000000";
const IMITATION: &str = "cookie=0x6f766e3800000001,priority=5,dl_type=0x9999,actions=drop";

fn ofctl(site: &Site, words: &str) -> Result<String> {
    site.program("ovs-ofctl").arg("--timeout=30").line(words).run()
}

/// While somebody does this again and again.
fn while_somebody(site: &Site, words: &str, severity: &str, name: &str) -> Result<Said> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let fight = scope.spawn(|| -> Result<()> {
            while !done.load(Ordering::Relaxed) {
                ofctl(site, words)?;
                thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        });
        let said = comes_to_find(site, severity, name);
        done.store(true, Ordering::Relaxed);
        fight.join().map_err(|_| anyhow!("the one who fights broke"))??;
        said
    })
}

#[test]
fn beside_the_helper() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    let helper = site.start_helper(&[])?;
    comes_to_be_well(&site, &[]).context("with a helper")?;
    let said = doctor(&site, "")?;
    let flows = said.expect("ok", "flows")?;
    anyhow::ensure!(flows.what.contains("that the helper wants"), "{flows:?}");

    let del = format!("del-flows breth0 {OURS}");
    while_somebody(&site, &del, "error", "flows-only-normal")?;
    comes_to_be_well(&site, &[]).context("after all were deleted")?;
    while_somebody(&site, &format!("{del},table=1"), "error", "flows-missing")?;
    while_somebody(&site, &format!("{del},table=1"), "warning", "flows-fought")?;
    while_somebody(&site, &format!("add-flow breth0 {IMITATION}"), "warning", "flows-surplus")?;
    comes_to_be_well(&site, &[]).context("after the fights")?;

    let theirs = "add-flow breth0 cookie=0xbad";
    ofctl(&site, &format!("{theirs},priority=2000,arp,actions=NORMAL"))?;
    comes_to_find(&site, "warning", "flows-shadowed")?;
    ofctl(&site, &format!("{theirs},priority=65000,actions=NORMAL"))?;
    comes_to_find(&site, "error", "flows-shadowed")?;
    ofctl(&site, "del-flows breth0 cookie=0xbad/-1")?;
    comes_to_be_well(&site, &[]).context("without the other's flows")?;
    ofctl(&site, &format!("{theirs},priority=0,in_port=77,udp,actions=drop"))?;
    comes_to_find(&site, "note", "flows-stale-port")?;
    ofctl(&site, "del-flows breth0 cookie=0xbad/-1")?;
    ofctl(&site, "--strict del-flows breth0 priority=0")?;
    comes_to_find(&site, "note", "flows-no-normal")?;
    ofctl(&site, "add-flow breth0 priority=0,actions=NORMAL")?;
    comes_to_be_well(&site, &[])?;
    helper.terminate()?;
    comes_to_find(&site, "error", "helper-away").map(drop)
}

#[test]
fn after_the_helper() -> Result<()> {
    let site = Site::usual()?;
    site.run(ATTACH)?.expect_ok()?;
    site.start_helper(&[])?.kill()?;
    let said = doctor(&site, "")?;
    said.expect("error", "helper-away")?;
    said.expect_well(&["helper-away"])?;

    // An uplink that comes back with another number, and no helper that renders again.
    site.vsctl("-- del-port breth0 eth0 -- add-port breth0 eth0 -- set interface eth0 ofport_request=77")?;
    comes_to_find(&site, "error", "flows-stale-port")?;

    ofctl(&site, "add-flow breth0 priority=100,in_port=1,tcp,tp_dst=30080,actions=output:2")?;
    comes_to_find(&site, "warning", "flows-older")?;
    ofctl(&site, "del-flows breth0")?;
    comes_to_find(&site, "error", "flows-none")?;
    ofctl(&site, "add-flow breth0 priority=0,actions=NORMAL")?;
    comes_to_find(&site, "error", "flows-only-normal")?;
    site.vsctl("set-fail-mode breth0 secure")?;
    ofctl(&site, "del-flows breth0")?;
    let said = comes_to_find(&site, "error", "flows-none")?;
    let found = said.expect("error", "flows-none")?;
    anyhow::ensure!(found.what.contains("secure"), "{found:?}");
    said.expect("warning", "fail-mode").map(drop)
}
