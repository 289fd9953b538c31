//! What goes wrong around a helper that runs: it converges without an exit, and touches only what is its own.

use std::{
    fs,
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use netns_tests::{
    lab::{
        Lab, LabOptions, PortRange,
        address::Family,
        helper::{Daemon, HelperOptions, ReplyRule, command},
        node::{Node, Stop},
        process::wait_until,
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::{Listen, Request, Responder, Session},
};
use serde_json::Value;

const NODE_PORT: u16 = 30081;
const PACE: Duration = Duration::from_millis(5);

/// One node, one pod, one Service, one helper.
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
        let options = HelperOptions {
            extra: extra.iter().map(|word| (*word).to_owned()).collect(),
            ..Default::default()
        };
        let helper = Daemon::start(&lab, node, &options)?;
        lab.wait_until_bound()?;
        let pod = lab.pod(1, 1)?;
        let internet = lab.world().internet();
        let servers = vec![
            Responder::start(pod.namespace(), pod.name(), &Listen::everywhere(POD_PORT))?,
            Responder::start(node.namespace(), node.name(), &Listen::everywhere(HOST_PORT))?,
            Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?,
        ];
        let bench = Self { helper, _servers: servers, lab };
        bench.lab.apply(&[service()])?;
        bench.works()?;
        Ok(bench)
    }

    fn node(&self) -> Result<&Arc<Node>> {
        self.lab.node(1)
    }

    /// Waits until every owner gets what is its own, in both families.
    fn works(&self) -> Result<()> {
        self.works_with(&self.helper)
    }

    fn works_with(&self, helper: &Daemon) -> Result<()> {
        helper.wait_until_ready()?;
        let (node, world) = (self.node()?, self.lab.world());
        let pod = self.lab.pod(1, 1)?;
        for family in Family::ALL {
            let asked = [
                (world.administrator().namespace(), node.address().port(family, HOST_PORT), node.name()),
                (world.internet().namespace(), node.address().port(family, NODE_PORT), pod.name()),
                (pod.namespace(), world.internet().address().port(family, POD_PORT), world.internet().name()),
                (
                    node.namespace(),
                    world.internet().address().port(family, POD_PORT),
                    world.internet().name(),
                ),
            ];
            for (from, to, name) in asked {
                wait_until(&format!("{to} to be answered by {name}"), || {
                    let answer = Request::tcp(to).send(from)?;
                    ensure!(answer.name == name, "{} answered", answer.name);
                    Ok(true)
                })?;
            }
        }
        Ok(())
    }

    fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.helper.appctl("status json")?)?)
    }

    /// Waits until the helper says a sentence with this in it, under problems, unknown or refused.
    fn says(&self, text: &str) -> Result<()> {
        wait_until(&format!("the helper to say {text:?}"), || {
            let status = self.status()?;
            let lists = [&status["problems"], &status["unknown"], &status["services"]["refused"]];
            let said = lists.iter().filter_map(|list| list.as_array()).flatten();
            ensure!(said.filter_map(Value::as_str).any(|line| line.contains(text)), "{status:#}");
            Ok(true)
        })
    }

    fn is_still(&self, pid: u32) -> Result<()> {
        ensure!(self.helper.is_alive()? && self.helper.id()? == pid, "the helper has ended");
        Ok(())
    }
}

fn service() -> ServiceSpec {
    ServiceSpec::new("web", 1, NODE_PORT, POD_PORT, vec![EndpointSpec::pod(1, 1)])
}

#[test]
fn ports_and_bridge_that_go_and_come_back() -> Result<()> {
    let bench = Bench::up(&[])?;
    let (node, pid) = (bench.node()?, bench.helper.id()?);

    // The patch port: made again by the helper.
    node.vsctl("del-port breth0 k8s-patch-breth0-br-int")?;
    bench.works().context("the patch port was deleted")?;

    // Its number moves.
    node.vsctl("set Interface k8s-patch-breth0-br-int ofport_request=77")?;
    wait_until("the new number to be used", || {
        Ok(node.flows("breth0")?.iter().any(|flow| flow.contains("output:77")))
    })?;
    bench.works().context("the patch port's number changed")?;

    // The uplink leaves the bridge: not ready, and named; it returns under another number.
    node.vsctl("del-port breth0 eth0")?;
    bench.says("eth0 is no port of breth0")?;
    let (code, _) = bench.helper.get("/readyz")?;
    ensure!(code == 503, "/readyz says {code} without an uplink");
    node.vsctl("add-port breth0 eth0 -- set Interface eth0 ofport_request=42")?;
    bench.works().context("the uplink was replaced")?;

    // All flows of ours, and everybody's, are deleted by somebody.
    node.ofctl("del-flows breth0")?;
    bench.works().context("the flows were deleted")?;
    bench.is_still(pid)
}

