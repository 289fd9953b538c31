//! A NIC that is recreated while it is a port of the bridge, as by a driver that is loaded again: the switch goes on
//! listening to the one that is gone.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::wait_until;
use netns_tests::takeover::{Load, Meter, Site, SiteOptions, State, meter::Kind, nic, switch::Daemon};

use crate::fixture::{ATTACH, DETACH, is_on_the_bridge};
use crate::survival::{Survival, helper_log};

/// What a manager does with a NIC that appears.
const MANAGERS: &str = "link set eth0 up\naddr add 172.18.0.11/24 brd + dev eth0\n\
    addr add fd00:18::11/64 dev eth0 nodad\nroute append default via 172.18.0.1 dev eth0\n";

/// What the database holds of the port, but for what ovs-vswitchd writes there.
fn port(site: &Site) -> Result<String> {
    let port =
        site.vsctl("--no-wait --columns=_uuid,external_ids,other_config,qos,interfaces list Port eth0")?;
    let interface =
        site.vsctl("--no-wait --columns=_uuid,external_ids,ofport,ofport_request list Interface eth0")?;
    Ok(port + &interface)
}

/// The number of the NIC that the takeover's record has.
fn recorded(site: &Site) -> Result<u64> {
    let text = std::fs::read_to_string(site.state_dir().join("uplink/taken-breth0.json"))?;
    let record: serde_json::Value = serde_json::from_str(&text)?;
    record["uplink"]["nic"]["index"].as_u64().context("no number in the record")
}

fn index(site: &Site) -> Result<u64> {
    let printed = site.program("ip").line("-j link show eth0").run()?;
    let links: serde_json::Value = serde_json::from_str(&printed)?;
    links[0]["ifindex"].as_u64().context("no number of the NIC")
}

fn is_noted(site: &Site) -> Result<()> {
    wait_until("the record to have the new number", || {
        ensure!(recorded(site)? == index(site)?);
        Ok(true)
    })
}

fn with_a_helper(
    while_away: impl FnOnce(&Site) -> Result<()>,
    after: impl FnOnce(&Site) -> Result<()>,
) -> Result<()> {
    let survival = Survival::set_up(&["-vuplink:file:dbg"])?;
    let site = &survival.site;
    let log = || helper_log(site);
    let meter = Meter::start(site, &Load::of(Kind::Tcp).slowed(2))?;
    let before = port(site)?;
    site.unplug()?;
    while_away(site)?;
    site.plug()?;
    after(site)?;
    site.wait_until_reachable().with_context(log)?;
    is_on_the_bridge(site, &survival.before).with_context(log)?;
    is_noted(site).with_context(log)?;
    let now = port(site)?;
    ensure!(now == before, "the port was:\n{before}and is:\n{now}");
    let rules = site.program("nft").line("list table netdev ovn_k8s_breth0").run()?;
    ensure!(rules.matches("type filter hook ingress").count() == 2 && rules.contains("drop"), "{rules}");
    meter.wait_until_all_move().with_context(log)?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    println!("{}", log());
    survival.ends_well()
}

#[test]
fn the_helper_attaches_it() -> Result<()> {
    with_a_helper(|_| Ok(()), |_| Ok(()))
}

#[test]
fn the_helper_attaches_it_when_it_comes_late_and_up() -> Result<()> {
    with_a_helper(
        |_| {
            thread::sleep(Duration::from_secs(2));
            Ok(())
        },
        |site| site.ip("link set eth0 up\n"),
    )
}

/// What configures the NIC gives it its addresses again.
#[test]
fn the_helper_attaches_it_with_addresses() -> Result<()> {
    with_a_helper(|_| Ok(()), |site| site.ip(MANAGERS))
}

/// The switch is dead at that time: it opens the new one when it begins.
#[test]
fn the_switch_is_dead_meanwhile() -> Result<()> {
    with_a_helper(
        |site| site.kill(Daemon::Switch),
        |site| {
            site.wait_until_reachable()
                .context("while the switch is dead")
                .with_context(|| helper_log(site))?;
            site.restart_daemons()
        },
    )
}

/// Management is on the NIC, and goes with it: the new one has what was there before the takeover.
#[test]
fn management_goes_with_it() -> Result<()> {
    with_a_helper(
        |_| Ok(()),
        |site| {
            site.kill(Daemon::Switch)?;
            site.wait_until_reachable()?;
            site.unplug()?;
            site.plug()?;
            site.wait_until_reachable().context("on the new one").with_context(|| helper_log(site))?;
            site.restart_daemons()
        },
    )
}

fn settled(then: impl FnOnce(&Site) -> Result<()>) -> Result<()> {
    let site = Site::usual()?;
    let before = State::of(&site)?;
    site.run(ATTACH)?.expect_ok()?;
    let meter = Meter::start(&site, &Load::of(Kind::Tcp).slowed(2))?;
    let port_before = port(&site)?;
    site.unplug()?;
    site.plug()?;
    then(&site)?;
    let said = site.run("recover")?.expect_ok()?;
    ensure!(said.printed.contains("recreated"), "{said:?}");
    site.wait_until_reachable()?;
    is_on_the_bridge(&site, &before).with_context(|| format!("{said:?}"))?;
    is_noted(&site)?;
    let now = port(&site)?;
    ensure!(now == port_before, "the port was:\n{port_before}and is:\n{now}");
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    ensure!(report.dead().is_empty(), "{report}");
    let again = site.run("recover")?.expect_ok()?;
    ensure!(again.printed.contains("nothing to recover"), "{again:?}");
    site.run(DETACH)?.expect_ok()?;
    site.wait_until_reachable()
}

#[test]
fn settle_attaches_it() -> Result<()> {
    settled(|_| Ok(()))
}

#[test]
fn settle_attaches_it_with_addresses() -> Result<()> {
    settled(|site| site.ip(MANAGERS))
}

/// Such a NIC has nothing to get back: it is attached, and that is all.
#[test]
fn one_without_addresses_is_left_in_peace() -> Result<()> {
    let site = Site::up(SiteOptions { configuration: nic::plain(), ..SiteOptions::default() })?;
    for line in ["-6 route flush dev eth0", "addr flush dev eth0"] {
        site.program("ip").line(line).run()?;
    }
    site.run(&format!("{ATTACH} --no-probe"))?.expect_ok()?;
    let helper = site.start_helper(&[]).with_context(|| helper_log(&site))?;
    site.unplug()?;
    site.plug()?;
    is_noted(&site).with_context(|| helper_log(&site))?;
    thread::sleep(Duration::from_secs(3));
    let log = std::fs::read_to_string(site.dir().join("ovn-k8s-gateway-helper.log"))?;
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("recreated")).collect();
    ensure!((1..=3).contains(&lines.len()), "{} lines:\n{}", lines.len(), helper_log(&site));
    helper.terminate()
}
