//! ICMP errors, fragments, path MTU.

use std::{
    io::ErrorKind,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Result, anyhow, bail, ensure};
use netns_tests::{
    lab::{
        address::{self, Family},
        netns::Namespace,
        process::{Program, wait_within},
        service::Protocol,
    },
    matrix::{HOST_PORT, POD_PORT},
    probe::{Ask, ping},
};

use crate::bench::{Bench, LOCAL_PODS, expect, expect_soon, routed};

/// Larger than two packets of any MTU here.
const LARGE: usize = 3000;

pub fn port_unreachable(bench: &Bench) -> Result<()> {
    let far = bench.lab().world().internet().address();
    for family in Family::ALL {
        for node in bench.lab().nodes() {
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                // Nobody listens there.
                let error = match Ask::udp(far.port(family, 9)).ask(start) {
                    Ok(answer) => bail!("{} answered at a closed port", answer.name),
                    Err(error) => error,
                };
                let refused = error
                    .chain()
                    .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
                    .any(|cause| cause.kind() == ErrorKind::ConnectionRefused);
                ensure!(refused, "{family} from {}: {error:#}", start.name());
            }
        }
    }
    Ok(())
}

/// Makes the internet's own fragments small enough for a pod: larger ones end at the pod's veth, since the gateway
/// router is not told to say so (`gateway_mtu`).
fn shorten(bench: &Bench) -> Result<()> {
    let next = address::internet(1);
    let lines = next.both().map(|via| format!("route replace default via {via} mtu 1400\n"));
    bench.internet().ip(lines.concat())
}

pub fn datagrams(bench: &Bench) -> Result<()> {
    shorten(bench)?;
    let lab = bench.lab();
    let far = lab.world().internet().address();
    for family in Family::ALL {
        let out = Ask::udp(far.port(family, POD_PORT)).echo(LARGE);
        for node in lab.nodes() {
            let host = Ask::udp(node.address().port(family, HOST_PORT)).echo(LARGE);
            expect_soon(bench.internet(), &host, node.name())?;
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                expect_soon(start, &out, "internet")?;
                let what = format!("{family} from {}: 5 of 5 large echoes", start.name());
                wait_within(&what, Duration::from_secs(5), || {
                    let pinged = ping(start, far.of(family), 5, LARGE)?;
                    ensure!(pinged.received == 5, "{pinged:?}");
                    Ok(true)
                })?;
            }
        }
    }
    Ok(())
}

pub fn answers_under_load(bench: &Bench) -> Result<()> {
    let lab = bench.lab();
    let (node, pod) = (lab.node(1)?, lab.pod(1, 1)?);
    shorten(bench)?;
    for family in Family::ALL {
        let load =
            Ask::udp(node.address().port(family, HOST_PORT)).echo(LARGE).within(Duration::from_millis(200));
        let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
        let answered = thread::scope(|scope| -> Result<usize> {
            let loader = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // The load is what matters; an answer to it lost on a busy machine is not.
                    drop(load.ask(bench.internet()));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            let ask = Ask::udp(lab.world().internet().address().port(family, POD_PORT)).echo(LARGE);
            expect_soon(pod.namespace(), &ask, "internet")?;
            let answered = (0..30).filter(|_| {
                thread::sleep(Duration::from_millis(10));
                ask.ask(pod.namespace()).is_ok()
            });
            let answered = answered.count();
            stop.store(true, Ordering::Relaxed);
            loader.join().map_err(|_| anyhow!("the load's thread broke"))?;
            Ok(answered)
        })?;
        ensure!(
            answered == 30,
            "{family}: {answered} of 30, with {} fragmented datagrams",
            sent.into_inner()
        );
    }
    Ok(())
}

/// Makes the way to the internet narrower than any device on it: the router must say so.
fn narrow(bench: &Bench) -> Result<()> {
    let far = address::internet(10);
    bench.lab().world().router().namespace().ip(format!(
        "route replace {}/32 dev eth1 mtu lock 1300\nroute replace {}/128 dev eth1 mtu lock 1300\n",
        far.v4, far.v6
    ))
}

const BULK: usize = 200_000;

pub fn path_mtu_out(bench: &Bench) -> Result<()> {
    narrow(bench)?;
    let far = bench.lab().world().internet().address();
    for family in Family::ALL {
        for node in bench.lab().nodes() {
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                expect(start, &Ask::tcp(far.port(family, POD_PORT)).echo(BULK), "internet")?;
                forget_path_mtu(start, far.of(family))?;
            }
        }
    }
    Ok(())
}

pub fn path_mtu_served(bench: &Bench) -> Result<()> {
    narrow(bench)?;
    let lab = bench.lab();
    let client = address::internet(10);
    let ask = |to| Ask::new(Protocol::Tcp, to).echo(BULK);
    let first = lab.node(1)?;
    for family in Family::ALL {
        expect(bench.internet(), &ask(first.address().port(family, HOST_PORT)), "node1")?;
        forget_path_mtu(first.namespace(), client.of(family))?;
    }
    // To an endpoint on the same node, and by IPv6, the userspace datapath and OVN lose the error behind our table.
    expect(bench.internet(), &ask(first.address().port(Family::V4, 30082)), "pod21")?;
    expect(bench.internet(), &ask(first.address().port(Family::V4, LOCAL_PODS)), "pod11")?;
    // An external address has an owner for errors, too, and it is not the host.
    expect(bench.internet(), &ask(routed().port(Family::V4, 80)), "pod21")?;
    Ok(())
}

/// What a host learnt of a path would hide the next error.
fn forget_path_mtu(namespace: &Namespace, to: std::net::IpAddr) -> Result<()> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    Program::new("ip").args(["-n", namespace.name(), family, "route", "flush", "cache"]).run().map(drop)
}
