//! The traffic of the demo: ways that are all kept busy at once.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};

use super::{
    Quit, clients,
    environment::{Environment, NODE_PORT_HERE, NODE_PORT_THERE, PODS_PEER},
    meter::{Meter, Owner, Reading},
};
use crate::{
    lab::{
        address::{Family, internet},
        netns::Namespace,
        process::wait_until,
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::Request,
};

/// A way without an answer for so long did not come back.
const SILENT: Duration = Duration::from_secs(2);

/// How a way is kept busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Datagrams,
    Connections,
    Pings,
}

/// Who talks to whom, and how.
struct Way<'a> {
    owner: Owner,
    kind: Kind,
    title: &'static str,
    namespace: &'a Namespace,
    to: SocketAddr,
    expected: &'static str,
}

/// All of the traffic. It ends when dropped.
#[derive(Debug)]
pub struct Traffic {
    meters: Vec<Arc<Meter>>,
    running: Vec<Running>,
}

/// A way that is kept busy.
#[derive(Debug)]
struct Running {
    owner: Owner,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// What the meters of one owner say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Requests that were not answered.
    pub lost: u64,
    /// Answers by another server.
    pub wrong: u64,
    /// Sessions opened again.
    pub reopened: u64,
}

impl Traffic {
    /// Starts the ways of management. Those of the pods [`join`](Self::join) later.
    pub fn start(environment: &Environment, quit: &Quit) -> Result<Self> {
        let mut traffic = Self { meters: Vec::new(), running: Vec::new() };
        traffic.join(environment, Owner::Management, quit)?;
        Ok(traffic)
    }

    /// Starts every way of an owner, after each has been answered once.
    pub fn join(&mut self, environment: &Environment, owner: Owner, quit: &Quit) -> Result<()> {
        let ways = ways(environment)?;
        let ways: Vec<_> = ways.iter().filter(|way| way.owner == owner).collect();
        for way in &ways {
            // The first packet of a way may find a tunnel or a neighbour unresolved.
            wait_until(way.title, || {
                let answer = Request::tcp(way.to).send(way.namespace);
                if quit.is_asked() {
                    bail!("interrupted");
                }
                Ok(answer?.name == way.expected)
            })?;
        }
        ways.into_iter().try_for_each(|way| self.begin(way))
    }

    fn begin(&mut self, way: &Way<'_>) -> Result<()> {
        let meter = Arc::new(Meter::new(way.owner, way.title, way.expected));
        let stop = Arc::new(AtomicBool::new(false));
        let (counted, told, to, kind, name) =
            (Arc::clone(&meter), Arc::clone(&stop), way.to, way.kind, way.expected);
        if kind == Kind::Pings {
            // ICMP sockets are for the groups named here (icmp(7)).
            way.namespace.sysctl("net/ipv4/ping_group_range", "0 2147483647")?;
        }
        let work = move || match kind {
            Kind::Session => clients::session(to, &counted, &told),
            Kind::Datagrams => clients::datagrams(to, &counted, &told),
            Kind::Connections => clients::connections(to, &counted, &told),
            Kind::Pings => clients::pings(to, name, &counted, &told),
        };
        // A thread is born in the namespace of the one that starts it.
        let thread = way.namespace.enter(|| std::thread::Builder::new().spawn(work))?;
        let thread = thread.context("starting a thread of the traffic")?;
        self.running.push(Running { owner: way.owner, stop, thread });
        self.meters.push(meter);
        Ok(())
    }

    /// The meters, management first.
    pub fn meters(&self) -> &[Arc<Meter>] {
        &self.meters
    }

    /// What the meters of an owner say together.
    pub fn sum(&self, owner: Owner) -> Sum {
        let readings = self.meters.iter().filter(|meter| meter.owner == owner).map(|meter| meter.read());
        readings.fold(Sum::default(), |sum, reading: Reading| Sum {
            lost: sum.lost + reading.lost,
            wrong: sum.wrong + reading.wrong,
            reopened: sum.reopened + reading.reopened,
        })
    }

