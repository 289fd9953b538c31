//! `ovn-k8s explain` on a real node: policy and bridge are asked side by side, and asking changes neither.

#![allow(clippy::unwrap_used, reason = "all of this is test code")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use demux::decide::Ingress;
use demux::generate::{Case, Generator};
use demux::policy::Policy;
use netns_tests::lab::address::Family;
use netns_tests::lab::helper::{Daemon, Helper as _, HelperOptions, binary};
use netns_tests::lab::node::{BRIDGE, Node, PATCH};
use netns_tests::lab::service::{EndpointSpec, ServiceSpec};
use netns_tests::lab::{Lab, LabOptions};
use netns_tests::probe::{Listen, Request, Responder};
use serde_json::Value;

const NODE_PORT: u16 = 30080;
const SERVER_PORT: u16 = 8080;

/// A node with a helper, a service, and somebody who answers in the internet.
struct Bench {
    helper: Daemon,
    node: Arc<Node>,
    _server: Responder,
    lab: Lab,
}

impl Bench {
    fn set_up() -> Result<Bench> {
        let lab = Lab::up(LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() })?;
        let node = Arc::clone(lab.node(1)?);
        let helper = Daemon::start(&lab, &node, &HelperOptions::default())?;
        let services = [ServiceSpec::new("web", 1, NODE_PORT, SERVER_PORT, vec![EndpointSpec::pod(1, 1)])];
        lab.apply(&services)?;
        helper.follow(&services)?;
        let internet = lab.world().internet();
        let listens = Listen::everywhere(SERVER_PORT);
        let server = Responder::start(internet.namespace(), internet.name(), &listens)?;
        Ok(Bench { helper, node, _server: server, lab })
    }

    /// Runs `explain` with a line of words: exit code, output, error output.
    fn run(&self, words: &[&str]) -> Result<(i32, String, String)> {
        let mut command = Command::new(binary()?);
        command.arg("explain").args(words).envs(self.node.environment().iter().cloned());
        let output = command.output().context("running explain")?;
        let code = output.status.code().context("explain was killed")?;
        Ok((code, String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?))
    }

    /// The answer to a line of words with `--live`; bridge and policy must be of one mind.
    fn agreed(&self, line: &str) -> Result<Value> {
        let words: Vec<&str> =
            ["--live", "--output", "json"].into_iter().chain(line.split_whitespace()).collect();
        let (code, printed, said) = self.run(&words)?;
        ensure!(code == 0, "{line}: exit code {code}: {said}{printed}");
        Ok(serde_json::from_str(&printed)?)
    }

    /// The same for one frame with one branch, as "verdict by rule, owner".
    fn verdict(&self, line: &str) -> Result<String> {
        let answer = self.agreed(line)?;
        let frame = &answer["frames"][0];
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let branches = frame["branches"].as_array().context("no branches")?;
        let words = branches
            .iter()
            .map(|branch| format!("{} by {}", text(&branch["verdict"]), text(&branch["rule"])));
        Ok(format!("{}, {}", words.collect::<Vec<_>>().join(" | "), text(&frame["owner"]["owner"])))
    }

    fn address(&self, family: Family, port: u16) -> SocketAddr {
        self.node.address().port(family, port)
    }

    fn internet(&self, family: Family, port: u16) -> SocketAddr {
        self.lab.world().internet().address().port(family, port)
    }
}

#[test]
fn policy_and_bridge_are_asked_side_by_side() -> Result<()> {
    let bench = Bench::set_up()?;
    for family in Family::ALL {
        services_and_the_host(&bench, family)?;
        owners(&bench, family)?;
    }
    an_association_is_known_by_its_learned_flow(&bench)?;
    asking_changes_nothing(&bench)?;
    captures(&bench)?;
    a_foreign_flow_is_reported(&bench)?;
    a_policy_in_a_file(&bench)?;
    without_a_helper(bench)
}

