//! The lab of the checks: the matrix's Services and some of each special kind.

use std::{thread, time::Duration};

use anyhow::{Result, anyhow, bail, ensure};
use netns_tests::{
    lab::{
        Lab, LabOptions, PortRange,
        address::{self, Dual},
        cluster::Cluster,
        helper::{HelperOptions, ReplyRule},
        netns::Namespace,
        process::wait_within,
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{self, HOST_PORT, POD_PORT},
    probe::{Answer, Listen, Request, Responder},
};

/// Node ports of the special Services.
pub const LOCAL_PODS: u16 = 30085;
pub const LOCAL_ON_2: u16 = 30086;
pub const LOCAL_HOSTS: u16 = 30087;
pub const RANGED: u16 = 30088;
pub const NOBODY: u16 = 30089;
pub const EXTERNAL: u16 = 30090;

/// An external address on the nodes' own link, and one that is routed to the first node.
pub fn on_link() -> Dual {
    address::fabric(50)
}

pub fn routed() -> Dual {
    Dual {
        v4: [198, 51, 100, 7].into(),
        v6: "2001:db8:198::7".parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST),
    }
}

/// The address of the Service with source ranges, routed to the first node, too.
pub fn ranged_address() -> Dual {
    Dual {
        v4: [198, 51, 100, 8].into(),
        v6: "2001:db8:198::8".parse().unwrap_or(std::net::Ipv6Addr::LOCALHOST),
    }
}

/// A lab with Services and servers.
pub struct Fixture {
    _servers: Vec<Responder>,
    pub cluster: Cluster,
    pub snat_ports: Option<PortRange>,
}

impl Fixture {
    pub fn set_up(rule: ReplyRule, snat_ports: Option<PortRange>) -> Result<Self> {
        let lab = LabOptions { snat_ports, ..LabOptions::default() };
        let helper = HelperOptions { reply_rule: rule, snat_ports, ..HelperOptions::default() };
        let cluster = Cluster::up(lab, &helper)?;
        let mut servers = matrix::servers(cluster.lab())?;
        for node in cluster.lab().nodes() {
            // What must never answer in a Service's place, and what must keep answering beside an external address.
            let ports = [LOCAL_ON_2, NOBODY, 80];
            let listens: Vec<Listen> = ports.into_iter().flat_map(Listen::everywhere).collect();
            servers.push(Responder::start(node.namespace(), node.name(), &listens)?);
        }
        let pods = |nodes: &[usize]| nodes.iter().map(|&node| EndpointSpec::pod(node, 1)).collect::<Vec<_>>();
        let mut services = matrix::services();
        services.extend([
            ServiceSpec::new("local-pods", 111, LOCAL_PODS, POD_PORT, pods(&[1, 2])).policy_local(),
            ServiceSpec::new("local-on-2", 112, LOCAL_ON_2, POD_PORT, pods(&[2])).policy_local(),
            ServiceSpec::new(
                "local-hosts",
                113,
                LOCAL_HOSTS,
                HOST_PORT,
                vec![EndpointSpec::host(1), EndpointSpec::host(2)],
            )
            .policy_local(),
            ServiceSpec::new("ranged", 114, RANGED, POD_PORT, pods(&[1]))
                .balanced(ranged_address().both())
                .only_from(["203.0.113.10/32", "2001:db8:203::10/128"]),
            ServiceSpec::new("nobody", 115, NOBODY, POD_PORT, vec![]),
            ServiceSpec::new("external", 116, EXTERNAL, POD_PORT, pods(&[2]))
                .external(on_link().both())
                .balanced(routed().both()),
        ]);
        cluster.apply(&services)?;
        let first = cluster.lab().node(1)?.address();
        let [routed4, routed6] = address::ROUTED_EXTERNAL;
        cluster.lab().world().router().namespace().ip(format!(
            "route replace {routed4} via {}\nroute replace {routed6} via {}\n",
            first.v4, first.v6
        ))?;
        Ok(Self { _servers: servers, cluster, snat_ports })
    }

    pub fn lab(&self) -> &Lab {
        self.cluster.lab()
    }

    pub fn internet(&self) -> &Namespace {
        self.lab().world().internet().namespace()
    }
}

/// The answer must come from this server.
pub fn expect(namespace: &Namespace, request: &Request, name: &str) -> Result<Answer> {
    let answer = request.send(namespace)?;
    ensure!(
        answer.name == name,
        "{} asked {}: {} answered in place of {name}",
        namespace.name(),
        request.to,
        answer.name
    );
    Ok(answer)
}

/// The answer must come from this server, if not at the first try: a cold tunnel or neighbour loses a first packet, and
/// the userspace datapath may lose pieces of a datagram whose flows are not there yet.
pub fn expect_soon(namespace: &Namespace, request: &Request, name: &str) -> Result<()> {
    let request = request.clone().within(Duration::from_millis(1000));
    wait_within(&format!("an answer from {name}"), Duration::from_secs(5), || {
        expect(namespace, &request, name).map(|_| true)
    })
}

/// No server may answer any of these; they are asked at once.
pub fn expect_nobody(asks: &[(&Namespace, Request)]) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = asks
            .iter()
            .map(|(namespace, request)| {
                let request = request.clone().within(Duration::from_millis(700));
                scope.spawn(move || match request.send(namespace) {
                    Ok(answer) => {
                        bail!("{} asked {}: {} answered", namespace.name(), request.to, answer.name)
                    }
                    Err(_) => Ok(()),
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread broke"))?)
    })
}
