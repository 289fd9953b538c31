//! The path matrix: every start, destination and kind of endpoint, by TCP and UDP, IPv4 and IPv6.
//!
//! 396 cells, each four connections that must be answered by the right endpoint:
//!
//! | path | cells a family | columns |
//! |---|---|---|
//! | outside to a node's NodePort | 16 | 2 nodes, 4 kinds of endpoint, 2 protocols |
//! | the other node's host to a NodePort | 16 | the same |
//! | a node to its own NodePort | 16 | the same |
//! | a pod to a NodePort (its own node's and the other's; to itself too) | 64 | 4 pods, 2 nodes, 4 kinds, 2 protocols |
//! | a node to a ClusterIP | 16 | 2 nodes, 4 kinds, 2 protocols |
//! | a pod to a ClusterIP | 32 | 4 pods, 4 kinds, 2 protocols |
//! | a pod to a node's physical address | 16 | 4 pods, 2 nodes, 2 protocols |
//! | a host, a pod to the internet | 12 | 2 hosts and 4 pods, 2 protocols |
//! | outside to a host | 4 | 2 hosts, 2 protocols (IPv4; for IPv6 among the further cells) |
//! | a host to a pod | 16 | 2 hosts, 4 pods, 2 protocols (IPv4; for IPv6 among the further cells) |
//!
//! That is 208 for IPv4 and 188 for IPv6. The 20 further IPv6 cells are run and reported all the same.
//!
//! Impossible, and therefore no cell: fragments to a NodePort and path MTU discovery of a NodePort connection to an
//! endpoint on the same node (userspace datapath), one live 5-tuple of both owners without separate port ranges,
//! SCTP between two pods of one gateway and the same server, `127.0.0.1:nodePort`.

use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, thread};

use anyhow::{Result, anyhow};

use crate::{
    lab::{
        Lab,
        address::Family,
        netns::Namespace,
        service::{EndpointSpec, Protocol, ServiceSpec},
    },
    probe::{Listen, Request, Responder},
};

/// Where servers in pods listen.
pub const POD_PORT: u16 = 8080;
/// Where servers of hosts listen, on all addresses.
pub const HOST_PORT: u16 = 8081;
/// Where servers of hosts listen that are bound to the node's physical address only.
pub const BOUND_PORT: u16 = 8082;
/// How often each cell is tried; all must succeed.
pub const TRIES: usize = 4;

/// One path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// From outside to a node's NodePort.
    OutsideToNodePort,
    /// From the other node's host to a NodePort.
    OtherHostToNodePort,
    /// From a node to a NodePort of its own address.
    OwnNodePort,
    /// From a pod to a NodePort of its own node.
    PodToOwnNodePort,
    /// From a pod to a NodePort of the other node.
    PodToOtherNodePort,
    /// From a node's host to a ClusterIP.
    HostToCluster,
    /// From a pod to a ClusterIP.
    PodToCluster,
    /// From a pod to its own node's physical address.
    PodToOwnNode,
    /// From a pod to the other node's physical address.
    PodToOtherNode,
    /// From a host to the internet.
    HostToInternet,
    /// From a pod to the internet.
    PodToInternet,
    /// From outside to a host.
    OutsideToHost,
    /// From a host to a pod.
    HostToPod,
}

impl Path {
    fn title(self) -> &'static str {
        match self {
            Self::OutsideToNodePort => "outside -> node:NodePort",
            Self::OtherHostToNodePort => "other node's host -> node:NodePort",
            Self::OwnNodePort => "node -> own address:NodePort",
            Self::PodToOwnNodePort => "pod -> own node:NodePort",
            Self::PodToOtherNodePort => "pod -> other node:NodePort",
            Self::HostToCluster => "node -> ClusterIP",
            Self::PodToCluster => "pod -> ClusterIP",
            Self::PodToOwnNode => "pod -> own node's address",
            Self::PodToOtherNode => "pod -> other node's address",
            Self::HostToInternet => "host -> internet",
            Self::PodToInternet => "pod -> internet",
            Self::OutsideToHost => "outside -> host",
            Self::HostToPod => "host -> pod",
        }
    }
}

/// What answers, seen from the node that is addressed (or, with a ClusterIP, from the client's).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A pod of that node.
    PodHere,
    /// A pod of the other node.
    PodThere,
    /// A host-network endpoint of that node.
    HostHere,
    /// A host-network endpoint of the other node.
    HostThere,
    /// No Service is involved.
    Direct,
}

