//! The gateway helper on a node: the product's binary, driven from outside, or the reference helper.

use std::{
    collections::BTreeSet,
    fmt,
    io::{Read, Write},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::{
    Lab, PortRange,
    address::{JOIN, SERVICES},
    node::{BRIDGE, Node, Stop, UPLINK},
    process::{Program, RunningProgram, wait_until},
    service::ServiceSpec,
};
use crate::probe::Request;

/// `--reply-rule`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReplyRule {
    /// As the gateway router's NAT row says.
    #[default]
    Auto,
    /// By connection table.
    Tracked,
    /// By port range.
    Partitioned,
}

impl ReplyRule {
    /// As the flag takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tracked => "tracked",
            Self::Partitioned => "partitioned",
        }
    }
}

/// Where a helper gets its Services from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Objects {
    /// The folder [`Lab::apply`] writes.
    #[default]
    Manifests,
    /// What `extra` says.
    Elsewhere,
}

/// How to start a helper.
#[derive(Debug, Clone, Default)]
pub struct HelperOptions {
    /// `--reply-rule`.
    pub reply_rule: ReplyRule,
    /// `--snat-ports`.
    pub snat_ports: Option<PortRange>,
    /// Where Services come from.
    pub objects: Objects,
    /// More arguments.
    pub extra: Vec<String>,
}

/// Who splits the traffic of a node's NIC.
pub trait Helper: Send + Sync + fmt::Debug {
    /// Returns when the bridge serves these Services and no others. The lab's manifests say them already.
    fn follow(&self, services: &[ServiceSpec]) -> Result<()>;

    /// Ends it. What it programmed stays.
    fn stop(&self, how: Stop) -> Result<()>;

    /// Starts it again the way it was started; returns when it is ready.
    fn start_again(&self) -> Result<()>;

    /// Ends it and starts it again.
    fn restart(&self, how: Stop) -> Result<()> {
        self.stop(how)?;
        self.start_again()
    }
}

/// Whether the environment asks for the reference helper (`LAB_REFERENCE_HELPER=1`).
pub fn uses_reference_helper() -> bool {
    std::env::var_os("LAB_REFERENCE_HELPER").is_some_and(|value| value != "0" && !value.is_empty())
}

/// The product's binary: `OVN_K8S_BIN`, or `ovn-k8s` beside the test's own folder in the target directory.
pub fn binary() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("OVN_K8S_BIN") {
        return Ok(named.into());
    }
    let test = std::env::current_exe().context("finding the test's own executable")?;
    let built = test.ancestors().skip(1).take(2).map(|dir| dir.join("ovn-k8s")).find(|file| file.exists());
    built.context("the binary ovn-k8s is not built: run `cargo build`, or name it with OVN_K8S_BIN")
}

/// Port of `/readyz` and the metrics, on the node's loopback.
pub const METRICS_PORT: u16 = 9409;

/// The product's helper, a child in the foreground.
#[derive(Debug)]
pub struct Daemon {
    node: Arc<Node>,
    manifests: PathBuf,
    options: HelperOptions,
    held: Mutex<Option<RunningProgram>>,
}

impl Daemon {
    /// Starts it and waits until it says it is ready.
    pub fn start(lab: &Lab, node: &Arc<Node>, options: &HelperOptions) -> Result<Self> {
        let daemon = Self::launch(lab, node, options)?;
        daemon.wait_until_ready()?;
        Ok(daemon)
    }

    /// Starts it and does not wait.
    pub fn launch(lab: &Lab, node: &Arc<Node>, options: &HelperOptions) -> Result<Self> {
        lab.write_manifests_if_missing()?;
        let (manifests, options) = (lab.manifests(), options.clone());
        let daemon = Self { node: Arc::clone(node), manifests, options, held: Mutex::default() };
        daemon.run()?;
        Ok(daemon)
    }

    /// Starts the process.
    fn run(&self) -> Result<()> {
        let program = command(&self.node, &self.manifests, &self.options)?;
        let started = program.hold(&self.node.dir().join("helper.out"), self.node.register())?;
        self.slot(|held| *held = Some(started))
    }

    /// Starts it again and does not wait until it is ready.
    pub fn start_without_waiting(&self) -> Result<()> {
        self.run()
    }

    /// Ends the process, and does not start it again.
    pub fn end(&self, how: Stop) -> Result<()> {
        let held = self.slot(Option::take)?.context("the helper does not run")?;
        how.end(held)
    }

    /// Waits until `/readyz` says yes; an error when it ends before.
    pub fn wait_until_ready(&self) -> Result<()> {
        wait_until(&format!("the helper of {} to be ready", self.node.name()), || {
            self.with(RunningProgram::expect_alive)??;
            let (code, body) = self.get("/readyz")?;
            ensure!(code == 200, "/readyz says {code}: {}", body.trim());
            Ok(true)
        })
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        self.with(|held| held.id())
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> Result<bool> {
        self.with(RunningProgram::is_alive)?
    }

    /// A page of its HTTP server: status code and body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let to = ([127, 0, 0, 1], METRICS_PORT).into();
        let mut stream = Request::tcp(to).within(Duration::from_secs(5)).connect(self.node.namespace())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let code = text.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        Ok((code.with_context(|| format!("an answer that is not HTTP: {text:?}"))?, body.to_owned()))
    }

