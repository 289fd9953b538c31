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
    Quit,
    meter::{Meter, Owner, Reading},
    stage::{NODE_PORT_HERE, NODE_PORT_THERE, Stage},
    talk,
};
use crate::{
    lab::{
        address::{Family, internet},
        netns::Namespace,
        process::wait_until,
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::Ask,
};

/// The last number of the internet address only pods talk to: what comes from it is the pods'.
pub const PODS_PEER: u8 = 11;

/// A way without an answer for so long did not come back.
const SILENT: Duration = Duration::from_secs(2);

/// How a way is kept busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Session,
    Datagrams,
    Connections,
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
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What the meters of one owner say together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Requests that were not answered.
    pub lost: u64,
    /// Answers by somebody else.
    pub wrong: u64,
    /// Sessions opened again.
    pub reopened: u64,
}

impl Traffic {
    /// Starts every way, after each has been answered once.
    pub fn start(stage: &Stage, quit: &Quit) -> Result<Self> {
        let ways = ways(stage)?;
        for way in &ways {
            // The first packet of a way may find a tunnel or a neighbour unresolved.
            wait_until(way.title, || {
                let answer = Ask::tcp(way.to).ask(way.namespace);
                if quit.is_asked() {
                    bail!("interrupted");
                }
                Ok(answer?.name == way.expected)
            })?;
        }
        let mut traffic = Self { meters: Vec::new(), stop: Arc::default(), threads: Vec::new() };
        ways.iter().try_for_each(|way| traffic.begin(way))?;
        Ok(traffic)
    }

    fn begin(&mut self, way: &Way<'_>) -> Result<()> {
        let meter = Arc::new(Meter::new(way.owner, way.title, way.expected));
        let (counted, stop, to, kind) = (Arc::clone(&meter), Arc::clone(&self.stop), way.to, way.kind);
        let work = move || match kind {
            Kind::Session => talk::session(to, &counted, &stop),
            Kind::Datagrams => talk::datagrams(to, &counted, &stop),
            Kind::Connections => talk::connections(to, &counted, &stop),
        };
        // A thread is born in the namespace of the one that starts it.
        let thread = way.namespace.enter(|| std::thread::Builder::new().spawn(work))?;
        self.threads.push(thread.context("starting a thread of the traffic")?);
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
        let silent = self.meters.iter().filter(|meter| meter.read().silent > SILENT);
        silent.map(|meter| meter.title.clone()).collect()
    }

    /// Asks all of it to end, and waits for that.
    pub fn finish(&mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.threads.drain(..).map(JoinHandle::join);
        let broken = ended.filter(Result::is_err).count();
        if broken > 0 { Err(anyhow!("{broken} threads of the traffic broke")) } else { Ok(()) }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

fn ways(stage: &Stage) -> Result<Vec<Way<'_>>> {
    use Family::{V4, V6};
    use Kind::{Connections, Datagrams, Session};
    let lab = stage.lab();
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
