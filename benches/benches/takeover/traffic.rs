//! What each sequence costs twelve flows: UDP echoes at 1 kHz, pings at 300 Hz, paced TCP; both ways, both families.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use netns_tests::{
    lab::address::Family,
    takeover::{
        Load, Meter, Site,
        meter::{Direction, FlowReport, Kind, Moment, Report},
    },
};

use crate::numbers::Numbers;

/// Traffic before a sequence, and after it.
const BEFORE: Duration = Duration::from_millis(500);
const AFTER: Duration = Duration::from_millis(1200);
/// How long after its end a sequence is still held responsible for a gap.
const WAKE: Duration = Duration::from_millis(40);

/// What is done to the node under traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sequence {
    /// Nothing at all: the machine's noise.
    Nothing,
    /// `nics-to-bridge`.
    There,
    /// `bridge-to-nics`.
    Back,
    /// The sequence of old.
    OriginalThere,
    /// The way back a person would take.
    OriginalBack,
}

impl Sequence {
    /// All.
    pub const ALL: [Self; 5] =
        [Self::Nothing, Self::There, Self::Back, Self::OriginalThere, Self::OriginalBack];

    fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::There => "**nics-to-bridge**",
            Self::Back => "**bridge-to-nics**",
            Self::OriginalThere => "the original sequence",
            Self::OriginalBack => "`del-br`, addresses, routes",
        }
    }

    /// What has to be so before the traffic starts.
    fn prepare(self, site: &Site) -> Result<()> {
        match self {
            Self::Nothing | Self::There | Self::OriginalThere => Ok(()),
            Self::Back => site.run("nics-to-bridge eth0")?.expect_ok().map(drop),
            Self::OriginalBack => {
                site.original_there()?;
                // What it forgot, so that the way back starts from a node that works.
                site.ip("route replace default via fd00:18::1 dev breth0\n")
            }
        }
    }

    fn run(self, site: &Site) -> Result<()> {
        match self {
            Self::Nothing => std::thread::sleep(Duration::from_millis(50)),
            Self::There => drop(site.run("nics-to-bridge eth0")?.expect_ok()?),
            Self::Back => drop(site.run("bridge-to-nics breth0")?.expect_ok()?),
            Self::OriginalThere => site.original_there()?,
            Self::OriginalBack => site.original_back()?,
        }
        Ok(())
    }
}

/// What the runs of one sequence gave.
#[derive(Debug, Default)]
struct Row {
    command: Numbers,
    lost: Numbers,
    doubled: Numbers,
    later: Numbers,
    switchover: Numbers,
    turn_tcp: Numbers,
    again: Numbers,
    dead: Numbers,
    flows: Vec<FlowRow>,
}

/// What they gave for one kind, direction and family.
#[derive(Debug)]
struct FlowRow {
    name: String,
    gap: Numbers,
    lost: Numbers,
    doubled: Numbers,
}

impl Row {
    fn add(&mut self, report: &Report, from: Moment, to: Moment) {
        let wake = to.after(WAKE);
        self.command.time(to.since(from));
        self.lost.count(report.lost());
        let later: usize =
            report.flows.iter().map(|flow| flow.duplicates_since(to.after(Duration::from_millis(300)))).sum();
        self.later.count(later);
        self.doubled.count(report.duplicates());
        self.switchover.time(report.gap_between(Kind::Udp, from, wake));
        self.turn_tcp.time(report.gap_between(Kind::Tcp, from, wake));
        self.again.count(report.of(Kind::Tcp).map(|flow| flow.retransmits as usize).sum());
        self.dead.count(report.dead().len());
        if self.flows.is_empty() {
            self.flows = report.flows.iter().map(FlowRow::new).collect();
        }
        for (row, flow) in self.flows.iter_mut().zip(&report.flows) {
            row.gap.time(flow.gap());
            row.lost.count(flow.lost());
            row.doubled.count(flow.duplicates());
        }
    }
}

impl FlowRow {
    fn new(report: &FlowReport) -> Self {
        let none = Numbers::default();
        Self { name: short(report), gap: none.clone(), lost: none.clone(), doubled: none }
    }
}

fn short(report: &FlowReport) -> String {
    let flow = report.flow;
    let kind = match flow.kind {
        Kind::Udp => "UDP",
        Kind::Ping => "ping",
        Kind::Tcp => "TCP",
    };
    let family = if flow.family == Family::V4 { "" } else { "6" };
    format!("{kind}{family} {}", if flow.direction == Direction::In { "in" } else { "out" })
}

/// Runs all sequences alternately, this many times, and prints what they cost.
pub fn measure(sequences: &[Sequence], runs: usize) -> Result<()> {
    let mut rows: Vec<Row> = sequences.iter().map(|_| Row::default()).collect();
    for run in 1..=runs {
        for (sequence, row) in sequences.iter().zip(&mut rows) {
            one(*sequence, row).with_context(|| format!("{sequence:?}, run {run}"))?;
        }
        eprintln!("traffic: {run} of {runs}");
    }
    print(sequences, &rows);
    Ok(())
}

fn one(sequence: Sequence, row: &mut Row) -> Result<()> {
    let site = Site::usual()?;
    site.add_integration_bridge()?;
    sequence.prepare(&site)?;
    site.wait_until_reachable()?;
    std::thread::sleep(Duration::from_millis(300));
    let meter = Meter::start(&site, &Load::full())?;
    meter.run_for(BEFORE);
    let from = Moment::now();
    sequence.run(&site)?;
    let to = Moment::now();
    meter.run_for(AFTER);
    row.add(&meter.stop()?, from, to);
    Ok(())
}

fn print(sequences: &[Sequence], rows: &[Row]) {
    println!(
        "\nAll twelve flows together, median/greatest per run. Gap: the longest in any UDP (TCP) flow that touches the time \
         from the command's start to 40 ms after its end.\n\n\
         | sequence | runs | packets lost | doubled | of these from 0.3 s after | UDP gap, ms | TCP gap, ms | TCP sent again | \
         TCP dead | command, ms |\n|---|---|---|---|---|---|---|---|---|---|"
    );
    for (sequence, row) in sequences.iter().zip(rows) {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            sequence.name(),
            row.lost.runs(),
            row.lost,
            row.doubled,
            row.later,
            row.switchover,
            row.turn_tcp,
            row.again,
            row.dead,
            row.command
        );
    }
    let names: Vec<&str> =
        rows.first().map(|row| row.flows.iter().map(|flow| flow.name.as_str()).collect()).unwrap_or_default();
    println!(
        "\nFlow by flow, over the whole run: gap in ms, lost, doubled.\n\n| sequence | {} |",
        names.join(" | ")
    );
    println!("|---|{}", "---|".repeat(names.len()));
    for (sequence, row) in sequences.iter().zip(rows) {
        let cells: Vec<String> =
            row.flows.iter().map(|flow| format!("{}, {}, {}", flow.gap, flow.lost, flow.doubled)).collect();
        println!("| {} | {} |", sequence.name(), cells.join(" | "));
    }
}
