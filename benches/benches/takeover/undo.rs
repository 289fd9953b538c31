//! From the death of a run, after its switchover, to a reachable node.
//!
//! Its own `--verify-cmd` keeps the run waiting: a release binary has no fault points.

use std::time::Duration;

use anyhow::{Context, Result};
use netns_tests::{
    lab::process::wait_until,
    takeover::{
        Load, Meter, Site,
        meter::{Kind, Moment},
        switch::Daemon,
    },
};

use crate::numbers::Numbers;

/// Which daemons are dead by then.
const CASES: [(&str, &[Daemon]); 3] = [
    ("the switch alive (reachable all the time: gap)", &[]),
    ("the switch dead", &[Daemon::Switch]),
    ("switch and database dead", &[Daemon::Switch, Daemon::Database]),
];

/// Measures undo with the switch alive, dead, and dead with its database.
pub fn measure(runs: usize) -> Result<()> {
    println!(
        "\n| undo, with | runs | from the death to reachable, ms | lost | TCP dead |\n|---|---|---|---|---|"
    );
    for (name, dead) in CASES {
        let (mut until, mut lost, mut killed) = (Numbers::default(), Numbers::default(), Numbers::default());
        for run in 0..runs {
            one(dead, &mut until, &mut lost, &mut killed).with_context(|| format!("{name}, run {run}"))?;
        }
        println!("| {name} | {runs} | {until} | {lost} | {killed} |");
    }
    Ok(())
}

fn one(dead: &[Daemon], until: &mut Numbers, lost: &mut Numbers, killed: &mut Numbers) -> Result<()> {
    let site = Site::usual()?;
    let mark = site.dir().join("verifying");
    let check = format!("--verify-cmd=touch {}; sleep 5", mark.display());
    let log = site.dir().join("held.out");
    let held = site.util("nics-to-bridge eth0")?.arg(check).hold(&log, &site.register())?;
    wait_until("the check to run", || Ok(mark.exists()))?;
    let meter = Meter::start(&site, &Load::full())?;
    meter.run_for(Duration::from_millis(200));
    for daemon in dead {
        site.kill(*daemon)?;
    }
    meter.run_for(Duration::from_millis(100));
    let death = Moment::now();
    held.kill()?;
    site.wait_until_closed()?;
    meter.run_for(Duration::from_millis(700));
    let report = meter.stop()?;
    if dead.is_empty() {
        until.time(report.gap_between(Kind::Udp, death, death.after(Duration::from_millis(200))));
    } else {
        let back = report.of(Kind::Udp).map(|flow| flow.first_answer_after(death)).max().flatten();
        until.time(back.context("never reachable again")?.since(death));
    }
    lost.count(
        report.flows.iter().map(|flow| flow.lost_between(death, death.after(Duration::from_secs(1)))).sum(),
    );
    killed.count(report.dead().len());
    Ok(())
}
