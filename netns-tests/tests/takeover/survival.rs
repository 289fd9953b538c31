//! Management outlives the switch: vswitchd killed, stopped, away with its helper; and back onto the bridge.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::lab::process::{holds_for, wait_until};
use netns_tests::takeover::{
    Load, Meter, Site, State,
    meter::{Kind, Moment},
    switch::Daemon,
};
use nix::sys::signal::Signal;

use crate::fixture::{ATTACH, DETACH, is_on_the_bridge};

/// A node on its bridge with a helper that keeps it alive.
pub struct Survival {
    pub before: State,
    pub helper: Option<netns_tests::takeover::helper::Helper>,
    pub site: Site,
}

impl Survival {
    pub fn set_up(more: &[&str]) -> Result<Self> {
        let site = Site::usual()?;
        let before = State::of(&site)?;
        site.run(ATTACH)?.expect_ok()?;
        let helper = site.start_helper(more).with_context(|| helper_log(&site))?;
        site.wait_until_reachable()?;
        Ok(Self { before, helper: Some(helper), site })
    }

    /// Everything is on the bridge again, and detaching works.
    pub fn ends_well(self) -> Result<()> {
        let outcome = (|| {
            self.site.wait_until_reachable()?;
            is_on_the_bridge(&self.site, &self.before)
        })();
        outcome.with_context(|| helper_log(&self.site))?;
        if let Some(helper) = self.helper {
            helper.terminate()?;
        }
        self.site.clean_up_helper()?;
        self.site.run(DETACH)?.expect_ok()?;
        self.site.wait_until_reachable()
    }
}

