//! Management while the switch is dead: what twelve flows lose, with the helper's failover and without.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::process::wait_until,
    takeover::{
        Load, Meter, Site,
        meter::{Kind, Moment},
        switch::Daemon,
    },
};
use nix::sys::signal::Signal;

use crate::numbers::Numbers;

/// How long the switch is away.
const AWAY: Duration = Duration::from_millis(500);
/// Traffic before and after.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(1000);

/// What becomes of the switch.
#[derive(Clone, Copy, Debug)]
enum Event {
    Killed,
    Stopped,
    WithoutDatabase,
}

impl Event {
    const ALL: [Self; 3] = [Self::Killed, Self::Stopped, Self::WithoutDatabase];

    fn name(self) -> &'static str {
        match self {
            Self::Killed => "vswitchd killed, started again 0.5 s later",
            Self::Stopped => "vswitchd stopped for 0.5 s",
            Self::WithoutDatabase => "ovsdb-server killed, started again 0.5 s later",
        }
    }

    fn happen(self, site: &Site) -> Result<()> {
        match self {
            Self::Killed => site.kill(Daemon::Switch),
            Self::Stopped => site.switch().signal(Daemon::Switch, Signal::SIGSTOP),
            Self::WithoutDatabase => site.kill(Daemon::Database),
        }
    }

    fn end(self, site: &Site) -> Result<()> {
        match self {
            Self::Stopped => site.switch().signal(Daemon::Switch, Signal::SIGCONT),
            Self::Killed | Self::WithoutDatabase => site.restart_daemons(),
        }
    }
}

/// What the runs gave.
#[derive(Debug, Default)]
struct Row {
    gap: Numbers,
    tcp: Numbers,
    lost: Numbers,
    doubled: Numbers,
    dead: Numbers,
}

/// Runs all, so often, and prints what they cost.
pub fn measure(runs: usize) -> Result<()> {
    println!(
        "\nManagement while the switch is dead, all twelve flows together, median/greatest per run; gaps from the event until \
         management is back on the bridge.\n\n\
         | event | failover | runs | UDP gap, ms | TCP gap, ms | packets lost | doubled | TCP dead |\n|---|---|---|---|---|---|---|---|"
    );
    for event in Event::ALL {
        for failover in [true, false] {
            let mut row = Row::default();
            for run in 1..=runs {
                one(event, failover, &mut row).with_context(|| format!("{event:?}, run {run}"))?;
            }
            eprintln!("survival: {event:?} is done");
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} |",
                event.name(),
                if failover { "**yes**" } else { "no" },
                row.lost.runs(),
                row.gap,
                row.tcp,
                row.lost,
                row.doubled,
                row.dead
            );
        }
    }
    Ok(())
}

fn one(event: Event, failover: bool, row: &mut Row) -> Result<()> {
    let site = Site::usual()?;
    site.run("nics-to-bridge eth0")?.expect_ok()?;
    let helper = site.start_helper(if failover { &[] } else { &["--no-failover"] })?;
    site.wait_until_reachable()?;
    let meter = Meter::start(&site, &Load::full())?;
    meter.run_for(BEFORE);
    let from = Moment::now();
    event.happen(&site)?;
    meter.run_for(AWAY);
    event.end(&site)?;
    wait_until("the NIC to be without an address", || {
        let addresses = site.program("ip").line("-4 address show dev eth0").run()?;
        ensure!(!addresses.contains("inet "), "{addresses}");
        Ok(true)
    })?;
    meter.wait_until_all_move()?;
    let to = Moment::now();
    meter.run_for(AFTER);
    let report = meter.stop()?;
    row.gap.time(report.gap_between(Kind::Udp, from, to));
    row.tcp.time(report.gap_between(Kind::Tcp, from, to));
    row.lost.count(report.lost());
    row.doubled.count(report.duplicates());
    row.dead.count(report.dead().len());
    helper.terminate()
}