#[test]
fn the_bridge_is_made_again() -> Result<()> {
    let bench = Bench::up(&[])?;
    let (node, pid) = (bench.node()?, bench.helper.id()?);
    let mac = node.mac();
    node.vsctl("del-br breth0")?;
    bench.says("physical bridge breth0 does not exist")?;
    node.vsctl(&format!(
        "add-br breth0 -- set bridge breth0 datapath_type=netdev fail-mode=standalone other_config:hwaddr=\"{mac}\" -- add-port breth0 eth0"
    ))?;
    let (own, router) = (node.address(), bench.lab.world().router().address());
    node.namespace().ip(format!(
        "addr add {}/24 dev breth0\naddr add {}/64 dev breth0 nodad\nlink set breth0 up\nroute add default via {}\nroute add default via {}\n",
        own.v4, own.v6, router.v4, router.v6
    ))?;
    bench.works()?;
    bench.is_still(pid)
}

#[test]
fn foreign_flows_are_left_alone_and_an_older_helpers_are_adopted_when_told() -> Result<()> {
    let bench = Bench::up(&[])?;
    let node = bench.node()?;
    let (p, q) = (node.ofport("eth0")?, node.ofport("k8s-patch-breth0-br-int")?);
    let older = [
        format!("priority=100,in_port={q},ip,actions=ct(commit,zone=64000),output:{p}"),
        format!("priority=100,in_port={p},tcp,tcp_dst=30081,actions=output:{q}"),
        format!("priority=50,in_port={p},ip,actions=ct(zone=64000,table=1)"),
        format!("table=1,priority=100,ct_state=+trk+est,actions=output:{q}"),
        format!("table=1,priority=100,ct_state=+trk+rel,actions=output:{q}"),
    ];
    for flow in &older {
        node.ofctl(&format!("add-flow breth0 {flow}"))?;
    }
    node.ofctl("add-flow breth0 cookie=0x77,table=0,priority=4000,dl_type=0x88cc,actions=drop")?;
    bench.helper.appctl("reconcile")?;
    bench.says("5 flows of an older helper")?;
    bench.works().context("an older helper's flows lie below")?;
    let ours = |cookie: &str| node.ofctl(&format!("dump-flows breth0 {cookie}/-1"));
    ensure!(ours("cookie=0x77")?.contains("0x88cc"), "a foreign flow was touched");

    bench.helper.end(Stop::Terminate)?;
    let options = HelperOptions { extra: vec!["--adopt".to_owned()], ..HelperOptions::default() };
    let adopting = Daemon::start(&bench.lab, node, &options)?;
    let left = node.flows("breth0")?;
    ensure!(
        !left.iter().any(|flow| flow.contains("ct(commit,zone=64000),output") && !flow.contains("cookie")),
        "{left:#?}"
    );
    ensure!(ours("cookie=0x77")?.contains("0x88cc"), "a foreign flow was touched by --adopt");
    let status: Value = serde_json::from_str(&adopting.appctl("status json")?)?;
    ensure!(status["flows"]["foreign"] == 1, "foreign flows: {}", status["flows"]["foreign"]);
    adopting.end(Stop::Terminate)
}

#[test]
fn bad_manifests_are_refused_by_name_and_the_rest_works() -> Result<()> {
    let bench = Bench::up(&[])?;
    let pid = bench.helper.id()?;
    let folder = bench.lab.manifests();
    let write = |name: &str, text: &str| {
        fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
    };
    write("broken.yaml", "kind: Service\n  metadata: {name: [\n")?;
    write("kind.yaml", "apiVersion: v1\nkind: Widget\nmetadata: {name: odd, namespace: default}\n")?;
    write(
        "range.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: far, namespace: default}\nspec: {type: NodePort, clusterIP: 10.96.0.9, ports: [{port: 80, nodePort: 70000}]}\n",
    )?;
    write(
        "twin.yaml",
        &ServiceSpec::new("twin", 2, NODE_PORT, POD_PORT, vec![EndpointSpec::pod(1, 1)]).manifest()?,
    )?;
    write(
        "grab.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: grab, namespace: default}\nspec: {type: ClusterIP, clusterIP: 10.96.0.8, externalIPs: [172.18.0.11], ports: [{port: 22}]}\n",
    )?;
    for said in ["broken.yaml", "kind.yaml", "default/far", "default/twin", "the node's own management port"]
    {
        bench.says(said)?;
    }
    bench.works()?;
    bench.is_still(pid)
}

