//! vswitchd killed under traffic: with `flow-restore-wait` armed nothing of the host's or of NodePorts is lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{
        Lab, LabOptions,
        address::Family,
        helper::{Daemon, Helper, HelperOptions},
        netns::Namespace,
        node::{Node, Stop},
        process::wait_until,
    },
    matrix::{self, HOST_PORT, POD_PORT},
    probe::{Capture, Request, Session, Stream},
};

/// Between two messages or datagrams of one way.
const PACE: Duration = Duration::from_millis(40);
/// How long the traffic runs before, between and after the events.
const PAUSE: Duration = Duration::from_secs(3);

/// What Linux sends with (ip(7), ip_default_ttl).
const HOSTS_TTL: u8 = 64;

/// Whether a loss is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// Nothing is lost, the session lives.
    Whole,
    /// Told, not judged.
    Told,
}

struct Way<'a> {
    title: String,
    promise: Promise,
    namespace: &'a Namespace,
    request: Request,
}

pub fn killed_under_traffic() -> Result<()> {
    let lab = Lab::start(LabOptions::default())?;
    let options = HelperOptions::default();
    let second = Daemon::start(&lab, lab.node(2)?, &options)?;
    let first = Daemon::start(&lab, lab.node(1)?, &options)?;
    lab.wait_until_bound()?;
    let _servers = matrix::servers(&lab)?;
    let services = matrix::services();
    lab.apply(&services)?;
    for helper in [&first, &second] {
        helper.follow(&services)?;
    }
    let node = lab.node(1)?;

    let mut complaints = Vec::new();
    for round in ["armed", "armed again"] {
        wait_until("flow-restore-wait to be armed", || is_armed(node))?;
        complaints.extend(kill_once(&lab, round, true)?);
    }
    // For comparison: what a restart costs without the key.
    first.end(Stop::Terminate)?;
    ensure!(
        !is_armed(node)?,
        "the helper ended and left flow-restore-wait behind: nobody would take it away"
    );
    let bare = HelperOptions { extra: vec!["--no-restore-wait".to_owned()], ..HelperOptions::default() };
    let first = Daemon::start(&lab, node, &bare)?;
    let told = kill_once(&lab, "without the key", false)?;
    println!("without the key: {} of the promises above would have been broken", told.len());
    first.follow(&services)?;
    ensure!(complaints.is_empty(), "vswitchd was killed:\n{}", complaints.join("\n"));
    Ok(())
}

fn is_armed(node: &Node) -> Result<bool> {
    let text = node.vsctl("--no-wait get Open_vSwitch . other_config")?;
    Ok(text.contains("flow-restore-wait=\"true\""))
}

/// How often the database asked vswitchd to look at it again.
fn changes(node: &Node) -> Result<u64> {
    let text = node.vsctl("--no-wait get Open_vSwitch . next_cfg")?;
    text.trim().parse().with_context(|| format!("next_cfg is {text:?}"))
}

