//! What people and packages do to a bridge: the helper finds it out, mends what is its own, and leaves the rest alone.
//!
//! Needs the product's helper: the reference helper mends nothing.

use std::{thread, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{
        LabOptions,
        address::Family,
        cluster::Cluster,
        helper::{Helper, HelperOptions, uses_reference_helper},
        node::{BRIDGE, Node, PATCH, Stop, UPLINK},
        process::wait_until,
        service::ServiceSpec,
    },
    matrix::{self, HOST_PORT, POD_PORT},
    probe::{Request, Responder},
};

struct Bench {
    cluster: Cluster,
    services: Vec<ServiceSpec>,
    _servers: Vec<Responder>,
}

impl Bench {
    fn set_up(options: LabOptions) -> Result<Self> {
        let bench = Self::with(Cluster::up(options, &HelperOptions::default())?)?;
        bench.everything_answers().context("before anything was done")?;
        Ok(bench)
    }

    fn with(cluster: Cluster) -> Result<Self> {
        let servers = matrix::servers(cluster.lab())?;
        let services = matrix::services();
        cluster.apply(&services)?;
        Ok(Self { cluster, services, _servers: servers })
    }

    fn node(&self) -> Result<&Node> {
        Ok(self.cluster.lab().node(1)?)
    }

    /// Every owner's new connections work by way of the first node.
    fn everything_answers(&self) -> Result<()> {
        let lab = self.cluster.lab();
        let (node, world) = (lab.node(1)?, lab.world());
        let outside = world.internet().namespace();
        for family in Family::ALL {
            let far = world.internet().address().port(family, POD_PORT);
            let ways = [
                (world.administrator().namespace(), node.address().port(family, HOST_PORT), "node1"),
                (node.namespace(), far, "internet"),
                (lab.pod(1, 1)?.namespace(), far, "internet"),
                (outside, node.address().port(family, 30081), "pod11"),
                (outside, node.address().port(family, 30084), "node2"),
                (node.namespace(), node.address().port(family, 30082), "pod21"),
            ];
            for (start, to, name) in ways {
                let request = Request::tcp(to).within(Duration::from_millis(1500));
                wait_until(&format!("{name} to answer {} at {to}", start.name()), || {
                    let answer = request.send(start)?;
                    ensure!(answer.name == name, "{} answered", answer.name);
                    Ok(true)
                })?;
            }
        }
        Ok(())
    }

    /// Does something to the first node and waits until all is as it should be again.
    fn survives(&self, what: &str, upheaval: impl FnOnce(&Node) -> Result<()>) -> Result<()> {
        upheaval(self.node()?).with_context(|| format!("doing it: {what}"))?;
        self.cluster.follow(&self.services).with_context(|| format!("flows after: {what}"))?;
        self.everything_answers().with_context(|| format!("traffic after: {what}"))?;
        println!("survived: {what}");
        Ok(())
    }
}

fn with_bench(work: impl FnOnce(&Bench) -> Result<()>) -> Result<()> {
    if uses_reference_helper() {
        return Ok(());
    }
    work(&Bench::set_up(LabOptions::default())?)
}

#[test]
fn ports_and_bridges() -> Result<()> {
    with_bench(|bench| {
        let add_patch = format!(
            "add-port {BRIDGE} {PATCH} -- set interface {PATCH} type=patch options:peer=k8s-patch-br-int-{BRIDGE}"
        );
        bench.survives("the patch port was deleted", |node| {
            node.vsctl(&format!("del-port {PATCH}")).map(drop)
        })?;
        bench.survives("the patch port was made again with another number", |node| {
            node.vsctl(&format!("del-port {PATCH} -- {add_patch} ofport_request=77")).map(drop)
        })?;
        bench.survives("the uplink was taken out and put back with another number", |node| {
            node.vsctl(&format!("del-port {UPLINK}"))?;
            node.vsctl(&format!("add-port {BRIDGE} {UPLINK} -- set interface {UPLINK} ofport_request=88"))
                .map(drop)
        })?;
        // Its device has a MAC address of its own for a moment, which nobody may be told: more than once, to meet it.
        for _ in 0..4 {
            bench.survives("the bridge was deleted and made again", |node| {
                let datapath = node.vsctl(&format!("get bridge {BRIDGE} datapath_type"))?;
                node.vsctl(&format!("del-br {BRIDGE}"))?;
                let mac = node.mac();
                node.vsctl(&format!(
                    "add-br {BRIDGE} -- set bridge {BRIDGE} datapath_type={} fail-mode=standalone \
                     other_config:hwaddr=\"{mac}\" -- add-port {BRIDGE} {UPLINK}",
                    datapath.trim().trim_matches('"')
                ))?;
                node.address_ports()
            })?;
        }
        Ok(())
    })
}

