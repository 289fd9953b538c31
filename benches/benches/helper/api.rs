//! The daemon with a real API server: one Service among many changes, and how long until the bridge has it.
//!
//! Everything is measured from outside: a watch on the API server shows when the event was sent, a flow monitor of
//! `ovs-ofctl` when the switch had the flow. The server listens on the node's loopback, so that no datapath
//! lies between. The helper's own numbers stand beside.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use benches::cluster::{FIRST_SPARE_NODE_PORT, MadeUp, services};
use benches::sample::Samples;
use netns_tests::apiserver::{ApiServer, Place};
use netns_tests::lab::helper::{Daemon, HelperOptions, Objects};
use netns_tests::lab::node::{BRIDGE, Node};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::daemon::Measured;
use crate::report::Report;
use crate::stage::{self, PATIENCE};

/// Services with slices, then changes of one of them.
pub fn measure(report: &mut Report, all: usize, runs: usize, slow_runs: usize) -> Result<()> {
    let (lab, node) = stage::lab()?;
    let place = Place::Netns { name: node.namespace().name().to_owned(), ip: [127, 0, 0, 1].into() };
    let api = ApiServer::start(&place)?;
    let began = Instant::now();
    let objects: Vec<Value> = services(all).flat_map(|service| [service.object(), service.slice()]).collect();
    for some in objects.chunks(2000) {
        api.create_all(some)?;
    }
    println!("{all} Services and as many slices made in {} s", began.elapsed().as_secs());

    let daemon = Daemon::launch(&lab, &node, &options(&api, &node)?)?;
    let measured = Measured { node, daemon, runtime: Runtime::new()? };
    let flows = measured.wait_ready(all)?;
    let resident = format!("resident memory, {all} Services and slices of an API server, {flows} flows");
    report.number(&resident, &stage::memory_text(measured.daemon.id()?)?, "< 60 MiB");
    measured.daemon.appctl("vlog/set dbg")?;
    changes(report, &api, &measured, all, runs)?;
    report.number("the same after the changes", &stage::memory_text(measured.daemon.id()?)?, "< 60 MiB");
    measured.restart(report, "an API server", flows, slow_runs)?;
    report.number("the same after a restart", &stage::memory_text(measured.daemon.id()?)?, "< 60 MiB");
    Ok(())
}

fn options(api: &ApiServer, node: &Node) -> Result<HelperOptions> {
    let token = node.dir().join("token");
    std::fs::write(&token, api.token())?;
    let extra = vec![
        format!("--k8s-api-server={}", api.url()),
        format!("--k8s-token-file={}", token.display()),
        format!("--k8s-ca-file={}", api.ca_file().display()),
    ];
    Ok(HelperOptions { objects: Objects::Elsewhere, extra, ..HelperOptions::default() })
}