impl Kind {
    const ALL: [(Self, &'static str); 5] = [
        (Self::PodHere, "pod here"),
        (Self::PodThere, "pod there"),
        (Self::HostHere, "host here"),
        (Self::HostThere, "host there"),
        (Self::Direct, "direct"),
    ];

    fn of(endpoint: &EndpointSpec, node: usize) -> Self {
        match (endpoint.is_host(), endpoint.node == node) {
            (false, true) => Self::PodHere,
            (false, false) => Self::PodThere,
            (true, true) => Self::HostHere,
            (true, false) => Self::HostThere,
        }
    }
}

/// A cell of the matrix.
#[derive(Debug, Clone)]
pub struct Cell<'a> {
    /// The path.
    pub path: Path,
    /// The kind of endpoint.
    pub kind: Kind,
    /// IPv4 or IPv6.
    pub family: Family,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Who asks.
    pub from: String,
    /// Whom.
    pub to: SocketAddr,
    /// Who must answer.
    pub expected: String,
    namespace: &'a Namespace,
}

impl Cell<'_> {
    /// Whether it is one of the 396; the others are run and reported beside them.
    pub fn is_counted(&self) -> bool {
        self.family == Family::V4 || !matches!(self.path, Path::OutsideToHost | Path::HostToPod)
    }

    fn try_it(&self) -> Option<String> {
        let request = Request::new(self.protocol, self.to);
        let errors: Vec<String> = (0..TRIES)
            .filter_map(|_| match request.send(self.namespace) {
                Ok(answer) if answer.name == self.expected => None,
                Ok(answer) => Some(format!("{} answered", answer.name)),
                Err(error) => Some(format!("{error:#}")),
            })
            .collect();
        let first = errors.first()?;
        Some(format!("{} of {TRIES} failed: {first}", errors.len()))
    }
}

/// The Services of the matrix: one for each kind of endpoint on each of two nodes.
pub fn services() -> Vec<ServiceSpec> {
    vec![
        ServiceSpec::new("pod-on-1", 101, 30081, POD_PORT, vec![EndpointSpec::pod(1, 1)]),
        ServiceSpec::new("pod-on-2", 102, 30082, POD_PORT, vec![EndpointSpec::pod(2, 1)]),
        ServiceSpec::new("host-on-1", 103, 30083, HOST_PORT, vec![EndpointSpec::host(1)]),
        ServiceSpec::new("host-on-2", 104, 30084, HOST_PORT, vec![EndpointSpec::host(2)]),
    ]
}

/// Starts the servers: in every pod, on every host, in the internet.
pub fn servers(lab: &Lab) -> Result<Vec<Responder>> {
    let mut servers = Vec::new();
    for node in lab.nodes() {
        let mut listens = Listen::everywhere(HOST_PORT);
        listens.extend(Listen::at(node.address().both(), BOUND_PORT));
        servers.push(Responder::start(node.namespace(), node.name(), &listens)?);
        for pod in node.pods() {
            servers.push(Responder::start(pod.namespace(), pod.name(), &Listen::everywhere(POD_PORT))?);
        }
    }
    let internet = lab.world().internet();
    servers.push(Responder::start(internet.namespace(), internet.name(), &Listen::everywhere(POD_PORT))?);
    Ok(servers)
}

/// The cells, for a lab of two nodes with two pods each.
pub fn cells(lab: &Lab) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    for protocol in Protocol::ALL {
        for family in Family::ALL {
            service_cells(lab, protocol, family, &mut cells);
            direct_cells(lab, protocol, family, &mut cells);
        }
    }
    cells
}

fn service_cells<'a>(lab: &'a Lab, protocol: Protocol, family: Family, cells: &mut Vec<Cell<'a>>) {
    let internet = lab.world().internet();
    for service in services() {
        let Some((endpoint, port)) = service.endpoints.first().zip(service.ports.first()) else { continue };
        let expected = if endpoint.is_host() {
            format!("node{}", endpoint.node)
        } else {
            format!("pod{}1", endpoint.node)
        };
        let mut cell = |path, seen_from: usize, from: &str, to, namespace| {
            let (from, expected) = (from.to_owned(), expected.clone());
            let kind = Kind::of(endpoint, seen_from);
            cells.push(Cell { path, kind, family, protocol, from, to, expected, namespace });
        };
        let cluster = service.cluster_ip.port(family, port.port);
        for node in lab.nodes() {
            let (number, to) = (node.number(), node.address().port(family, port.node_port));
            cell(Path::OutsideToNodePort, number, internet.name(), to, internet.namespace());
            cell(Path::HostToCluster, number, node.name(), cluster, node.namespace());
            for start in lab.nodes() {
                let own = start.number() == number;
                let path = if own { Path::OwnNodePort } else { Path::OtherHostToNodePort };
                cell(path, number, start.name(), to, start.namespace());
                let path = if own { Path::PodToOwnNodePort } else { Path::PodToOtherNodePort };
                for pod in start.pods() {
                    cell(path, number, pod.name(), to, pod.namespace());
                }
            }
            for pod in node.pods() {
                cell(Path::PodToCluster, number, pod.name(), cluster, pod.namespace());
            }
        }
    }
}

