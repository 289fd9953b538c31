//! externalTrafficPolicy, missing endpoints, source ranges.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netns_tests::{
    lab::{
        address::{self, Family},
        service::Protocol,
    },
    probe::Request,
};

use crate::fixture::{
    Fixture, LOCAL_HOSTS, LOCAL_ON_2, LOCAL_PODS, NOBODY, RANGED, expect, expect_nobody, ranged_address,
};

/// Every family with every protocol.
fn kinds() -> impl Iterator<Item = (Family, Protocol)> {
    Family::ALL.into_iter().flat_map(|family| Protocol::ALL.map(|protocol| (family, protocol)))
}

pub fn local_pods(fixture: &Fixture) -> Result<()> {
    let client = fixture.lab().world().internet();
    for node in fixture.lab().nodes() {
        for (family, protocol) in kinds() {
            let request = Request::new(protocol, node.address().port(family, LOCAL_PODS));
            let answer = expect(client.namespace(), &request, &format!("pod{}1", node.number()))?;
            ensure!(answer.seen_as == answer.local, "the client was seen as {}", answer.seen_as);
        }
    }
    Ok(())
}

pub fn local_host(fixture: &Fixture) -> Result<()> {
    let client = fixture.lab().world().internet();
    for node in fixture.lab().nodes() {
        for (family, protocol) in kinds() {
            let request = Request::new(protocol, node.address().port(family, LOCAL_HOSTS));
            let answer = expect(client.namespace(), &request, node.name())?;
            ensure!(answer.seen_as == answer.local, "the client was seen as {}", answer.seen_as);
            for start in fixture.lab().nodes() {
                expect(start.pod(1)?.namespace(), &request, node.name())?;
            }
        }
    }
    Ok(())
}

pub fn local_nobody(fixture: &Fixture) -> Result<()> {
    let mut unserved = Vec::new();
    for (family, protocol) in kinds() {
        let served = Request::new(protocol, fixture.lab().node(2)?.address().port(family, LOCAL_ON_2));
        expect(fixture.internet(), &served, "pod21")?;
        let request = Request::new(protocol, fixture.lab().node(1)?.address().port(family, LOCAL_ON_2));
        unserved.push((fixture.internet(), request));
    }
    expect_nobody(&unserved)
}

pub fn cluster_nobody(fixture: &Fixture) -> Result<()> {
    let nodes = fixture.lab().nodes().iter();
    let asks = nodes
        .flat_map(|node| kinds().map(|(family, protocol)| (node.address().port(family, NOBODY), protocol)));
    let asks: Vec<_> = asks.map(|(to, protocol)| (fixture.internet(), Request::new(protocol, to))).collect();
    expect_nobody(&asks)
}

pub fn source_ranges(fixture: &Fixture) -> Result<()> {
    let other = fixture.lab().node(2)?;
    let to = fixture.lab().node(1)?.address();
    let mut outside = Vec::new();
    for (family, protocol) in kinds() {
        let from = |last| SocketAddr::new(address::internet(last).of(family), 0);
        let node_port = Request::new(protocol, to.port(family, RANGED));
        let routed = Request::new(protocol, ranged_address().port(family, 80));
        expect(fixture.internet(), &node_port.clone().from(from(10)), "pod11")?;
        expect(fixture.internet(), &routed.clone().from(from(10)), "pod11")?;
        outside.push((fixture.internet(), node_port.clone().from(from(11))));
        outside.push((fixture.internet(), routed.from(from(11))));
        outside.push((other.namespace(), node_port));
    }
    expect_nobody(&outside)
}
