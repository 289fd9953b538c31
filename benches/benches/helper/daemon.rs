//! The daemon with a folder of manifests: flows from nothing, its own restart, the switch's, memory.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use benches::cluster::{services, services_for};
use benches::sample::{Samples, milliseconds};
use netns_tests::lab::helper::{Daemon, Helper, HelperOptions};
use netns_tests::lab::node::{BRIDGE, Node, Stop};
use netns_tests::lab::process::wait_within;
use ovs::openflow::Connection;
use tokio::runtime::Runtime;

use crate::report::Report;
use crate::stage::{self, PATIENCE};

/// The helper's flows, as `ovs-ofctl` names them.
const OURS: &str = "cookie=0x6f766e3800000000/0xffffffff00000000";

/// A node with a ready helper.
pub struct Measured {
    /// The node.
    pub node: Arc<Node>,
    /// The helper.
    pub daemon: Daemon,
    /// Runs the bench's own connections to the bridge.
    pub runtime: Runtime,
}

/// With the Services of about 10,000 flows, then with all of them.
pub fn measure(report: &mut Report, all: usize, runs: usize) -> Result<()> {
    let (lab, node) = stage::lab()?;
    let few = services_for(10_000).min(all);
    stage::write_manifests(&lab.manifests(), services(few))?;
    let daemon = Daemon::launch(&lab, &node, &HelperOptions::default())?;
    let measured = Measured { node, daemon, runtime: Runtime::new()? };

    let flows = measured.wait_ready(few)?;
    measured.refill(report, flows, runs, Duration::from_millis(150))?;
    measured.switch_killed(report, flows, runs)?;

    stage::write_manifests(&lab.manifests(), services(all).skip(few))?;
    let flows = measured.wait_ready(all)?;
    report.number(
        &format!("resident memory, {all} Services of a folder of manifests, {flows} flows"),
        &stage::memory_text(measured.daemon.id()?)?,
        "< 60 MiB",
    );
    measured.refill(report, flows, runs, Duration::from_millis(500))?;
    measured.restart(report, "a folder of manifests", flows, runs)?;
    report.number(
        "the same after a restart with all of them there",
        &stage::memory_text(measured.daemon.id()?)?,
        "< 60 MiB",
    );
    Ok(())
}

impl Measured {
    /// Waits until all Services are known and applied; returns the number of flows.
    pub fn wait_ready(&self, services: usize) -> Result<usize> {
        wait_within(&format!("{services} Services"), PATIENCE, || {
            let known = stage::metric(&self.daemon, "ovn_k8s_gateway_helper_services")?;
            let ready = stage::metric(&self.daemon, "ovn_k8s_gateway_helper_ready")?;
            ensure!(known >= services as f64 && ready > 0.0, "{known} are known");
            Ok(true)
        })?;
        self.daemon.appctl("reconcile")?;
        let connection = self.runtime.block_on(self.connect())?;
        let flows = self.runtime.block_on(stage::count_flows(&connection))?;
        ensure!(flows >= services * 3 / 2, "{flows} flows of {services} Services");
        Ok(flows)
    }

    /// Removes all of the helper's flows; the helper installs them again.
    fn refill(&self, report: &mut Report, flows: usize, runs: usize, target: Duration) -> Result<()> {
        let mut times = Samples::default();
        let connection = self.runtime.block_on(self.connect())?;
        let (helper, switch) = (self.daemon.id()?, stage::switch_process(&self.node)?);
        let (mut used_by_helper, mut used_by_switch) = (Duration::ZERO, Duration::ZERO);
        for run in 0..runs {
            let before = (stage::processor_time(helper)?, stage::processor_time(switch)?);
            let (count, sum) = stage::programmed(&self.daemon)?;
            stage::ofctl(&self.node).args(["del-flows", BRIDGE, OURS]).run()?;
            self.daemon.appctl("reconcile")?;
            let (count_after, sum_after) = stage::programmed(&self.daemon)?;
            let installed = self.runtime.block_on(stage::count_flows(&connection))?;
            ensure!(installed == flows, "run {run}: {installed} flows instead of {flows}");
            // With one observation more, the sum grew by just that.
            if count_after - count == 1.0 {
                times.add(Duration::from_secs_f64(sum_after - sum));
            }
            used_by_helper += stage::processor_time(helper)? - before.0;
            used_by_switch += stage::processor_time(switch)? - before.1;
            // Work that the change started ends before the next run.
            std::thread::sleep(Duration::from_millis(500));
        }
        let what =
            format!("the daemon, {flows} flows from nothing: look at everything, compare, committed bundle");
        report.times(&what, &times, Some(target));
        let each = |used: Duration| milliseconds(used / u32::try_from(runs).unwrap_or(1).max(1));
        let used = format!(
            "helper {}, ovs-vswitchd {} (deletion included)",
            each(used_by_helper),
            each(used_by_switch)
        );
        report.number(&format!("processor time of putting {flows} flows back, mean"), &used, "");
        Ok(())
    }

