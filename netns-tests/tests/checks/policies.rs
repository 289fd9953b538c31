//! externalTrafficPolicy, missing endpoints, source ranges.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use netns_tests::{
    lab::{
        address::{self, Family},
        service::Protocol,
    },
    probe::Ask,
};

use crate::bench::{
    Bench, LOCAL_HOSTS, LOCAL_ON_2, LOCAL_PODS, NOBODY, RANGED, expect, expect_nobody, ranged_address,
};

/// Every family with every protocol.
fn kinds() -> impl Iterator<Item = (Family, Protocol)> {
    Family::ALL.into_iter().flat_map(|family| Protocol::ALL.map(|protocol| (family, protocol)))
}

pub fn local_pods(bench: &Bench) -> Result<()> {
    let client = bench.lab().world().internet();
    for node in bench.lab().nodes() {
        for (family, protocol) in kinds() {
            let ask = Ask::new(protocol, node.address().port(family, LOCAL_PODS));
            let answer = expect(client.namespace(), &ask, &format!("pod{}1", node.number()))?;
            ensure!(answer.seen_as == answer.local, "the client was seen as {}", answer.seen_as);
        }
    }
    Ok(())
}

pub fn local_host(bench: &Bench) -> Result<()> {
    let client = bench.lab().world().internet();
    for node in bench.lab().nodes() {
        for (family, protocol) in kinds() {
            let ask = Ask::new(protocol, node.address().port(family, LOCAL_HOSTS));
            let answer = expect(client.namespace(), &ask, node.name())?;
            ensure!(answer.seen_as == answer.local, "the client was seen as {}", answer.seen_as);
            for start in bench.lab().nodes() {
                expect(start.pod(1)?.namespace(), &ask, node.name())?;
            }
        }
    }
    Ok(())
}

pub fn local_nobody(bench: &Bench) -> Result<()> {
    let mut unserved = Vec::new();
    for (family, protocol) in kinds() {
        let served = Ask::new(protocol, bench.lab().node(2)?.address().port(family, LOCAL_ON_2));
        expect(bench.internet(), &served, "pod21")?;
        let ask = Ask::new(protocol, bench.lab().node(1)?.address().port(family, LOCAL_ON_2));
        unserved.push((bench.internet(), ask));
    }
    expect_nobody(&unserved)
}

pub fn cluster_nobody(bench: &Bench) -> Result<()> {
    let nodes = bench.lab().nodes().iter();
    let asks = nodes
        .flat_map(|node| kinds().map(|(family, protocol)| (node.address().port(family, NOBODY), protocol)));
    let asks: Vec<_> = asks.map(|(to, protocol)| (bench.internet(), Ask::new(protocol, to))).collect();
    expect_nobody(&asks)
}

pub fn source_ranges(bench: &Bench) -> Result<()> {
    let other = bench.lab().node(2)?;
    let to = bench.lab().node(1)?.address();
    let mut outside = Vec::new();
    for (family, protocol) in kinds() {
        let from = |last| SocketAddr::new(address::internet(last).of(family), 0);
        let node_port = Ask::new(protocol, to.port(family, RANGED));
        let routed = Ask::new(protocol, ranged_address().port(family, 80));
        expect(bench.internet(), &node_port.clone().from(from(10)), "pod11")?;
        expect(bench.internet(), &routed.clone().from(from(10)), "pod11")?;
        outside.push((bench.internet(), node_port.clone().from(from(11))));
        outside.push((bench.internet(), routed.from(from(11))));
        outside.push((other.namespace(), node_port));
    }
    expect_nobody(&outside)
}
