//! A lab of one node, and a helper on it that is looked at from outside.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use benches::cluster::MadeUp;
use netns_tests::lab::helper::Daemon;
use netns_tests::lab::node::{BRIDGE, Node};
use netns_tests::lab::process::{Program, wait_within};
use netns_tests::lab::{Lab, LabOptions};
use ovs::openflow::{Connection, Cookies};

/// Bounds a wait for something that must happen on a machine however busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A lab of one node with one pod.
pub fn lab() -> Result<(Lab, Arc<Node>)> {
    let lab = Lab::up(LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() })?;
    let node = Arc::clone(lab.node(1)?);
    Ok((lab, node))
}

/// Names the release binary for the lab, unless `OVN_K8S_BIN` names one.
pub fn find_binary() -> Result<()> {
    if let Some(named) = std::env::var_os("OVN_K8S_BIN") {
        println!("the binary: {}", Path::new(&named).file_name().unwrap_or(&named).display());
        return Ok(());
    }
    // The lab looks beside the bench and one folder up, which is the release folder of this build: there, or in the
    // folder of the static build.
    let bench = std::env::current_exe().context("finding the bench's own executable")?;
    let found = bench.ancestors().skip(1).take(2).map(|dir| dir.join("ovn-k8s")).find(|file| file.exists());
    if found.is_none() {
        bail!("the release binary is not there: run `make binary` and name it with OVN_K8S_BIN");
    }
    Ok(())
}

/// Writes the manifests of these Services, with their slices, each Service a file; other files stay.
pub fn write_manifests(dir: &Path, services: impl Iterator<Item = MadeUp>) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    for service in services {
        write_manifest(dir, &service)?;
    }
    Ok(())
}

/// Writes the manifest of one Service, in one step.
pub fn write_manifest(dir: &Path, service: &MadeUp) -> Result<()> {
    let documents = [service.object(), service.slice()]
        .iter()
        .map(|object| serde_saphyr::to_string(object).context("writing YAML"))
        .collect::<Result<Vec<_>>>()?;
    let draft = dir.join(".draft");
    std::fs::write(&draft, documents.join("---\n"))?;
    std::fs::rename(&draft, dir.join(format!("{}.yaml", service.name())))?;
    Ok(())
}

/// A number of the helper's metrics page.
pub fn metric(daemon: &Daemon, name: &str) -> Result<f64> {
    let (_, page) = daemon.get("/metrics")?;
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let line = line.with_context(|| format!("no {name} among the metrics"))?;
    line.trim().parse().with_context(|| format!("{name} is {line}"))
}

/// Number and sum (in seconds) of the changes programmed so far, as the helper counts them.
pub fn programmed(daemon: &Daemon) -> Result<(f64, f64)> {
    let name = "ovn_k8s_gateway_helper_programming_duration_seconds";
    Ok((metric(daemon, &format!("{name}_count"))?, metric(daemon, &format!("{name}_sum"))?))
}

/// Waits until the helper reports at least this many installed flows.
pub fn wait_for_flows(daemon: &Daemon, flows: usize) -> Result<()> {
    wait_within(&format!("{flows} flows"), PATIENCE, || {
        let installed = metric(daemon, "ovn_k8s_gateway_helper_flows_installed")?;
        if installed < flows as f64 {
            bail!("{installed} are installed");
        }
        Ok(true)
    })
}

/// A line of `/proc/PID/status`, in KiB.
pub fn memory(process: u32, line: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let text = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let text = text.with_context(|| format!("no {line} in the status of {process}"))?;
    text.trim().trim_end_matches("kB").trim().parse().with_context(|| format!("{line} is {text}"))
}

/// How long a daemon is left alone before its memory is looked at: it gives back at a quiet moment after changes.
const REST: Duration = Duration::from_secs(8);

/// Processor time a process has used so far (utime and stime of proc(5), in ticks of 10 ms).
pub fn processor_time(process: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').context("a stat file without a name")?;
    let ticks = rest.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap_or(0));
    Ok(Duration::from_millis(10) * u32::try_from(ticks.sum::<u64>())?)
}

/// The process id of the node's ovs-vswitchd.
pub fn switch_process(node: &Node) -> Result<u32> {
    let text = std::fs::read_to_string(node.dir().join("ovs-vswitchd.pid"))?;
    text.trim().parse().context("the process id of ovs-vswitchd")
}

/// What resident memory amounts to at rest, for a table.
pub fn memory_text(process: u32) -> Result<String> {
    std::thread::sleep(REST);
    let mebibytes = |line| memory(process, line).map(|kibibytes| kibibytes as f64 / 1024.0);
    Ok(format!("{:.1} MiB (highest since its start: {:.1} MiB)", mebibytes("VmRSS")?, mebibytes("VmHWM")?))
}

/// The management socket of a bridge.
pub fn socket(node: &Node, bridge: &str) -> PathBuf {
    node.dir().join(format!("{bridge}.mgmt"))
}

/// `ovs-ofctl`, with the node's environment.
pub fn ofctl(node: &Node) -> Program<'_> {
    node.program("ovs-ofctl").args(["-O", "OpenFlow14"])
}

/// The helper's flows on the node's bridge, counted by an OpenFlow connection of our own.
pub async fn count_flows(connection: &Connection) -> Result<usize> {
    let mark = Cookies { value: 0x6f76_6e38 << 32, mask: 0xffff_ffff << 32 };
    let sum = connection.aggregate(mark).await.with_context(|| format!("counting the flows of {BRIDGE}"))?;
    Ok(sum.flows as usize)
}