#[test]
fn cleanup_leaves_nothing_of_ours_and_a_node_that_can_be_reached() -> Result<()> {
    let bench = Bench::up(&[])?;
    let node = bench.node()?;
    let options = HelperOptions { extra: vec!["--cleanup".to_owned()], ..HelperOptions::default() };
    let (ok, _, said) = command(node, &bench.lab.manifests(), &options)?.outcome()?;
    ensure!(!ok && said.contains("a helper is running"), "cleanup beside a running helper: {said}");
    node.ofctl("add-flow breth0 cookie=0x77,priority=4000,dl_type=0x88cc,actions=drop")?;
    node.namespace().ip("route add 198.51.100.0/24 via 172.18.0.1 dev breth0\n")?;
    bench.helper.end(Stop::Terminate)?;

    let dry = HelperOptions { extra: vec!["--dry-run".to_owned()], ..HelperOptions::default() };
    let plan = command(node, &bench.lab.manifests(), &dry)?.run()?;
    ensure!(
        plan.contains("Flows: nothing") && plan.contains("Host: nothing"),
        "not all is in force:\n{plan}"
    );

    let (ok, out, said) = command(node, &bench.lab.manifests(), &options)?.outcome()?;
    ensure!(ok, "cleanup failed: {out} {said}");
    let flows = node.flows("breth0")?;
    ensure!(flows.iter().all(|flow| !flow.contains("0x6f766e38")), "flows of ours are left: {flows:#?}");
    ensure!(flows.iter().any(|flow| flow.contains("0x88cc")), "a foreign flow is gone");
    let tables = node.program("nft").line("list tables").run()?;
    // The guard of the NIC stays while the NIC is in the bridge: without it the host would hear every frame twice.
    ensure!(!tables.contains("ovn_k8s_gateway"), "our nft table is left: {tables}");
    let routes = node.program("ip").line("route show table all").run()?;
    ensure!(!routes.contains("proto 158") && routes.contains("198.51.100.0/24"), "routes: {routes}");
    ensure!(node.namespace().read_sysctl("net/ipv4/ip_local_reserved_ports")?.trim().is_empty());
    let to = node.address().port(Family::V4, HOST_PORT);
    wait_until("the node to be reached by the bridge's own flow", || {
        Ok(Request::tcp(to).send(bench.lab.world().administrator().namespace())?.name == node.name())
    })?;

    let plan = command(node, &bench.lab.manifests(), &dry)?.run()?;
    ensure!(plan.contains("add ") && plan.contains("nft make table"), "a dry run after a cleanup:\n{plan}");
    ensure!(node.flows("breth0")?.len() == flows.len(), "a dry run wrote flows");
    Ok(())
}

#[test]
fn a_restart_rewrites_no_flow_and_databases_may_be_away() -> Result<()> {
    let bench = Bench::up(&[])?;
    let node = bench.node()?;
    let ages = || -> Result<Vec<String>> {
        let dump = node.ofctl("dump-flows breth0 cookie=0x6f766e3800000000/0xffffffff00000000")?;
        // What a flow has counted is lost when it is rewritten.
        Ok(dump.lines().filter(|line| line.contains("n_packets=0,")).map(str::to_owned).collect())
    };
    let silent = ages()?.len();
    bench.helper.end(Stop::Kill)?;
    let second = Daemon::start(&bench.lab, node, &HelperOptions::default())?;
    ensure!(ages()?.len() <= silent, "flows were written anew");
    let status: Value = serde_json::from_str(&second.appctl("status json")?)?;
    ensure!(status["flows"]["changes"] == 0, "{} flows were changed", status["flows"]["changes"]);

    // The local database goes and comes back under the helper.
    bench.works_with(&second)?;
    let pid = second.id()?;
    node.stop_database(Stop::Kill)?;
    // OVS 3.1 itself stops now: its main loop, which polls the ports of the userspace datapath, waits for the
    // database's lock (`bridge_run` in vswitchd/bridge.c). All that is asked is that everything comes back.
    node.start_database()?;
    wait_until("the database to be followed again", || {
        let status: Value = serde_json::from_str(&second.appctl("status json")?)?;
        Ok(status["sources"][0]["connected"] == true)
    })?;
    bench.works_with(&second)?;
    ensure!(second.id()? == pid && second.is_alive()?, "the helper has ended");
    second.end(Stop::Terminate)
}

