//! The release binary on a node of the lab, measured from outside, beside a real ovs-vswitchd and kube-apiserver.
//!
//! ```text
//! cargo bench -p benches --bench helper                      everything
//! cargo bench -p benches --bench helper -- api --runs 300    one part of it
//! ```
//!
//! The binary is the one of `OVN_K8S_BIN`, or the release binary in the target folder (`make binary` makes it). Root,
//! and what the lab needs. Each part prints the rows of a Markdown table; nothing is asserted.

mod api;
mod bridge;
mod daemon;
mod report;
mod stage;
mod upcalls;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use report::Report;

/// What there is to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Bundles and single changes on a bridge, beside `ovs-ofctl replace-flows`.
    Bridge,
    /// The daemon with a folder of manifests: from nothing, restarts of both sides, memory.
    Daemon,
    /// The daemon with an API server: from the event to the flow, memory.
    Api,
    /// Upcalls with 2,000 NodePorts.
    Upcalls,
}

/// Measures the helper's release binary on a node of the lab.
#[derive(Debug, Parser)]
struct Arguments {
    /// What to measure (default: everything)
    parts: Vec<Part>,
    /// How often the quick things are done
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// How often the slow things are done (restarts, 30,000 flows)
    #[arg(long, default_value_t = 15)]
    slow_runs: usize,
    /// How many Services there are beside the one that changes
    #[arg(long, default_value_t = benches::cluster::SERVICES)]
    services: usize,
    /// Given by `cargo bench`; without it (`cargo test --benches`) nothing is measured
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if !arguments.bench {
        println!("measures nothing unless asked: cargo bench -p benches --bench helper");
        return Ok(());
    }
    stage::find_binary()?;
    let mut report = Report::default();
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wanted(Part::Bridge) {
        bridge::measure(&mut report, arguments.runs, arguments.slow_runs)?;
    }
    if wanted(Part::Daemon) {
        daemon::measure(&mut report, arguments.services, arguments.slow_runs)?;
    }
    if wanted(Part::Api) {
        api::measure(&mut report, arguments.services, arguments.runs, arguments.slow_runs)?;
    }
    if wanted(Part::Upcalls) {
        upcalls::measure(&mut report)?;
    }
    report.print();
    Ok(())
}