    /// The ways that are not answered any more. To be asked while it still flows.
    pub fn silent(&self) -> Vec<String> {
        Owner::ALL.into_iter().flat_map(|owner| self.silent_of(owner)).collect()
    }

    /// Those of one owner.
    pub fn silent_of(&self, owner: Owner) -> Vec<String> {
        let ours = self.meters.iter().filter(|meter| meter.owner == owner);
        ours.filter(|meter| meter.read().silent > SILENT).map(|meter| meter.title.clone()).collect()
    }

    /// Asks all of it to end, and waits for that.
    pub fn finish(&mut self) -> Result<()> {
        Owner::ALL.into_iter().try_for_each(|owner| self.part(owner))
    }

    /// Asks the ways of an owner to end, and waits for that.
    pub fn part(&mut self, owner: Owner) -> Result<()> {
        let parting: Vec<_> = self.running.extract_if(.., |way| way.owner == owner).collect();
        parting.iter().for_each(|way| way.stop.store(true, Ordering::Relaxed));
        let broken = parting.into_iter().map(|way| way.thread.join()).filter(Result::is_err).count();
        if broken > 0 { Err(anyhow!("{broken} threads of the traffic broke")) } else { Ok(()) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

fn ways(environment: &Environment) -> Result<Vec<Way<'_>>> {
    use Family::{V4, V6};
    use Kind::{Connections, Datagrams, Pings, Session};
    let lab = environment.lab();
    let (node, world) = (lab.node(1)?, lab.world());
    let (administrator, outside) = (world.administrator().namespace(), world.internet().namespace());
    let pod = |node, number| lab.pod(node, number).map(crate::lab::pod::Pod::namespace);
    let host = |family| node.address().port(family, HOST_PORT);
    let far = |family| world.internet().address().port(family, POD_PORT);
    let peer = |family| internet(PODS_PEER).port(family, POD_PORT);
    let here = |family| node.address().port(family, NODE_PORT_HERE);
    let there = |family| node.address().port(family, NODE_PORT_THERE);
    let managed = |kind, title, namespace, to, expected| Way {
        owner: Owner::Management,
        kind,
        title,
        namespace,
        to,
        expected,
    };
    let of_pods = |kind, title, namespace, to, expected| Way {
        owner: Owner::NorthSouth,
        kind,
        title,
        namespace,
        to,
        expected,
    };
    Ok(vec![
        managed(Session, "administrator -> node1, session", administrator, host(V4), "node1"),
        managed(Session, "administrator -> node1, session, IPv6", administrator, host(V6), "node1"),
        managed(Datagrams, "administrator -> node1, UDP", administrator, host(V4), "node1"),
        managed(Pings, "administrator -> node1, ping", administrator, host(V4), "node1"),
        managed(Pings, "administrator -> node1, ping, IPv6", administrator, host(V6), "node1"),
        managed(Session, "node1 -> internet, session", node.namespace(), far(V4), "internet"),
        managed(Datagrams, "node1 -> internet, UDP, IPv6", node.namespace(), far(V6), "internet"),
        of_pods(Session, "pod11 -> internet, session", pod(1, 1)?, peer(V4), "internet"),
        of_pods(Datagrams, "pod12 -> internet, UDP", pod(1, 2)?, peer(V4), "internet"),
        of_pods(Datagrams, "pod21 (node2) -> internet, UDP, IPv6", pod(2, 1)?, peer(V6), "internet"),
        of_pods(Connections, "pod22 (node2) -> internet, connections", pod(2, 2)?, peer(V4), "internet"),
        of_pods(Datagrams, "internet -> node1:30081 -> pod11, UDP", outside, here(V4), "pod11"),
        of_pods(Connections, "internet -> node1:30081 -> pod11, conn.", outside, here(V4), "pod11"),
        of_pods(Datagrams, "internet -> node1:30082 -> pod21, UDP, IPv6", outside, there(V6), "pod21"),
        of_pods(Connections, "internet -> node1:30082 -> pod21, conn.", outside, there(V4), "pod21"),
    ])
}
