//! A node in a namespace of its own, with an outside to talk to.
//!
//! `out0` (outside) -- `breth0` (node): the wire. `pods0` (overlay) -- `k8s-node` (node): the management port. The
//! devices are veths: what arrives at `breth0` is what the bridge would hand to the host.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use demux::policy::{PortRange, ServiceKey, Transport};
use host::netns::Namespace;

use crate::host_paths::{
    ConvergeReport, HostInputs, HostNode, HostPaths, ManagementPath, ManagementPort, PodsPorts,
};
use services::{HostEndpoint, NodePort, Reach, ServiceHostRows, Translation};

pub(super) const NODE: &str = "192.0.2.10";
pub(super) const NODE6: &str = "2001:db8::10";
pub(super) const OUTSIDE: &str = "192.0.2.1";
pub(super) const OUTSIDE6: &str = "2001:db8::1";

/// Three namespaces; gone with this value.
pub(super) struct World {
    pub(super) node: Namespace,
    pub(super) outside: Namespace,
    pub(super) overlay: Namespace,
    state: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        let world = Self {
            node: Namespace::create().unwrap(),
            outside: Namespace::create().unwrap(),
            overlay: Namespace::create().unwrap(),
            state: tempfile::tempdir().unwrap(),
        };
        let (outside, overlay) = (world.outside.path(), world.overlay.path());
        world
            .node
            .run(|| {
                ip("link set lo up");
                wire("breth0", "out0", &outside, &["192.0.2.10/24", "2001:db8::10/64"]);
                wire("k8s-node", "pods0", &overlay, &["10.128.0.2/24", "fd80::2/64"]);
                ip("route add default via 192.0.2.1");
            })
            .unwrap();
        world.outside.run(|| up("out0", &["192.0.2.1/24", "2001:db8::1/64"])).unwrap();
        world.overlay.run(|| up("pods0", &["10.128.0.1/24", "fd80::1/64"])).unwrap();
        world
    }

    /// Worker inside the node, with the host's paths at hand.
    pub(super) fn at_node(&self, work: impl AsyncFnOnce(&mut HostPaths) + Send) {
        let state = self.state.path();
        self.node.run(|| block_on(async { work(&mut open(state)).await })).unwrap();
    }

    /// Makes the node as these inputs want it, and expects that nothing fails.
    pub(super) fn converge(&self, inputs: &HostInputs) {
        self.at_node(async |paths| {
            right(&paths.converge(inputs, None).await);
        });
    }

    pub(super) fn state_files(&self) -> usize {
        std::fs::read_dir(self.state.path()).unwrap().count()
    }
}

pub(super) fn right(report: &ConvergeReport) {
    assert!(report.failed.is_empty(), "{:?}\n{}", report.failed, report.plan);
}

pub(super) fn block_on<F: Future>(work: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn open(state: &Path) -> HostPaths {
    HostPaths::open(state).unwrap()
}

pub(super) fn ip(arguments: &str) {
    run("ip", arguments);
}

pub(super) fn run(program: &str, arguments: &str) -> String {
    let done = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{program} {arguments}: {said}");
    String::from_utf8(done.stdout).unwrap()
}

fn wire(here: &str, there: &str, peer: &Path, addresses: &[&str]) {
    ip(&format!("link add {here} type veth peer name {there} netns {}", peer.display()));
    up(here, addresses);
}

fn up(device: &str, addresses: &[&str]) {
    ip("link set lo up");
    ip(&format!("link set {device} up"));
    for address in addresses {
        let nodad = if address.contains(':') { "nodad" } else { "" };
        ip(&format!("addr add {address} dev {device} {nodad}"));
    }
}

pub(super) fn range(low: u16, high: u16) -> PortRange {
    PortRange::new(low, high).unwrap()
}

pub(super) fn node(pods: PodsPorts) -> HostNode {
    let path = |address: &str, gateway: &str| ManagementPath {
        address: address.parse().unwrap(),
        gateway: gateway.parse().unwrap(),
    };
    HostNode {
        bridge: "breth0".to_owned(),
        uplink: Some("eth0".to_owned()),
        shared: [NODE, NODE6].into_iter().map(|address| address.parse().unwrap()).collect(),
        management: Some(ManagementPort {
            device: "k8s-node".to_owned(),
            paths: vec![path("10.128.0.2", "10.128.0.1"), path("fd80::2", "fd80::1")],
        }),
        service_ranges: ["10.96.0.0/16", "fd96::/112"].into_iter().map(|net| net.parse().unwrap()).collect(),
        join_ranges: ["100.64.0.0/16", "fd98::/64"].into_iter().map(|net| net.parse().unwrap()).collect(),
        pods,
        node_port_range: range(30000, 32767),
    }
}

pub(super) fn inputs(pods: PodsPorts, services: &[(&str, ServiceHostRows)]) -> HostInputs {
    let services =
        services.iter().map(|(key, rows)| (ServiceKey::new(*key), Arc::new(rows.clone()))).collect();
    HostInputs { node: node(pods), services }
}

/// A Service of policy `Cluster` with a NodePort, both families.
pub(super) fn cluster(port: u16) -> ServiceHostRows {
    let own = |target: &str| Translation {
        reach: Reach::Node,
        protocol: Transport::Tcp,
        port,
        target: target.parse().unwrap(),
    };
    ServiceHostRows {
        own: vec![own("10.96.0.7:80"), own("[fd96::7]:80")],
        node_ports: vec![
            NodePort { protocol: Transport::Tcp, port },
            NodePort { protocol: Transport::Udp, port },
        ],
        ..ServiceHostRows::default()
    }
}

/// A Service of policy `Local` that only this host serves, on `target` of the node's addresses.
pub(super) fn direct(port: u16, target: u16) -> ServiceHostRows {
    let to = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), target);
    let row =
        |address| Translation { reach: Reach::Node, protocol: Transport::Tcp, port, target: to(address) };
    let endpoint = |address| HostEndpoint { protocol: Transport::Tcp, target: to(address) };
    ServiceHostRows {
        direct: vec![row(NODE), row(NODE6)],
        endpoints: vec![endpoint(NODE), endpoint(NODE6)],
        ..ServiceHostRows::default()
    }
}