fn services_and_the_host(bench: &Bench, family: Family) -> Result<()> {
    let outside = bench.internet(family, 40000);
    let node = |port| bench.address(family, port);
    let (from, to) = (outside.ip(), node(0).ip());
    let icmp = if family == Family::V4 { "icmp" } else { "icmp6" };
    let error = if family == Family::V4 { 3 } else { 1 };
    for (line, expected) in [
        (format!("tcp {outside} {}", node(NODE_PORT)), "north-south by node-port, -"),
        (format!("tcp {outside} {}", node(22)), "management by owner-unknown, nobody"),
        (format!("udp {outside} {}", node(29999)), "management by owner-unknown, nobody"),
        (format!("sctp {outside} {}", node(29999)), "management by sctp-unknown, nobody"),
        (format!("udp {outside} {}", node(6081)), "management by wire-tunnel, -"),
        (format!("{icmp} {from} {to} --type {error}"), "both by icmp-error, -"),
        (format!("{icmp} {from} {to} --id 7"), "management by owner-unknown, nobody"),
        (format!("tcp {outside} {} --vlan 5", node(NODE_PORT)), "management by tagged-wire, -"),
        (format!("tcp {outside} {} --mac 02:00:00:00:00:05", node(22)), "management by catch-all, -"),
        (format!("--from host tcp {} {outside}", node(50000)), "uplink by host-syn, -"),
        (format!("--from host --flags ack tcp {} {outside}", node(50000)), "uplink by host-untracked, -"),
        (
            format!("--from overlay tcp {} {outside} --flags ack", node(NODE_PORT)),
            "uplink by node-port-answer, -",
        ),
        (format!("--from overlay udp {} {outside}", node(50000)), "uplink by overlay-tracked, -"),
        (
            format!("udp {from} {to} --fragment later"),
            "north-south by owner-pods | management by owner-host | management by owner-unknown, -",
        ),
        (format!("udp {from} {to} --fragment later --owner pods"), "north-south by owner-pods, pods"),
    ] {
        let found = bench.verdict(&line)?;
        ensure!(found == expected, "{line}: {found}");
    }
    let answer = bench.agreed(&format!("tcp {outside} {}", node(NODE_PORT)))?;
    let branch = &answer["frames"][0]["branches"][0];
    ensure!(branch["service"].as_str().is_some_and(|name| name.starts_with("default/web")), "{branch}");
    ensure!(branch["live"]["rule"] == "node-port" && branch["live"]["flow"]["table"] == 2, "{branch}");
    Ok(())
}

/// Connections that pods and host have open outside: their answers' owner is read from the zone.
fn owners(bench: &Bench, family: Family) -> Result<()> {
    let server = bench.internet(family, SERVER_PORT);
    let pod = bench.lab.pod(1, 1)?.namespace();
    let host = bench.node.namespace();
    for (namespace, expected) in
        [(pod, "north-south by owner-pods, pods"), (host, "management by owner-host, host")]
    {
        for (name, request) in [("tcp", Request::tcp(server)), ("udp", Request::udp(server))] {
            let seen = request.send(namespace)?.seen_as;
            let found = bench.verdict(&format!("{name} {server} {seen} --flags ack"))?;
            ensure!(found == expected, "{name} {server} to {seen}: {found}");
            let piece = bench.verdict(&format!("{name} {server} {seen} --flags ack --fragment first"))?;
            ensure!(piece == expected, "the first piece of {name} {server} to {seen}: {piece}");
        }
    }
    Ok(())
}

fn an_association_is_known_by_its_learned_flow(bench: &Bench) -> Result<()> {
    let (server, node) = (bench.internet(Family::V4, 49125), bench.address(Family::V4, 49126));
    let line = format!("sctp {server} {node}");
    ensure!(bench.verdict(&line)? == "management by sctp-unknown, nobody");
    let flow = format!(
        "table=6,priority=10,cookie={:#x},sctp,nw_src={},nw_dst={},tp_src={},tp_dst={},actions=output:{}",
        flows::cookie::learned(),
        server.ip(),
        node.ip(),
        server.port(),
        node.port(),
        bench.node.ofport(PATCH)?
    );
    bench.node.ofctl(&format!("add-flow {BRIDGE} {flow}"))?;
    let found = bench.verdict(&line)?;
    ensure!(found == "north-south by sctp-learned, pods", "{found}");
    Ok(())
}

/// Neither the commit of a pod's connection nor a learned association follows from asking.
fn asking_changes_nothing(bench: &Bench) -> Result<()> {
    let node = bench.address(Family::V4, 49123);
    let outside = bench.internet(Family::V4, 49124);
    for protocol in ["tcp", "udp", "sctp"] {
        for side in ["overlay", "host"] {
            bench.verdict(&format!("--from {side} {protocol} {node} {outside}"))?;
        }
    }
    let dump = bench.node.appctl("dpctl/dump-conntrack")?;
    ensure!(!dump.contains("49123"), "{dump}");
    let flows = bench.node.flows(BRIDGE)?;
    ensure!(!flows.iter().any(|flow| flow.contains("49123")), "{flows:?}");
    Ok(())
}

