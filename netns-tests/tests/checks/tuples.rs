//! One address, two owners: who gets the answers when both use, or used, one tuple.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, ensure};
use netns_tests::{
    lab::{
        address::{Dual, Family},
        netns::Namespace,
        service::Protocol,
    },
    matrix::POD_PORT,
    probe::{Request, Session},
};

use crate::fixture::{Fixture, expect};

/// The far end of every tuple here.
fn server(fixture: &Fixture, family: Family) -> SocketAddr {
    fixture.lab().world().internet().address().port(family, POD_PORT)
}

fn from(address: Dual, family: Family, port: u16) -> SocketAddr {
    address.port(family, port)
}

pub fn host_after_pod(fixture: &Fixture) -> Result<()> {
    let (node, pod) = (fixture.lab().node(1)?, fixture.lab().pod(1, 1)?);
    for family in Family::ALL {
        let request = Request::tcp(server(fixture, family));
        let seen =
            expect(pod.namespace(), &request.clone().from(from(pod.address(), family, 31500)), "internet")?;
        expect(
            node.namespace(),
            &request.from(from(node.address(), family, seen.seen_as.port())),
            "internet",
        )?;
    }
    Ok(())
}

pub fn udp_in_turn(fixture: &Fixture) -> Result<()> {
    let (node, pod) = (fixture.lab().node(1)?, fixture.lab().pod(1, 1)?);
    for family in Family::ALL {
        let request = Request::udp(server(fixture, family));
        let by_pod = request.clone().from(from(pod.address(), family, 31600));
        let seen = expect(pod.namespace(), &by_pod, "internet")?;
        expect(
            node.namespace(),
            &request.from(from(node.address(), family, seen.seen_as.port())),
            "internet",
        )?;
        expect(pod.namespace(), &by_pod, "internet")?;
    }
    Ok(())
}

pub fn host_from_node_port(fixture: &Fixture) -> Result<()> {
    for node in fixture.lab().nodes() {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let request =
                    Request::new(protocol, server(fixture, family)).from(from(node.address(), family, 30081));
                expect(node.namespace(), &request, "internet")?;
            }
        }
    }
    Ok(())
}

pub fn pod_from_node_port(fixture: &Fixture) -> Result<()> {
    if fixture.snat_ports.is_none() {
        // OVN does not undo SNAT for <address>:<port of a load balancer>; a port range keeps SNAT off these.
        return Ok(());
    }
    let pod = fixture.lab().pod(1, 2)?;
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let request =
                Request::new(protocol, server(fixture, family)).from(from(pod.address(), family, 30082));
            expect(pod.namespace(), &request, "internet")?;
        }
    }
    Ok(())
}

pub fn shared_live_tuple(fixture: &Fixture) -> Result<()> {
    let Some(range) = fixture.snat_ports else {
        // Both would put the same tuple on the wire: impossible without a range of ports for OVN.
        return Ok(());
    };
    let (node, pod) = (fixture.lab().node(1)?, fixture.lab().pod(1, 1)?);
    for family in Family::ALL {
        let request = Request::tcp(server(fixture, family));
        // The pod first: the host asks for the very port the pod's connection has outside.
        let (held, seen) = hold(pod.namespace(), &request)?;
        let host = hold(node.namespace(), &request.clone().from(from(node.address(), family, seen.port())));
        let (second, _) = host.context("the host second")?;
        finish(held).context("the pod's session, first")?;
        finish(second).context("the host's session, second")?;
        // The host first.
        let port = range.low + 5000;
        let (held, _) = hold(node.namespace(), &request.clone().from(from(node.address(), family, port)))?;
        let (second, _) = hold(pod.namespace(), &request.from(from(pod.address(), family, port)))
            .context("the pod second")?;
        finish(held).context("the host's session, first")?;
        finish(second).context("the pod's session, second")?;
    }
    Ok(())
}

/// Opens a session, and says how it is seen at the far end.
fn hold(namespace: &Namespace, request: &Request) -> Result<(Session, SocketAddr)> {
    let session = Session::open(namespace, request, Duration::from_millis(5))?;
    let seen = session.seen_as();
    Ok((session, seen))
}

fn finish(session: Session) -> Result<()> {
    std::thread::sleep(Duration::from_millis(50));
    let report = session.finish()?;
    ensure!(report.died.is_none() && report.echoed > 0, "{report:?}");
    Ok(())
}
