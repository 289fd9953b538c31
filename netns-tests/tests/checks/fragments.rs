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
    probe::{Request, ping},
};

use crate::fixture::{Fixture, LOCAL_PODS, expect, expect_soon, routed};

/// Larger than two packets of any MTU here.
const LARGE: usize = 3000;

pub fn port_unreachable(fixture: &Fixture) -> Result<()> {
    let far = fixture.lab().world().internet().address();
    for family in Family::ALL {
        for node in fixture.lab().nodes() {
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                // Nobody listens there.
                let error = match Request::udp(far.port(family, 9)).send(start) {
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
fn shorten(fixture: &Fixture) -> Result<()> {
    let next = address::internet(1);
    let lines = next.both().map(|via| format!("route replace default via {via} mtu 1400\n"));
    fixture.internet().ip(lines.concat())
}

pub fn datagrams(fixture: &Fixture) -> Result<()> {
    shorten(fixture)?;
    let lab = fixture.lab();
    let far = lab.world().internet().address();
    for family in Family::ALL {
        let out = Request::udp(far.port(family, POD_PORT)).echo(LARGE);
        for node in lab.nodes() {
            let host = Request::udp(node.address().port(family, HOST_PORT)).echo(LARGE);
            expect_soon(fixture.internet(), &host, node.name())?;
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

pub fn answers_under_load(fixture: &Fixture) -> Result<()> {
    let lab = fixture.lab();
    let (node, pod) = (lab.node(1)?, lab.pod(1, 1)?);
    shorten(fixture)?;
    for family in Family::ALL {
        let load = Request::udp(node.address().port(family, HOST_PORT))
            .echo(LARGE)
            .within(Duration::from_millis(200));
        let (stop, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
        let answered = thread::scope(|scope| -> Result<usize> {
            let loader = scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // The load is what matters; an answer to it lost on a busy machine is not.
                    drop(load.send(fixture.internet()));
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            let request = Request::udp(lab.world().internet().address().port(family, POD_PORT)).echo(LARGE);
            expect_soon(pod.namespace(), &request, "internet")?;
            let answered = (0..30).filter(|_| {
                thread::sleep(Duration::from_millis(10));
                request.send(pod.namespace()).is_ok()
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
fn narrow(fixture: &Fixture) -> Result<()> {
    let far = address::internet(10);
    fixture.lab().world().router().namespace().ip(format!(
        "route replace {}/32 dev eth1 mtu lock 1300\nroute replace {}/128 dev eth1 mtu lock 1300\n",
        far.v4, far.v6
    ))
}

const BULK: usize = 200_000;

pub fn path_mtu_out(fixture: &Fixture) -> Result<()> {
    narrow(fixture)?;
    let far = fixture.lab().world().internet().address();
    for family in Family::ALL {
        for node in fixture.lab().nodes() {
            for start in [node.namespace(), node.pod(1)?.namespace()] {
                expect(start, &Request::tcp(far.port(family, POD_PORT)).echo(BULK), "internet")?;
                forget_path_mtu(start, far.of(family))?;
            }
        }
    }
    Ok(())
}

pub fn path_mtu_served(fixture: &Fixture) -> Result<()> {
    narrow(fixture)?;
    let lab = fixture.lab();
    let client = address::internet(10);
    let request = |to| Request::new(Protocol::Tcp, to).echo(BULK);
    let first = lab.node(1)?;
    for family in Family::ALL {
        expect(fixture.internet(), &request(first.address().port(family, HOST_PORT)), "node1")?;
        forget_path_mtu(first.namespace(), client.of(family))?;
    }
    // To an endpoint on the same node, and by IPv6, the userspace datapath and OVN lose the error behind our table.
    expect(fixture.internet(), &request(first.address().port(Family::V4, 30082)), "pod21")?;
    expect(fixture.internet(), &request(first.address().port(Family::V4, LOCAL_PODS)), "pod11")?;
    // An external address has an owner for errors, too, and it is not the host.
    expect(fixture.internet(), &request(routed().port(Family::V4, 80)), "pod21")?;
    Ok(())
}

/// What a host learnt of a path would hide the next error.
fn forget_path_mtu(namespace: &Namespace, to: std::net::IpAddr) -> Result<()> {
    let family = if to.is_ipv4() { "-4" } else { "-6" };
    Program::new("ip").args(["-n", namespace.name(), family, "route", "flush", "cache"]).run().map(drop)
}
