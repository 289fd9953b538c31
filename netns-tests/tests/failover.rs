//! A node that outlives its switch: management goes to the NIC while the bridge carries nothing, and comes back.
//!
//! Needs the product's helper and the userspace datapath: on the kernel's, the NIC's frames stay with the bridge.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{
        Lab, LabOptions,
        address::Family,
        helper::{Daemon, HelperOptions, uses_reference_helper},
        machine::Datapath,
        netns::Namespace,
        node::{BRIDGE, Node, Stop, UPLINK},
        process::{holds_for, wait_until},
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::{Listen, Request, Responder, Session, Stream},
};
use nix::sys::signal::Signal;
use serde_json::Value;

const NODE_PORT: u16 = 30081;
const PACE: Duration = Duration::from_millis(2);

/// One node with one pod and a helper.
struct Bench {
    // The helper ends before its lab goes.
    helper: Daemon,
    _servers: Vec<Responder>,
    lab: Lab,
}

impl Bench {
    fn up(extra: &[&str]) -> Result<Self> {
        let lab = Lab::start(LabOptions { nodes: 1, pods_per_node: 1, ..LabOptions::default() })?;
        let node = lab.node(1)?;
        let mut extra: Vec<String> = extra.iter().map(|word| (*word).to_owned()).collect();
        extra.push("-vuplink:file:dbg".to_owned());
        let helper = Daemon::start(&lab, node, &HelperOptions { extra, ..HelperOptions::default() })?;
        lab.wait_until_bound()?;
        let (pod, internet) = (lab.pod(1, 1)?, lab.world().internet());
        let servers = vec![
            Responder::start(pod.namespace(), pod.name(), &Listen::everywhere(POD_PORT))?,
            Responder::start(node.namespace(), node.name(), &Listen::everywhere(HOST_PORT))?,
            Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?,
        ];
        lab.apply(&[ServiceSpec::new("web", 1, NODE_PORT, POD_PORT, vec![EndpointSpec::pod(1, 1)])])?;
        let bench = Self { helper, _servers: servers, lab };
        bench.all_answer().context("before anything was done")?;
        bench.is_on(BRIDGE)?;
        Ok(bench)
    }

    fn node(&self) -> Result<&Arc<Node>> {
        self.lab.node(1)
    }

    fn ways(&self) -> Result<Vec<(&Namespace, Request, String)>> {
        let (node, world) = (self.node()?, self.lab.world());
        let mut ways = Vec::new();
        for family in Family::ALL {
            let far = world.internet().address().port(family, POD_PORT);
            let (host, port) =
                (node.address().port(family, HOST_PORT), node.address().port(family, NODE_PORT));
            let name = world.internet().name().to_owned();
            ways.push((world.administrator().namespace(), Request::tcp(host), node.name().to_owned()));
            ways.push((node.namespace(), Request::tcp(far), name.clone()));
            ways.push((
                world.internet().namespace(),
                Request::tcp(port),
                self.lab.pod(1, 1)?.name().to_owned(),
            ));
            ways.push((self.lab.pod(1, 1)?.namespace(), Request::tcp(far), name));
        }
        Ok(ways)
    }

    fn answers(&self, wanted: impl Fn(usize) -> bool) -> Result<()> {
        for (at, (from, request, name)) in self.ways()?.into_iter().enumerate() {
            if !wanted(at % 4) {
                continue;
            }
            wait_until(&format!("{name} to answer {} at {}", from.name(), request.to), || {
                let answer = request.clone().within(Duration::from_millis(1500)).send(from)?;
                ensure!(answer.name == name, "{} answered", answer.name);
                Ok(true)
            })?;
        }
        Ok(())
    }

    fn all_answer(&self) -> Result<()> {
        self.answers(|_| true)
    }

    /// New connections of the node's own, in and out, whatever the switch does.
    fn management_answers(&self) -> Result<()> {
        self.answers(|way| way < 2)
    }

    /// Who carries the node's addresses.
    fn carriers(&self) -> Result<Vec<String>> {
        let text = self.node()?.program("ip").args(["-j", "address", "show"]).run()?;
        let devices: Value = serde_json::from_str(&text)?;
        let own = [Family::V4, Family::V6]
            .map(|family| self.node().map(|node| node.address().port(family, 0).ip()));
        let own: Vec<String> =
            own.into_iter().map(|ip| ip.map(|ip| ip.to_string())).collect::<Result<_>>()?;
        let mut carriers = Vec::new();
        for device in devices.as_array().into_iter().flatten() {
            let here = device["addr_info"].as_array().into_iter().flatten();
            let found =
                here.filter(|row| row["local"].as_str().is_some_and(|ip| own.iter().any(|own| own == ip)));
            carriers.extend(found.map(|_| device["ifname"].as_str().unwrap_or_default().to_owned()));
        }
        Ok(carriers)
    }

    fn is_on(&self, device: &str) -> Result<()> {
        wait_until(&format!("both addresses to be on {device}"), || {
            let carriers = self.carriers()?;
            ensure!(carriers == [device, device], "they are on {carriers:?}\n{}", self.management()?);
            Ok(true)
        })
    }

    /// What the helper says of it.
    fn management(&self) -> Result<Value> {
        let status: Value = serde_json::from_str(&self.helper.appctl("status json")?)?;
        Ok(status["management"].clone())
    }