fn direct_cells<'a>(lab: &'a Lab, protocol: Protocol, family: Family, cells: &mut Vec<Cell<'a>>) {
    let internet = lab.world().internet();
    let mut cell = |path, from: &str, to, expected: &str, namespace| {
        let (from, expected) = (from.to_owned(), expected.to_owned());
        cells.push(Cell { path, kind: Kind::Direct, family, protocol, from, to, expected, namespace });
    };
    let far = internet.address().port(family, POD_PORT);
    for node in lab.nodes() {
        let host = node.address().port(family, HOST_PORT);
        cell(Path::HostToInternet, node.name(), far, internet.name(), node.namespace());
        cell(Path::OutsideToHost, internet.name(), host, node.name(), internet.namespace());
        for start in lab.nodes() {
            for pod in start.pods() {
                let own = start.number() == node.number();
                let path = if own { Path::PodToOwnNode } else { Path::PodToOtherNode };
                cell(path, pod.name(), host, node.name(), pod.namespace());
                let to = pod.address().port(family, POD_PORT);
                cell(Path::HostToPod, node.name(), to, pod.name(), node.namespace());
            }
        }
        for pod in node.pods() {
            cell(Path::PodToInternet, pod.name(), far, internet.name(), pod.namespace());
        }
    }
}

/// What came of each cell.
#[derive(Debug)]
pub struct Report<'a> {
    /// The cells, with what failed.
    pub outcomes: Vec<(Cell<'a>, Option<String>)>,
}

/// Runs the matrix: servers and Services must be there.
pub fn run(lab: &Lab) -> Result<Report<'_>> {
    // One thread for each start: nothing of one start's cells is concurrent.
    let mut starts: BTreeMap<String, Vec<Cell<'_>>> = BTreeMap::new();
    for cell in cells(lab) {
        starts.entry(cell.from.clone()).or_default().push(cell);
    }
    let outcomes = thread::scope(|scope| {
        let threads: Vec<_> = starts
            .into_values()
            .map(|cells| {
                scope.spawn(move || {
                    let tried = cells.into_iter().map(|cell| {
                        let outcome = cell.try_it();
                        (cell, outcome)
                    });
                    tried.collect::<Vec<_>>()
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("a thread of the matrix broke")))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(Report { outcomes: outcomes.into_iter().flatten().collect() })
}

impl Report<'_> {
    /// How many of the counted cells passed, and how many there are.
    pub fn score(&self) -> (usize, usize) {
        Self::tally(self.outcomes.iter().filter(|(cell, _)| cell.is_counted()))
    }

    /// The failed cells, counted and further ones, each by name.
    pub fn failures(&self) -> Vec<String> {
        let failed =
            self.outcomes.iter().filter_map(|(cell, outcome)| outcome.as_ref().map(|why| (cell, why)));
        failed
            .map(|(cell, why)| {
                format!(
                    "{} [{:?}] {} {}: {} -> {}, expected {}: {why}",
                    cell.path.title(),
                    cell.kind,
                    cell.family,
                    cell.protocol.name(),
                    cell.from,
                    cell.to,
                    cell.expected,
                )
            })
            .collect()
    }

    /// The table, a row for each path, a column for each kind; passed/all, IPv4 and IPv6.
    pub fn table(&self) -> String {
        let mut text = format!("{:36}", "path");
        // Writing to a String cannot fail.
        for (_, title) in Kind::ALL {
            let _ = write!(text, "{title:>16}");
        }
        text.push('\n');
        let mut paths: Vec<Path> = self.outcomes.iter().map(|(cell, _)| cell.path).collect();
        paths.sort_unstable();
        paths.dedup();
        for path in paths {
            let _ = write!(text, "{:36}", path.title());
            for (kind, _) in Kind::ALL {
                let mut words = Vec::new();
                for family in Family::ALL {
                    let cells = self
                        .outcomes
                        .iter()
                        .filter(|(cell, _)| cell.path == path && cell.kind == kind && cell.family == family);
                    let (passed, all) = Self::tally(cells);
                    if all > 0 {
                        words.push(format!("{passed}/{all}"));
                    }
                }
                let _ =
                    write!(text, "{:>16}", if words.is_empty() { "-".to_owned() } else { words.join(" ") });
            }
            text.push('\n');
        }
        let (passed, all) = self.score();
        let (more, further) = Self::tally(self.outcomes.iter().filter(|(cell, _)| !cell.is_counted()));
        let _ = writeln!(text, "matrix: {passed} of {all}; further cells: {more} of {further}");
        text
    }

    fn tally<'b>(cells: impl Iterator<Item = &'b (Cell<'b>, Option<String>)>) -> (usize, usize) {
        cells.fold((0, 0), |(passed, all), (_, outcome)| (passed + usize::from(outcome.is_none()), all + 1))
    }
}