/// Made-up frames of every kind, for the policy in force.
fn captures(bench: &Bench) -> Result<()> {
    let policy: Policy = serde_json::from_str(&bench.helper.appctl("policy")?)?;
    let cases = Generator::new(42).cases(&policy, 600);
    for (ingress, least) in [(Ingress::Uplink, 50), (Ingress::Host, 10), (Ingress::Overlay, 10)] {
        let frames: Vec<&Case> = cases.iter().filter(|case| case.ingress == ingress).collect();
        ensure!(frames.len() >= least, "only {} frames from {ingress}", frames.len());
        let file = bench.lab.dir().join(format!("{ingress}.pcap"));
        std::fs::write(&file, pcap(&frames))?;
        let answer = bench.agreed(&format!("--from {ingress} --pcap {}", file.display()))?;
        ensure!(
            answer["frames"].as_array().map(Vec::len) == Some(frames.len()),
            "frames of {ingress} are missing"
        );
    }
    let file = bench.lab.dir().join("uplink.pcap").display().to_string();
    let (code, printed, _) = bench.run(&["--pcap", &file])?;
    ensure!(code == 0 && printed.contains("FRAMES  RULE\n"), "{printed}");
    Ok(())
}

/// A capture file of Ethernet frames (pcap-savefile(5)).
fn pcap(cases: &[&Case]) -> Vec<u8> {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1] {
        file.extend(word.to_le_bytes());
    }
    for case in cases {
        let length = u32::try_from(case.bytes.len()).unwrap();
        for word in [0, 0, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&case.bytes);
    }
    file
}

fn a_foreign_flow_is_reported(bench: &Bench) -> Result<()> {
    let line = format!("tcp {} {}", bench.internet(Family::V4, 40000), bench.address(Family::V4, NODE_PORT));
    let words: Vec<&str> = ["--live"].into_iter().chain(line.split_whitespace()).collect();
    bench.node.ofctl(&format!("add-flow {BRIDGE} priority=40000,tcp,tp_dst={NODE_PORT},actions=drop"))?;
    let (code, printed, _) = bench.run(&words)?;
    ensure!(code == 2, "exit code {code}: {printed}");
    let said = "the policy says north-south by node-port, the bridge does drop by a flow that is not the helper's \
                (table 0, priority 40000, cookie 0x0, tcp,tp_dst=30080)";
    ensure!(printed.contains(said) && printed.contains("does NOT do what the policy says"), "{printed}");
    bench.node.ofctl(&format!("--strict del-flows {BRIDGE} priority=40000,tcp,tp_dst={NODE_PORT}"))?;
    let (code, printed, _) = bench.run(&words)?;
    ensure!(code == 0 && printed.contains("breth0 does what the policy says"), "exit code {code}: {printed}");
    Ok(())
}

/// A policy that somebody means to have, held against the bridge as it is.
fn a_policy_in_a_file(bench: &Bench) -> Result<()> {
    let mut policy: Value = serde_json::from_str(&bench.helper.appctl("policy")?)?;
    policy["services"] = Value::Object(serde_json::Map::new());
    let file: PathBuf = bench.lab.dir().join("policy.json");
    std::fs::write(&file, policy.to_string())?;
    let (from, to) = (bench.internet(Family::V4, 40000), bench.address(Family::V4, NODE_PORT));
    let (from, to, file) = (from.to_string(), to.to_string(), file.display().to_string());
    let words = ["--policy", &file, "--owner", "nobody", "tcp", &from, &to];
    let (code, printed, said) = bench.run(&words)?;
    ensure!(code == 0 && printed.contains("verdict  management\n"), "{said}{printed}");
    let live: Vec<&str> = words.into_iter().chain(["--live"]).collect();
    let (code, printed, _) = bench.run(&live)?;
    ensure!(code == 2 && printed.contains("the bridge does north-south by node-port"), "{printed}");
    Ok(())
}

fn without_a_helper(bench: Bench) -> Result<()> {
    let Bench { helper, node, _server, lab } = bench;
    helper.end(netns_tests::lab::node::Stop::Terminate)?;
    let mut command = Command::new(binary()?);
    command.args(["explain", "arp", "172.18.0.1", "172.18.0.11"]).envs(node.environment().iter().cloned());
    let output = command.output()?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.lines().count() == 1, "{said}");
    ensure!(said.contains("is not running here") && said.contains("--policy FILE"), "{said}");
    drop(lab);
    Ok(())
}
