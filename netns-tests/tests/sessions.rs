//! Sessions and streams of every owner, held while the helper, the Services or the switch change under them.

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{
        LabOptions,
        address::Family,
        cluster::Cluster,
        helper::HelperOptions,
        netns::Namespace,
        node::Stop,
        process::wait_until,
        service::{EndpointSpec, ServiceSpec},
    },
    matrix::{self, HOST_PORT, POD_PORT},
    probe::{Capture, Request, Responder, Session, Stream},
};

/// Whose traffic it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Management,
    NorthSouth,
}

/// A way that is kept busy by a session and a stream.
struct Way<'a> {
    owner: Owner,
    title: String,
    namespace: &'a Namespace,
    request: Request,
}

/// What is held, of every owner at once.
struct Traffic<'a> {
    held: Vec<(Way<'a>, Session, Stream)>,
}

const PACE: Duration = Duration::from_millis(5);

struct Bench {
    cluster: Cluster,
    services: Vec<ServiceSpec>,
    _servers: Vec<Responder>,
    // Dropped last: the next lab starts when this one is gone.
    _alone: MutexGuard<'static, ()>,
}

/// Lost datagrams are counted, and two labs at once on two processors count each other's load.
static ALONE: Mutex<()> = Mutex::new(());

impl Bench {
    fn set_up() -> Result<Self> {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = Cluster::up(LabOptions::default(), &HelperOptions::default())?;
        let servers = matrix::servers(cluster.lab())?;
        let services = matrix::services();
        cluster.apply(&services)?;
        Ok(Self { cluster, services, _servers: servers, _alone: alone })
    }

    fn ways(&self) -> Result<Vec<Way<'_>>> {
        let lab = self.cluster.lab();
        let (node, world) = (lab.node(1)?, lab.world());
        let mut ways = Vec::new();
        for family in Family::ALL {
            let mut way = |owner, title: &str, namespace, to| {
                ways.push(Way {
                    owner,
                    title: format!("{title}, {family}"),
                    namespace,
                    request: Request::tcp(to),
                });
            };
            let (far, host) =
                (world.internet().address().port(family, POD_PORT), node.address().port(family, HOST_PORT));
            way(Owner::Management, "administrator to host", world.administrator().namespace(), host);
            way(Owner::Management, "host to internet", node.namespace(), far);
            way(Owner::NorthSouth, "pod here to internet", lab.pod(1, 1)?.namespace(), far);
            way(Owner::NorthSouth, "pod there to internet", lab.pod(2, 1)?.namespace(), far);
            for (title, port) in
                [("outside to NodePort, pod here", 30081), ("outside to NodePort, pod there", 30082)]
            {
                way(
                    Owner::NorthSouth,
                    title,
                    world.internet().namespace(),
                    node.address().port(family, port),
                );
            }
        }
        Ok(ways)
    }

    fn traffic(&self) -> Result<Traffic<'_>> {
        let held = self.ways()?.into_iter().map(|way| {
            // The first packet of a way may find a tunnel or a neighbour unresolved.
            wait_until(&way.title, || way.request.send(way.namespace).map(|_| true))?;
            let session = Session::open(way.namespace, &way.request, PACE)?;
            let datagrams = Request::udp(way.request.to);
            let stream = Stream::open(way.namespace, &datagrams, PACE)?;
            Ok((way, session, stream))
        });
        Ok(Traffic { held: held.collect::<Result<_>>()? })
    }

    /// New connections of every owner work.
    fn everything_answers(&self) -> Result<()> {
        for way in self.ways()? {
            wait_until(&way.title, || way.request.send(way.namespace).map(|_| true))?;
        }
        Ok(())
    }
}

impl Traffic<'_> {
    /// Waits until so many more messages of every session came back.
    fn wait_for_messages(&self, count: u64) -> Result<()> {
        self.held.iter().try_for_each(|(_, session, _)| session.wait_for_messages(count))
    }

    fn wind_down(&self) {
        for (_, session, stream) in &self.held {
            session.wind_down();
            stream.wind_down();
        }
    }

    /// Ends it; every session of the owners named must have lived, and at most so many per mille be lost of the
    /// datagrams: what a busy machine drops is not the flows' doing, an interruption is.
    fn finish(self, event: &str, owners: &[Owner]) -> Result<()> {
        self.wait_for_messages(2)?;
        self.wind_down();
        let mut complaints = Vec::new();
        for (way, session, stream) in self.held {
            let (session, stream) = (session.finish()?, stream.finish()?);
            println!(
                "{event}: {:?}, {}: {} messages, longest {:?}; {} datagrams, {} lost, {} in a row, {} doubled",
                way.owner,
                way.title,
                session.echoed,
                session.longest,
                stream.sent,
                stream.lost,
                stream.row,
                stream.doubled
            );
            if !owners.contains(&way.owner) {
                continue;
            }
            if let Some(why) = session.died {
                complaints.push(format!("{}: the session died {why}", way.title));
            }
            if stream.lost * 1000 > stream.sent * LOST_PER_MILLE {
                complaints.push(format!("{}: {} of {} datagrams lost", way.title, stream.lost, stream.sent));
            }
        }
        ensure!(complaints.is_empty(), "{event}:\n{}", complaints.join("\n"));
        Ok(())
    }
}