#[test]
fn flows_of_others() -> Result<()> {
    with_bench(|bench| {
        bench.survives("somebody deleted all flows", |node| {
            node.ofctl(&format!("del-flows {BRIDGE}")).map(drop)
        })?;
        let foreign = "table=0,cookie=0x1234,priority=2,in_port=LOCAL,udp,udp_dst=7777,actions=drop";
        bench.survives("somebody added a flow", |node| {
            node.ofctl(&format!("add-flow {BRIDGE} {foreign}")).map(drop)
        })?;
        bench.survives("somebody changed a flow of ours", |node| {
            node.ofctl(&format!("mod-flows {BRIDGE} table=3,actions=drop")).map(drop)
        })?;
        let flows = bench.node()?.ofctl(&format!("dump-flows {BRIDGE} cookie=0x1234/-1"))?;
        ensure!(flows.contains("udp"), "the flow of somebody else is gone: {flows}");
        Ok(())
    })
}

#[test]
fn daemons_of_the_node() -> Result<()> {
    with_bench(|bench| {
        bench.survives("ovsdb-server restarted", |node| {
            node.stop_database(Stop::Terminate)?;
            node.start_database()
        })?;
        bench.survives("ovsdb-server killed", |node| {
            node.stop_database(Stop::Kill)?;
            thread::sleep(Duration::from_millis(500));
            node.start_database()
        })?;
        bench.survives("ovn-controller killed", |node| {
            node.stop_controller(Stop::Kill)?;
            node.start_controller()
        })?;
        bench.survives("everything killed at once", |node| {
            node.stop_switch(Stop::Kill)?;
            node.stop_database(Stop::Kill)?;
            node.start_database()?;
            node.start_switch()
        })?;
        bench.survives("the switch restarted as packages do, with saved flows", |node| {
            let saved = node.ofctl(&format!("dump-flows --no-names --no-stats {BRIDGE}"))?;
            node.vsctl("--no-wait set Open_vSwitch . other_config:flow-restore-wait=true")?;
            node.stop_switch(Stop::Terminate)?;
            node.start_switch()?;
            let flows: Vec<&str> = saved.lines().filter(|line| line.contains("actions=")).collect();
            wait_until("the saved flows to be restored", || {
                let add = node.program("ovs-ofctl").args(["-O", "OpenFlow14", "add-flows", BRIDGE, "-"]);
                add.input(flows.join("\n")).run().map(|_| true)
            })?;
            node.vsctl("--no-wait remove Open_vSwitch . other_config flow-restore-wait").map(drop)
        })
    })
}

#[test]
fn the_helper_makes_the_patch_pair() -> Result<()> {
    if uses_reference_helper() {
        return Ok(());
    }
    let options = LabOptions { patch_pair: false, ..LabOptions::default() };
    let cluster = Cluster::up(options, &HelperOptions::default())?;
    for node in cluster.lab().nodes() {
        wait_until(&format!("the patch pair of {}", node.name()), || Ok(node.ofport(PATCH)? > 0))?;
        // Which logical port it is, gateway-init says.
        let inner = format!("k8s-patch-br-int-{BRIDGE}");
        node.vsctl(&format!("set interface {inner} external_ids:iface-id={BRIDGE}_{}", node.name()))?;
    }
    let bench = Bench::with(cluster)?;
    bench.everything_answers()
}

#[test]
fn a_helper_that_comes_late() -> Result<()> {
    with_bench(|bench| {
        let helper: &dyn Helper = bench.cluster.helper(1)?;
        bench.survives("the helper was killed, the switch restarted, then the helper", |node| {
            helper.stop(Stop::Kill)?;
            node.stop_switch(Stop::Kill)?;
            node.start_switch()?;
            helper.start_again()
        })
    })
}
