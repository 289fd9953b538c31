//! The takeover's release binary on a node of the light lab: what its switchovers cost the traffic, and how long a run takes.
//!
//! ```text
//! cargo bench -p benches --bench takeover                          everything, 20 runs
//! cargo bench -p benches --bench takeover -- traffic --runs 5      one part of it
//! ```
//!
//! The binary is the one of `OVN_K8S_BIN`, or the release binary in the target folder (`make binary` makes it). Root,
//! and what the lab needs. Each part prints a Markdown table; nothing is asserted. The row `nothing` is the machine's
//! own noise, measured in the same minutes.

mod commands;
mod numbers;
mod survival;
mod traffic;
mod undo;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use netns_tests::lab::helper::binary;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What each sequence costs twelve flows of traffic.
    Traffic,
    /// How long the whole command takes, and with 10,000 routes.
    Commands,
    /// From the death of a run to a reachable node.
    Undo,
    /// Management while the switch is dead.
    Survival,
}

/// Measures the takeover from outside.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure (default: everything)
    parts: Vec<Part>,
    /// How often each thing is done
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// Sequences to run under traffic (default: all)
    #[arg(long, value_delimiter = ',')]
    sequences: Vec<traffic::Sequence>,
    /// How many routes the long command has
    #[arg(long, default_value_t = 10_000)]
    routes: usize,
    /// Given by `cargo bench`; without it (`cargo test --benches`) nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("runs only with: cargo bench -p benches --bench takeover");
        return Ok(());
    }
    println!("the binary: {}", binary()?.display());
    let parts = arguments.parts;
    let wanted = |part| parts.is_empty() || parts.contains(&part);
    if wanted(Part::Traffic) {
        let all = traffic::Sequence::ALL.to_vec();
        let sequences = if arguments.sequences.is_empty() { all } else { arguments.sequences };
        traffic::measure(&sequences, arguments.runs)?;
    }
    if wanted(Part::Commands) {
        commands::measure(arguments.runs, arguments.routes)?;
    }
    if wanted(Part::Undo) {
        undo::measure(arguments.runs)?;
    }
    if wanted(Part::Survival) {
        survival::measure(arguments.runs)?;
    }
    Ok(())
}