    /// `ovs-appctl` to it.
    pub fn appctl(&self, line: &str) -> Result<String> {
        self.node.program("ovs-appctl").args(["-t", "ovn-k8s-gateway-helper"]).line(line).run()
    }

    fn with<T>(&self, work: impl FnOnce(&mut RunningProgram) -> T) -> Result<T> {
        self.slot(|held| held.as_mut().map(work))?.context("the helper does not run")
    }

    fn slot<T>(&self, work: impl FnOnce(&mut Option<RunningProgram>) -> T) -> Result<T> {
        let mut held = self.held.lock().map_err(|_| anyhow!("a thread broke while it held the helper"))?;
        Ok(work(&mut held))
    }
}

/// The helper's command line on a node, in the foreground.
pub fn command<'a>(
    node: &'a Node,
    manifests: &std::path::Path,
    options: &HelperOptions,
) -> Result<Program<'a>> {
    let dir = node.dir().display();
    let mut program = node.program(link(node)?).args([
        format!("--physical-bridge={BRIDGE}"),
        format!("--physical-interface={UPLINK}"),
        format!("--node-name={}", node.name()),
        format!("--service-cluster-ip-range={}", SERVICES.join(",")),
        format!("--join-subnet={}", JOIN.join(",")),
        format!("--state-dir={dir}/state"),
        format!("--metrics-address=127.0.0.1:{METRICS_PORT}"),
        format!("--reply-rule={}", options.reply_rule.name()),
        format!("--pidfile={dir}/ovn-k8s-gateway-helper.pid"),
        format!("--log-file={dir}/ovn-k8s-gateway-helper.log"),
    ]);
    if let Some(range) = options.snat_ports {
        program = program.arg(format!("--snat-ports={range}"));
    }
    if options.objects == Objects::Manifests {
        program = program.arg(format!("--manifests={}", manifests.display()));
    }
    Ok(program.args(&options.extra))
}

/// The binary is asked for a program by the name it is called by.
fn link(node: &Node) -> Result<PathBuf> {
    let link = node.dir().join("ovn-k8s-gateway-helper");
    if !link.exists() {
        let binary = binary()?;
        if !binary.exists() {
            bail!("{} does not exist: OVN_K8S_BIN names the binary to test", binary.display());
        }
        std::os::unix::fs::symlink(binary, &link).with_context(|| format!("linking {}", link.display()))?;
    }
    Ok(link)
}

impl Helper for Daemon {
    fn follow(&self, services: &[ServiceSpec]) -> Result<()> {
        let ports = |service: &ServiceSpec| -> Vec<String> {
            let rows = service.ports.iter().map(|port| (port.protocol.name(), port.node_port));
            rows.flat_map(|(name, port)| ["", "6"].map(|six| format!("{name}{six},tp_dst={port}"))).collect()
        };
        // Served by the host itself, so a flow that says so may be there or not.
        let (own, others): (Vec<_>, Vec<_>) =
            services.iter().partition(|service| has_only_host_endpoints(service, self.node.number()));
        let wanted: BTreeSet<String> = others.into_iter().flat_map(ports).collect();
        let allowed: BTreeSet<String> =
            own.into_iter().flat_map(ports).chain(wanted.iter().cloned()).collect();
        wait_until(&format!("the helper of {} to serve {} ports", self.node.name(), wanted.len()), || {
            self.with(RunningProgram::expect_alive)??;
            let flows = self.node.flows(BRIDGE)?;
            let found: BTreeSet<String> = flows.iter().filter_map(|flow| node_port_of(flow)).collect();
            if let Some(missing) = wanted.difference(&found).next() {
                bail!("no flow for {missing}");
            }
            if let Some(extra) = found.difference(&allowed).next() {
                bail!("still a flow for {extra}");
            }
            Ok(true)
        })
    }

    fn stop(&self, how: Stop) -> Result<()> {
        self.end(how)
    }

    fn start_again(&self) -> Result<()> {
        self.run()?;
        self.wait_until_ready()
    }
}

fn has_only_host_endpoints(service: &ServiceSpec, node: usize) -> bool {
    let mut here = service.usable().filter(|endpoint| endpoint.node == node).peekable();
    service.local && here.peek().is_some() && here.all(|endpoint| endpoint.is_host())
}

/// Protocol and port of a flow that matches a port of the NodePort range exactly.
fn node_port_of(flow: &str) -> Option<String> {
    let condition = flow.split(" actions=").next()?;
    let mut protocol = None;
    let mut port = None;
    for word in condition.split([',', ' ']) {
        match word {
            "tcp" | "udp" | "tcp6" | "udp6" => protocol = Some(word),
            _ => {
                if let Some(number) = word.strip_prefix("tp_dst=").and_then(|n| n.parse::<u16>().ok()) {
                    port = Some(number).filter(|number| (30000..32768).contains(number)).or(port);
                }
            }
        }
    }
    Some(format!("{},tp_dst={}", protocol?, port?))
}