    /// Does something under sessions and streams of the node's own, in and out, and of a NodePort.
    fn under_traffic(&self, what: impl FnOnce() -> Result<()>) -> Result<()> {
        let ways = self.ways()?;
        let mut held = Vec::new();
        for (at, (from, request, name)) in ways.into_iter().enumerate() {
            let session = Session::open(from, &request, PACE)?;
            let stream = Stream::open(from, &Request::udp(request.to), PACE)?;
            held.push((at % 4, format!("{} to {name} at {}", from.name(), request.to), session, stream));
        }
        for (_, _, session, _) in &held {
            session.wait_for_messages(5)?;
        }
        what()?;
        self.all_answer()?;
        for (at, title, session, stream) in held {
            let (session, stream) = (session.finish()?, stream.finish()?);
            eprintln!(
                "{title}: stall {:?}, datagrams lost {} (in a row {}) of {}, doubled {}",
                session.longest, stream.lost, stream.row, stream.sent, stream.doubled
            );
            ensure!(session.died.is_none(), "{title}: the session died {:?}", session.died);
            ensure!(at > 1 || stream.lost < stream.sent, "{title}: nothing came through");
        }
        Ok(())
    }
}

fn with_bench(extra: &[&str], test: impl FnOnce(&Bench) -> Result<()>) -> Result<()> {
    if uses_reference_helper() || Datapath::wanted() != Datapath::Userspace {
        return Ok(());
    }
    let bench = Bench::up(extra)?;
    test(&bench).map_err(|error| {
        let node = bench.node().map(|node| node.diagnosis()).unwrap_or_default();
        error.context(node)
    })
}

#[test]
fn the_switch_is_killed() -> Result<()> {
    with_bench(&[], |bench| {
        let node = bench.node()?;
        for round in 1..=2 {
            bench.under_traffic(|| {
                node.stop_switch(Stop::Kill)?;
                bench.is_on(UPLINK)?;
                bench.management_answers().context("while ovs-vswitchd is dead")?;
                node.start_switch()?;
                bench.is_on(BRIDGE)
            })?;
            let management = bench.management()?;
            eprintln!("{management}");
            ensure!(management["failovers"]["ended"] == round, "{management}");
        }
        let (_, metrics) = bench.helper.get("/metrics")?;
        for line in [
            "ovn_k8s_gateway_helper_failovers_total{reason=\"ended\"} 2",
            "ovn_k8s_gateway_helper_management_on_nic 0",
        ] {
            ensure!(metrics.contains(line), "{line} is missing in\n{metrics}");
        }
        Ok(())
    })
}

#[test]
fn the_switch_stands_still() -> Result<()> {
    with_bench(&[], |bench| {
        let node = bench.node()?;
        bench.under_traffic(|| {
            node.signal_switch(Signal::SIGSTOP)?;
            bench.is_on(UPLINK)?;
            bench.management_answers().context("while ovs-vswitchd stands still")?;
            ensure!(bench.management()?["reason"] == "stopped", "{}", bench.management()?);
            node.signal_switch(Signal::SIGCONT)?;
            bench.is_on(BRIDGE)
        })?;
        eprintln!("{}", bench.management()?);
        Ok(())
    })
}

#[test]
fn the_database_under_the_switch_is_killed() -> Result<()> {
    with_bench(&[], |bench| {
        let node = bench.node()?;
        bench.under_traffic(|| {
            node.stop_database(Stop::Kill)?;
            // OVS 3.1 forwards nothing then, on the userspace datapath, though it lives.
            bench.is_on(UPLINK)?;
            bench.management_answers().context("while ovsdb-server is dead")?;
            node.start_database()?;
            bench.is_on(BRIDGE)
        })?;
        eprintln!("{}", bench.management()?);
        Ok(())
    })
}

#[test]
fn the_helper_dies_with_the_switch() -> Result<()> {
    with_bench(&[], |bench| {
        let node = bench.node()?;
        bench.under_traffic(|| {
            node.stop_switch(Stop::Kill)?;
            bench.is_on(UPLINK)?;
            bench.helper.end(Stop::Kill)?;
            node.start_switch()?;
            // No helper moves management back: the node stays reachable.
            holds_for("management without a helper", Duration::from_millis(300), || {
                bench.management_answers()
            })?;
            netns_tests::lab::helper::Helper::start_again(&bench.helper)?;
            bench.is_on(BRIDGE)
        })?;
        // The other order: the switch dies while nobody looks.
        bench.helper.end(Stop::Kill)?;
        node.stop_switch(Stop::Kill)?;
        bench.helper.start_without_waiting()?;
        bench.is_on(UPLINK)?;
        bench.management_answers()?;
        node.start_switch()?;
        bench.is_on(BRIDGE)?;
        bench.all_answer()
    })
}

#[test]
fn told_to_it_stays() -> Result<()> {
    with_bench(&["--no-failover"], |bench| {
        let node = bench.node()?;
        node.stop_switch(Stop::Kill)?;
        holds_for("management on the bridge", Duration::from_millis(700), || {
            let carriers = bench.carriers()?;
            ensure!(carriers == [BRIDGE, BRIDGE], "{carriers:?}");
            Ok(())
        })?;
        node.start_switch()?;
        bench.all_answer()
    })
}
