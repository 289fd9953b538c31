//! What the userspace datapath cannot do and the kernel's can: path MTU and fragments of NodePorts, SCTP by connection.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use netns_tests::{
    lab::{
        LabOptions,
        address::{self, Family},
        cluster::Cluster,
        helper::HelperOptions,
        netns::Namespace,
        process::{Program, wait_within},
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{self, POD_PORT},
    probe::Request,
};

use crate::sctp;

/// A Service of policy Local with a pod on the first node.
const LOCAL: u16 = 30085;
/// More than any window's worth: TCP must find out how large a packet may be.
const BULK: usize = 200_000;
/// Larger than two packets of any MTU here.
const LARGE: usize = 3000;

type Check = fn(&Cluster) -> Result<()>;

const CHECKS: &[(&str, Check)] = &[
    ("SCTP of a host and of two pods to one server", sctp::one_server),
    ("fragments to a NodePort", fragments_to_node_ports),
    ("path MTU of a NodePort's connections", path_mtu_of_node_ports),
];

pub fn check_all() -> Result<()> {
    let cluster = Cluster::up(LabOptions::default(), &HelperOptions::default())?;
    let _servers = matrix::servers(cluster.lab())?;
    let mut services = matrix::services();
    services
        .push(ServiceSpec::new("local", 111, LOCAL, POD_PORT, vec![EndpointSpec::pod(1, 1)]).policy_local());
    cluster.apply(&services)?;
    let wanted = std::env::var("LAB_CHECK").unwrap_or_default();
    let mut failures = Vec::new();
    for (name, check) in CHECKS.iter().filter(|(name, _)| name.contains(&wanted)) {
        let start = Instant::now();
        let outcome = check(&cluster);
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{word:6} {:6.1?} {name}", start.elapsed());
        if let Err(error) = outcome {
            failures.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(failures.is_empty(), "{} checks failed:\n{}", failures.len(), failures.join("\n"));
    Ok(())
}

fn node_port(cluster: &Cluster, family: Family, port: u16) -> Result<SocketAddr> {
    Ok(cluster.lab().node(1)?.address().port(family, port))
}

fn fragments_to_node_ports(cluster: &Cluster) -> Result<()> {
    let outside = cluster.lab().world().internet().namespace();
    // Fragments larger than a pod's MTU end at its veth: OVN sends no error for them.
    let next = address::internet(1);
    outside.ip(next.both().map(|via| format!("route replace default via {via} mtu 1400\n")).concat())?;
    for (port, name) in [(30081, "pod11"), (30082, "pod21"), (30083, "node1"), (30084, "node2")] {
        for family in Family::ALL {
            let request = Request::udp(node_port(cluster, family, port)?).echo(LARGE);
            // The first may find a tunnel's neighbour unresolved.
            wait_within(&format!("{name} to echo fragments, {family}"), Duration::from_secs(5), || {
                expect(outside, &request, name).map(|()| true)
            })?;
            expect(outside, &request, name)?;
        }
    }
    outside.ip(next.both().map(|via| format!("route replace default via {via}\n")).concat())
}

fn path_mtu_of_node_ports(cluster: &Cluster) -> Result<()> {
    let world = cluster.lab().world();
    let far = address::internet(10);
    let narrow = |mtu: &str| {
        world.router().namespace().ip(format!(
            "route replace {}/32 dev eth1{mtu}\nroute replace {}/128 dev eth1{mtu}\n",
            far.v4, far.v6
        ))
    };
    narrow(" mtu lock 1300")?;
    for (family, port, name) in [
        (Family::V4, 30081, "pod11"),
        (Family::V4, 30082, "pod21"),
        (Family::V4, 30083, "node1"),
        (Family::V4, LOCAL, "pod11"),
        (Family::V6, 30081, "pod11"),
        (Family::V6, 30082, "pod21"),
    ] {
        let request = Request::tcp(node_port(cluster, family, port)?).echo(BULK);
        expect(world.internet().namespace(), &request, name)?;
        // What a server learnt of a path would hide the next error.
        forget_paths(cluster, far.of(family))?;
    }
    narrow("")
}

fn forget_paths(cluster: &Cluster, to: IpAddr) -> Result<()> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    for node in cluster.lab().nodes() {
        for namespace in [node.namespace()].into_iter().chain(node.pods().iter().map(|pod| pod.namespace())) {
            Program::new("ip").args(["-n", namespace.name(), family, "route", "flush", "cache"]).run()?;
        }
    }
    Ok(())
}

fn expect(from: &Namespace, request: &Request, name: &str) -> Result<()> {
    let answer = request.send(from)?;
    ensure!(answer.name == name, "{}: {} answered in place of {name}", request.to, answer.name);
    Ok(())
}