pub fn helper_log(site: &Site) -> String {
    let path = site.dir().join("ovn-k8s-gateway-helper.log");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let out = std::fs::read_to_string(site.dir().join("helper.out")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    format!("{}\n{out}", lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n"))
}

#[test]
fn the_switch_is_killed() -> Result<()> {
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    let meter = Meter::start(site, &Load::full().slowed(4))?;
    meter.run_for(Duration::from_millis(300));
    let killed = Moment::now();
    site.kill(Daemon::Switch)?;
    site.wait_until_reachable().context("while the switch is dead").with_context(|| helper_log(site))?;
    meter.wait_until_all_move().context("while the switch is dead")?;
    meter.run_for(Duration::from_millis(300));
    site.restart_daemons()?;
    is_on_the_bridge(site, &survival.before).with_context(|| helper_log(site))?;
    meter.wait_until_all_move().context("after the switch is back")?;
    let quiet = Moment::now();
    meter.run_for(Duration::from_millis(500));
    let report = meter.stop()?;
    println!("{report}gap: {:?}", report.gap_between(Kind::Udp, killed, quiet));
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// A run with another state folder holds the lock of this network, and is stopped or waits for confirmation.
#[test]
fn the_switch_is_killed_and_somebody_is_at_work() -> Result<()> {
    use std::os::{linux::net::SocketAddrExt as _, unix::net};
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    let name = net::SocketAddr::from_abstract_name("ovn-k8s-uplink")?;
    let held = site.node().enter(|| net::UnixDatagram::bind_addr(&name))??;
    site.kill(Daemon::Switch)?;
    site.wait_until_reachable().context("while the switch is dead").with_context(|| helper_log(site))?;
    ensure!(helper_log(site).contains("with another --state-dir"), "{}", helper_log(site));
    drop(held);
    site.restart_daemons()?;
    is_on_the_bridge(site, &survival.before).with_context(|| helper_log(site))?;
    survival.ends_well()
}

#[test]
fn the_switch_is_stopped() -> Result<()> {
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    let meter = Meter::start(site, &Load::full().slowed(4))?;
    site.switch().signal(Daemon::Switch, Signal::SIGSTOP)?;
    let outcome = site.wait_until_reachable().and_then(|()| meter.wait_until_all_move());
    site.switch().signal(Daemon::Switch, Signal::SIGCONT)?;
    outcome.context("while the switch is stopped").with_context(|| helper_log(site))?;
    is_on_the_bridge(site, &survival.before).with_context(|| helper_log(site))?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    println!("{report}");
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// The switch lives and forwards nothing: OVS 3.1 waits for its database, on the userspace datapath.
#[test]
fn the_database_is_killed() -> Result<()> {
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    let meter = Meter::start(site, &Load::full().slowed(4))?;
    meter.run_for(Duration::from_millis(300));
    let killed = Moment::now();
    site.kill(Daemon::Database)?;
    site.wait_until_reachable().context("while the database is dead").with_context(|| helper_log(site))?;
    meter.wait_until_all_move().context("while the database is dead")?;
    let moved = Moment::now();
    site.restart_daemons()?;
    is_on_the_bridge(site, &survival.before).with_context(|| helper_log(site))?;
    meter.wait_until_all_move().context("after the database is back")?;
    let report = meter.stop()?;
    println!("{report}gap: {:?}", report.gap_between(Kind::Udp, killed, moved));
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// A network manager that was not handed over, and somebody who empties the ruleset.
#[test]
fn what_others_undo_is_done_again() -> Result<()> {
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    let own = site.address();
    let meter = Meter::start(site, &Load::full().slowed(4))?;
    site.ip(&format!("address add {}/24 dev eth0\n", own.v4))?;
    is_on_the_bridge(site, &survival.before)
        .context("an address on the NIC")
        .with_context(|| helper_log(site))?;
    site.ip("route add 198.18.0.0/15 dev eth0\n")?;
    wait_until("the route to be the bridge's", || {
        let routes = site.program("ip").line("route show 198.18.0.0/15").run()?;
        ensure!(routes.contains("dev breth0"), "{routes}");
        Ok(true)
    })
    .with_context(|| helper_log(site))?;
    site.ip("route del 198.18.0.0/15\n")?;
    site.program("nft").line("flush ruleset").run()?;
    wait_until("the guard to stand again", || {
        let rules = site.program("nft").line("list ruleset").run()?;
        ensure!(rules.contains("table netdev ovn_k8s_breth0") && rules.contains("drop"), "{rules}");
        Ok(true)
    })?;
    meter.wait_until_all_move()?;
    let report = meter.stop()?;
    println!("{report}");
    ensure!(report.dead().is_empty(), "{report}");
    survival.ends_well()
}

/// The guard is flushed while management is on the NIC, and nothing but the mark in the database says that the bridge is
/// ours.
#[test]
fn a_guard_is_lost_without_a_record() -> Result<()> {
    for also_helper in [false, true] {
        let mut survival = Survival::set_up(&[])?;
        let site = &survival.site;
        fs::remove_file(site.state_dir().join("uplink/taken-breth0.json"))?;
        site.kill(Daemon::Switch)?;
        site.wait_until_reachable()?;
        if also_helper && let Some(helper) = survival.helper.take() {
            helper.kill()?;
        }
        site.program("nft").line("flush ruleset").run()?;
        if also_helper {
            survival.helper = Some(site.launch_helper(&[], "")?);
        }
        wait_until("the guard to stand again", || {
            let rules = site.program("nft").line("list table netdev ovn_k8s_breth0").run()?;
            Ok(rules.contains("drop"))
        })
        .with_context(|| helper_log(site))?;
        site.wait_until_reachable()?;
        site.restart_daemons()?;
        is_on_the_bridge(site, &survival.before).with_context(|| helper_log(site))?;
    }
    Ok(())
}

/// The bridge's device goes with all its addresses, and the ingress filter would block the NIC.
#[test]
fn the_bridge_is_deleted() -> Result<()> {
    let survival = Survival::set_up(&[])?;
    let site = &survival.site;
    site.program("ovs-vsctl").line("--timeout=30 del-br breth0").run()?;
    site.wait_until_reachable().context("without the bridge").with_context(|| helper_log(site))?;
    let rules = site.program("nft").line("list ruleset").run()?;
    ensure!(!rules.contains("table netdev"), "{rules}");
    Ok(())
}

/// The helper dies with management on the NIC: its successor brings it back onto the bridge.
#[test]
fn switch_and_helper_die() -> Result<()> {
    let mut survival = Survival::set_up(&[])?;
    let site = &survival.site;
    site.kill(Daemon::Switch)?;
    site.wait_until_reachable()?;
    if let Some(helper) = survival.helper.take() {
        helper.kill()?;
    }
    site.wait_until_reachable().context("with both dead")?;
    site.restart_daemons()?;
    survival.helper = Some(survival.site.start_helper(&[])?);
    survival.ends_well()
}

/// Both at once: nobody turns anything until there is a helper again.
#[test]
fn switch_and_helper_die_at_once() -> Result<()> {
    let mut survival = Survival::set_up(&[])?;
    if let Some(helper) = survival.helper.take() {
        helper.kill()?;
    }
    survival.site.kill(Daemon::Switch)?;
    survival.site.restart_daemons()?;
    survival.helper = Some(survival.site.start_helper(&[])?);
    survival.ends_well()
}

/// `--no-failover`: management waits for the switch.
#[test]
fn without_failover() -> Result<()> {
    let survival = Survival::set_up(&["--no-failover"])?;
    let site = &survival.site;
    let there = State::of(site)?;
    site.kill(Daemon::Switch)?;
    let subjects = netns_tests::takeover::state::MOVED;
    let expected = there.about("eth0", subjects);
    holds_for("the NIC without management", Duration::from_millis(500), || {
        State::of(site)?.about("eth0", subjects).expect(&expected)
    })?;
    site.restart_daemons()?;
    survival.ends_well()
}