/// The NodePort of one Service moves, from one spare port to the next.
fn changes(report: &mut Report, api: &ApiServer, measured: &Measured, all: usize, runs: usize) -> Result<()> {
    let (node, daemon) = (&*measured.node, &measured.daemon);
    let service = MadeUp::new(40);
    let path = format!("/api/v1/namespaces/default/services/{}", service.name());
    let events = Lines::of(watch(api, &service), node, Output::Out)?;
    let monitor = monitor(node);
    let flows = Lines::of(monitor, node, Output::Error)?;
    let move_to = |port: u16| {
        let port =
            json!({ "name": "main", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": port });
        let body = json!({ "spec": { "ports": [port] } });
        api.request("PATCH", &path, Some(("application/merge-patch+json", &body)))
    };
    // Moved until both have begun to watch.
    for port in (FIRST_SPARE_NODE_PORT + 160..).take(7).cycle() {
        move_to(port)?;
        if flows.next_within(&format!("tp_dst={port}"), Duration::from_secs(1)).is_ok() {
            events.next_with(&format!("\"nodePort\":{port}"))?;
            break;
        }
    }
    let (mut inside, mut outside, mut from_request) =
        (Samples::default(), Samples::default(), Samples::default());
    let log = node.dir().join("ovn-k8s-gateway-helper.log");
    let seen = std::fs::metadata(&log)?.len();
    for port in (FIRST_SPARE_NODE_PORT..FIRST_SPARE_NODE_PORT + 160).cycle().take(runs) {
        let began = Instant::now();
        move_to(port)?;
        let event = events.next_with(&format!("\"nodePort\":{port}"))?;
        let flow = flows.next_with(&format!("tp_dst={port}"))?;
        outside.add(flow.saturating_duration_since(event));
        from_request.add(flow.saturating_duration_since(began));
    }
    let text = std::fs::read_to_string(&log)?;
    let lines = text.get(usize::try_from(seen)?..).unwrap_or_default().lines();
    let durations = lines.filter_map(|line| line.split_once(" flows changed in ")?.1.strip_suffix(" us"));
    for microseconds in durations {
        inside.add(Duration::from_micros(microseconds.parse().context("the helper's own time")?));
    }
    let target = Some(Duration::from_millis(5));
    report.times(
        &format!("one change among {all} Services: from the API server's event to the flow"),
        &outside,
        target,
    );
    report.times("the same inside the helper: from the event read to the barrier reply", &inside, target);
    report.times(
        "the same from before the PATCH request (a curl, etcd and the server in it)",
        &from_request,
        None,
    );
    let (count, sum) = stage::programmed(daemon)?;
    println!("the helper's histogram: {count} changes, {sum:.3} s in all");
    Ok(())
}

/// A watch of one Service.
fn watch(api: &ApiServer, service: &MadeUp) -> Command {
    let mut command = Command::new("curl");
    let query = format!("watch=1&fieldSelector=metadata.name%3D{}", service.name());
    command.args(["-sSN", "--cacert"]).arg(api.ca_file());
    command.args(["-H", &format!("Authorization: Bearer {}", api.token())]);
    command.arg(format!("{}/api/v1/namespaces/default/services?{query}", api.url()));
    command
}

/// A monitor of all changes of the bridge's flows.
fn monitor(node: &Node) -> Command {
    let mut command = Command::new("ovs-ofctl");
    command.args(["monitor", BRIDGE, "watch:!initial"]);
    command.envs(node.environment().iter().map(|(name, value)| (name, value)));
    command
}

/// Which of a program's outputs is read.
enum Output {
    Out,
    Error,
}

/// A program whose lines are noted with the time they came.
struct Lines {
    child: Child,
    lines: Receiver<(Instant, String)>,
    reader: Option<JoinHandle<()>>,
}

impl Lines {
    fn of(mut command: Command, node: &Node, output: Output) -> Result<Self> {
        match output {
            Output::Out => command.stdout(Stdio::piped()).stderr(Stdio::null()),
            Output::Error => command.stdout(Stdio::null()).stderr(Stdio::piped()),
        };
        command.stdin(Stdio::null());
        let mut child = node.namespace().enter(|| command.spawn())?.context("starting a watcher")?;
        let stream: Option<Box<dyn Read + Send>> = match output {
            Output::Out => child.stdout.take().map(|stream| Box::new(stream) as _),
            Output::Error => child.stderr.take().map(|stream| Box::new(stream) as _),
        };
        let stream = stream.context("a watcher without output")?;
        let (sender, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    break;
                }
            }
        });
        Ok(Lines { child, lines, reader: Some(reader) })
    }

    /// When the next line with such a text came.
    fn next_with(&self, text: &str) -> Result<Instant> {
        self.next_within(text, PATIENCE)
    }

    fn next_within(&self, text: &str, bound: Duration) -> Result<Instant> {
        let deadline = Instant::now() + bound;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok((at, line)) if line.contains(text) => return Ok(at),
                Ok(_) => {}
                Err(error) => bail!("no line with {text} came: {error}"),
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }
}