#[test]
fn a_full_conntrack_table_is_said() -> Result<()> {
    let bench = Bench::up(&[])?;
    let node = bench.node()?;
    node.appctl("dpctl/ct-set-maxconns 10")?;
    let to = bench.lab.world().internet().address().port(Family::V4, POD_PORT);
    for _ in 0..12 {
        // Some of these are lost: that is the point.
        let _ = Request::tcp(to).send(bench.lab.pod(1, 1)?.namespace());
    }
    bench.helper.end(Stop::Terminate)?;
    let helper = Daemon::start(&bench.lab, node, &HelperOptions::default())?;
    wait_until("the warning", || {
        let (_, metrics) = helper.get("/metrics")?;
        let line = metrics.lines().find(|line| line.starts_with("ovn_k8s_gateway_helper_conntrack_limit"));
        ensure!(line.is_some_and(|line| line.ends_with(" 10")), "{line:?}");
        let status = helper.appctl("status")?;
        if !status.contains("connections are tracked in zone 64000") {
            bail!("no warning in the status:\n{status}");
        }
        Ok(true)
    })?;
    helper.end(Stop::Terminate)
}

#[test]
fn the_partitioned_rule_waits_for_the_hosts_own_sockets() -> Result<()> {
    let range = PortRange::USUAL;
    let options = LabOptions { nodes: 1, pods_per_node: 1, snat_ports: Some(range), ..LabOptions::default() };
    let lab = Lab::start(options)?;
    let (node, internet) = (lab.node(1)?, lab.world().internet());
    let _server = Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?;
    let to = internet.address().port(Family::V4, POD_PORT);
    let from = node.address().port(Family::V4, 45000);
    let held = wait_for(|| Session::open(node.namespace(), &Request::tcp(to).from(from), PACE))?;
    let options = HelperOptions {
        reply_rule: ReplyRule::Partitioned,
        snat_ports: Some(range),
        ..HelperOptions::default()
    };
    let helper = Daemon::start(&lab, node, &options)?;
    let owners = || -> Result<Value> {
        let status: Value = serde_json::from_str(&helper.appctl("status json")?)?;
        Ok(status["owners"].clone())
    };
    let waiting = owners()?;
    ensure!(waiting["reply_rule"] == "tracked", "{waiting:#}");
    let listed = waiting["waiting_for"].to_string();
    ensure!(listed.contains(":45000"), "the socket is not listed: {listed}");
    let reserved = node.namespace().read_sysctl("net/ipv4/ip_local_reserved_ports")?;
    ensure!(reserved.contains("40000-59999"), "the host is not kept out: {reserved}");
    let report = held.finish()?;
    ensure!(report.died.is_none(), "the host's connection died: {:?}", report.died);
    wait_until("the partitioned rule to come into force", || {
        Ok(owners()?["reply_rule"].as_str().is_some_and(|rule| rule.starts_with("partitioned")))
    })?;
    helper.end(Stop::Terminate)
}

#[test]
fn health_checks_say_whether_endpoints_are_here() -> Result<()> {
    let bench = Bench::up(&[])?;
    let file = bench.lab.manifests().join("balanced.yaml");
    let manifest = |ready: bool| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: balanced, namespace: default}}\nspec: {{type: LoadBalancer, \
             clusterIP: 10.96.0.7, externalTrafficPolicy: Local, healthCheckNodePort: 32100, ports: [{{port: 80, nodePort: 31080}}]}}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: balanced-1, namespace: default, labels: \
             {{kubernetes.io/service-name: balanced}}}}\naddressType: IPv4\nports: [{{port: 8080}}]\n\
             endpoints: [{{addresses: [10.244.1.3], nodeName: node1, conditions: {{ready: {ready}}}}}]\n"
        )
    };
    let to = bench.node()?.address().port(Family::V4, 32100);
    for (ready, code, count) in
        [(true, "200", "\"localEndpoints\":1"), (false, "503", "\"localEndpoints\":0")]
    {
        fs::write(&file, manifest(ready))?;
        wait_until(&format!("a load balancer to be told {code}"), || {
            let mut stream = Request::tcp(to).connect(bench.lab.world().internet().namespace())?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: node1\r\nConnection: close\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            ensure!(text.contains(code) && text.contains(count), "{text}");
            Ok(true)
        })?;
    }
    fs::remove_file(&file)?;
    wait_until("the port to be closed", || {
        Ok(Request::tcp(to).connect(bench.lab.world().internet().namespace()).is_err())
    })
}

/// The first try may find a neighbour unresolved.
fn wait_for<T>(mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
    let mut found = None;
    wait_until("the first connection", || {
        found = Some(attempt()?);
        Ok(true)
    })?;
    found.context("nothing was found")
}