/// Kills the first node's vswitchd under traffic and starts it again; gives what was broken.
fn kill_once(lab: &Lab, round: &str, armed: bool) -> Result<Vec<String>> {
    let node = lab.node(1)?;
    let wire = Capture::start(lab.world().router().namespace(), "eth0")?;
    let mut held = Vec::new();
    for way in ways(lab)? {
        // The first packet of a way may find a tunnel or a neighbour unresolved.
        wait_until(&way.title, || way.request.send(way.namespace).map(|_| true))?;
        let session = Session::open(way.namespace, &way.request, PACE)?;
        let stream = Stream::open(way.namespace, &Request::udp(way.request.to), PACE)?;
        held.push((way, session, stream));
    }
    thread::sleep(PAUSE);
    let changes = changes(node)?;
    node.stop_switch(Stop::Kill)?;
    let killed = Instant::now();
    thread::sleep(PAUSE);
    node.start_switch()?;
    let started = Instant::now();
    println!("{round}: vswitchd was away for {:.1?}", killed.elapsed());
    if armed {
        // It may be gone for a moment only: the helper counts each of its changes.
        wait_until("flow-restore-wait to be taken away and armed again", || {
            Ok(self::changes(node)? >= changes + 2 && is_armed(node)?)
        })?;
        println!("{round}: released and armed again {:.1?} after its start", started.elapsed());
    }
    // New connections of every kind work.
    for way in ways(lab)? {
        wait_until(&way.title, || way.request.send(way.namespace).map(|_| true))?;
    }
    println!("{round}: every way answers {:.1?} after its start", started.elapsed());
    thread::sleep(PAUSE);
    let resets = wire.count(|frame| is_hosts_reset_of_a_node_port(frame, node.mac_bytes()));
    println!("{round}: {resets} resets of a NodePort by the host left the node");
    for (_, session, stream) in &held {
        session.wind_down();
        stream.wind_down();
    }
    let mut broken = Vec::new();
    for (way, session, stream) in held {
        let (session, stream) = (session.finish()?, stream.finish()?);
        println!(
            "{round}: {:40} UDP {:5} sent, {:4} lost, {:4} in a row; TCP {:5} messages, longest {:7.1?}, {}",
            way.title,
            stream.sent,
            stream.lost,
            stream.row,
            session.echoed,
            session.longest,
            session.died.as_deref().unwrap_or("alive"),
        );
        if way.promise == Promise::Told {
            continue;
        }
        if stream.lost > 0 {
            broken.push(format!("{round}: {}: {} of {} datagrams lost", way.title, stream.lost, stream.sent));
        }
        if let Some(why) = session.died {
            broken.push(format!("{round}: {}: the session died {why}", way.title));
        }
    }
    if resets > 0 {
        broken.push(format!("{round}: {resets} resets left the node for frames that were the pods'"));
    }
    Ok(broken)
}

fn ways(lab: &Lab) -> Result<Vec<Way<'_>>> {
    let (node, world) = (lab.node(1)?, lab.world());
    let (outside, inside) = (world.internet().namespace(), lab.pod(1, 1)?.namespace());
    let services = matrix::services();
    let service = services.first().context("the matrix has no Services")?;
    let service_port = service.ports.first().context("a Service without ports")?.port;
    let mut ways = Vec::new();
    for family in Family::ALL {
        let mut way = |promise, title: &str, namespace, to| {
            ways.push(Way {
                title: format!("{title}, {family}"),
                promise,
                namespace,
                request: Request::tcp(to),
            });
        };
        let far = world.internet().address().port(family, POD_PORT);
        let host = node.address().port(family, HOST_PORT);
        way(Promise::Whole, "administrator to host", world.administrator().namespace(), host);
        way(Promise::Whole, "host to internet", node.namespace(), far);
        way(Promise::Whole, "outside to NodePort, pod here", outside, node.address().port(family, 30081));
        if family == Family::V4 {
            way(Promise::Told, "pod to internet", inside, far);
            // A tunnel's or a pod's neighbour entry may fail while nobody answers for it.
            way(Promise::Told, "outside to NodePort, pod there", outside, node.address().port(family, 30082));
            way(Promise::Told, "pod to pod there", inside, lab.pod(2, 1)?.address().port(family, POD_PORT));
            way(
                Promise::Told,
                "host to ClusterIP",
                node.namespace(),
                service.cluster_ip.port(family, service_port),
            );
        }
    }
    Ok(ways)
}

/// A TCP reset (IPv4 without options, or IPv6) from the host's own stack, sent from a port of the NodePort range: it
/// says so for a frame that was a pod's. What a pod itself resets has passed two routers, and its TTL shows it.
fn is_hosts_reset_of_a_node_port(frame: &[u8], mac: [u8; 6]) -> bool {
    let byte = |index: usize| frame.get(index).copied().unwrap_or(0);
    let (tcp, hops) = match (byte(12), byte(13)) {
        (0x08, 0x00) if byte(23) == 6 => (14 + 20, byte(22)),
        (0x86, 0xdd) if byte(20) == 6 => (14 + 40, byte(21)),
        _ => return false,
    };
    let port = u16::from_be_bytes([byte(tcp), byte(tcp + 1)]);
    let is_reset = byte(tcp + 13) & 4 != 0 && (30000..32768).contains(&port);
    if is_reset && frame.get(6..12) == Some(mac.as_slice()) {
        println!("a reset from port {port}, TTL {hops}");
        return hops == HOSTS_TTL;
    }
    false
}
