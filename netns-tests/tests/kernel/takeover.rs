//! The takeover of a NIC on the kernel's datapath, where the port's addition moves the ingress: attach and detach
//! under traffic, killed in between, and beside it the order of old.
//!
//! How much is lost is told, not judged, but for one thing: it is less than the order of old loses.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{machine::scaled, process::wait_until},
    takeover::{
        Load, Meter, Site, State,
        meter::{Direction, Kind, Moment, Report},
        nic::{BRIDGE, NIC},
        product::{Outcome, outcome},
        state::{MOVED, Subject},
        switch::Daemon,
    },
};

use crate::on_the_kernel_datapath;

// An emulated machine needs longer than the usual fifteen seconds when it has other things to do.
const THERE: &str = "nics-to-bridge --verify-timeout=120 eth0";
const BACK: &str = "bridge-to-nics --verify-timeout=120 breth0";

/// The largest loss measured by hand of 200 datagrams a second while attaching.
const BY_HAND: usize = 12;

/// Of each kind so many times less traffic than elsewhere: 200 datagrams a second.
const SLOWER: u32 = 5;

/// How long traffic runs before, between and after the ways.
fn pause() -> Duration {
    scaled(Duration::from_millis(300))
}

/// Under all traffic a site is changed; what the traffic saw is told, of UDP by direction, and every connection lives.
fn under_traffic(site: &Site, name: &str, change: impl FnOnce() -> Result<()>) -> Result<Report> {
    let meter = Meter::start(site, &Load::full().slowed(SLOWER))?;
    meter.run_for(pause());
    let (start, from) = (Instant::now(), Moment::now());
    change()?;
    let took = start.elapsed();
    site.wait_until_reachable()?;
    meter.wait_until_all_move()?;
    meter.run_for(pause());
    let to = Moment::now();
    let report = meter.stop()?;
    println!("{name}: took {took:.1?}\n{report}");
    for direction in Direction::BOTH {
        let lost: Vec<usize> =
            report.towards(Kind::Udp, direction).map(|flow| flow.lost_between(from, to)).collect();
        println!("{name}: UDP {direction:?} lost {lost:?} (IPv4, IPv6)");
    }
    ensure!(report.dead().is_empty(), "{name}: connections died: {:?}", report.dead());
    Ok(report)
}

fn lost_datagrams(report: &Report) -> usize {
    report.of(Kind::Udp).map(|flow| flow.lost()).sum()
}

fn is_on_the_bridge(site: &Site, before: &State) -> Result<()> {
    let now = State::of(site)?;
    now.about(BRIDGE, MOVED).expect(&before.about(NIC, MOVED)).context("what the bridge has")?;
    let left = now.about(NIC, &[Subject::Address, Subject::Route]);
    left.expect(&now.about("no such device", MOVED)).context("what the NIC still has")
}

fn is_as_before(site: &Site, before: &State) -> Result<()> {
    site.wait_until_reachable()?;
    site.wait_until_closed()?;
    if site.journal_state()? == "undone-ovsdb-pending" {
        println!("the switch's database was slower than an undo's patience: settled afterwards");
        site.run("recover")?.expect_ok()?;
    }
    site.wait_for_state(before)?;
    site.wait_until_disarmed()?;
    ensure!(!site.has_bridge(BRIDGE)?, "the database still has {BRIDGE}");
    site.connect_anew()
}

#[test]
#[ignore = "needs a kernel with the module openvswitch: make test-kernel"]
fn attach_and_detach() -> Result<()> {
    on_the_kernel_datapath()?;
    let site = Site::usual()?;
    let run = || -> Result<()> {
        let before = State::of(&site)?;
        let there = under_traffic(&site, "there", || site.run(THERE)?.expect_ok().map(drop))?;
        is_on_the_bridge(&site, &before)?;
        site.connect_anew()?;
        under_traffic(&site, "back", || site.run(BACK)?.expect_ok().map(drop))?;
        is_as_before(&site, &before)?;

        let original = under_traffic(&site, "the order of old", || site.original_there())?;
        let (ours, old) = (lost_datagrams(&there), lost_datagrams(&original));
        let worst = there.of(Kind::Udp).map(|flow| flow.lost()).max().unwrap_or_default();
        println!(
            "lost on the way there: {ours} of all four flows, {worst} of the worst (by hand at most {BY_HAND}); the order of old: {old}"
        );
        ensure!(ours < old, "{ours} datagrams lost, and {old} by the order of old");
        Ok(())
    };
    run().with_context(|| site.diagnosis())
}

#[test]
#[ignore = "needs a kernel with the module openvswitch: make test-kernel"]
fn killed_on_the_way() -> Result<()> {
    on_the_kernel_datapath()?;
    let site = Site::usual()?;
    let before = State::of(&site)?;
    for step in ["port-tx", "routes", "old-off"] {
        let killed = || -> Result<()> {
            under_traffic(&site, &format!("killed after {step}"), || {
                let outcome = site.run_with_fault(THERE, &format!("{step}:kill"))?;
                ensure!(!outcome.ok, "it lived: {outcome:?}");
                Ok(())
            })?;
            is_as_before(&site, &before)
        };
        killed().with_context(|| format!("killed after {step}\n{}", site.diagnosis()))?;
    }
    Ok(())
}

/// Cached flows go on for a while without vswitchd, then neighbours run out: a node in this state looks well.
#[test]
#[ignore = "needs a kernel with the module openvswitch: make test-kernel"]
fn doctor_warns_of_a_switch_that_is_away() -> Result<()> {
    on_the_kernel_datapath()?;
    let site = Site::usual()?;
    site.run(THERE)?.expect_ok()?;
    let doctor = || {
        let program = site.program(site.called("ovn-k8s")?).arg("doctor");
        let database = format!("--db=unix:{}", site.switch().socket().display());
        outcome(program.args([database, format!("--state-dir={}", site.state_dir().display())]))
    };
    let well = doctor()?;
    println!("{}", well.printed);
    let runs = |outcome: &Outcome| outcome.printed.contains("ovsdb-server and ovs-vswitchd run");
    ensure!(runs(&well), "it is there: {}{}", well.printed, well.said);
    // Cached flows are of traffic that is there.
    let meter = Meter::start(&site, &Load::of(Kind::Ping).slowed(SLOWER))?;
    site.kill(Daemon::Switch)?;
    meter.wait_until_all_move().context("flows in the kernel go on without vswitchd")?;
    let away = doctor()?;
    println!("{}", away.printed);
    let said = away.printed.contains("vswitchd") && away.printed.contains("ARP");
    ensure!(said && !runs(&away), "no word of a vswitchd that is away: {}{}", away.printed, away.said);
    ensure!(!away.ok, "its exit code says that all is well");
    meter.stop()?;
    site.restart_daemons()?;
    wait_until("the doctor to be content again", || Ok(runs(&doctor()?)))?;
    site.run(BACK)?.expect_ok().map(drop)
}