    /// Kills and starts ovs-vswitchd: from its bridge's socket until all flows are installed.
    fn switch_killed(&self, report: &mut Report, flows: usize, runs: usize) -> Result<()> {
        let (mut back, mut up) = (Samples::default(), Samples::default());
        let socket = stage::socket(&self.node, BRIDGE);
        for _ in 0..runs {
            self.node.stop_switch(Stop::Kill)?;
            let began = Instant::now();
            let opened = std::thread::scope(|scope| {
                let starting = scope.spawn(|| self.node.start_switch());
                let opened = wait_for_socket(&socket);
                starting.join().map_err(|_| anyhow::anyhow!("the thread that starts vswitchd broke"))??;
                opened
            })?;
            up.add(opened - began);
            back.add(self.runtime.block_on(self.wait_until_back(flows, opened))?);
            self.daemon.wait_until_ready()?;
        }
        report.times("ovs-vswitchd killed: from its start to the socket", &up, None);
        let what = format!("ovs-vswitchd killed: from its socket to {flows} flows");
        report.times(&what, &back, Some(Duration::from_millis(500)));
        Ok(())
    }

    /// The flows are counted often enough to see when they came, and not so often that counting delays them.
    async fn wait_until_back(&self, flows: usize, opened: Instant) -> Result<Duration> {
        let mut connection = None;
        while opened.elapsed() < PATIENCE {
            if connection.is_none() {
                connection = self.connect().await.ok();
            }
            if let Some(open) = &connection {
                match stage::count_flows(open).await {
                    Ok(count) if count >= flows => return Ok(opened.elapsed()),
                    Ok(_) => {}
                    Err(_) => connection = None,
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        bail!("{flows} flows were not back after {PATIENCE:?}")
    }

    /// The helper is killed and started again with all flows in place.
    pub fn restart(&self, report: &mut Report, source: &str, flows: usize, runs: usize) -> Result<()> {
        let (mut adopted, mut whole) = (Samples::default(), Samples::default());
        let log = self.node.dir().join("ovn-k8s-gateway-helper.log");
        let mut rewritten = 0.0;
        for _ in 0..runs {
            let seen = std::fs::read_to_string(&log)?.len();
            let began = Instant::now();
            self.daemon.restart(Stop::Kill)?;
            let line = adoption(&log, seen)?;
            whole.add(began.elapsed());
            adopted.add(line);
            rewritten += stage::metric(&self.daemon, "ovn_k8s_gateway_helper_flow_changes_total")?;
            let connection = self.runtime.block_on(self.connect())?;
            let installed = self.runtime.block_on(stage::count_flows(&connection))?;
            ensure!(installed == flows, "{installed} flows instead of {flows}");
        }
        let what = format!(
            "helper killed and started, {flows} flows in place, {source}: from sources synced to adopted"
        );
        report.times(&what, &adopted, Some(Duration::from_millis(300)));
        report.times("the same from the kill, reading everything included", &whole, None);
        report.number(&format!("flows rewritten in {runs} restarts"), &rewritten.to_string(), "0");
        Ok(())
    }

    async fn connect(&self) -> Result<Connection> {
        let address = format!("unix:{}", stage::socket(&self.node, BRIDGE).display());
        Connection::connect(&address).await.with_context(|| format!("connecting to {BRIDGE}"))
    }
}

fn wait_for_socket(socket: &std::path::Path) -> Result<Instant> {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if UnixStream::connect(socket).is_ok() {
            return Ok(Instant::now());
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    bail!("{} did not open", socket.display())
}

/// The helper's log line about its adoption, after the `seen` first lines: the time from the event that completed its
/// sources.
fn adoption(log: &std::path::Path, seen: usize) -> Result<Duration> {
    let mut found = None;
    wait_within("the helper to adopt the flows", PATIENCE, || {
        let text = std::fs::read_to_string(log)?;
        let new = text.get(seen..).unwrap_or_default();
        ensure!(!new.contains("flows changed"), "flows were rewritten: {new}");
        let number = new.split_once("adopted in ").and_then(|(_, rest)| rest.split(' ').next());
        found = number.and_then(|number| number.parse().ok());
        Ok(found.is_some())
    })?;
    found.map(Duration::from_millis).context("no line of the adoption")
}