const LOST_PER_MILLE: u64 = 20;
const ALL: [Owner; 2] = [Owner::Management, Owner::NorthSouth];

#[test]
fn helper_restarts() -> Result<()> {
    let bench = Bench::set_up()?;
    let traffic = bench.traffic()?;
    for how in [Stop::Terminate, Stop::Kill, Stop::Kill] {
        for node in 1..=2 {
            bench.cluster.helper(node)?.restart(how)?;
        }
        traffic.wait_for_messages(5)?;
    }
    traffic.finish("helper restarted and killed", &ALL)?;
    bench.cluster.follow(&bench.services)?;
    bench.everything_answers()
}

#[test]
fn a_thousand_service_changes() -> Result<()> {
    let bench = Bench::set_up()?;
    let traffic = bench.traffic()?;
    let lab = bench.cluster.lab();
    let churn = |number: u16, port: u16| {
        let endpoints = vec![EndpointSpec::pod(1, 1)];
        ServiceSpec::new(&format!("churn-{number}"), 1000 + number, port, POD_PORT, endpoints)
    };
    for round in 0..1000_u16 {
        // Each change replaces one file: a port moves, a Service comes or goes.
        let file = lab.manifests().join(format!("churn-{}.yaml", round % 50));
        if round % 3 == 2 && file.exists() {
            fs::remove_file(&file).with_context(|| format!("removing {}", file.display()))?;
        } else {
            let draft = lab.manifests().join(".draft");
            fs::write(&draft, churn(round % 50, 31000 + round % 500).manifest()?)?;
            fs::rename(&draft, &file)?;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    // The last word counts.
    lab.write_manifests(&bench.services)?;
    bench.cluster.follow(&bench.services)?;
    traffic.finish("1000 Service changes", &ALL)?;
    bench.everything_answers()
}

#[test]
fn switch_restarts() -> Result<()> {
    switch_ends(Stop::Terminate)
}

#[test]
fn switch_is_killed() -> Result<()> {
    switch_ends(Stop::Kill)
}

/// On the userspace datapath connections of pods end with the switch (the router's NAT state is its own); the host's do
/// not, and new ones of every owner work as soon as the flows are back.
fn switch_ends(how: Stop) -> Result<()> {
    let bench = Bench::set_up()?;
    let traffic = bench.traffic()?;
    let node = bench.cluster.lab().node(1)?;
    let wire = Capture::start(bench.cluster.lab().world().router().namespace(), "eth0")?;
    node.stop_switch(how)?;
    node.start_switch()?;
    bench.cluster.follow(&bench.services)?;
    bench.everything_answers()?;
    let resets = wire.count(|frame| is_reset_from(frame, node.mac_bytes()));
    traffic.wind_down();
    println!("{how:?}: {resets} resets from {}", node.name());
    let mut complaints = Vec::new();
    for (way, session, stream) in traffic.held {
        let (session, stream) = (session.finish()?, stream.finish()?);
        println!(
            "{how:?}: {:?}, {}: {} messages, longest {:?}, died: {:?}; {} datagrams, {} lost",
            way.owner, way.title, session.echoed, session.longest, session.died, stream.sent, stream.lost
        );
        if let (Owner::Management, Some(why)) = (way.owner, session.died) {
            complaints.push(format!("{}: the session died {why}", way.title));
        }
    }
    ensure!(complaints.is_empty(), "{how:?}:\n{}", complaints.join("\n"));
    ensure!(
        resets == 0 || netns_tests::lab::helper::uses_reference_helper(),
        "{resets} resets left the node for frames that were the pods'"
    );
    Ok(())
}

/// A TCP reset (IPv4 without options, or IPv6) sent by this MAC address.
fn is_reset_from(frame: &[u8], mac: [u8; 6]) -> bool {
    let byte = |index: usize| frame.get(index).copied().unwrap_or(0);
    let flags = match (byte(12), byte(13)) {
        (0x08, 0x00) if byte(23) == 6 => byte(14 + 20 + 13),
        (0x86, 0xdd) if byte(20) == 6 => byte(14 + 40 + 13),
        _ => 0,
    };
    frame.get(6..12) == Some(mac.as_slice()) && flags & 4 != 0
}
