//! Bundles and single changes on a bridge of a real ovs-vswitchd, over the helper's own connection code.
//!
//! The bridge is one that no helper looks after, so that what is timed is the rendering, the connection and the switch.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::cluster::{FIRST_SPARE_NODE_PORT, MadeUp, datapath, policy, services_for};
use benches::sample::Samples;
use flows::{Rendering, cookie};
use netns_tests::lab::node::Node;
use ovs::openflow::{Connection, FlowMod, diff};
use tokio::runtime::Runtime;

use crate::report::Report;
use crate::stage;

const BRIDGE: &str = "brbench";
/// After flows were deleted.
const QUIET: Duration = Duration::from_millis(500);
const SIZES: [(usize, Duration); 2] =
    [(10_000, Duration::from_millis(150)), (30_000, Duration::from_millis(500))];

/// All measurements, the variants alternating.
pub fn measure(report: &mut Report, runs: usize, slow_runs: usize) -> Result<()> {
    let (_lab, node) = stage::lab()?;
    node.vsctl(&format!("add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type=netdev fail-mode=secure"))?;
    let runtime = Runtime::new()?;
    let address = format!("unix:{}", stage::socket(&node, BRIDGE).display());
    let connection = runtime.block_on(Connection::connect(&address))?;
    from_nothing(report, &runtime, &connection, slow_runs)?;
    one_change(report, &runtime, &connection, &node, runs, slow_runs)
}

fn from_nothing(report: &mut Report, runtime: &Runtime, connection: &Connection, runs: usize) -> Result<()> {
    let mut render = [Samples::default(), Samples::default()];
    let mut install = render.clone();
    let mut adopt = render.clone();
    for _ in 0..runs {
        for (index, (size, _)) in SIZES.iter().enumerate() {
            let policy = policy(services_for(*size));
            runtime.block_on(clear(connection))?;

            let began = Instant::now();
            let rendering = Rendering::new(policy, datapath());
            render[index].add(began.elapsed());

            let began = Instant::now();
            let changes = runtime.block_on(compare(connection, &rendering))?;
            install[index].add(began.elapsed());
            ensure!(changes == rendering.flows().len(), "{changes} changes from nothing");

            let began = Instant::now();
            let changes = runtime.block_on(compare(connection, &rendering))?;
            adopt[index].add(began.elapsed());
            ensure!(changes == 0, "{changes} flows read back differ");
        }
    }
    for (index, (size, target)) in SIZES.into_iter().enumerate() {
        report.times(&format!("{size} flows: rendered"), &render[index], None);
        let what = format!("{size} flows: from an empty bridge to the committed bundle");
        report.times(&what, &install[index], Some(target));
        report.times(&format!("{size} flows: read back and found right"), &adopt[index], None);
    }
    Ok(())
}

/// As the helper does it: dump, compare, one bundle.
async fn compare(connection: &Connection, rendering: &Rendering) -> Result<usize> {
    let dump = connection.dump_all().await?;
    let plan = diff(rendering.flows(), &dump, &cookie::ours());
    connection.bundle(&plan.mods).await?;
    Ok(plan.mods.len())
}

async fn clear(connection: &Connection) -> Result<()> {
    let all = FlowMod::DeleteAll { cookies: cookie::cookies(), table: None };
    connection.bundle(&[all]).await?;
    // vswitchd frees what was deleted by and by, which is not what is measured.
    tokio::time::sleep(QUIET).await;
    Ok(())
}

/// One Service's NodePort moves (four flows go, four come): by a delta and by `replace-flows`, alternating.
fn one_change(
    report: &mut Report,
    runtime: &Runtime,
    connection: &Connection,
    node: &Node,
    runs: usize,
    slow_runs: usize,
) -> Result<()> {
    let mut rendering = Rendering::new(policy(services_for(10_000)), datapath());
    runtime.block_on(clear(connection))?;
    runtime.block_on(compare(connection, &rendering))?;
    let file = node.dir().join("replace-flows.txt");
    let (mut delta, mut replaced, mut nothing) = (Samples::default(), Samples::default(), Samples::default());
    let mut barrier = Samples::default();
    let service = MadeUp::new(400);
    let mut moves = (FIRST_SPARE_NODE_PORT..).step_by(1).take(160).cycle();
    let mut next = || service.clone().at_node_port(moves.next().unwrap_or(FIRST_SPARE_NODE_PORT));
    for round in 0..slow_runs {
        for _ in 0..runs.div_ceil(slow_runs.max(1)) {
            let moved = next();
            let began = Instant::now();
            let mods = rendering.set_service(&moved.key(), Some(moved.rules()));
            runtime.block_on(connection.apply(&mods))?;
            delta.add(began.elapsed());
            ensure!(mods.len() == 8, "{} flows changed", mods.len());

            let began = Instant::now();
            runtime.block_on(connection.barrier())?;
            barrier.add(began.elapsed());
        }
        let moved = next();
        rendering.set_service(&moved.key(), Some(moved.rules()));
        write_flows(&file, &rendering)?;
        let replace = stage::ofctl(node).arg("--bundle").args(["replace-flows", BRIDGE]);
        let replace = replace.arg(file.display().to_string());
        let began = Instant::now();
        replace.run().with_context(|| format!("round {round}"))?;
        replaced.add(began.elapsed());

        let began = Instant::now();
        stage::ofctl(node).arg("--version").run()?;
        nothing.add(began.elapsed());

        let left = runtime.block_on(compare(connection, &rendering))?;
        ensure!(left == 0, "replace-flows left {left} flows to change");
    }
    report.times("one change among 10000 flows: by delta, to the barrier reply", &delta, None);
    report.times("a barrier alone: the round trip to the switch", &barrier, None);
    report.times("the same by `ovs-ofctl --bundle replace-flows FILE`", &replaced, None);
    report.times("`ovs-ofctl --version`: what starting a program takes", &nothing, None);
    let ratio = replaced.ratio_to(&delta);
    report.number("one change among 10000 flows: how many times faster", &format!("{ratio:.0}"), ">= 50");
    Ok(())
}

fn write_flows(file: &Path, rendering: &Rendering) -> Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    for (key, value) in rendering.flows() {
        let flow = ovs::openflow::flow::Flow { key: key.clone(), value: value.clone() };
        writeln!(out, "{flow}")?;
    }
    out.flush().context("writing flows for ovs-ofctl")
}
